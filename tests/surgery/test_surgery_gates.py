"""Gates leave the function alone at 1, fold exactly, and what they close can be cut away."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from cutbert.data.batches import Batch
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.shape.subnet import Subnet
from cutbert.shape.units import DIMS, Place, places_of, size_at
from cutbert.surgery.cut import choose_by_sizes, cut
from cutbert.surgery.gates import Gates, fold, gated_weights
from cutbert.surgery.rewire import permuted
from tiny_models import HEADS, assert_same, outputs, random_batch, random_model, run, tiny_shape

CUT_EXACTLY = ("a", "f", "k", "v")
# Every kind of head, and tables of another width than the hidden states.
MODELS = [(head, None) for head in HEADS] + [(head, tiny_shape(embedding_size=9)) for head in HEADS[::7]]


def name_of(value: object) -> str:
    return getattr(value, "kind", "" if value is None else "projected")


def random_values(model: TaskModel, seed: int = 0) -> dict[Place, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    places = places_of(model.shape, tuple(DIMS))
    return {place: 2 * torch.rand(size_at(model.shape, place), generator=draw) - 0.5 for place in places}


def run_with(model: TaskModel, weights: dict[str, Tensor], batch: Batch) -> list[Tensor]:
    arguments = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
    with torch.no_grad():
        return outputs(functional_call(model, weights, arguments), batch)


def folded(model: TaskModel, values: dict[Place, Tensor]) -> TaskModel:
    twin = copy.deepcopy(model)
    fold(twin, values)
    return twin


@pytest.mark.parametrize(("head", "shape"), MODELS, ids=name_of)
def test_open_gates_leave_every_bit(head: HeadSpec, shape: EncoderShape | None) -> None:
    model, batch = random_model(head, shape), random_batch()
    gates = Gates(model.shape)
    same = run_with(model, gated_weights(model, gates.values()), batch)
    assert all(torch.equal(one, other) for one, other in zip(same, run(model, batch), strict=True))


@pytest.mark.parametrize(("head", "shape"), MODELS, ids=name_of)
def test_folding_is_gating(head: HeadSpec, shape: EncoderShape | None) -> None:
    """Against gates written as the paper's diagonal matrices."""
    model, batch = random_model(head, shape), random_batch()
    values = random_values(model)
    twin = folded(model, values)
    assert_same(run(twin, batch), run_with(model, gated_weights(model, values), batch))
    layer, hidden = model.encoder.layers[0], torch.diag(values[Place("h")])
    heads, keys = values[Place("a", 0)], values[Place("k", 0)]
    rows = torch.diag(torch.kron(heads, keys))
    query = rows @ layer.attention.query.weight @ hidden
    torch.testing.assert_close(twin.encoder.layers[0].attention.query.weight, query)
    down = hidden @ layer.feed_forward.down.weight @ torch.diag(values[Place("f", 0)])
    torch.testing.assert_close(twin.encoder.layers[0].feed_forward.down.weight, down)


@pytest.mark.parametrize(("head", "shape"), MODELS, ids=name_of)
@pytest.mark.parametrize("seed", range(3))
def test_closed_units_can_be_cut(head: HeadSpec, shape: EncoderShape | None, seed: int) -> None:
    """Heads, neurons, keys and values at zero leave nothing behind; hidden units only stop being read and written."""
    model, batch = random_model(head, shape, seed=seed), random_batch()
    values = random_values(model, seed)
    sizes = {}
    for place, factors in values.items():
        if place.dim in CUT_EXACTLY:
            sizes[place] = max(1, len(factors) // 2)
            factors[torch.randperm(len(factors))[sizes[place] :]] = 0.0
    twin = folded(model, values)
    scores = {place: factors.abs() for place, factors in values.items()}
    small = cut(twin, choose_by_sizes(twin.shape, scores, sizes))
    assert small.shape != model.shape
    assert_same(run(small, batch), run(twin, batch))


def test_closed_units_that_stay_can_be_healed() -> None:
    """Sizes come in groups, so closed units may stay: their outer matrix is 0, and gradients reach it."""
    model, batch = random_model(HEADS[0]), random_batch()
    values = {place: torch.ones_like(factors) for place, factors in random_values(model).items()}
    for dim in CUT_EXACTLY:
        values[Place(dim, 0)][0] = 0.0
    twin = folded(model, values)
    assert_same(run(twin, batch), run_with(model, gated_weights(model, values), batch))
    outputs(twin(batch.input_ids, batch.attention_mask, batch.token_type_ids), batch)[-1].square().sum().backward()
    layer = twin.encoder.layers[0]
    spoken = layer.attention.output.weight.grad.view(model.shape.hidden_size, model.shape.layers[0].num_heads, -1)
    asked = layer.attention.query.weight.grad.view(model.shape.layers[0].num_heads, -1, model.shape.hidden_size)
    assert all(
        float(gradient.abs().max()) > 0
        for gradient in (layer.feed_forward.down.weight.grad[:, 0], spoken[:, 0], spoken[:, 1, 0], asked[1, 0])
    )


@pytest.mark.parametrize(("head", "shape"), MODELS, ids=name_of)
def test_moving_hidden_units_moves_hidden_states_alone(head: HeadSpec, shape: EncoderShape | None) -> None:
    model, batch = random_model(head, shape), random_batch()
    order = torch.randperm(model.shape.hidden_size)
    moved, plain = run(permuted(model, {Place("h"): order}), batch), run(model, batch)
    wide = len(model.shape.layers) + 1 + (head.kind == "pooler" or head.is_sequence)
    assert_same(moved, [*(states[..., order] for states in plain[:wide]), *plain[wide:]])


@pytest.mark.parametrize(("head", "shape"), MODELS, ids=name_of)
def test_cutting_hidden_units_is_running_their_prefix(head: HeadSpec, shape: EncoderShape | None) -> None:
    model, batch = random_model(head, shape), random_batch()
    size = model.shape.hidden_size
    kept = {place: list(range(size_at(model.shape, place))) for place in places_of(model.shape, tuple(DIMS))}
    small = cut(model, {**kept, Place("h"): list(range(size - 7))})
    assert_same(run(small, batch), run(model, batch, subnet=Subnet(Subnet.full(model.shape).layers, size - 7)))
    order = torch.arange(size - 1, -1, -1)
    moved = permuted(model, {Place("h"): order})
    last = cut(moved, {**kept, Place("h"): list(range(7, size))})
    back = permuted(last, {Place("h"): torch.arange(size - 8, -1, -1)})
    assert_same(run(back, batch), run(small, batch))


def test_a_closed_hidden_unit_is_gone_from_the_stream() -> None:
    model, batch = random_model(), random_batch()
    values = {place: torch.ones(size_at(model.shape, place)) for place in places_of(model.shape, tuple(DIMS))}
    values[Place("h")][[3, 11]] = 0.0
    for states in run(folded(model, values), batch)[: 1 + model.shape.num_layers]:
        assert not states[..., [3, 11]].any() and states.any()


def test_gradients_reach_every_gate() -> None:
    model, batch = random_model(), random_batch()
    gates = Gates(model.shape)
    weights = gated_weights(model, gates.values())
    arguments = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
    functional_call(model, weights, arguments).logits.square().sum().backward()
    for place, values in gates.values().items():
        assert values.grad is not None and values.grad.abs().min() >= 0 and values.grad.abs().max() > 0, place
