"""DynaBERT end to end on a tiny model and task: what is trained, stored, said and returned."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_task import NUM_TRAIN, command_words, time_by_macs, tiny_task, weights

import cutbert
from cutbert import api
from cutbert.cli.main import main
from cutbert.data.augment import augment_rows, read_word_list, word_list_source
from cutbert.data.rows import Rows
from cutbert.data.settings import AugmentSettings
from cutbert.errors import InputError, ModelError, RunError
from cutbert.folders.load import load_model
from cutbert.folders.save import save_model
from cutbert.fronts.outputs import chance_note
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from tiny_runs import HEAD, PROVENANCE, SHAPE, SPECIAL, WORDS, save_tiny, tiny_model, tiny_rows, tiny_tokenizer

ENTRY_KEYS = {
    "name", "head_mult", "ffn_mult", "depth_mult", "shape", "subnet", "params", "macs", "score",
    "select_score", "metrics", "latency_ms", "on_front",
}  # fmt: skip
WIDTHS, DEPTHS = (1.0, 0.75, 0.5, 0.25), (1.0, 0.75, 0.5)
NUM_LAYERS = 4  # fewer have no share of 0.75


@pytest.fixture(scope="module", autouse=True)
def quick_latency() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        time_by_macs(patch)
        yield


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tiny_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of four layers whose head fits the task."""
    torch.manual_seed(0)
    deep = TaskModel(replace(SHAPE, layers=SHAPE.layers[:1] * NUM_LAYERS), EncoderStyle(family="bert"), HEAD)
    with torch.no_grad():
        for parameter in deep.parameters():
            parameter.normal_(0.0, 0.3)
    return str(save_tiny(tmp_path_factory.mktemp("model") / "model", deep))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model without a head for the task."""
    return str(save_tiny(tmp_path_factory.mktemp("base") / "model", tiny_model(HeadSpec("pooler"))))


@pytest.fixture(scope="module")
def family(model: str, task: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    return cutbert.dynabert(model, out=str(tmp_path_factory.mktemp("family") / "run"), **task)


def stages_logged(run: Path) -> dict[str, int]:
    """Return the last step logged of each stage, in order."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {line["stage"]: line["step"] for line in lines}


def test_the_family_is_twelve_and_its_stock_shapes(family: api.Run) -> None:
    entries = [family["teacher"], *family["subnets"]]
    assert family.to_json().keys() >= {"out", "metric", "teacher", "subnets", "seconds"}
    assert all(entry.keys() >= ENTRY_KEYS for entry in entries) and family["metric"] == "accuracy"
    grid = {(e["head_mult"], e["ffn_mult"], e["depth_mult"]) for e in family["subnets"]}
    assert grid >= {(width, width, depth) for width in WIDTHS for depth in DEPTHS}
    assert grid >= {(1.0, width, depth) for width in WIDTHS for depth in DEPTHS}
    assert len(grid) == len(family["subnets"]) == 21
    assert all(("width_mult" in e) == (e["head_mult"] == e["ffn_mult"]) for e in family["subnets"])
    assert all(0 <= e["score"] <= 1 and 0 <= e["select_score"] <= 1 and e["latency_ms"] > 0 for e in entries)


def test_the_run_folder_holds_what_the_design_says(family: api.Run) -> None:
    names = {path.name for path in family.path.iterdir() if path.name != ".lock"}
    assert names == {"run.json", "front.json", "log.jsonl", "predictions", "model"}
    stored = {path.stem for path in (family.path / "predictions").iterdir()}
    assert stored == {"teacher", *(entry["name"] for entry in family["subnets"])}
    assert list(stages_logged(family.path).values()) == [math.ceil(NUM_TRAIN / 8)]


def test_the_teacher_is_the_given_model_and_the_supernet_was_trained(family: api.Run, model: str) -> None:
    predicted = json.loads((family.path / "predictions" / "teacher.json").read_text())
    assert predicted["score"] == family["teacher"]["score"]
    before, after = weights(Path(model)), weights(family.path / "model")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_finished_run_prints_its_stored_result(
    family: api.Run, model: str, task: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["dynabert", model, "--out", str(family.path), *command_words(task), "--json"]
    before = (family.path / "run.json").read_bytes()
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == family.to_json()
    assert (family.path / "run.json").read_bytes() == before
    with pytest.raises(RunError, match=r"dynabert\.recipe was 'default', now 'paper'"):
        cutbert.dynabert(model, out=str(family.path), recipe="paper", **task)


@pytest.mark.parametrize("recipe", ["paper", "release"])
def test_recipes_of_two_stages(recipe: str, model: str, task: dict[str, Any], tmp_path: Path) -> None:
    run = cutbert.dynabert(model, out=str(tmp_path / "run"), recipe=recipe, final_epochs=0.2, **{**task, "epochs": 0.3})
    assert stages_logged(run.path) == {"width": 2, "width-depth": 2, "final": 1}
    assert len(run["subnets"]) == 12
    half = next(entry for entry in run["subnets"] if entry["depth_mult"] == 0.5)
    assert (half["subnet"]["layers"][-1]["index"] == NUM_LAYERS - 1) == (recipe == "paper")


def test_a_limit_in_milliseconds_is_of_the_backend_that_was_named(
    model: str, task: dict[str, Any], tmp_path: Path
) -> None:
    words = {"width_mult": [0.5], "depths": [2], "stock": False, "backend": "onnx-int8"}
    run = cutbert.dynabert(model, out=str(tmp_path / "run"), **task, **words)
    measured = run.front.measured
    assert measured is not None and (measured["backend"], measured["device"]) == ("onnx-int8", "cpu")
    assert cutbert.front(run.path) == run.front
    assert run.front.near_chance == chance_note(run.path, "teacher", "accuracy")
    picked = run.pick(max_latency_ms=1e6, backend="onnx-int8")
    assert picked.to_json()["latency_ms"] == run.front[picked.entry.name].latency_ms
    assert run.pick().to_json()["backend"] == "onnx-int8"
    with pytest.raises(RunError, match=r"on torch, and there are none; .*; --backend onnx-int8 takes those there are"):
        run.pick(max_latency_ms=1e6)


def test_without_rewiring_units_keep_their_order(model: str, task: dict[str, Any], tmp_path: Path) -> None:
    runs = {
        rewire: cutbert.dynabert(model, out=tmp_path / str(rewire), rewire=rewire, **{**task, "epochs": 0.0})
        for rewire in (True, False)
    }
    before, ordered, kept = (
        weights(Path(path)) for path in (model, *(runs[flag].path / "model" for flag in (True, False)))
    )
    assert all(torch.equal(kept[name], before[name]) for name in before)
    name = next(name for name in before if name.endswith("intermediate.dense.weight"))
    assert not torch.equal(ordered[name], before[name])
    assert sorted(ordered[name].flatten().tolist()) == sorted(before[name].flatten().tolist())


def test_depths_parts_and_further_rows(
    model: str,
    task: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = tiny_rows(13, seed=9)
    (tmp_path / "more.tsv").write_text("text\n" + "".join(f"{text}\n" for text in rows.text))
    (tmp_path / "words.txt").write_text("good\tfine\nbad\tdull\n")
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["extra"])
    save_model(tmp_path / "other", tiny_model(seed=4), tokenizer, provenance=PROVENANCE)
    options = {
        "depths": [3, 1],
        "head_mult": [1.0, 0.5],
        "ffn_mult": [1.0, 0.25],
        "unlabeled": [str(tmp_path / "more.tsv")],
        "augment": "words",
        "augment_words": str(tmp_path / "words.txt"),
        "augment_rounds": 2,
        "teacher": str(tmp_path / "other"),
    }
    run = cutbert.dynabert(model, out=str(tmp_path / "run"), **options, **task)
    grid = {(e["head_mult"], e["ffn_mult"], e["subnet"]["layers"][0]["index"]) for e in run["subnets"]}
    assert grid >= {(head, ffn, first) for head in (1.0, 0.5) for ffn in (1.0, 0.25) for first in (0, 3)}
    assert {len(entry["subnet"]["layers"]) for entry in run["subnets"]} == {3, 1}
    assert "only its logits are distilled" in " ".join(capsys.readouterr().err.split())
    variants = augment_rows(
        Rows([*tiny_rows(NUM_TRAIN, 3).text, *rows.text]),
        word_list_source(read_word_list(tmp_path / "words.txt")),
        AugmentSettings(num_rounds=2),
        seed=0,
    )
    assert len(variants) > NUM_TRAIN + 13
    assert list(stages_logged(run.path).values()) == [math.ceil(len(variants) / 8)]
    losses = json.loads((run.path / "log.jsonl").read_text().splitlines()[-1])
    assert losses["logits"] > 0 and not losses.get("hidden")


def test_a_teacher_reads_texts_by_its_own_tokenizer(model: str, task: dict[str, Any], tmp_path: Path) -> None:
    """The model itself with its words in another order in table and tokenizer: the same answers to learn from."""
    other = load_model(model).model
    words = slice(len(SPECIAL), len(SPECIAL) + len(WORDS))
    with torch.no_grad():
        table = other.encoder.embeddings.token.weight
        table[words] = table[words].flip(0)
    save_model(tmp_path / "other", other, tiny_tokenizer(WORDS[::-1]), provenance=PROVENANCE)
    options = {"depths": [4, 1], "width_mult": [1.0, 0.5], **task, "epochs": 0.5, "learning_rate": 1e-12}
    runs = [
        cutbert.dynabert(model, out=tmp_path / name, **given, **options)
        for name, given in (("alone", {}), ("taught", {"teacher": tmp_path / "other"}))
    ]
    own, others = (json.loads((run.path / "log.jsonl").read_text().splitlines()[-1]) for run in runs)
    assert 0 < own["logits"] == pytest.approx(others["logits"], rel=1e-4)
    assert own["hidden"] > 0 and not others.get("hidden")


def test_a_model_without_a_head_is_fine_tuned_first(
    base: str, task: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"depths": [3, 1], "width_mult": [1.0, 0.5], "learning_rate": 0.003}
    run = cutbert.dynabert(base, out=str(tmp_path / "run"), **small, **task)
    said = " ".join(capsys.readouterr().err.split())
    assert "has no head that fits the labels: fine-tuning it on the task first, 3 passes, kept in" in said
    assert next(iter(stages_logged(run.path))) == "teacher" and (run.path / "teacher" / "config.json").is_file()
    teacher = load_model(run.path / "teacher")
    assert teacher.model.head_spec == HeadSpec("single_label", ("neg", "pos")) and not teacher.has_new_head
    texts = tmp_path / "texts.tsv"
    texts.write_text("text\n" + "".join(f"{text}\n" for text in tiny_rows(18, 5).text))
    cutbert.predict(run.path / "teacher", input=str(texts), text="text", out=str(tmp_path / "labels.tsv"), threads=1)
    with (tmp_path / "labels.tsv").open() as file:
        labels = [row["label"] for row in csv.DictReader(file, delimiter="\t")]
    wanted = ["neg" if label == 0 else "pos" for label in tiny_rows(18, 5).labels]
    share = sum(a == b for a, b in zip(labels, wanted, strict=True)) / len(wanted)
    assert share == pytest.approx(run["teacher"]["score"])


def test_a_teacher_of_other_labels_is_refused(model: str, base: str, task: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises((ModelError, InputError), match="must have a head with the labels neg, pos"):
        cutbert.dynabert(model, out=str(tmp_path / "run"), teacher=base, **task)
    assert not (tmp_path / "run").exists()


def test_mistakes_come_together_and_nothing_is_made(model: str, task: dict[str, Any], tmp_path: Path) -> None:
    wrong = {**task, "dev": str(tmp_path / "missing.tsv"), "batch_size": 0}
    with pytest.raises(InputError) as caught:
        cutbert.dynabert(model, out=str(tmp_path / "run"), temperature=0.0, **wrong)
    text = str(caught.value)
    assert "--batch-size must be at least 1" in text and "--temperature must be above 0" in text
    assert "missing.tsv" in text and not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="must lie in"):
        cutbert.dynabert(model, out=str(tmp_path / "run"), width_mult=[1.5], **task)
    assert not (tmp_path / "run").exists()
