"""A front says what nothing beats, and reads back as it was written."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutbert.errors import RunError
from cutbert.fronts.entry import Entry
from cutbert.fronts.front import Front
from cutbert.shape.shape import EncoderShape
from cutbert.shape.subnet import Subnet
from tiny_runs import MEASURED

SHAPE = EncoderShape.uniform(hidden_size=8, num_layers=1, num_heads=2, intermediate_size=4, vocab_size=9)
KEYS = {
    "name", "head_mult", "ffn_mult", "width_mult", "depth_mult", "shape", "subnet", "params", "macs", "score",
    "select_score", "metrics", "latency_ms", "on_front",
}  # fmt: skip


def entry(name: str = "w1.0-d1.0", select_score: float = 0.5, macs: int = 100) -> Entry:
    return Entry(
        name=name,
        head_mult=1.0,
        ffn_mult=1.0,
        width_mult=1.0,
        depth_mult=1.0,
        shape=SHAPE,
        subnet=Subnet.full(SHAPE),
        params=10,
        macs=macs,
        score=0.4,
        select_score=select_score,
        metrics={"accuracy": 0.4},
        latency_ms=2.0,
    )


def front(*subnets: Entry) -> Front:
    return Front(metric="accuracy", teacher=entry("teacher", 0.6, 100), subnets=subnets)


def test_front_keeps_what_nothing_beats() -> None:
    found = front(
        entry("a", 0.9, 100), entry("b", 0.8, 50), entry("c", 0.8, 60), entry("d", 0.7, 50), entry("e", 0.1, 1)
    )
    assert [each.name for each in found if each.on_front] == ["a", "b", "e"]
    assert not found.teacher.on_front


def test_equal_entries_are_both_on_the_front() -> None:
    assert [each.on_front for each in front(entry("a"), entry("b"))] == [True, True]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=8))
def test_front_against_the_plain_rule(numbers: list[tuple[int, int]]) -> None:
    found = front(*(entry(str(i), score / 10, macs) for i, (score, macs) in enumerate(numbers)))
    for each in found:
        beaten = [
            other
            for other in found
            if (other.select_score, -other.macs) != (each.select_score, -each.macs)
            and other.select_score >= each.select_score
            and other.macs <= each.macs
        ]
        assert each.on_front == (not beaten)


def test_round_trip_and_keys(tmp_path: Path) -> None:
    both = front(entry("a"), replace(entry("b"), width_mult=None))
    written = replace(both, measured=MEASURED, select_is_dev=True)
    written.save(tmp_path)
    assert Front.load(tmp_path) == written
    data = json.loads((tmp_path / "front.json").read_text())
    assert set(data["teacher"]) == set(data["subnets"][0]) == KEYS
    assert set(data["subnets"][1]) == KEYS - {"width_mult"}
    assert json.loads(json.dumps(written.to_json())) == {key: data[key] for key in data if key != "format_version"}


def test_by_name(tmp_path: Path) -> None:
    found = front(entry("a"), entry("b"))
    assert found["b"].name == "b" and len(found) == 2 and found["a"].bytes == 40
    with pytest.raises(RunError, match="subnet must be one of a, b, got 'c'"):
        found["c"]


def test_unreadable_fronts(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="must be a run with a front"):
        Front.load(tmp_path)
    (tmp_path / "front.json").write_text('{"format_version": 1}')
    with pytest.raises(RunError, match="must have metric, select_is_dev, subnets, teacher"):
        Front.load(tmp_path)
    data = {"format_version": 1, **front(entry("a"), entry("b")).to_json()}
    for part, key, value, message in (
        (data["subnets"][1], "name", None, "front.json: subnet 1: name must be text without /, got None"),
        (data["subnets"][1], "name", "a", "front.json: a must be listed once, got it 2 times"),
        (data["subnets"][0], "latency_ms", 0, "subnet 0: latency_ms must be a number above 0, got 0"),
        (data["teacher"], "subnet", {"hidden_size": 8, "layers": []}, "must have one entry for each of the shape"),
        (data["teacher"], "score", math.nan, "front.json: must be JSON: numbers must be finite, got nan"),
        (data, "others", {"onnx": {}}, "others must be a JSON object of measured conditions and times by backend"),
        (data, "extra", 1, "must have no other keys than cutbert writes, got extra"),
    ):
        old = dict(part)
        part[key] = value
        (tmp_path / "front.json").write_text(json.dumps(data))
        with pytest.raises(RunError, match=message):
            Front.load(tmp_path)
        part.clear()
        part.update(old)
    (tmp_path / "front.json").write_text('{"format_version": 2}')
    with pytest.raises(RunError, match="format_version must be 1, got 2"):
        Front.load(tmp_path)
