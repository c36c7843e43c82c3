"""Networks that take known milliseconds or bytes, whatever the machine: for tests of what is done with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from cutbert.bench.backends import BACKENDS
from cutbert.bench.latency import measure_latency
from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import EncoderShape
from cutbert.train.runner import Runner
from cutbert.work.training_memory import TrainingMemory

MsOf = Callable[[EncoderShape, int], float]


class Timed(NamedTuple):
    """One run of a network."""

    backend: str
    shape: EncoderShape
    length: int


def take_known_times(patch: pytest.MonkeyPatch, ms_of: MsOf) -> list[Timed]:
    """Let a network take the milliseconds of its shape and a text's length, on every backend; return what is run.

    Networks do not run: they move the clock of `measure_latency` on. All the rest is done as always.
    """
    timed: list[Timed] = []
    now = [0.0]

    class KnownBackend:
        def __init__(self, name: str) -> None:
            self.name, self.batch_tokens = name, BACKENDS[name].batch_tokens

        def load(self, network: TaskModel | Path, threads: int) -> Runner:
            assert isinstance(network, TaskModel)

            def run(input_ids: Any, *others: Any) -> Any:
                timed.append(Timed(self.name, network.shape, input_ids.shape[1]))
                now[0] += ms_of(network.shape, input_ids.shape[1]) / 1000
                return np.zeros((len(input_ids), 1), dtype=np.float32)

            return run

        load_new = load

    for name in BACKENDS:
        patch.setitem(BACKENDS, name, KnownBackend(name))
    assert measure_latency.__kwdefaults__ is not None
    for name in ("clock", "cpu_clock"):
        patch.setitem(measure_latency.__kwdefaults__, name, lambda: now[0])
    return timed


def take_times_of_thread(patch: pytest.MonkeyPatch) -> None:
    """Let latencies be the processor's time of the thread that measures: what runs beside it is no part of them."""
    assert measure_latency.__kwdefaults__ is not None
    patch.setitem(measure_latency.__kwdefaults__, "clock", time.thread_time)


def take_known_memory(patch: pytest.MonkeyPatch) -> None:
    """Let a network take 100 MB to run or to train, without the process of Python that each measurement starts."""
    alone = {"peak_bytes": 10**8, "load_ms": 1.0}
    patch.setattr("cutbert.bench.measure.measure_alone", lambda *args, **options: dict(alone))
    patch.setattr("cutbert.methods.depth_networks.training_memory", lambda *args: TrainingMemory(10**8, 0))
