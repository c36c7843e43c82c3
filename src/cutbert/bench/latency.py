"""Latency of several networks measured interleaved: every round runs all of them, in shuffled order."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cutbert.bench.backends import BACKENDS
from cutbert.bench.quality import Sized, TimingQuality, judge
from cutbert.bench.settings import DEFAULT_LENGTH, BackendName, LatencySettings, TimingSettings
from cutbert.errors import MissingError
from cutbert.model.task_model import TaskModel
from cutbert.train.machine import describe_machine, describe_versions, num_threads, package_version
from cutbert.train.progress import say
from cutbert.train.runner import Runner, TorchRunner

NUM_LENGTHS = 16
THROUGHPUT_ROUNDS = 3
REPEATS = 2  # of all rounds, at most, where the machine was not quiet


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


@dataclass(frozen=True)
class Timings(Mapping[str, Latency]):
    """The times of several networks by name, and how far they can be trusted."""

    latencies: Mapping[str, Latency]
    quality: TimingQuality

    def __getitem__(self, name: str) -> Latency:
        return self.latencies[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.latencies)

    def __len__(self) -> int:
        return len(self.latencies)


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


def conditions(
    settings: TimingSettings, lengths: Sequence[int], threads: int, device: str, quality: TimingQuality
) -> dict[str, Any]:
    """Return the conditions recorded with every latency: machine, versions, threads, lengths, batch sizes, quality.

    Args:
        settings: how latency is measured.
        lengths: tokens per text.
        threads: within one operator.
        device: where torch runs; ONNX Runtime runs on the CPU.
        quality: of the times.
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
        "quality": quality.to_json(),
    }


def time_networks(
    networks: Mapping[str, TaskModel],
    lengths: Sequence[int],
    settings: LatencySettings,
    *,
    also: Mapping[str, tuple[BackendName, TaskModel]] | None = None,
    are_new: bool = False,
    repeats: int = REPEATS,
    on_round: Callable[[], None] | None = None,
    clock: Callable[[], float] | None = None,
) -> Timings:
    """Return the times of several networks by name, interleaved.

    Args:
        networks: to run on the backend of the settings.
        lengths, repeats, on_round: as in `measure_latency`.
        clock: as in `measure_latency`; None for the time that passes.
        settings: backend, threads, rounds, batch size.
        also: further networks, each on a backend of its own.
        are_new: whether `networks` have random weights (`measure_table.new_network`); those of `also` are trained.

    Raises:
        MissingError: as in `time_runners`.
    """
    others = dict(also or {})
    all_networks = {name: (settings.backend, network) for name, network in networks.items()} | others
    with num_threads(settings.threads) as threads:
        runners: dict[str, Runner] = {}
        for name, (backend, each) in all_networks.items():
            is_new = are_new and name not in others
            load = BACKENDS[backend].load_new if is_new else BACKENDS[backend].load
            runners[name] = load(each, threads)
        sizes = {name: Sized(name, backend, each.shape) for name, (backend, each) in all_networks.items()}
        vocab_size = min(network.shape.vocab_size for network in networks.values())
        return time_runners(
            runners,
            lengths,
            settings,
            vocab_size=vocab_size,
            sizes=sizes,
            repeats=repeats,
            on_round=on_round,
            clock=clock,
        )


def time_runners(
    runners: Mapping[str, Runner],
    lengths: Sequence[int],
    settings: TimingSettings,
    *,
    vocab_size: int,
    sizes: Mapping[str, Sized],
    repeats: int = REPEATS,
    on_round: Callable[[], None] | None = None,
    clock: Callable[[], float] | None = None,
) -> Timings:
    """Return the times of loaded networks, measured as the settings say; arguments as in `time_networks`.

    Raises:
        MissingError: the settings require a quiet machine, and it was not quiet.
    """
    is_on_cpu = all(not isinstance(each, TorchRunner) or each.device.type == "cpu" for each in runners.values())
    clocks: dict[str, Any] = {} if is_on_cpu else {"cpu_clock": None}
    if clock is not None:
        clocks["clock"] = clock
    timings = measure_latency(
        runners,
        lengths,
        vocab_size=vocab_size,
        rounds=settings.rounds,
        batch_size=settings.throughput_batch_size,
        seed=settings.seed,
        sizes=sizes,
        repeats=repeats,
        on_round=on_round,
        **clocks,
    )
    if timings.quality.problems:
        again = f" (timed {1 + timings.quality.repeats} times)" if timings.quality.repeats else ""
        words = f"{'; '.join(timings.quality.problems)}{again}"
        if settings.require_quiet:
            raise MissingError(f"--require-quiet: latencies are not to be trusted: {words}; stop other work, try again")
        say(f"latency: the machine was not quiet: {words}")
    return timings


def measure_latency(
    runners: Mapping[str, Runner],
    lengths: Sequence[int],
    *,
    vocab_size: int,
    rounds: int = 8,
    batch_size: int = 32,
    seed: int = 0,
    sizes: Mapping[str, Sized] | None = None,
    repeats: int = REPEATS,
    on_round: Callable[[], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    cpu_clock: Callable[[], float] | None = time.thread_time,
) -> Timings:
    """Return the times of each runner, measured warm and interleaved.

    In one round, each runner (in a new random order) runs once untimed, which brings its weights into the caches,
    and then every length once at batch 1. Rounds spread the other load of the machine evenly over all runners. Where
    it was not quiet, all rounds are timed again, at most `repeats` times, and the quietest time counts.
    Throughput is the batch size divided by the median time of a batch at the median length, interleaved in the
    same way, but without the untimed run.

    Args:
        runners: by name.
        lengths: tokens per text; each is run once a round, in shuffled order.
        vocab_size: token ids are drawn below this.
        rounds: how often each runner is timed.
        batch_size: texts per batch for throughput.
        seed: of the order and the token ids.
        sizes: what is known of the networks; a part should not take longer than the whole.
        repeats: of all rounds, at most.
        on_round: called after each round, throughput rounds included, those of repeats not.
        clock: seconds.
        cpu_clock: seconds that this thread was running; None where it waits for a device.
    """
    order = random.Random(seed)
    draw = np.random.default_rng(seed)
    texts = [draw.integers(vocab_size, size=(1, length)) for length in lengths]
    batch = draw.integers(vocab_size, size=(batch_size, int(np.median(lengths))))
    for run in runners.values():
        for text in (min(texts, key=np.size), max(texts, key=np.size), batch):
            run(text)
    timer = Timer(runners, order, clock, cpu_clock)
    tries: list[tuple[TimingQuality, Times]] = []
    while not tries or (not tries[-1][0].is_quiet and len(tries) <= repeats):
        if tries:
            say(f"latency: the machine was not quiet: {'; '.join(tries[-1][0].problems)}; timing again")
        singles, waited = timer.times(texts, rounds, is_warmed=True, on_round=None if tries else on_round)
        tries.append((judge(singles, waited, sizes), singles))
    quality, singles = min(tries, key=lambda each: each[0].noise)
    batches, _ = timer.times([batch], THROUGHPUT_ROUNDS, is_warmed=False, on_round=on_round)
    return Timings(
        {name: summary(singles[name], batches[name], batch_size) for name in runners},
        replace(quality, repeats=len(tries) - 1),
    )


Times = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Timer:
    """Times runners in turn; arguments as in `measure_latency`."""

    runners: Mapping[str, Runner]
    order: random.Random
    clock: Callable[[], float]
    cpu_clock: Callable[[], float] | None

    def times(
        self,
        inputs: Sequence[NDArray[np.int64]],
        rounds: int,
        *,
        is_warmed: bool,
        on_round: Callable[[], None] | None,
    ) -> tuple[Times, float | None]:
        """Return each runner's seconds by round and input, [R, L], and the share of them in which nothing ran here."""
        cpu_clock = self.cpu_clock or self.clock
        times: Times = {name: np.zeros((rounds, len(inputs))) for name in self.runners}
        running = 0.0
        for i in range(rounds):
            for name in self.order.sample(list(self.runners), len(self.runners)):
                run = self.runners[name]
                if is_warmed:
                    run(inputs[0])
                for j in self.order.sample(range(len(inputs)), len(inputs)):
                    began, start = cpu_clock(), self.clock()
                    run(inputs[j])
                    times[name][i, j] = self.clock() - start
                    running += cpu_clock() - began
            if on_round is not None:
                on_round()
        total = sum(float(each.sum()) for each in times.values())
        return times, None if self.cpu_clock is None or not total else max(0.0, 1 - running / total)


def summary(singles: NDArray[np.float64], batches: NDArray[np.float64], batch_size: int) -> Latency:
    """Return the figures of one network.

    Args:
        singles: seconds of single texts, [R, L].
        batches: seconds of batches, [R, 1].
        batch_size: texts in each of these.
    """
    q1, median, q3, p95 = (float(ms) for ms in 1000 * np.quantile(singles, (0.25, 0.5, 0.75, 0.95)))
    return Latency(
        latency_ms=median,
        latency_q1_ms=q1,
        latency_q3_ms=q3,
        latency_p95_ms=p95,
        throughput_per_s=batch_size / float(np.median(batches)),
    )
