"""The repair of a cut is exact where it can be, the closed form of least squares, and never harms held-out texts."""

from __future__ import annotations

import copy

import pytest
import torch

from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.subnet import KeptLayer, Subnet
from cutbert.shape.units import DIMS, Place, places_of, size_at
from cutbert.surgery.cut import cut
from cutbert.surgery.extract import extract
from cutbert.surgery.repair import repair
from tiny_models import assert_same, random_batch, random_model, run, tiny_shape


def cut_to(model: TaskModel, kept: dict[Place, list[int]]) -> TaskModel:
    units = {place: list(range(size_at(model.shape, place))) for place in places_of(model.shape, tuple(DIMS))}
    return cut(model, {**units, **kept})


def with_layers(model: TaskModel, *layers: KeptLayer) -> TaskModel:
    return extract(model, Subnet(layers, model.shape.hidden_size))


def many(count: int = 6) -> list:
    return [random_batch(rows=16, seed=seed) for seed in range(count)]


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_units_that_others_can_replace_are_repaired_exactly(family: str) -> None:
    """Two neurons, two heads and two value units are copies of others up to a factor; all go."""
    model = random_model(family=family)
    first = model.encoder.layers[0]
    with torch.no_grad():
        up = first.feed_forward.up
        up.weight[4:6], up.bias[4:6] = up.weight[:2], up.bias[:2]
        for linear in (first.attention.query, first.attention.key, first.attention.value):
            for part in (linear.weight, linear.bias):
                by_head = part.unflatten(0, (4, 6))
                by_head[2:] = by_head[:2]
        last = model.encoder.layers[3].attention.value
        for part in (last.weight, last.bias):
            part.unflatten(0, (2, 7))[:, 5:] = 2 * part.unflatten(0, (2, 7))[:, :2]
    small = cut_to(
        model,
        {Place("f", 0): [0, 1, 2, 3, *range(6, 20)], Place("a", 0): [0, 1], Place("v", 3): [0, 1, 2, 3, 4]},
    )
    batch = random_batch(seed=9)
    wanted = run(model, batch)
    with pytest.raises(AssertionError):
        assert_same(run(small, batch), wanted, atol=0.1)
    reports = repair(model, small, many(), layers=range(4))
    assert_same(run(small, batch), wanted, atol=2e-3)
    changed = [(each.layer, each.kind) for each in reports if each.ridge is not None]
    assert changed[:2] == [(0, "attention"), (0, "feed_forward")]


@pytest.mark.parametrize("head", ["none", "masked_lm"])
@pytest.mark.parametrize("across_gaps", [False, True])
def test_nothing_cut_is_nothing_changed(head: str, across_gaps: bool) -> None:
    model = random_model(HeadSpec(head), tiny_shape(16))
    small = copy.deepcopy(model)
    reports = repair(model, small, many(2), layers=range(4), across_gaps=across_gaps)
    assert [(each.layer, each.kind) for each in reports] == [
        (0, "attention"), (0, "feed_forward"), (1, "attention"), (2, "feed_forward"), (3, "attention"),
        (3, "feed_forward"),
    ]  # fmt: skip
    assert all(each.ridge is None and each.error_before == each.error_after == 0 for each in reports)
    for name, weight in small.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name])
