"""Noise is found in times, timed again, said, stored with them, shown by every reader, and refused where asked."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cutbert
from cutbert.bench.latency import REPEATS, THROUGHPUT_ROUNDS, measure_latency
from cutbert.bench.quality import MAX_WAITED, Sized, TimingQuality, is_within, judge
from cutbert.cli.main import main
from cutbert.errors import MissingError, RunError
from cutbert.fronts.front import FRONT, Front
from cutbert.fronts.view import noise_warning, timing_lines
from cutbert.pages.facts import facts_of
from cutbert.pages.reading import read_sources
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.table import as_text
from known_times import take_known_times
from tiny_runs import make_run

WHOLE = EncoderShape.uniform(
    hidden_size=24, num_layers=3, num_heads=4, intermediate_size=32, vocab_size=20, num_positions=16
)
HALF = replace(WHOLE, layers=WHOLE.layers[1:])
SIZES = {"whole": Sized("whole", "torch", WHOLE), "half": Sized("half", "torch", HALF)}


def times_of(*, whole: float = 2.0, half: float = 1.0) -> dict[str, np.ndarray]:
    """Return the times of a machine with 2 % of noise."""
    draw = np.random.default_rng(0)
    of_texts = draw.uniform(1, 9, 16)
    return {name: of_texts * each * draw.normal(1, 0.02, (8, 16)) for name, each in (("whole", whole), ("half", half))}


def test_quiet_times_have_no_problems() -> None:
    quality = judge(times_of(), 0.01, SIZES)
    assert quality.is_quiet and quality.noise < 1 and quality.reversed == 1
    assert 1 < quality.spread < 1.1 and 1 < quality.drift < 1.1 and quality.waited == 0.01
    assert "waited" not in judge(times_of(), None, SIZES).to_json()


def test_each_sign_of_noise_is_found() -> None:
    other = np.where(np.random.default_rng(1).random((8, 16)) < 0.5, 2.0, 1.0)
    drifting = np.linspace(1, 2, 8)[:, None]
    for times, waited, said in (
        (times_of(), 0.5, "other work had the processor for 50 % of the time"),
        (
            {**times_of(), "half": times_of()["half"] * other},
            0.0,
            "the quartiles of equal runs of half are a factor of",
        ),
        ({name: each * drifting for name, each in times_of().items()}, 0.0, "the slowest round took"),
        (times_of(half=2.6), None, "half took 1."),
    ):
        quality = judge(times, waited, SIZES)
        assert not quality.is_quiet and quality.noise > 1 and quality.problems[-1].startswith(said)
    assert judge(times_of(half=2.6), None).is_quiet  # nothing is known of the sizes
    assert judge(times_of(half=2.6), None, {**SIZES, "half": Sized("half", "onnx", HALF)}).is_quiet


def test_a_part_has_its_layers_in_order() -> None:
    layers = (LayerShape(2, 6, 6, 8), LayerShape(4, 6, 6, 0), LayerShape(0, 0, 0, 32))
    mixed = EncoderShape(24, layers, 20, 16, 2)
    assert is_within(mixed, WHOLE) and not is_within(WHOLE, mixed)
    assert is_within(replace(mixed, layers=layers[1:]), mixed)
    assert not is_within(replace(mixed, layers=layers[::-1]), mixed)
    assert not is_within(mixed, replace(mixed, hidden_size=12))


class Busy:
    """A machine on which every run takes a second, and in some rounds waits for as long."""

    def __init__(self, waits_until: int) -> None:
        self.wall = self.own = 0.0
        self.rounds, self.waits_until = 0, waits_until

    def run(self, *inputs: object) -> np.ndarray:
        self.own += 1
        self.wall += 1 + (self.rounds < self.waits_until)
        self.rounds += 1
        return np.zeros((1, 1), dtype=np.float32)


@pytest.mark.parametrize(("waits", "repeats", "is_quiet"), [(0, 0, True), (15, 1, True), (10**6, REPEATS, False)])
def test_times_are_taken_again_until_it_is_quiet(
    waits: int, repeats: int, is_quiet: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    machine, rounds = Busy(waits), []
    timings = measure_latency(
        {"a": machine.run}, [4, 5], vocab_size=9, rounds=4, clock=lambda: machine.wall, cpu_clock=lambda: machine.own,
        on_round=lambda: rounds.append(None),
    )  # fmt: skip
    assert timings.quality.repeats == repeats and timings.quality.is_quiet is is_quiet
    assert timings["a"].latency_ms == (1000 if is_quiet else 2000)
    assert timings.quality.waited == (0.0 if is_quiet else 0.5) and MAX_WAITED < 0.5
    assert capsys.readouterr().err.count("timing again") == repeats
    assert len(rounds) == 4 + THROUGHPUT_ROUNDS


def test_noise_is_stored_shown_and_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, draw = make_run(tmp_path / "run").path, random.Random(0)
    words = ["front", str(run), "--measure", "--rounds", "2", "--length", "6", "--threads", "1"]
    before = (run / FRONT).read_bytes()
    take_known_times(monkeypatch, lambda shape, length: draw.choice((1.0, 3.0)))
    assert main([*words, "--require-quiet"]) == 2
    assert "cutbert: error: --require-quiet: latencies are not to be trusted: " in capsys.readouterr().err
    assert (run / FRONT).read_bytes() == before
    with pytest.raises(MissingError, match="stop other work"):
        cutbert.front(run, measure=True, rounds=2, length=6, threads=1, require_quiet=True)
    assert main(words) == 0
    said = capsys.readouterr()
    assert "latency: the machine was not quiet: " in said.err
    assert "spread: the quartiles" in said.out and "beware: the machine was not quiet" in said.out
    measured = Front.load(run).measured
    assert measured is not None and not measured["quality"]["is_quiet"] and measured["quality"]["repeats"] == REPEATS
    picked = cutbert.pick(run, max_latency_ms=1e6)
    assert picked.to_json()["quality"] == measured["quality"]
    assert "beware" in as_text(picked.view(), 200) and "choices by ms may be wrong" in as_text(picked.view(), 200)
    with pytest.raises(RunError, match=r"--require-quiet: the machine was not quiet when it was timed, 3 times over"):
        cutbert.pick(run, max_latency_ms=1e6, require_quiet=True)
    (facts,) = facts_of(read_sources([str(run)]))["runs"]
    assert any("not quiet" in warning for warning in facts["warnings"]) and "spread" in facts["measured"]["torch"]
    take_known_times(monkeypatch, lambda shape, length: float(shape.num_layers))
    cutbert.front(run, measure=True, rounds=2, length=6, threads=1, require_quiet=True)
    assert cutbert.pick(run, max_latency_ms=1e6, require_quiet=True).to_json()["quality"]["is_quiet"]
    for wrong, message in (
        (["pick", str(run), "--max-params", "1M", "--require-quiet"], "must come with --max-latency-ms"),
        (["front", str(run), "--require-quiet"], "must come with --measure"),
    ):
        assert main(wrong) == 2 and message in capsys.readouterr().err
    front = Front.load(run)
    assert front.measured is not None
    replace(front, measured={key: each for key, each in front.measured.items() if key != "quality"}).save(run)
    assert "quality" not in cutbert.pick(run, max_latency_ms=1e6).to_json()
    with pytest.raises(RunError, match=r"--require-quiet: it is not known whether the machine was quiet; `cutbert"):
        cutbert.pick(run, max_latency_ms=1e6, require_quiet=True)


def test_what_is_not_a_quality_is_not_known() -> None:
    quality = json.loads(json.dumps(TimingQuality(problems=("noise",)).to_json()))
    assert len(timing_lines({"quality": quality})) == 2 and noise_warning({"quality": quality}) is not None
    for broken in (None, [], {}, {**quality, "spread": "wide"}, {**quality, "problems": [1]}):
        assert timing_lines({"quality": broken}) == () and noise_warning({"quality": broken}) is None
