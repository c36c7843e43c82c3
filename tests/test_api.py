"""The verbs from Python: the whole job on a tiny model, results by key, errors before anything is made."""

from __future__ import annotations

import csv
import inspect
import json
import logging
import pydoc
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cutbert
from cutbert import api
from cutbert.api.table import VERBS
from cutbert.api.views import VIEWS
from cutbert.cli.main import main
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import tokenize_rows
from cutbert.errors import BudgetError, InputError, ModelError, RunError
from cutbert.folders.load import load_model
from cutbert.fronts.front import Front
from cutbert.fronts.leaderboard_view import verdict
from cutbert.methods.dynabert_settings import DynabertSettings
from cutbert.methods.schubert_settings import SchubertSettings
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.settings import build_settings
from cutbert.shape.head import HeadKind, HeadSpec
from cutbert.table import as_text
from cutbert.train.evaluate import predict_logits
from cutbert.train.progress import progress_bar, say
from tiny_runs import (
    HEAD,
    SHAPE,
    make_run,
    save_tiny,
    tiny_leaderboard,
    tiny_model,
    tiny_rows,
    tiny_tokenizer,
    write_tsv,
)

QUICK = {"epochs": 1.0, "batch_size": 8, "threads": 1, "max_length": 16}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Options that name a small task in own files."""
    folder = tmp_path_factory.mktemp("data")
    train, dev = write_tsv(folder / "train.tsv", tiny_rows(60, 3)), write_tsv(folder / "dev.tsv", tiny_rows(24, 4))
    return {"train": str(train), "dev": str(dev), "text": "text", "label": "label"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pre-trained model without a task head."""
    return save_tiny(tmp_path_factory.mktemp("base") / "model", tiny_model(HeadSpec("pooler")))


@pytest.fixture(scope="module")
def teacher(base: Path, data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    return cutbert.finetune(base, out=tmp_path_factory.mktemp("teacher") / "run", **data, **QUICK)


@pytest.fixture(scope="module")
def family(teacher: api.Run, data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    out = tmp_path_factory.mktemp("family") / "run"
    return cutbert.dynabert(teacher.path, out=out, depths=[3, 1], width_mult=(1.0, 0.5), **data, **QUICK)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a front, made without training."""
    return make_run(tmp_path_factory.mktemp("stored") / "run").path


def test_finetune(teacher: api.Run) -> None:
    keys = {"out", "score", "select_score", "metric", "metrics", "params", "macs", "seconds"}
    assert teacher.to_json().keys() - {"near_chance"} == keys
    assert (teacher["params"], teacher["macs"]) == tuple(
        cutbert.cost(teacher.path)[name] for name in ("params", "macs")
    )
    assert teacher["metric"] == "accuracy" and 0 <= teacher["score"] <= 1
    provenance = json.loads((teacher.path / "model" / "cutbert.json").read_text())
    assert provenance["commands"][0].startswith("cutbert finetune ")
    low, high = provenance["score_interval"]
    assert 0 <= low <= teacher["score"] <= high <= 1
    with pytest.raises(RunError, match="must be a run with a front"):
        _ = teacher.front


def test_a_finished_run_is_returned_not_run(teacher: api.Run, data: dict[str, str], base: Path) -> None:
    before = (teacher.path / "run.json").read_bytes()
    again = cutbert.finetune(str(base), out=str(teacher.path), **data, **QUICK)
    assert again == teacher and (teacher.path / "run.json").read_bytes() == before
    assert cutbert.open_run(teacher.path) == teacher
    with pytest.raises(RunError, match=r"train\.epochs was 1\.0, now 2\.0"):
        cutbert.finetune(base, out=teacher.path, **data, **{**QUICK, "epochs": 2.0})


def test_family_front_and_pick(family: api.Run, tmp_path: Path) -> None:
    found = family.front
    assert {"out", "metric", "teacher", "subnets", "seconds"} <= family.to_json().keys()
    assert family["subnets"] == [entry.to_json() for entry in found]
    assert len(found) == 6 and found.measured is not None and found.measured["threads"] == 1
    limit = sorted(entry.latency_ms or 0.0 for entry in found)[2]
    picked = family.pick(max_latency_ms=limit)
    assert picked.entry.latency_ms is not None and picked.entry.latency_ms <= limit
    assert not picked.to_json().keys() & {"out"}
    picked.save_pretrained(tmp_path / "small")
    loaded = load_model(tmp_path / "small")
    assert loaded.model.shape == picked.entry.shape and loaded.model.head_spec == HEAD
    assert loaded.provenance["commands"][-1] == (
        f"cutbert pick {family.path} --max-latency-ms {limit} --out {tmp_path / 'small'}"
    )
    stored = json.loads((family.path / "predictions" / f"{picked.entry.name}.json").read_text())
    tokens = tokenize_rows(tiny_rows(24, 4), loaded.tokenizer, "small", 16, cache=False)
    np.testing.assert_allclose(predict_logits(loaded.model, tokens), stored["logits"], atol=1e-4)


def test_pick_keys_and_refusals(stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small"
    assert main(["pick", str(stored), "--stock", "--out", str(out), "--json"]) == 0
    data = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert data.keys() == {"out", "name", "params", "macs", "score", "select_score", "stock", "cut_from"}
    assert data["stock"] is True and data["out"] == str(out)
    with pytest.raises(InputError, match="--out must be absent or an empty folder"):
        cutbert.pick(stored, out=out)
    with pytest.raises(BudgetError, match="no subnet fits the limits; the nearest is"):
        cutbert.pick(stored, max_params=1, out=tmp_path / "none")
    with pytest.raises(RunError, match="needs measured latencies on torch, and there are none"):
        cutbert.pick(stored, max_latency_ms=1.0)
    assert not (tmp_path / "none").exists()
    assert main(["pick", str(stored), "--min-score", "1.0"]) == 2
    assert "select_score must be at least 1.0" in capsys.readouterr().err


def test_front_of_an_unfinished_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", is_finished=False)
    with pytest.raises(RunError, match="the run of dynabert is not finished; the same command goes on with it"):
        cutbert.front(run.path)


def test_front_as_stored_and_measured_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run")
    assert cutbert.front(run.path) == Front.load(run.path)
    words = ["front", str(run.path), "--measure", "--rounds", "1", "--length", "6", "--threads", "1"]
    assert main([*words, "--json"]) == 0
    data = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"metric", "teacher", "subnets"} <= data.keys() and data["teacher"]["latency_ms"] > 0
    assert cutbert.front(run.path).to_json() == data
    assert main(["front", str(run.path)]) == 0
    out = capsys.readouterr().out
    assert "teacher" in out and "h1.0-f0.5-d1.0" in out and "6 tokens, torch on cpu, 1 threads" in out
    assert cutbert.pick(run.path, max_latency_ms=1e6).entry.latency_ms


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl"])
def test_predict(stored: Path, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, out = tiny_rows(30, 8), tmp_path / f"labels{suffix}"
    texts = write_tsv(tmp_path / "texts.tsv", rows)
    words = ["predict", str(stored), "--input", str(texts), "--text", "text", "--out", str(out), "--threads", "1"]
    assert main([*words, "--json"]) == 0
    printed = capsys.readouterr()
    data = json.loads(printed.out.splitlines()[-1])
    assert "the input has a column 'label': that of the answers is 'predicted_label'" in printed.err
    given = [line.split("\t") for line in texts.read_text().splitlines()[1:]]
    tokens = tokenize_rows(rows, tiny_tokenizer(), "tiny", 128, cache=False)
    logits = predict_logits(tiny_model(), tokens).astype(np.float64)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    if suffix == ".jsonl":
        found = [json.loads(line) for line in out.read_text().splitlines()]
        labels = [each["predicted_label"] for each in found]
        read = [[each["probabilities"][name] for name in HEAD.labels] for each in found]
        assert [[each["text"], each["label"]] for each in found] == given
        assert list(found[0]) == ["text", "label", "predicted_label", "probabilities"]
    else:
        header, *table = csv.reader(out.read_text().splitlines(), delimiter="\t" if suffix == ".tsv" else ",")
        assert header == ["text", "label", "predicted_label", "probability_neg", "probability_pos"]
        assert [row[:2] for row in table] == given
        labels, read = [row[2] for row in table], [[float(cell) for cell in row[3:]] for row in table]
    np.testing.assert_allclose(read, chances, atol=1e-5)
    assert labels == [HEAD.labels[i] for i in chances.argmax(1)]
    counts = {name: labels.count(name) for name in sorted(set(labels))}
    columns = ["probabilities"] if suffix == ".jsonl" else ["probability_neg", "probability_pos"]
    assert data.pop("columns") == ["predicted_label", *columns]
    assert data == {"out": str(out), "rows": 30, "backend": "torch", "labels": counts}
    assert main(words) == 2
    assert capsys.readouterr().err == f"cutbert: error: --out must be a new file, but {out} is there already\n"


def test_predict_several_labels_and_numbers(tmp_path: Path) -> None:
    texts = write_tsv(tmp_path / "texts.tsv", tiny_rows(12, 8))
    options = {"input": texts, "text": "text", "threads": 1}
    many = save_tiny(tmp_path / "many", tiny_model(HeadSpec("multi_label", ("a", "b", "c"))))
    cutbert.predict(many, out=tmp_path / "many.jsonl", **options)
    for line in (tmp_path / "many.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert row["predicted_label"] == [name for name in "abc" if row["probabilities"][name] >= 0.5]
    cutbert.predict(many, out=tmp_path / "many.tsv", **options)
    number = save_tiny(tmp_path / "number", tiny_model(HeadSpec("regression", ("stars",))))
    found = cutbert.predict(number, out=tmp_path / "n.csv", **options).to_json()
    assert found.keys() == {"out", "rows", "backend", "columns"}
    header, *values = (tmp_path / "n.csv").read_text().splitlines()
    assert header == "text,label,predicted_label" and len(values) == 12
    assert all(np.isfinite(float(value.rpartition(",")[2])) for value in values)


def test_predict_in_chunks_gives_what_one_chunk_gives(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = write_tsv(tmp_path / "texts.tsv", tiny_rows(50, 8))
    options = {"input": texts, "text": "text", "threads": 1, "max_length": 8}
    whole = cutbert.predict(stored, out=tmp_path / "whole.jsonl", **options)
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith(" of 50 texts are cut at 8 tokens")
    monkeypatch.setattr("cutbert.data.stream.CHUNK_ROWS", 7)
    parts = cutbert.predict(stored, out=tmp_path / "parts.jsonl", **options)
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert {**parts.to_json(), "out": 0} == {**whole.to_json(), "out": 0}
    lines = [(tmp_path / f"{name}.jsonl").read_text().splitlines() for name in ("whole", "parts")]
    for one, other in zip(*(map(json.loads, each) for each in lines), strict=True):
        assert one["predicted_label"] == other["predicted_label"]
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "label", "broken", "others"),
    [
        ("single_label", "a\tb", [".tsv"], ".csv or .jsonl or .parquet"),
        ("single_label", "a\nb", [".tsv"], ".csv or .jsonl or .parquet"),
        ("single_label", "a\rb", [".tsv"], ".csv or .jsonl or .parquet"),
        ("multi_label", "a,b", [".tsv", ".csv"], ".jsonl or .parquet"),
        ("single_label", "a,b", [], ""),
    ],
)
def test_predict_refuses_files_that_cannot_hold_a_label(
    kind: HeadKind, label: str, broken: list[str], others: str, tmp_path: Path
) -> None:
    model = save_tiny(tmp_path / "model", tiny_model(HeadSpec(kind, (label, "z"))))
    options = {"input": write_tsv(tmp_path / "texts.tsv", tiny_rows(40, 8)), "text": "text", "threads": 1}
    for suffix in (".tsv", ".csv", ".jsonl"):
        out = tmp_path / f"out{suffix}"
        if suffix in broken:
            message = f"--out must end in {others}, got {out}: a {suffix} file cannot hold the label {label!r}"
            with pytest.raises(InputError, match=re.escape(message)):
                cutbert.predict(model, out=out, **options)
            assert not out.exists()
            continue
        cutbert.predict(model, out=out, **options)
        with out.open(encoding="utf-8", newline="") as file:
            if suffix == ".jsonl":
                assert list(json.loads(file.readline())["probabilities"]) == [label, "z"]
            else:
                header, *rows = csv.reader(file, delimiter="\t" if suffix == ".tsv" else ",")
                names = ["text", "label", "predicted_label", f"probability_{label}", "probability_z"]
                assert header == names and len(rows) == 40


def test_predict_names_all_mistakes(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = write_tsv(tmp_path / "texts.tsv", tiny_rows(3))
    words = ["predict", str(base), "--input", str(texts), "--text", "nosuch", "--out", str(tmp_path / "o.xls")]
    assert main([*words, "--max-length", "1", "--threads", "0"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4  # the file is not read for a model that cannot be used
    assert "--threads must be at least 1" in lines[0] and "--max-length must be at least 4" in lines[1]
    assert "--out must end in one of .tsv, .csv, .jsonl" in lines[2] and "got a bare encoder without" in lines[3]


def test_measure(stored: Path, data: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for name, value in data.items() for word in (f"--{name}", value)]
    models = [str(stored), str(stored / "model")]
    assert main(["measure", *models, *words, "--rounds", "1", "--threads", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    for each in found["models"]:
        assert each.keys() >= {
            "model", "backend", "params", "macs", "score", "latency_ms", "latency_p95_ms", "throughput_per_s",
            "peak_bytes", "file_bytes",
        }  # fmt: skip
        assert each["file_bytes"] == (stored / "model" / "model.safetensors").stat().st_size
        assert each["peak_bytes"] > 50_000_000 and each["params"] == sum(p.numel() for p in tiny_model().parameters())
    tokens = tokenize_rows(tiny_rows(24, 4), tiny_tokenizer(), "tiny", 128, cache=False)
    right = predict_logits(tiny_model(), tokens).argmax(1) == tiny_rows(24, 4).labels
    assert found["models"][0]["score"] == np.mean(right) and found["metric"] == "accuracy"
    assert set(found["measured"]["lengths"]) <= set(tokens.lengths.tolist())


def test_measure_names_all_mistakes(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "other", tiny_model(HeadSpec("single_label", ("x", "y"))))
    with pytest.raises(InputError) as caught:
        cutbert.measure(base, other, backend="onnx,tvm", rounds="8", **data)
    assert caught.value.mistakes == (
        "--rounds must be an integer, got '8'",
        "--backend must be one of torch, torch-bf16, onnx, onnx-int8, got 'tvm'",
    )
    with pytest.raises(InputError) as caught:
        cutbert.measure(base, other, rounds=0, length=129, **data)
    found = caught.value.mistakes
    assert len(found) == 5 and found[0] == "--rounds must be at least 1, got 0"
    assert all("--length must be at most 128" in line for line in found[1::2])
    with pytest.raises(InputError) as caught:
        cutbert.measure(base, other, **data)
    assert "must be single_label (neg, pos) to be scored on this task, got pooler" in caught.value.mistakes[0]
    assert "got single_label (x, y)" in caught.value.mistakes[1]


def test_measure_wants_room_for_its_lengths(base: Path, stored: Path, data: dict[str, str], tmp_path: Path) -> None:
    short = TaskModel(replace(SHAPE, num_positions=6), EncoderStyle(family="bert"), HEAD)
    few = save_tiny(tmp_path / "few", short)
    with pytest.raises(InputError, match=r"--length must be given for .*few, which has positions for 6 tokens"):
        cutbert.measure(base, few)
    with pytest.raises(InputError, match=r"--max-length must be at most 6, the positions of .*few, got 7"):
        cutbert.measure(few, max_length=7, **data)
    with pytest.raises(ModelError, match=r"--length must be given for .*few: it takes 6 tokens, texts have \d+"):
        cutbert.measure(stored, few, **data)


def test_select_on_dev_is_said_aloud(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    words = {**data, **QUICK, "select": "dev", "out": tmp_path / "run"}
    run = cutbert.finetune(base, **words)
    assert run["select_is_dev"] is True and run["score"] == run["select_score"]
    assert "select is the dev split itself" in shown(run)
    assert cutbert.finetune(base, **words) == run


def test_a_front_fits_80_columns(stored: Path) -> None:
    data = cutbert.front(stored).to_json()
    for entry in (data["teacher"], *data["subnets"]):
        entry |= {"name": entry["name"].replace("h1.0", "h0.75"), "params": 109_482_240, "macs": 11_174_215_680}
        entry |= {"latency_ms": 123.45, "latency_p95_ms": 234.56, "throughput_per_s": 1234.56}
    text = as_text(VIEWS["front"](data), 80)
    assert all(entry["name"] in text for entry in data["subnets"])
    lines = [line for line in text.splitlines() if "109.5" in line]
    assert len(lines) == len(data["subnets"]) + 1
    assert all("11,174.2" in line and "123.45" in line and "1234.56" in line for line in lines)


def test_an_unreadable_tokenizer_is_refused(stored: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(stored / "model", broken)
    for text in ("{", "{}"):
        (broken / "tokenizer.json").write_text(text)
        with pytest.raises(ModelError, match="the tokenizer cannot be read: ") as caught:
            load_model(broken)
        assert len(caught.value.mistakes) == 1 and "\n" not in caught.value.mistakes[0]


def test_cost_matches_the_network(stored: Path, tmp_path: Path) -> None:
    found = cutbert.cost(stored)
    assert found["params"] == sum(parameter.numel() for parameter in tiny_model().parameters())
    assert found["bytes"] == 4 * found["params"] and found["sequence_length"] == 128
    shape_only = cutbert.cost(stored / "model" / "shape.json")
    assert shape_only["params"] == shape_only["params_embeddings"] + shape_only["params_encoder"] < found["params"]
    with pytest.raises(ModelError):
        cutbert.cost(tmp_path / "nowhere")


def test_arguments_are_checked_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        cutbert.finetune("m", out=tmp_path / "o", epoch=3, taks="sst2")
    assert sorted(caught.value.mistakes) == [
        "unknown argument 'epoch'; did you mean epochs?",
        "unknown argument 'taks'; did you mean task?",
    ]
    with pytest.raises(InputError, match="argument 'input' must be given"):
        cutbert.predict("m", text="a", out="b.tsv")


def test_words_are_checked_as_on_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        cutbert.undivided("m", out=tmp_path / "o", num_ffn=1, choose="best", removal="slow", task="sst2")
    assert sorted(caught.value.mistakes) == [
        "--choose must be one of even, importance, cka, got 'best'",
        "--removal must be one of sudden, gradual, got 'slow'",
    ]
    with pytest.raises(InputError, match="--kernel must be one of linear, rbf, got 'poly'"):
        cutbert.analyze("m", kernel="poly", pictures=None, task="sst2")


@pytest.mark.parametrize(
    ("verb", "options", "message"),
    [
        ("schubert", {"budget": 0.5}, "--budget must be text, got 0.5"),
        ("schubert", {"budget": "macs=0.5", "rounds": "2"}, "--rounds must be an integer, got '2'"),
        ("schubert", {"budget": "macs=0.5", "rounds": 2.5}, "--rounds must be an integer, got 2.5"),
        ("schubert", {"budget": "macs=0.5", "uniform": "no"}, "--uniform must be True or False, got 'no'"),
        ("schubert", {"budget": "macs=0.5", "dims": None}, "--dims must be one of h, f, a, k, v, got None"),
        ("schubert", {"budget": "macs=0.5", "dims": ["f", "x", "y"]}, "--dims must be .*'x'\n--dims must be .*'y'"),
        ("dynabert", {"recipe": "foo"}, "--recipe must be one of default, paper, release, got 'foo'"),
        ("dynabert", {"width_mult": "1.0,x"}, "--width-mult must be a number, got '1.0'\n--width-mult must be .* 'x'"),
        ("finetune", {"schedule": "poly"}, "--schedule must be one of linear, cosine, constant, got 'poly'"),
        ("finetune", {"precision": "fp16"}, "--precision must be one of auto, float32, bf16, got 'fp16'"),
        ("finetune", {"epochs": True}, "--epochs must be a number, got True"),
        ("finetune", {"seed": None}, "--seed must be an integer, got None"),
        ("pretrain", {"from_scratch": {"hidden_size": 8}}, "--from-scratch must be text, got {'hidden_size': 8}"),
    ],
)
def test_arguments_are_checked_by_type(verb: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        getattr(cutbert, verb)("m", out=tmp_path / "o", **options)
    assert not (tmp_path / "o").exists()


def test_arguments_become_what_settings_hold(tmp_path: Path) -> None:
    given = {"budget": "macs=0.5", "dims": "f", "rounds": np.int64(2), "gate_learning_rate": 1}
    (found,) = build_settings(given, SchubertSettings)
    assert found.dims == ("f",) and type(found.rounds) is int and found.gate_learning_rate == 1
    (found,) = build_settings({"train": [tmp_path / "a.tsv", "b.tsv"], "select": None}, DataSettings)
    assert found.train == (str(tmp_path / "a.tsv"), "b.tsv") and found.select is None
    (found,) = build_settings({"width_mult": 0.5, "depths": range(1, 3)}, DynabertSettings)
    assert found.width_mult == (0.5,) and found.depths == (1, 2)


def shown(result: api.Result) -> str:
    return as_text(result.view(), 120)


def test_how_results_look(teacher: api.Run, family: api.Run) -> None:
    text = shown(teacher)
    assert "accuracy" in text and "on select" in text and str(teacher.path) in text
    text = shown(family)
    assert all(entry.name in text for entry in family.front) and "1 threads" in text
    on_dev = api.Run("dynabert", {**family.data, "select_is_dev": True}, family.path)
    assert "optimistic" not in text and "optimistic" in shown(on_dev)


def test_a_stored_result_that_something_is_missing_of_is_refused(tmp_path: Path) -> None:
    damaged = api.Run("search", {"trials": 3, "hypervolume": {}, "out": "run"}, tmp_path)
    with pytest.raises(RunError, match=r"must hold a result as search stores it, got KeyError: 'cost'"):
        damaged.view()


def test_how_results_look_of_fit_and_demo() -> None:
    board = tiny_leaderboard()
    models = [{"limit": "2.2 ms", "out": "demo/fit/model"}]
    data = {"out": "demo", "metric": board.metric, "models": models, "verdict": verdict(board), "seconds": 100.4}
    data |= {"leaderboard": [entry.to_json() for entry in board], "time_limit_s": 150.0}
    text = shown(api.Result("fit", data))
    assert all(entry.name in text for entry in board) and "1.9 times faster than the uncut int8 file" in text
    assert "2.2 ms: demo/fit/model" in text and "100 s of 150" in text and "cutbert report demo" in text
    texts = [{"text": "a [bold] film", "label": "pos", "predicted": "neg"}]
    text = shown(api.Result("demo", {**data, "texts": texts, "max_latency_ms": 2.2, "report": "demo/report.html"}))
    assert "a [bold] film" in text and "predicted" in text and "the limit was 2.20 ms" in text
    assert board.chosen[0].name in text and "demo/report.html" in text


def test_at_a_prompt_and_in_a_notebook_results_are_short_tables(stored: Path) -> None:
    run = cutbert.open_run(stored)
    for each in (run, run.front, run.pick(), run.front.teacher, cutbert.cost(stored)):
        text, html = repr(each), each._repr_html_()
        assert len(text) < 2000 and max(map(len, text.splitlines())) <= 100 and "shape" not in text
        assert html.startswith("<table>") and html.count("<tr>") == html.count("</tr>") > 0
    assert all(entry.name in repr(run.front) for entry in run.front)
    escaped = api.Result("predict", {"rows": 1, "labels": {"<b>": 1}, "out": "a&b.tsv"})._repr_html_()
    assert "&lt;b&gt;" in escaped and "a&amp;b.tsv" in escaped


def test_signatures_show_the_settings() -> None:
    shown = inspect.signature(cutbert.dynabert).parameters
    assert list(shown)[:2] == ["model", "out"] and {"task", "epochs", "width_mult", "allow_changed"} <= shown.keys()
    assert shown["max_length"].default is None and "options" not in shown
    assert inspect.signature(cutbert.predict).parameters["input"].default is inspect.Parameter.empty


@pytest.mark.parametrize("name", VERBS)
def test_help_lists_every_option_in_80_columns(name: str) -> None:
    text = pydoc.render_doc(getattr(cutbert, name), renderer=pydoc.plaintext)
    assert all(re.search(rf"^        {option}: ", text, re.MULTILINE) for option in VERBS[name].options())
    assert max(map(len, text.splitlines())) <= 84


def test_the_package_shows_the_verbs_before_they_are_loaded() -> None:
    script = "import sys, cutbert\nprint(*dir(cutbert))\nassert 'cutbert.api' not in sys.modules\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert {*VERBS, "open_run", "EncoderShape", "__version__"} <= set(done.stdout.split()), done.stderr


def test_the_package_resolves_verbs_and_nothing_else() -> None:
    functions = [name for name in api.__all__ if name.islower()]
    assert sorted(functions) == sorted([*VERBS, "open_run"])
    assert set(functions) <= set(cutbert.__all__) and VIEWS.keys() == VERBS.keys()
    assert all(getattr(cutbert, name) is getattr(api, name) for name in functions)
    with pytest.raises(AttributeError, match="module 'cutbert' has no attribute 'compress'"):
        _ = cutbert.compress
    assert all(hasattr(cutbert, name) for name in cutbert.__all__)


def test_messages_go_to_the_log_of_a_program_that_asks(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    say("to the user")
    assert capsys.readouterr().err == "to the user\n" and not caplog.messages
    with caplog.at_level(logging.INFO, logger="cutbert"):
        say("to the 100 % log")
        with progress_bar("train", 10) as bar:
            bar(10)
    assert caplog.messages == ["to the 100 % log", "train: 10/10"] and not capsys.readouterr().err


EARLY = {
    "finetune": [], "dynabert": [], "schubert": ["--budget", "macs=0.5"], "undivided": ["--num-ffn", "1"], "depth": [],
    "pretrain": ["--train", "x.txt"], "analyze": [], "measure": [], "export": ["--onnx"],
    "predict": ["--input", "i", "--text", "t", "--out", "o.tsv"], "demo": ["--model"], "cost": [],
}  # fmt: skip


@pytest.mark.parametrize("verb", EARLY)
def test_an_unknown_family_and_missing_options_are_refused_before_torch_is_loaded(verb: str, tmp_path: Path) -> None:
    folder = tmp_path / "albert"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "albert"}')
    script = (
        "import sys\nfrom cutbert.cli.main import main\ncode = main(sys.argv[1:])\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()\nsys.exit(code)\n"
    )
    out = ["--out", str(tmp_path / "o")] if "out" in VERBS[verb].options() and verb != "predict" else []
    words = [verb, *(["--model", str(folder)] if verb == "demo" else [str(folder), *EARLY[verb]]), *out]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
    assert done.returncode == 2 and "got 'albert'; give a model of one of these families" in done.stderr
    assert list(tmp_path.iterdir()) == [folder]


def test_the_version_is_the_packages() -> None:
    try:
        assert metadata.version("cutbert") == cutbert.__version__
    except metadata.PackageNotFoundError:
        pytest.skip("cutbert is not installed, only on the path")


def test_cost_needs_no_torch(stored: Path) -> None:
    script = (
        "import sys, cutbert\ncutbert.cost(sys.argv[1])\nassert not {'torch', 'transformers'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(stored)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
