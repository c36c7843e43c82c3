"""What a depth run says of its networks: means over seeds, and what counts as an answer."""

from __future__ import annotations

import pytest

from cutbert.fronts.entry import Entry
from cutbert.methods.depth_networks import ScoredDepth
from cutbert.methods.depth_report import summary
from cutbert.shape.subnet import Subnet
from tiny_runs import SHAPE

LOGITS = [[0.5, -1.0], [-2.0, 3.0], [-0.1, -0.2]]


def net(depth: int, seed: int, score: float) -> ScoredDepth:
    entry = Entry(
        name=f"depth-{depth}-seed-{seed}",
        shape=SHAPE,
        subnet=Subnet.full(SHAPE),
        params=10 * depth,
        macs=100 * depth,
        score=score,
        select_score=score / 2,
        metrics={"accuracy": score},
    )
    return ScoredDepth(depth, seed, entry, training_seconds=depth + seed, scoring_seconds=1.0)


def test_a_depth_is_summed_up_over_its_own_seeds() -> None:
    nets = [net(depth, seed, 0.1 * (depth + seed)) for depth in (1, 2) for seed in (1, 3)]
    found = summary(nets, 2)
    assert found.pop("scores") == pytest.approx([0.3, 0.5])
    numbers = {"score": 0.4, "select_score": 0.2, "training_seconds": 4.0, "scoring_seconds": 1.0}
    assert found == pytest.approx({"depth": 2, "params": 20, "macs": 200, **numbers})
