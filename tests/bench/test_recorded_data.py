"""The length a model was trained on and the data it was made with are what it is used and measured with by default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import cutbert
from cutbert.bench.measure import check_inputs, load_candidate
from cutbert.bench.settings import MeasureSettings
from cutbert.data.settings import DataSettings
from cutbert.errors import InputError
from cutbert.exporters.folder import example_code
from cutbert.exporters.gate import tokens_of
from cutbert.exporters.settings import ExportSettings
from cutbert.folders.load import load_model
from cutbert.folders.provenance import input_length
from cutbert.folders.save import save_model
from cutbert.fronts.outputs import chance_note
from cutbert.shape.head import HeadSpec
from cutbert.shape.source import find_model
from tiny_runs import PROVENANCE, tiny_model, tiny_rows, tiny_tokenizer, write_tsv

LONG = "a good film and a very fine book"


@pytest.fixture
def task(tmp_path: Path) -> dict[str, Any]:
    files = {
        name: [str(write_tsv(tmp_path / f"{name}.tsv", tiny_rows(60, i)))] for i, name in enumerate(("train", "dev"))
    }
    return {**files, "text": "text", "label": "label"}


def made_with(folder: Path, task: dict[str, Any] | None, max_length: int = 6) -> Path:
    facts = {} if task is None else {"task": task, "max_length": max_length}
    save_model(folder, tiny_model(), tiny_tokenizer(), provenance=PROVENANCE | facts)
    return folder


@pytest.mark.parametrize(
    ("recorded", "given", "room", "expected"),
    [(6, None, 128, 6), (6, 9, 128, 9), (None, None, 128, 100), (300, None, 8, 8)],
)
def test_what_is_given_comes_first_then_what_is_recorded(
    recorded: int | None, given: int | None, room: int, expected: int
) -> None:
    provenance = {} if recorded is None else {"max_length": recorded}
    assert input_length(provenance, given, 100, room) == expected


def test_predict_cuts_where_training_did(
    tmp_path: Path, task: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    model, texts = made_with(tmp_path / "m", task), tmp_path / "texts.tsv"
    texts.write_text(f"text\n{LONG}\na film\na good fine film\n", encoding="utf-8")
    options = {"input": texts, "text": "text", "threads": 1}
    cutbert.predict(model, out=tmp_path / "own.jsonl", **options)
    assert "1 of 3 texts are cut at 6 tokens" in capsys.readouterr().err
    cutbert.predict(model, out=tmp_path / "given.jsonl", max_length=64, **options)
    assert "are cut" not in capsys.readouterr().err
    with pytest.raises(InputError, match=r"--max-length must be at most 128, the positions of .*m, got 129"):
        cutbert.predict(model, out=tmp_path / "more.jsonl", max_length=129, **options)


def test_export_and_its_example_cut_where_training_did(
    tmp_path: Path, task: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    source = find_model(made_with(tmp_path / "m", task))
    dataset, data = check_inputs([source], None, MeasureSettings())
    capsys.readouterr()
    parts = tokens_of(load_model(source), dataset, data, ExportSettings(int8=True))
    assert parts.dev.lengths.max() == 6
    said = capsys.readouterr().err
    assert "dev: " in said and "select: " in said and "texts are cut at 6 tokens" in said
    assert "tokenizer.enable_truncation(6)" in example_code(load_model(source), "model.onnx")
    bare = load_model(made_with(tmp_path / "bare", None))
    assert "tokenizer.enable_truncation(128)" in example_code(bare, "model.onnx")
    with pytest.raises(InputError, match=r"--max-length must be at most 128, the positions of .*m, got 129"):
        cutbert.export(tmp_path / "m", int8=True, max_length=129, **task)


def test_measure_finds_the_data_of_the_models(
    tmp_path: Path, task: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    first = find_model(made_with(tmp_path / "first", task))
    second = find_model(made_with(tmp_path / "second", {**task, "max_train_samples": 9}, max_length=5))
    dataset, data = check_inputs([first, second], None, MeasureSettings())
    assert dataset is not None and dataset.dev.text == tiny_rows(60, 1).text
    assert f"scores and lengths are of dev of the data all models were made with: {task['train'][0]}, " in (
        capsys.readouterr().err
    )
    tokens = [load_candidate(each, dataset, data).dev for each in (first, second)]
    assert [each.lengths.max() for each in tokens if each is not None] == [6, 5]
    assert "first, dev: " in capsys.readouterr().err
    longer = load_candidate(first, dataset, DataSettings(**task, max_length=8)).dev
    assert longer is not None and longer.lengths.max() == 8


def test_measure_does_without_data_where_there_are_none(
    tmp_path: Path, task: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    model, bare = find_model(made_with(tmp_path / "m", task)), find_model(made_with(tmp_path / "bare", None))
    assert check_inputs([bare], None, MeasureSettings()) == (None, None)
    assert check_inputs([model], None, MeasureSettings(length=9)) == (None, None)
    assert not capsys.readouterr().err
    other = find_model(made_with(tmp_path / "other", {**task, "dev": task["train"]}))
    assert check_inputs([model, bare, other], None, MeasureSettings()) == (None, None)
    assert "made with different data: latency is at 128 tokens" in capsys.readouterr().err
    save_model(tmp_path / "none", tiny_model(HeadSpec("none")), tiny_tokenizer(), provenance=PROVENANCE)
    assert check_inputs([find_model(tmp_path / "none"), model], None, MeasureSettings()) == (None, None)
    said = capsys.readouterr().err
    assert "m was made with, cannot be used here" in said and "must be single_label (neg, pos) to be scored" in said
    Path(task["dev"][0]).unlink()
    assert check_inputs([model], None, MeasureSettings()) == (None, None)
    said = capsys.readouterr().err
    assert "cannot be used here" in said and "latency is at 128 tokens, nothing is scored" in said


def test_measure_takes_the_data_of_the_others(
    tmp_path: Path, task: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    model, plain = find_model(made_with(tmp_path / "m", task)), find_model(made_with(tmp_path / "plain", None))
    for sources in ([model, plain], [plain, model]):
        dataset, data = check_inputs(sources, None, MeasureSettings())
        assert dataset is not None and data is not None and list(data.dev) == task["dev"]
        assert f"of the data {model} was made with" in capsys.readouterr().err


def test_training_stores_its_length(tmp_path: Path, task: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    base = made_with(tmp_path / "base", None)
    quick = {"epochs": 1.0, "batch_size": 8, "threads": 1}
    cutbert.finetune(base, out=tmp_path / "run", max_length=7, **quick, **task)
    said = capsys.readouterr().err
    stored = json.loads((tmp_path / "run" / "model" / "cutbert.json").read_text())
    assert "train: " in said and stored["max_length"] == 7
    # Labels here are random, so that nothing can be learned from the texts: that is said, and stored.
    note = chance_note(tmp_path / "run", "teacher", "accuracy")
    assert note is not None and note in said and stored["near_chance"] == note
    assert note in (tmp_path / "run" / "model" / "README.md").read_text()
    result = json.loads((tmp_path / "run" / "run.json").read_text())["result"]
    assert result["near_chance"] == note
    cutbert.finetune(tmp_path / "run", out=tmp_path / "shorter", max_length=6, **quick, **task)
    assert "was trained on inputs of up to 7 tokens; here they are cut at --max-length 6" in capsys.readouterr().err
