"""Rewiring leaves the function alone and puts the important units first."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cutbert.errors import ShapeError
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import LayerShape
from cutbert.shape.subnet import KeptLayer, Subnet
from cutbert.surgery.importance import Importance, measure_importance
from cutbert.surgery.rewire import plan_orders, rewire
from tiny_models import HEADS, LAYERS, assert_same, random_batch, random_model, run


def random_importance(seed: int = 0) -> Importance:
    generator = torch.Generator().manual_seed(seed)
    return Importance(
        [torch.rand(layer.num_heads, generator=generator) for layer in LAYERS],
        [torch.rand(layer.intermediate_size, generator=generator) for layer in LAYERS],
    )


def prefix_subnet(model_heads: int, neurons: int) -> Subnet:
    """Keep so many heads and neurons of every layer, or all where there are fewer."""
    kept = [
        LayerShape(
            min(model_heads, layer.num_heads), layer.key_dim, layer.value_dim, min(neurons, layer.intermediate_size)
        )
        for layer in LAYERS
    ]
    return Subnet(tuple(KeptLayer(i, layer) for i, layer in enumerate(kept)), 24)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.kind)
def test_the_function_stays_the_same(head: HeadSpec) -> None:
    model, batch = random_model(head), random_batch()
    rewired = rewire(model, random_importance())
    assert_same(run(rewired, batch), run(model, batch))
    moved = rewired.encoder.layers[0].attention.query.weight
    assert not torch.equal(moved, model.encoder.layers[0].attention.query.weight)


def test_units_stand_in_descending_importance() -> None:
    model, batch = random_model(), random_batch()
    importance = measure_importance(model, [batch])
    again = measure_importance(rewire(model, importance), [batch])
    for before, after in zip(importance.heads + importance.neurons, again.heads + again.neurons, strict=True):
        torch.testing.assert_close(after, before.sort(descending=True).values, atol=1e-6, rtol=1e-4)


def test_a_prefix_of_the_rewired_is_the_model_without_its_least_important_units() -> None:
    model, batch = random_model(), random_batch()
    importance = random_importance()
    rewired = rewire(model, importance)
    with torch.no_grad():
        for layer, heads, neurons in zip(model.encoder.layers, importance.heads, importance.neurons, strict=True):
            if layer.attention is not None:
                columns = layer.attention.output.weight.unflatten(1, (layer.attention.num_heads, -1))
                columns[:, heads.argsort(descending=True)[2:]] = 0
            if layer.feed_forward is not None:
                layer.feed_forward.down.weight[:, neurons.argsort(descending=True)[5:]] = 0
    assert_same(run(rewired, batch, subnet=prefix_subnet(2, 5)), run(model, batch))


def test_the_given_model_and_ties_stay() -> None:
    model = random_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rewire(model, random_importance())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    flat = Importance([torch.ones(s.num_heads) for s in LAYERS], [torch.ones(s.intermediate_size) for s in LAYERS])
    tied = rewire(model, flat)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tied.state_dict().items())


def broken(heads: list[Tensor], neurons: list[Tensor]) -> list[str]:
    with pytest.raises(ShapeError) as caught:
        plan_orders(random_model().shape, Importance(heads, neurons))
    return list(caught.value.mistakes)


def test_importance_that_does_not_fit() -> None:
    good = random_importance()
    wrong = [*good.heads[:1], torch.ones(4), *good.heads[2:]]
    nan = [*good.neurons[:3], torch.full((9,), float("nan"))]
    mistakes = broken(wrong, nan)
    assert mistakes[0] == "importance of heads in layer 1 must have the shape (3,), got (4,)"
    assert mistakes[1].startswith("importance of neurons in layer 3 must be finite, got [nan")
    assert broken(good.heads[:2], good.neurons) == ["importance of heads must have 4 layers, got 2"]
