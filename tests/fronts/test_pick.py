"""The pick is the best under the limits, and the folder it writes answers as the subnet did in place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cutbert
from cutbert.errors import BudgetError, RunError
from cutbert.files import read_json
from cutbert.folders.load import load_model
from cutbert.fronts.entry import LATENCIES, Entry
from cutbert.fronts.front import TEACHER_INT8, Front
from cutbert.fronts.outputs import answers_of
from cutbert.fronts.paired import compare
from cutbert.fronts.pick import check_measured_here, choose, given_up, picked_json, save_picked
from cutbert.fronts.settings import PickSettings
from cutbert.shape.budget import Limits
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.subnet import Subnet
from cutbert.table import as_text
from cutbert.train.evaluate import predict_logits
from cutbert.train.machine import processor_name
from tiny_runs import MEASURED, make_run, tiny_model, tiny_tokens

CONDITIONS = {
    "backend": "torch", "device": "cpu", "threads": 1, "lengths": [4, 8], "throughput_batch_size": 2,
    "throughput_length": 6, "machine": {"processor": processor_name()},
}  # fmt: skip
STOCK = EncoderShape.uniform(hidden_size=8, num_layers=1, num_heads=2, intermediate_size=4, vocab_size=9)
FREE = replace(STOCK, layers=(LayerShape(1, 4, 4, 4),))


def entry(
    name: str, select_score: float, macs: int, *, latency_ms: float | None = None, shape: EncoderShape = FREE
) -> Entry:
    return Entry(
        name=name, shape=shape, subnet=Subnet.full(shape), params=macs // 10, macs=macs, score=0.0,
        select_score=select_score, metrics={}, latency_ms=latency_ms,
    )  # fmt: skip


FRONT = Front(
    metric="accuracy",
    teacher=entry("teacher", 1.0, 1000),
    subnets=(
        entry("big", 0.9, 1000, latency_ms=10.0, shape=STOCK),
        entry("even", 0.8, 500, latency_ms=6.0),
        entry("same", 0.8, 400, latency_ms=5.0),
        entry("small", 0.6, 100, latency_ms=2.0),
    ),
)


@pytest.mark.parametrize(
    ("limits", "stock", "name"),
    [
        ({}, False, "big"),
        ({"max_macs": 999}, False, "same"),
        ({"max_latency_ms": 5.0}, False, "same"),
        ({"max_params": 39}, False, "small"),
        ({"max_bytes": 160}, False, "same"),
        ({"min_score": 0.85}, False, "big"),
        ({}, True, "big"),
    ],
)
def test_best_under_limits(limits: dict, stock: bool, name: str) -> None:
    assert choose(FRONT, Limits(**limits), stock=stock).name == name


def test_of_equals_the_later_round_is_picked() -> None:
    rounds = tuple(entry(name, 0.7, 100) for name in ("unhealed", "healed"))
    assert choose(replace(FRONT, subnets=rounds), Limits()).name == "healed"


@pytest.mark.parametrize(
    ("limits", "stock", "message"),
    [
        (
            {"max_latency_ms": 1.0},
            False,
            "no subnet fits the limits; the nearest is small: latency_ms must be at most 1.0, got 2.0",
        ),
        (
            {"max_macs": 300, "min_score": 0.8},
            False,
            "the nearest is small: select_score must be at least 0.8, got 0.6",
        ),
        ({"max_macs": 600}, True, "the nearest is big: macs must be at most 600, got 1000"),
    ],
)
def test_nothing_fits(limits: dict, stock: bool, message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        choose(FRONT, Limits(**limits), stock=stock)


def test_every_missed_limit_has_its_line() -> None:
    with pytest.raises(BudgetError) as caught:
        choose(FRONT, Limits(max_macs=50, max_params=5))
    assert len(caught.value.mistakes) == 2


def test_no_stock_shape() -> None:
    free = Front(metric="accuracy", teacher=FRONT.teacher, subnets=FRONT.subnets[1:])
    with pytest.raises(BudgetError, match="no subnet of this run has a stock shape; cutbert dynabert makes such"):
        choose(free, Limits(), stock=True)


def test_what_reads_the_mean_is_in_no_stock_class() -> None:
    mean = replace(FRONT, subnets=tuple(replace(each, pooling="mean") for each in FRONT))
    message = "no subnet of this run loads in plain transformers, .* the mean over tokens; train with --pooling cls"
    with pytest.raises(BudgetError, match=message):
        choose(mean, Limits(), stock=True)
    assert choose(mean, Limits()).name == "big" and not picked_json(mean["big"], None)["stock"]
    assert Front.from_json(mean.to_json()) == mean and "yes" not in as_text(mean.view(), 200)
    cls = replace(FRONT, subnets=tuple(replace(each, pooling="cls") for each in FRONT))
    assert choose(cls, Limits(), stock=True).name == "big" and picked_json(cls["big"], None)["stock"]


def test_latencies_must_be_this_machines(tmp_path: Path) -> None:
    there = {"backend": "torch", "machine": {"processor": "Z80"}}
    with pytest.raises(RunError, match=r"latencies were measured on Z80, but this machine is .*; `cutbert front"):
        check_measured_here(tmp_path, replace(FRONT, measured=there))
    check_measured_here(tmp_path, replace(FRONT, measured={**there, "machine": {"processor": processor_name()}}))


def test_a_backend_never_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"needs measured latencies on torch, and there are none; `cutbert front"):
        FRONT.on("torch", tmp_path)
    with pytest.raises(RunError, match=r"on onnx, and there are none; `cutbert front \S* --measure --backend onnx`"):
        replace(FRONT, measured={"backend": "torch"}).on("onnx", tmp_path)


TORCH, ONNX = ({**MEASURED, "backend": name} for name in ("torch", "onnx"))


def test_latencies_of_several_backends_are_kept_apart(tmp_path: Path) -> None:
    names = [entry.name for entry in (FRONT.teacher, *FRONT)]

    def times(latency_ms: float) -> dict[str, dict[str, float]]:
        return {name: dict.fromkeys(LATENCIES, latency_ms) for name in names}

    front = FRONT.with_times(times(1.0), TORCH).with_times(times(2.0), ONNX)
    assert {entry.latency_ms for entry in front} == {2.0} and front.on("onnx", tmp_path) is front
    assert {entry.latency_ms for entry in front.on("torch", tmp_path)} == {1.0}
    front.save(tmp_path)
    stored = Front.load(tmp_path)
    assert stored.measured == TORCH and stored.on("onnx", tmp_path) == front
    again = front.with_times(times(3.0), ONNX)
    assert {entry.latency_ms for entry in again} == {3.0} and set(again.others) == {"torch"}


def test_a_backend_goes_with_a_limit_on_latency() -> None:
    with pytest.raises(RunError, match="--backend must come with --max-latency-ms"):
        PickSettings(backend="onnx").check()
    with pytest.raises(RunError, match=r"--backend must be one of torch, .*, got 'tpu'"):
        PickSettings(backend="tpu", max_latency_ms=1).check()
    PickSettings(backend="onnx", max_latency_ms=1).check()


def test_settings_collect_their_mistakes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError) as caught:
        PickSettings(max_params=0, out=str(tmp_path)).check()
    assert len(caught.value.mistakes) == 2 and "--out must be absent or an empty folder" in caught.value.mistakes[1]
    with pytest.raises(RunError, match="--out must be absent or an empty folder"):
        PickSettings(out=str(tmp_path / "file")).check()
    with pytest.raises(RunError, match=r"--out must lie in a folder, but .*/file is a file"):
        PickSettings(out=str(tmp_path / "file" / "small")).check()
    PickSettings(out=str(tmp_path / "new")).check()


def test_what_was_chosen_on_dev_says_so() -> None:
    assert "select_is_dev" not in picked_json(FRONT["big"], None)
    assert picked_json(FRONT["big"], None, select_is_dev=True)["select_is_dev"] is True


def test_the_uncut_model_is_beside_the_pick(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    front = Front.load(run.path)
    times = {each.name: dict.fromkeys(LATENCIES, 4.0) for each in (front.teacher, *front)}
    times[front.teacher.name] = dict.fromkeys(LATENCIES, 8.0)
    times[TEACHER_INT8] = dict.fromkeys(LATENCIES, 3.0)
    front = replace(front.with_times(times, CONDITIONS), near_chance="accuracy 50.00 is near chance")
    front.save(run.path)
    each = front["w0.5-d0.3333"]
    facts = given_up(run.path, front, each)
    stored = [read_json(run.path / "predictions" / f"{name}.json") for name in (each.name, "teacher")]
    paired = compare("accuracy", *([answers_of(one)] for one in stored), np.asarray(stored[0]["labels"], float))
    assert facts["difference"] == each.score - front.teacher.score == pytest.approx(paired.difference)
    assert facts["difference_interval"] == [paired.low, paired.high]
    assert (facts["latency_ms"], facts["latency_ratio"], facts["int8_latency_ms"]) == (8.0, 0.5, 3.0)
    picked = cutbert.pick(run.path, max_latency_ms=5, out=tmp_path / "small")
    data = picked.to_json()
    assert data["cut_from"] == {**given_up(run.path, front, picked.entry), "int8_within_limit": True}
    assert read_json(tmp_path / "small" / "cutbert.json")["cut_from"] == given_up(run.path, front, picked.entry)
    text = as_text(picked.view(), 120)
    assert "3.00 ms, within the limit already; `cutbert export --int8` scores it" in text
    assert "points on dev (95 % interval " in text and "0.50 of the time" in text and "is near chance" in text
    assert cutbert.pick(run.path, max_latency_ms=5).to_json()["cut_from"]["int8_within_limit"]
    assert "int8_within_limit" not in cutbert.pick(run.path).to_json()["cut_from"]
    bare = replace(front, measured=None, teacher_int8=None, near_chance=None)
    assert "difference_interval" not in given_up(tmp_path, bare, each)


def test_the_folder_answers_as_in_place(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    front, tokens = Front.load(run.path), tiny_tokens(seed=5)
    for each in (front["w0.5-d0.3333"], front["h1.0-f0.5-d1.0"]):
        out = tmp_path / each.name
        save_picked(run.path, front, each, out, "cutbert pick")
        loaded = load_model(out)
        in_place = predict_logits(tiny_model(), tokens, subnet=each.subnet)
        np.testing.assert_allclose(predict_logits(loaded.model, tokens), in_place, atol=1e-5)
        assert loaded.model.shape == each.shape and not loaded.notes
        provenance = json.loads((out / "cutbert.json").read_text())
        assert provenance["commands"] == ["cutbert pick"] and provenance["scores"] == {
            "accuracy": each.score,
            "select_accuracy": each.select_score,
        }
        assert picked_json(each, out)["stock"] == each.name.startswith("h1.0")
