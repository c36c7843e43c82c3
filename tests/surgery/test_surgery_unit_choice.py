"""The errors of a choice of units are those of least squares without the units, and the orders the greedy ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cutbert.errors import InputError
from cutbert.model.task_model import TaskModel
from cutbert.surgery.sub_layers import Stream, sub_layers, texts_of_positions
from cutbert.surgery.unit_choice import SubLayerErrors, choose_units, factored, removal
from tiny_models import random_batch, random_model, tiny_shape

BATCHES = [random_batch(rows=32, seed=seed) for seed in range(8)]


def activations(model: TaskModel, index: int) -> np.ndarray:
    """Return what the outgoing matrix of a sub-layer reads, centred, [T, U]."""
    found = []
    for batch in BATCHES:
        stream = Stream(model, batch)
        for each in sub_layers(model.encoder)[:index]:
            stream.advance(each)
        units = stream.units(sub_layers(model.encoder)[index]).flatten(0, -2)
        found.append(units[texts_of_positions(batch) >= 0].double().detach().numpy())
    joined = np.concatenate(found)
    return joined - joined.mean(0)


def lost(units_TU: np.ndarray, weight_UH: np.ndarray, kept: list[int]) -> float:
    """Return the squared error of the best fit by the kept units, as a share of the output's energy."""
    wanted = units_TU @ weight_UH
    fitted = units_TU[:, kept] @ np.linalg.lstsq(units_TU[:, kept], wanted, rcond=None)[0]
    return float(np.square(wanted - fitted).sum() / np.square(wanted).sum())


def test_fewer_tokens_than_units_leave_an_order_all_the_same() -> None:
    random = torch.Generator().manual_seed(0)
    states = torch.randn(5, 32, generator=random, dtype=torch.float64)
    states[:, 20:] = states[:, :12]  # and some units are copies of others
    covariance = states.T @ states / 5 + 1e-14 * torch.eye(32, dtype=torch.float64)
    order, errors = removal(covariance, torch.randn(32, 6, generator=random, dtype=torch.float64), 1, 4)
    assert sorted(order.tolist()) == list(range(32)) and bool(torch.isfinite(errors).all())
    singular = torch.zeros(3, 3, dtype=torch.float64)
    assert bool(torch.isfinite(factored(singular)).all())


@pytest.mark.parametrize("group", [1, 4, 64])
@pytest.mark.parametrize("embedding_size", [None, 16])
def test_errors_are_those_of_least_squares(group: int, embedding_size: int | None) -> None:
    model = random_model(shape=tiny_shape(embedding_size)).double()
    choice = choose_units(model, BATCHES, ridge=1e-9, group=group)
    for i, sub_layer in enumerate(sub_layers(model.encoder)):
        is_attention = sub_layer.kind == "attention"
        found = (choice.heads if is_attention else choice.neurons)[sub_layer.layer]
        assert found is not None
        width = sub_layer.shape.value_dim if is_attention else 1
        units, weight = activations(model, i), sub_layer.outgoing.weight.detach().double().numpy().T
        assert sorted(found.order.tolist()) == list(range(units.shape[1] // width))
        assert len(found.errors) == len(found.order) + 1
        for size in range(len(found.order) + 1):
            kept = [unit * width + i for unit in found.order[:size].tolist() for i in range(width)]
            assert float(found.errors[size]) == pytest.approx(lost(units, weight, kept), abs=1e-5)
        assert found.share > 0


def test_one_by_one_is_greedy() -> None:
    """Each removal of a single unit is the one that leaves least error, by trying all."""
    model = random_model().double()
    order = choose_units(model, BATCHES, ridge=1e-9, group=1).neurons[0].order.tolist()
    units, weight = activations(model, 1), model.encoder.layers[0].feed_forward.down.weight.detach().double().numpy().T
    left = list(range(20))
    for unit in order[::-1][:12]:
        least = min(left, key=lambda each: lost(units, weight, [other for other in left if other != each]))
        assert unit == least
        left.remove(unit)


def test_a_unit_that_another_can_replace_goes_first() -> None:
    """Of two equal neurons one goes at no error, whatever its weights; a lone one with the same weights stays."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(200, 4, generator=generator, dtype=torch.float64)
    states[:, 1] = states[:, 0]
    weight = torch.ones(4, 3, dtype=torch.float64)
    covariance = states.T @ states / 200 + 1e-9 * torch.eye(4)
    order, errors = removal(covariance, weight, 1, 1)
    assert order[-1].item() in (0, 1) and float(errors[3]) < 1e-6 < float(errors[2])


def test_ranks_absent_sub_layers_modes_and_refusals() -> None:
    model = random_model().train()
    choice = choose_units(model, BATCHES)
    assert model.training
    assert [each is None for each in choice.heads] == [False, False, True, False]
    assert [each is None for each in choice.neurons] == [False, True, False, False]
    for scores, found in zip(choice.importance.heads, choice.heads, strict=True):
        assert (found is None and not len(scores)) or isinstance(found, SubLayerErrors)
        if found is not None:
            assert torch.equal(torch.argsort(scores, descending=True), found.order)
    with pytest.raises(InputError, match=r"^units must be chosen on at least one text, got none$"):
        choose_units(model, [])
