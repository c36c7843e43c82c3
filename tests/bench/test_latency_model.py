"""The fitted model of latency finds rates that made the times, and knows which cuts cost less."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cutbert.bench import latency_model
from cutbert.bench.latency import Latency
from cutbert.bench.latency_model import fit_latency, shrunk, work
from cutbert.bench.settings import LatencySettings
from cutbert.model.task_model import TaskModel
from cutbert.shape.cost import cost_of
from cutbert.shape.shape import EncoderShape
from cutbert.shape.units import DIMS, Place, resized
from tiny_runs import SHAPE, tiny_model

RATES = np.array([0.4, 0.1, 2e-5, 1e-5, 3e-5, 1e-4, 2e-5, 1e-4])


@pytest.fixture
def known_times(monkeypatch: pytest.MonkeyPatch) -> dict[str, EncoderShape]:
    """Let every network take just the time that RATES say."""
    seen: dict[str, EncoderShape] = {}

    def times(networks: dict[str, TaskModel], lengths: list[int], *of: Any, **how: Any) -> dict[str, Latency]:
        seen.update({name: network.shape for name, network in networks.items()})
        ms = {name: float(work(network.shape, lengths) @ RATES) for name, network in networks.items()}
        return {
            name: Latency(latency_ms=t, latency_q1_ms=t, latency_q3_ms=t, latency_p95_ms=t, throughput_per_s=1)
            for name, t in ms.items()
        }

    monkeypatch.setattr(latency_model, "time_networks", times)
    return seen


def test_times_made_by_rates_are_foretold(known_times: dict[str, EncoderShape]) -> None:
    fitted = fit_latency(tiny_model(), tuple(DIMS), [4, 9], LatencySettings(), multiple_of=2)
    assert fitted.error < 1e-6 and (fitted.rates >= 0).all()
    assert len(set(known_times.values())) == 1 + 2 * 6
    for sizes in ({Place("h"): 10}, {Place("f", 1): 3, Place("a", 0): 1}, {Place("k", 2): 2, Place("h"): 20}):
        shape = resized(SHAPE, sizes)
        assert fitted(shape) == pytest.approx(float(work(shape, [4, 9]) @ RATES), rel=0.02)
        assert fitted(shape) < fitted(SHAPE)


def test_work_counts_the_macs() -> None:
    layers = cost_of(SHAPE, None, 9).macs
    assert work(SHAPE, [9])[2:5].sum() == layers


def test_shrunk_sizes_are_whole_groups_and_never_the_tables_width() -> None:
    small = shrunk(SHAPE, ("h", "f"), 0.5, 8)
    assert (small.hidden_size, small.layers[0].intermediate_size) == (16, 16)
    assert small.layers[0].num_heads == SHAPE.layers[0].num_heads
    wide = EncoderShape(24, SHAPE.layers, 20, 128, embedding_size=12)
    assert shrunk(wide, ("h",), 0.5, 1).hidden_size == 11


def test_real_times_are_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[None] = []
    fitted = fit_latency(tiny_model(), ("f",), [4], LatencySettings(rounds=2), on_round=lambda: rounds.append(None))
    assert fitted(SHAPE) > 0 and len(rounds) == 2 + 3
