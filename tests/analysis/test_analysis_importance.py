"""Importance of sub-layers is the sum over their units; a sub-layer that writes nothing has none."""

from __future__ import annotations

import pytest
import torch

from cutbert.analysis.report import layer_importance
from cutbert.surgery.importance import measure_importance
from tiny_models import random_batch, random_model


def test_units_are_added_up() -> None:
    model, batches = random_model(), [random_batch(seed=i) for i in range(3)]
    with torch.no_grad():
        model.encoder.layers[2].feed_forward.down.weight.zero_()
    units, found = measure_importance(model, batches), layer_importance(model, batches)
    assert [sorted(parts) for parts in found.values()] == [
        ["attention", "feed_forward", "total"],
        ["attention", "total"],
        ["feed_forward", "total"],
        ["attention", "feed_forward", "total"],
    ]
    for i, parts in found.items():
        assert parts.get("attention", 0.0) == pytest.approx(float(units.heads[i].sum()))
        assert parts.get("feed_forward", 0.0) == pytest.approx(float(units.neurons[i].sum()))
        assert parts["total"] == pytest.approx(parts.get("attention", 0.0) + parts.get("feed_forward", 0.0))
    assert found[2]["total"] < 1e-6 < min(found[i]["total"] for i in (0, 1, 3))
