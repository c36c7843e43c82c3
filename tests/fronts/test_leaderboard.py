"""A leaderboard is the same after writing and reading, damage is refused, and its sentences fit its numbers."""

from __future__ import annotations

import doctest
import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from cutbert.errors import RunError
from cutbert.files import read_json, write_json
from cutbert.fronts import leaderboard_view
from cutbert.fronts.leaderboard import LEADERBOARD, Leaderboard, LeaderboardEntry
from cutbert.fronts.leaderboard_view import verdict, what_is_left
from tiny_runs import SHAPE, tiny_entry, tiny_leaderboard

REQUIRED = {
    "name", "kind", "backend", "score", "select_score", "metrics", "latency_ms", "latency_p95_ms", "throughput_per_s",
    "params", "macs", "file_bytes", "steps", "train_seconds", "within_limit", "chosen",
}  # fmt: skip


def test_round_trip(tmp_path: Path) -> None:
    board = replace(tiny_leaderboard(), select_is_dev=True)
    board.save(tmp_path)
    assert Leaderboard.load(tmp_path) == board
    assert Leaderboard.from_json(json.loads(json.dumps(board.to_json()))) == board
    for entry in board:
        data = entry.to_json()
        assert set(data) >= REQUIRED and None not in data.values()
        assert LeaderboardEntry.from_json(json.loads(json.dumps(data))) == entry
    assert "kl" not in board.entries[0].to_json() and "select_is_dev" not in tiny_leaderboard().to_json()


def test_what_was_chosen() -> None:
    board = tiny_leaderboard()
    assert [entry.name for entry in board.chosen] == ["layers-2"] and board.chosen_for(None) is board.chosen[0]
    assert board.uncut is board.entries[1]  # int8, as the leaderboard is
    assert replace(board, backend="torch").uncut is board.entries[0]
    two = replace(board.chosen[0], limit="2.2 ms"), replace(board.entries[-1], chosen=True, limit="1.5 ms")
    several = replace(board, entries=(*board.entries[:2], *two))
    assert several.chosen_for("1.5 ms").name == "student-1" and len(several.chosen) == 2
    with pytest.raises(RunError, match=r"limit must be one of 2\.2 ms, 1\.5 ms, got '4 ms'"):
        several.chosen_for("4 ms")
    with pytest.raises(RunError, match=r"the run had one limit alone: chosen\[0\] is its answer, got '2 ms'"):
        board.chosen_for("2 ms")
    with pytest.raises(RunError, match="limit must be one of none, as nothing was chosen, got None"):
        replace(board, entries=board.entries[:2]).chosen_for(None)


def change(**values: Any) -> Callable[[dict[str, Any]], None]:
    """Return what changes the third entry."""
    return lambda data: data["entries"][2].update(values)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change(score="high"), r"entry 2: score must be a number, got 'high'"),
        (change(score=float("nan")), r"leaderboard.json: must be JSON: numbers must be finite, got nan"),
        (change(latency_ms=True), r"entry 2: latency_ms must be a number above 0, got True"),
        (change(kind="wide"), r"entry 2: kind must be one of teacher, layers, sizes, undivided, gates, student, got"),
        (change(latency_ms=0), r"entry 2: latency_ms must be a number above 0, got 0"),
        (change(steps=-1), r"entry 2: steps must be a whole number of at least 0, got -1"),
        (change(chosen="yes"), r"entry 2: chosen must be true or false, got 'yes'"),
        (change(metrics={"f1": "x"}), r"entry 2: metrics must be a JSON object of numbers, got"),
        (change(interval=[0.9]), r"entry 2: interval must be a list of two numbers, got \[0.9\]"),
        (change(layers=[0, "1"]), r"entry 2: layers must be a list of layers, got"),
        (change(difference={"mean": 0.1}), r"entry 2: difference must be a JSON object of numbers with mean, low and"),
        (change(shape=[]), r"entry 2: shape must be a JSON object, got \[\]"),
        (change(shape={}), r"entry 2: shape: missing key 'hidden_size'"),
        (change(colour="red"), r"entry 2: must have no other keys than cutbert writes, got colour"),
        (lambda data: data["entries"][2].pop("macs"), r"entry 2: must have macs"),
        (lambda data: data["entries"].__setitem__(2, 5), r"entry 2: must be a JSON object, got int"),
        (
            lambda data: data["entries"].append(data["entries"][2]),
            r"layers-2 on onnx-int8 must be listed once for each",
        ),
        (lambda data: data.pop("limits"), r"leaderboard.json: must have limits"),
        (lambda data: data.update(entries={}), r"leaderboard.json: entries must be a list of entries, got {}"),
        (lambda data: data.update(notes=[1]), r"leaderboard.json: notes must be a list of texts, got \[1\]"),
        (lambda data: data.update(format_version=2), r"leaderboard.json: format_version must be 1, got 2"),
    ],
)
def test_damage_is_refused(tmp_path: Path, damage: Callable[[dict[str, Any]], None], message: str) -> None:
    tiny_leaderboard().save(tmp_path)
    data = read_json(tmp_path / LEADERBOARD)
    damage(data)
    write_json(tmp_path / LEADERBOARD, data)
    with pytest.raises(RunError, match=message):
        Leaderboard.load(tmp_path)


def test_all_mistakes_are_told_together() -> None:
    data = tiny_leaderboard().to_json()
    data["entries"][0]["score"] = data["entries"][4]["params"] = data["backend"] = None
    with pytest.raises(RunError) as caught:
        Leaderboard.from_json(data)
    assert len(caught.value.mistakes) == 3


def test_no_damage_raises_anything_else() -> None:
    draw, names = random.Random(0), [field.name for field in fields(LeaderboardEntry)]
    good = tiny_leaderboard().to_json()
    for _ in range(300):
        data = json.loads(json.dumps(good))
        entry, value = draw.choice(data["entries"]), draw.choice([None, [], {}, "x", -1, 1.5, True, [1, 2], {"a": {}}])
        draw.choice([entry, entry, entry["shape"], data])[draw.choice(names)] = value
        with suppress(RunError):
            repr(Leaderboard.from_json(data))


def test_a_run_without_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"must be a run with a leaderboard \(leaderboard.json\), such as cutbert fit"):
        Leaderboard.load(tmp_path)
    write_json(tmp_path / LEADERBOARD, [1])
    with pytest.raises(RunError, match="format_version must be 1, got None"):
        Leaderboard.load(tmp_path)
    with pytest.raises(RunError, match="leaderboard: must be a JSON object, got list"):
        Leaderboard.from_json([1])


def test_the_table() -> None:
    rows = [line.split() for line in repr(tiny_leaderboard()).splitlines()]
    chosen = "* layers-2 layers onnx-int8 400 91.60 [89.6, 93.6] 2.10 2.52 476 0.0 yes"
    assert chosen.split() in rows
    assert ["uncut", "teacher", "onnx", "0", "92.00", "[90.0,", "94.0]", "8.00", "4.68", "256", "9.0"] in rows
    text = " ".join(" ".join(row) for row in rows)
    assert "* chosen: --max-latency-ms 2.2 on onnx-int8" in text and "to tokenize a text takes 0.12 ms more" in text
    assert "2 of 5 candidates were left out for want of time" in text and "optimistic" not in text
    assert "choices are made on select, held-out rows" in text
    on_dev = repr(replace(tiny_leaderboard(), select_is_dev=True))
    assert "choices are made on dev itself" in on_dev and "held-out" not in on_dev and "optimistic" in on_dev
    assert "91.60" in repr(tiny_leaderboard().chosen[0])


def test_kinds_are_explained_and_limits_told_apart() -> None:
    board = tiny_leaderboard()
    text = repr(board)
    assert "layers: whole layers left out; layers-0-3 keeps the layers 0 and 3" in text
    assert "student: a smaller model that was given" in text and "gates:" not in text and "made for" not in text
    entries = [replace(entry, limit="2 ms") if entry.kind == "layers" else entry for entry in board.entries]
    table = leaderboard_view.leaderboard_table(entries)
    assert table.headings[-2:] == ("made for", "within limit") and all(len(row) == 12 for row in table.rows)
    assert [row[-2:] for row in table.rows if row[1] == "layers-2"] == [("2 ms", "yes")]


def test_the_verdict_on_a_cut() -> None:
    board = tiny_leaderboard()
    said = "1.9 times faster than the uncut int8 file (3.9 to 2.1 ms)"
    assert verdict(board) == f"2 of 3 layers, int8: {said} for -0.4 points of accuracy [-1.0, +0.2] on dev"
    (chosen,) = board.chosen
    unpaired = replace(board, entries=(board.entries[1], replace(chosen, difference=None, score=0.93)))
    assert verdict(unpaired) == f"2 of 3 layers, int8: {said} for +1.0 points of accuracy on dev"
    small = replace(board, limits={"max_bytes": 10**6}, entries=(board.entries[0], chosen))
    assert "times faster than the uncut float32 file (8.0 to 2.1 ms), " in verdict(small)
    assert "times smaller (9.0 to " in verdict(small)
    alone = replace(board, entries=(chosen,))
    assert verdict(alone) == "layers-2, int8: 2.1 ms, 91.6 points of accuracy on dev"


def test_the_verdict_on_the_uncut_model() -> None:
    board = tiny_leaderboard()
    uncut = replace(board.entries[1], chosen=True)
    assert verdict(replace(board, entries=(board.entries[0], uncut))) == (
        "the uncut int8 file (3.9 ms, 92.0 points of accuracy on dev): no cut was as good and cheaper"
    )


def test_the_verdict_on_several_limits_and_on_none_met() -> None:
    board = tiny_leaderboard()
    student = replace(board.entries[-1], chosen=True, limit="1.5 ms")
    entries = (board.entries[1], replace(board.chosen[0], limit="2.2 ms"), student)
    first, second = verdict(replace(board, entries=entries)).split("; ")
    assert first.startswith("at 2.2 ms, 2 of 3 layers, int8: 1.9 times faster than the uncut int8 file")
    assert (
        second.startswith("at 1.5 ms, student-1 (1 layer of 24), int8: 3.5 times faster than")
        and "-7.0 points" in second
    )
    failed = replace(board, limits={"max_latency_ms": 1}, entries=board.entries[:2] + board.entries[3:])
    assert verdict(failed).startswith(
        "nothing met the limits (--max-latency-ms 1 on onnx-int8); the fastest was student-1, 1.1 ms"
    )
    assert verdict(replace(board, entries=())) == "nothing was tried"


def test_what_is_left_is_counted() -> None:
    assert what_is_left(SHAPE, SHAPE) == []
    first, second, third = SHAPE.layers
    bare = replace(first, intermediate_size=0)
    assert what_is_left(replace(SHAPE, layers=(bare, second, third)), SHAPE) == ["2 of 3 feed-forwards"]
    thin = replace(first, num_heads=2, intermediate_size=16)
    assert what_is_left(replace(SHAPE, layers=(thin, second)), SHAPE) == [
        "2 of 3 layers", "6 of 12 heads", "48 of 96 neurons",
    ]  # fmt: skip
    assert what_is_left(tiny_entry("x", "layers", (1,), 0.5, 1.0).shape, SHAPE) == ["1 of 3 layers"]
    assert what_is_left(replace(SHAPE, hidden_size=12), SHAPE) == ["hidden size 12 of 24"]


def test_examples() -> None:
    failed, attempted = doctest.testmod(leaderboard_view)
    assert attempted > 2 and failed == 0
