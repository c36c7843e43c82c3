"""Latency of several networks measured interleaved: every round runs all of them, in shuffled order."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cutbert.bench.backends import BACKENDS
from cutbert.bench.settings import DEFAULT_LENGTH, BackendName, LatencySettings, TimingSettings
from cutbert.model.task_model import TaskModel
from cutbert.train.machine import describe_machine, describe_versions, num_threads, package_version
from cutbert.train.runner import Runner

NUM_LENGTHS = 16
THROUGHPUT_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Times of one network: at batch 1 over the given lengths, and texts per second in larger batches."""

    latency_ms: float
    latency_q1_ms: float
    latency_q3_ms: float
    latency_p95_ms: float
    throughput_per_s: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def sample_lengths(lengths: ArrayLike, count: int = NUM_LENGTHS) -> list[int]:
    """Return `count` lengths that represent all: the midpoints of equal shares of the sorted lengths."""
    ordered = np.sort(np.asarray(lengths))
    midpoints = (2 * np.arange(count) + 1) * len(ordered) // (2 * count)
    return [int(length) for length in ordered[midpoints]]


def settings_lengths(settings: TimingSettings, lengths: Sequence[int] | None) -> list[int]:
    """Return the lengths to measure at: the fixed one of the settings, else the task's, else 128."""
    if settings.length is None and lengths:
        return list(lengths)
    return [settings.length or DEFAULT_LENGTH] * NUM_LENGTHS


def conditions(settings: TimingSettings, lengths: Sequence[int], threads: int, device: str) -> dict[str, Any]:
    """Return the conditions recorded with every latency: machine, versions, threads, lengths, batch sizes.

    Args:
        settings: how latency is measured.
        lengths: tokens per text.
        threads: within one operator.
        device: where torch runs; ONNX Runtime runs on the CPU.
    """
    versions = describe_versions()
    if settings.is_on_cpu:
        versions["onnxruntime"] = package_version("onnxruntime")
    return {
        "backend": ",".join(settings.backends),
        "device": "cpu" if settings.is_on_cpu else device,
        "threads": threads,
        "lengths": sorted(lengths),
        "rounds": settings.rounds,
        "batch_size": 1,
        "throughput_batch_size": settings.throughput_batch_size,
        "throughput_length": int(np.median(lengths)),
        "machine": describe_machine(threads),
        "versions": versions,
    }


def time_networks(
    networks: Mapping[str, TaskModel],
    lengths: Sequence[int],
    settings: LatencySettings,
    *,
    also: Mapping[str, tuple[BackendName, TaskModel]] | None = None,
    on_round: Callable[[], None] | None = None,
) -> dict[str, Latency]:
    """Return the times of several networks by name, interleaved.

    Args:
        networks: to run on the backend of the settings.
        lengths, on_round: as in `measure_latency`.
        settings: backend, threads, rounds, batch size.
        also: further networks, each on a backend of its own.
    """
    with num_threads(settings.threads) as threads:
        runners = {name: BACKENDS[settings.backend].load(network, threads) for name, network in networks.items()}
        for name, (backend, network) in (also or {}).items():
            runners[name] = BACKENDS[backend].load(network, threads)
        vocab_size = min(network.shape.vocab_size for network in networks.values())
        return time_runners(runners, lengths, settings, vocab_size=vocab_size, on_round=on_round)


def time_runners(
    runners: Mapping[str, Runner],
    lengths: Sequence[int],
    settings: TimingSettings,
    *,
    vocab_size: int,
    on_round: Callable[[], None] | None = None,
) -> dict[str, Latency]:
    """Return the times of loaded networks, measured as the settings say; arguments as in `measure_latency`."""
    return measure_latency(
        runners,
        lengths,
        vocab_size=vocab_size,
        rounds=settings.rounds,
        batch_size=settings.throughput_batch_size,
        seed=settings.seed,
        on_round=on_round,
    )


def measure_latency(
    runners: Mapping[str, Runner],
    lengths: Sequence[int],
    *,
    vocab_size: int,
    rounds: int = 8,
    batch_size: int = 32,
    seed: int = 0,
    on_round: Callable[[], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Latency]:
    """Return the times of each runner, measured warm and interleaved.

    In one round, each runner (in a new random order) runs once untimed, which brings its weights into the caches,
    and then every length once at batch 1. Rounds spread the other load of the machine evenly over all runners.
    Throughput is the batch size divided by the median time of a batch at the median length, interleaved in the
    same way, but without the untimed run.

    Args:
        runners: by name.
        lengths: tokens per text; each is run once a round, in shuffled order.
        vocab_size: token ids are drawn below this.
        rounds: how often each runner is timed.
        batch_size: texts per batch for throughput.
        seed: of the order and the token ids.
        on_round: called after each round, throughput rounds included.
        clock: seconds.
    """
    order = random.Random(seed)
    draw = np.random.default_rng(seed)
    texts = [draw.integers(vocab_size, size=(1, length)) for length in lengths]
    batch = draw.integers(vocab_size, size=(batch_size, int(np.median(lengths))))
    for run in runners.values():
        for text in (min(texts, key=np.size), max(texts, key=np.size), batch):
            run(text)
    singles: dict[str, list[float]] = {name: [] for name in runners}
    batches: dict[str, list[float]] = {name: [] for name in runners}
    schedule = [(texts, singles)] * rounds + [([batch], batches)] * THROUGHPUT_ROUNDS
    for inputs, times in schedule:
        time_round(runners, inputs, times, order, clock, is_warmed=inputs is texts)
        if on_round is not None:
            on_round()
    return {name: summary(singles[name], batches[name], batch_size) for name in runners}


def time_round(
    runners: Mapping[str, Runner],
    inputs: Sequence[NDArray[np.int64]],
    times: Mapping[str, list[float]],
    order: random.Random,
    clock: Callable[[], float],
    *,
    is_warmed: bool,
) -> None:
    """Run every runner once on all inputs, and append the seconds of each input to `times`."""
    for name in order.sample(list(runners), len(runners)):
        if is_warmed:
            runners[name](inputs[0])
        for input_ids in order.sample(inputs, len(inputs)):
            start = clock()
            runners[name](input_ids)
            times[name].append(clock() - start)


def summary(singles: Sequence[float], batches: Sequence[float], batch_size: int) -> Latency:
    q1, median, q3, p95 = (float(ms) for ms in 1000 * np.quantile(singles, (0.25, 0.5, 0.75, 0.95)))
    return Latency(
        latency_ms=median,
        latency_q1_ms=q1,
        latency_q3_ms=q3,
        latency_p95_ms=p95,
        throughput_per_s=batch_size / float(np.median(batches)),
    )
