"""Latencies are medians over rounds in which all networks take turns."""

from __future__ import annotations

import numpy as np
import pytest

from cutbert.bench.latency import (
    NUM_LENGTHS,
    THROUGHPUT_ROUNDS,
    conditions,
    measure_latency,
    sample_lengths,
    settings_lengths,
)  # fmt: skip
from cutbert.bench.quality import TimingQuality
from cutbert.bench.settings import LatencySettings


class Machine:
    """A clock that runners push on: each takes its own time per token."""

    def __init__(self, **seconds: float) -> None:
        self.now = 0.0
        self.calls: list[tuple[str, tuple[int, ...]]] = []
        self.runners = {name: self.runner(name, cost) for name, cost in seconds.items()}

    def clock(self) -> float:
        return self.now

    def runner(self, name: str, cost: float):
        def run(input_ids: np.ndarray) -> None:
            self.calls.append((name, input_ids.shape))
            self.now += cost * input_ids.size

        return run


def test_times_are_what_the_runners_take() -> None:
    machine = Machine(slow=0.002, fast=0.001)
    times = measure_latency(
        machine.runners,
        [10, 20, 30],
        vocab_size=9,
        rounds=3,
        batch_size=4,
        clock=machine.clock,
        cpu_clock=machine.clock,
    )
    assert times["slow"].latency_ms == pytest.approx(40) and times["fast"].latency_ms == pytest.approx(20)
    assert times["slow"].latency_q1_ms == pytest.approx(20) and times["slow"].latency_q3_ms == pytest.approx(60)
    assert times["fast"].throughput_per_s == pytest.approx(4 / (4 * 20 * 0.001))


def test_rounds_are_interleaved_warm_and_shuffled() -> None:
    machine, rounds = Machine(a=1.0, b=1.0), []
    measure_latency(
        machine.runners, [5, 7], vocab_size=9, rounds=8, batch_size=2, clock=machine.clock, cpu_clock=machine.clock,
        on_round=lambda: rounds.append(len(machine.calls)),
    )  # fmt: skip
    assert len(rounds) == 8 + THROUGHPUT_ROUNDS
    warm_up = 2 * 3
    turns = [machine.calls[start:stop] for start, stop in zip([warm_up, *rounds], rounds[:8], strict=False)]
    for turn in turns:
        names = [name for name, _ in turn]
        assert names in ([*"aaabbb"], [*"bbbaaa"])
        assert sorted(shape[1] for _, shape in turn[1:3]) == [5, 7]
    assert len({turn[0][0] for turn in turns}) == 2
    assert all(shape == (2, 6) for _, shape in machine.calls[rounds[7] :])


def test_sampled_lengths_stand_for_all() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, size=872)
    sampled = sample_lengths(lengths)
    assert sampled == sorted(sampled) == sample_lengths(lengths[::-1]) and len(sampled) == NUM_LENGTHS
    assert abs(np.median(sampled) - np.median(lengths)) <= 2
    assert sample_lengths([7]) == [7] * NUM_LENGTHS


def test_which_lengths_are_measured_at() -> None:
    assert settings_lengths(LatencySettings(), [3, 9]) == [3, 9]
    assert set(settings_lengths(LatencySettings(length=12), [3, 9])) == {12}
    assert set(settings_lengths(LatencySettings(), None)) == {128}


def test_conditions_say_what_is_needed_to_repeat() -> None:
    said = conditions(LatencySettings(), [9, 3, 5], 2, "cpu", TimingQuality())
    assert said["lengths"] == [3, 5, 9] and said["throughput_length"] == 5 and said["threads"] == 2
    assert {"backend", "device", "rounds", "throughput_batch_size", "machine", "versions"} <= said.keys()
