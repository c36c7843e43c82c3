"""Depth end to end on a tiny task: what is chosen, kept, compared, resumed and refused."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_task import time_by_macs, tiny_task, weights

import cutbert
from cutbert.analysis.depth_selectors import SELECTORS
from cutbert.api.views import VIEWS
from cutbert.errors import InputError, MissingError
from cutbert.folders.load import load_model
from cutbert.shape.head import HeadSpec
from cutbert.shape.source import find_model
from cutbert.table import as_text
from cutbert.train.settings import TrainSettings
from cutbert.work.plans import FINETUNE
from cutbert.work.training_memory import TrainingMemory, training_memory
from kills import killed_as_it_says, killed_before
from tiny_runs import HEAD, WORDS, save_tiny, tiny_model, tiny_tokens

MEASURED = TrainingMemory(peak_bytes=1000, before_bytes=400)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tiny_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A pre-trained model with a pooler."""
    return str(save_tiny(tmp_path_factory.mktemp("base") / "model", tiny_model(HeadSpec("pooler"))))


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Measure no memory, since that takes a process of Python each; one that answers at once stands in its place."""
    instead = tmp_path_factory.mktemp("python") / "python"
    instead.write_text(f"#!/bin/sh\necho '{json.dumps(asdict(MEASURED))}'\n")
    instead.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(instead))


def depth(model: str, out: Path, task: dict[str, Any], **options: Any) -> cutbert.api.Run:
    return cutbert.depth(model, out=out, **task, **options)


@pytest.mark.usefixtures("no_processes")
def test_the_chosen_layers_are_fine_tuned_and_kept(base: str, tmp_path: Path, task: dict[str, Any]) -> None:
    run = depth(base, tmp_path / "run", task, epsilon=1.0, least_gain=0.0, num_examples=30)
    assert {"out", "chosen_depth", "depth_scores", "score", "metric", "seconds"} <= run.to_json().keys()
    assert run["chosen_depth"] == 1 and list(run["depth_scores"]) == ["1", "2", "3"]
    assert run["peak_bytes"] == 1000 and "full_score" not in run.data and "selectors" not in run.data
    parts = (run["choosing_seconds"], run["training_seconds"], run["scoring_seconds"])
    assert run["seconds"] == sum(parts) and min(parts) > 0 and run["total_seconds"] > run["seconds"]
    first = load_model(base).model
    kept = load_model(run["truncated"]).model
    assert kept.shape.num_layers == 1 and kept.head_spec.kind == "pooler"
    for name, weight in kept.state_dict().items():
        assert torch.equal(weight, first.state_dict()[name]), name
    tuned = load_model(run.path / "model")
    assert tuned.model.shape == kept.shape and tuned.model.head_spec == HEAD and not tuned.has_new_head
    assert run["file_bytes"] == (run.path / "model" / "model.safetensors").stat().st_size
    assert not (run.path / "checkpoint").exists() and not (run.path / "full").exists()


@pytest.mark.usefixtures("no_processes")
def test_all_layers_stay_where_labels_are_read_off_none(
    base: str, tmp_path: Path, task: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = depth(base, tmp_path / "run", task, epsilon=1.0, least_gain=1.0, num_examples=30)
    assert run["chosen_depth"] == run["num_layers"] == 3 and run["gain"] < 1.0
    assert "no depth of the frozen model tells the labels well enough by probe" in capsys.readouterr().err


@pytest.mark.usefixtures("no_processes")
def test_the_full_model_beside_it_changes_no_bit(base: str, tmp_path: Path, task: dict[str, Any]) -> None:
    """In turns with the full model the chosen one takes the steps it takes alone; both are finetune's own."""
    task = {**task, "dropout": 0.1}
    alone = depth(base, tmp_path / "alone", task, depth=2)
    both = depth(base, tmp_path / "both", task, depth=2, against_full=True)
    full = cutbert.finetune(base, out=tmp_path / "full", **task)
    assert_same(weights(alone.path / "model"), weights(both.path / "model"))
    assert_same(weights(full.path / "model"), weights(both.path / "full"))
    assert both["full_score"] == full["score"] and both["score"] == alone["score"]
    assert both["full_file_bytes"] > both["file_bytes"] and both["full_params"] > both["params"]
    assert both["verdict"] in ("smaller is better", "no worse", "full is better", "not decided")
    assert both["difference"]["difference"] == pytest.approx(both["score"] - both["full_score"])
    assert both["difference"]["low"] <= both["difference"]["difference"] <= both["difference"]["high"]
    assert both["depth_scores"] == {} and both["selector"] == "given"


@pytest.mark.usefixtures("no_processes")
def test_every_depth_and_every_selector(base: str, tmp_path: Path, task: dict[str, Any]) -> None:
    run = depth(base, tmp_path / "run", task, all_depths=True, seeds=[3, 4])
    assert [each["depth"] for each in run["series"]] == [1, 2, 3]
    assert all(len(each["scores"]) == 2 for each in run["series"])
    scores = [each["score"] for each in run["series"]]
    assert run["oracle_score"] == max(scores) and run["oracle_depth"] == scores.index(max(scores)) + 1
    assert run["regret"] == max(scores) - scores[run["chosen_depth"] - 1] and run["oracle_looks_at"] == "dev"
    assert run["selectors"].keys() == {*SELECTORS, "half", "full"}
    for each in run["selectors"].values():
        assert each["regret"] == max(scores) - scores[each["depth"] - 1] >= 0
    assert run["selectors"]["half"]["depth"] == 1 and run["selectors"]["full"]["depth"] == 3
    assert sorted(path.stem for path in (run.path / "predictions").iterdir()) == [
        f"depth-{k}-seed-{s}" for k in (1, 2, 3) for s in (3, 4)
    ]
    assert len(run["difference"]["by_seed"]) == 2 if run["chosen_depth"] < 3 else "difference" not in run.data


def shown(data: dict[str, Any]) -> str:
    return as_text(VIEWS["depth"](data), 120)


FOUND = {
    "out": "runs/x", "chosen_depth": 2, "num_layers": 3, "selector": "probe", "metric": "accuracy",
    "depth_scores": {"1": 0.5, "2": 0.7123, "3": 0.7}, "score": 0.8125, "select_score": 0.8,
    "params": 10**7, "macs": 10**9, "seconds": 9.0, "choosing_seconds": 1.0, "training_seconds": 6.0,
    "scoring_seconds": 2.0, "peak_bytes": 7 * 10**8, "file_bytes": 6 * 10**7,
}  # fmt: skip
BESIDE = {
    **FOUND, "full_score": 0.79, "full_select_score": 0.81, "full_seconds": 20.0, "full_peak_bytes": 9 * 10**8,
    "full_file_bytes": 9 * 10**7, "full_params": 2 * 10**7, "full_macs": 2 * 10**9, "verdict": "not decided",
    "difference": {
        "difference": 0.0225, "low": -0.01, "high": 0.05, "p_value": 0.123, "test": "mcnemar",
        "by_seed": [0.0225], "rows": 872,
    },
}  # fmt: skip


def test_how_results_look() -> None:
    alone = shown(FOUND)
    assert re.search(r"\* +2 +0\.7123 +81\.25 +80\.00", alone) and "full" not in alone.split("chosen by")[0]
    assert "1.0 s choosing, 6.0 s training, 2.0 s scoring" in alone and "in runs/x" in alone
    text = shown(BESIDE)
    assert re.search(r" 3 +0\.7000 +79\.00 +81\.00", text) and re.search(r"full +20\.0 +900\.0 +90\.0", text)
    said = "do not say which is better: +2.25 points [-1.00, +5.00], p = 0.123 (mcnemar, 872 rows of dev, 1 seed)"
    assert said in " ".join(text.split()) and "beats" not in text
    better = shown({**BESIDE, "verdict": "smaller is better"})
    assert "the smaller network beats the full one" in better
    given = {**FOUND, "depth_scores": {}, "selector": "given", "oracle_depth": 1, "oracle_score": 0.9, "regret": 0.0875}
    text = " ".join(shown({**given, "select_is_dev": True}).split())
    assert (
        "best depth on dev itself, which no choice may look at: 1 (90.00); the choice is 8.75 points below it" in text
    )
    assert "choosing" not in text and "select is the dev split itself" in text


@pytest.mark.usefixtures("no_processes")
@pytest.mark.parametrize(("rule", "depths"), [("half", 1), ("full", 3)])
def test_naive_rules_look_at_nothing(
    base: str, tmp_path: Path, task: dict[str, Any], rule: str, depths: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run = cutbert.depth(base, out=tmp_path / "run", selector=rule, against_full=True, **task)
    assert run["chosen_depth"] == depths and run["choosing_seconds"] == 0 and run["depth_scores"] == {}
    assert "score depths" not in capsys.readouterr().err and "selectors" not in run.data
    assert (run["verdict"] == "the full model was chosen") == (rule == "full")


@pytest.mark.usefixtures("no_processes")
def test_a_layer_that_tells_the_classes_apart_is_found(tmp_path: Path) -> None:
    """Layers that swap nothing in but noise after one that knows the answer are not taken."""
    rows = [f"{word} {' '.join(WORDS[i % 10] for i in range(k, k + 4))}" for k in range(40) for word in ("good", "bad")]
    lines = "".join(f"{text}\t{text.split()[0]}\n" for text in rows)
    (tmp_path / "train.tsv").write_text("text\tlabel\n" + lines)
    (tmp_path / "dev.tsv").write_text("text\tlabel\ngood film\tgood\nbad film\tbad\n")
    files = {"train": str(tmp_path / "train.tsv"), "dev": str(tmp_path / "dev.tsv"), "text": "text", "label": "label"}
    base = tiny_model(HeadSpec("pooler"))
    with torch.no_grad():
        base.encoder.embeddings.token.weight[5:7] *= 20  # good and bad
    model = str(save_tiny(tmp_path / "base", base))
    quick = {"epochs": 1.0, "batch_size": 8, "threads": 1, "max_length": 16, "precision": "float32"}
    run = cutbert.depth(model, out=tmp_path / "run", num_examples=60, pooling="mean", **files, **quick)
    assert run["depth_scores"][str(run["chosen_depth"])] > 0.9


@pytest.mark.usefixtures("no_processes")
@pytest.mark.parametrize("kind", ["regression", "multi_label"])
def test_numbers_and_several_labels(base: str, tmp_path: Path, kind: str) -> None:
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, 5)) for _ in range(60)]
    labels = [
        f"{text.count('good') + 0.5}" if kind == "regression" else "|".join(set(text.split()[:2])) for text in texts
    ]
    for name, part in (("train", slice(0, 40)), ("dev", slice(40, 60))):
        pairs = zip(texts[part], labels[part], strict=True)
        (tmp_path / f"{name}.tsv").write_text("text\tlabel\n" + "".join(f"{a}\t{b}\n" for a, b in pairs))
    options = {"regression": True} if kind == "regression" else {"multi_label": "|"}
    files = {name: str(tmp_path / f"{name}.tsv") for name in ("train", "dev")}
    quick = {"epochs": 1.0, "batch_size": 8, "threads": 1, "max_length": 16, "text": "text", "label": "label"}
    run = depth(base, tmp_path / "run", {**files, **quick, **options}, all_depths=True, num_examples=30)
    assert run["metric"] == {"regression": "pearson", "multi_label": "f1"}[kind]
    assert all(len(each.get("scores", [0] * 3)) == 3 for each in run["selectors"].values())


@pytest.mark.usefixtures("no_processes")
def test_a_stopped_run_ends_with_the_same_bits(base: str, tmp_path: Path, task: dict[str, Any]) -> None:
    task = {**task, "epochs": 2.0, "dropout": 0.1, "checkpoint_seconds": 0.0}
    options = {"depth": 2, "all_depths": True, "seeds": [0, 1]}
    whole = depth(base, tmp_path / "whole", task, **options)
    out = tmp_path / "parts"
    for kill in (
        killed_before(out / "choice.json"),
        killed_as_it_says("depth-2-seed-0, depth-3-seed-0: 15/24"),  # within the second pass of the pair
        killed_before(out / "checkpoint" / "depth-3-seed-0.json"),
        killed_before(out / "predictions" / "depth-2-seed-0.json"),
        killed_as_it_says("depth-1-seed-1: 5/12"),
        killed_before(out / "truncated"),
        killed_before(out / "model"),
        killed_before(out / "full"),
        killed_before(out / "run.json", after=out / "full"),
    ):
        with kill:
            depth(base, out, task, **options)
    parts = depth(base, tmp_path / "parts", task, **options)
    for name in ("model", "full", "truncated"):
        assert_same(weights(parts.path / name), weights(whole.path / name))
    assert [each["scores"] for each in parts["series"]] == [each["scores"] for each in whole["series"]]
    assert depth(base, tmp_path / "parts", task, **options) == parts


@pytest.mark.usefixtures("no_processes")
def test_its_networks_can_be_cut_further(
    base: str, tmp_path: Path, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    time_by_macs(monkeypatch)
    run = depth(base, tmp_path / "run", task, depth=2)
    family = cutbert.dynabert(
        run["truncated"], out=tmp_path / "family", width_mult=(1.0, 0.5), depths=[2, 1], importance_samples=8, **task
    )
    assert family.front.teacher.shape.num_layers == 2 and (family.path / "teacher").exists()
    cut = cutbert.schubert(run.path, out=tmp_path / "cut", budget="macs=0.6", gate_steps=2, multiple_of=1, **task)
    assert cut.front.teacher.shape.num_layers == 2 and not (cut.path / "teacher").exists()


def test_more_layers_than_there_are_is_refused_and_nothing_made(
    base: str, tmp_path: Path, task: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=r"--depth must be at most 3, the layers of .*, got 4"):
        depth(base, tmp_path / "run", task, depth=4)
    assert not (tmp_path / "run").exists()


def test_labels_that_tell_nothing_apart_are_refused(base: str, tmp_path: Path, task: dict[str, Any]) -> None:
    lines = [f"{'good ' * (i + 1)}\t{'pos' if i else 'neg'}\n" for i in range(30)]
    (tmp_path / "train.tsv").write_text("text\tlabel\n" + "".join(lines))
    with pytest.raises(InputError, match="the sample to judge depths on must hold two rows of each of two classes"):
        depth(base, tmp_path / "run", {**task, "train": str(tmp_path / "train.tsv")})
    assert not (tmp_path / "run").exists()


def test_labels_per_word_judge_no_depth(base: str, tmp_path: Path) -> None:
    for name in ("train", "dev"):
        sentences = [f"{word} O\nbad B-X\n{name} O\n\n" for word in WORDS]
        (tmp_path / f"{name}.conll").write_text("".join(sentences))
    files = {"train": str(tmp_path / "train.conll"), "dev": str(tmp_path / "dev.conll"), "text": "0", "label": "-1"}
    with pytest.raises(
        InputError, match="--selector must be half or full with a head of kind token, or give --depth K"
    ):
        cutbert.depth(base, out=tmp_path / "run", tagging=True, **files)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own(base: str, tmp_path: Path) -> None:
    train = TrainSettings(threads=1, precision="float32")
    source = find_model(base)
    found = training_memory(source, HEAD, FINETUNE, train, tiny_tokens(), tmp_path / "memory")
    assert 0 < found.before_bytes < found.peak_bytes
    assert (
        training_memory(replace(source, folder=tmp_path), HEAD, FINETUNE, train, tiny_tokens(), tmp_path / "memory")
        == found
    )


def test_memory_that_cannot_be_measured(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "false")
    with pytest.raises(MissingError, match="a process that fine-tunes it could not be measured: it ended with 1"):
        training_memory(find_model(base), HEAD, FINETUNE, TrainSettings(), tiny_tokens(), tmp_path / "memory")


def assert_same(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)
