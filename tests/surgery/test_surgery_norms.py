"""Recalibrated norms give, after the cut, what they gave before, on the average."""

from __future__ import annotations

import copy

import pytest
import torch

from cutbert.errors import InputError
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.units import DIMS, Place, places_of, size_at
from cutbert.surgery.cut import cut
from cutbert.surgery.gates import fold
from cutbert.surgery.norms import recalibrate_norms
from tiny_models import random_batch, random_model, run


def closed(model: TaskModel, kept: list[int]) -> TaskModel:
    """Return a copy whose other hidden units no matrix reads or writes."""
    values = {place: torch.ones(size_at(model.shape, place)) for place in places_of(model.shape, tuple(DIMS))}
    gone = [i for i in range(model.shape.hidden_size) if i not in kept]
    values[Place("h")][gone] = 0.0
    twin = copy.deepcopy(model)
    fold(twin, values)
    return twin


def cut_to(model: TaskModel, kept: list[int]) -> TaskModel:
    units = {place: list(range(size_at(model.shape, place))) for place in places_of(model.shape, tuple(DIMS))}
    return cut(model, {**units, Place("h"): kept})


def test_a_norm_whose_units_all_carry_the_same_is_settled_exactly() -> None:
    """Where the units that go are zero in every norm's input, one ratio and one shift mend each norm for all tokens."""
    model, kept = random_model(), list(range(0, 24, 2))
    gone = list(range(1, 24, 2))
    embeddings = model.encoder.embeddings
    with torch.no_grad():
        for table in (embeddings.token, embeddings.position, embeddings.token_type):
            table.weight[:, gone] = 0
            table.weight[:, kept] -= table.weight[:, kept].mean(1, keepdim=True)
    norm = embeddings.norm
    x = embeddings.token.weight[:5] + embeddings.position.weight[:5] + embeddings.token_type.weight[0]
    wanted = torch.nn.functional.layer_norm(x, (24,), norm.weight, norm.bias, norm.eps)[:, kept]
    batch = random_batch()
    recalibrate_norms(model, kept, [batch])
    small = cut_to(model, kept).encoder.embeddings.norm
    got = torch.nn.functional.layer_norm(x[:, kept], (12,), small.weight, small.bias, small.eps)
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_the_jump_is_smaller_for_it(seed: int) -> None:
    model, batch = random_model(seed=seed), random_batch(rows=16, seed=seed)
    with torch.no_grad():  # scales that differ, as in trained networks
        for table in (model.encoder.embeddings.token, model.encoder.embeddings.position):
            table.weight[:, 12:] *= 0.2
    kept = list(range(12))
    before = closed(model, kept)
    settled = copy.deepcopy(before)
    recalibrate_norms(settled, kept, [batch])
    last = run(before, batch)[-3][:, kept]
    far = [float((run(cut_to(each, kept), batch)[-3] - last).square().mean()) for each in (settled, before)]
    assert far[0] < far[1]


def test_hooks_mode_and_rows() -> None:
    model = random_model().train()
    recalibrate_norms(model, list(range(20)), [random_batch()])
    assert model.training and not any(module._forward_pre_hooks for module in model.modules())
    with pytest.raises(InputError, match="norms must be recalibrated on at least one row, got none"):
        recalibrate_norms(model, [0, 1], [])


@pytest.mark.parametrize("kind", ["masked_lm", "none"])
def test_all_units_kept_is_nothing_done(kind: str) -> None:
    model, batch = random_model(HeadSpec(kind)), random_batch()
    twin = copy.deepcopy(model)
    recalibrate_norms(twin, list(range(model.shape.hidden_size)), [batch])
    for name, weight in twin.state_dict().items():
        torch.testing.assert_close(weight, model.state_dict()[name])
