"""An extracted model computes what the supernet computes in place, and is as small as counted."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutbert.errors import ShapeError
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import LayerShape
from cutbert.shape.subnet import KeptLayer, Subnet
from cutbert.surgery.extract import extract
from tiny_models import HEADS, LAYERS, assert_same, random_batch, random_model, run, tiny_shape


@st.composite
def subnets(draw: st.DrawFn) -> Subnet:
    kept = []
    for i, layer in enumerate(LAYERS):
        if not draw(st.booleans()):
            continue
        heads = draw(st.integers(0, layer.num_heads))
        keys = draw(st.integers(1, layer.key_dim)) if heads else 0
        values = draw(st.integers(1, layer.value_dim)) if heads else 0
        kept.append(KeptLayer(i, LayerShape(heads, keys, values, draw(st.integers(0, layer.intermediate_size)))))
    # A LayerNorm of very few units, where these are nearly equal, makes much of rounding.
    return Subnet(tuple(kept), draw(st.integers(6, 24).filter(lambda size: size != 10)))


@settings(max_examples=80)
@given(subnets(), st.sampled_from(HEADS), st.sampled_from(["bert", "roberta"]), st.sampled_from([None, 10]))
def test_extracted_equals_in_place(subnet: Subnet, head: HeadSpec, family: str, embedding_size: int | None) -> None:
    model, batch = random_model(head, tiny_shape(embedding_size), family), random_batch()
    small = extract(model, subnet)
    assert_same(run(small, batch), run(model, batch, subnet=subnet))
    assert small.shape == subnet.shape_in(model.shape) and small.head_spec == head and small.style == model.style
    assert sum(parameter.numel() for parameter in small.parameters()) == cost_of(small.shape, head).params


def test_the_full_subnet_is_an_equal_copy() -> None:
    model = random_model()
    twin = extract(model, Subnet.full(model.shape))
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in twin.state_dict().items())
    ours = {parameter.data_ptr() for parameter in model.parameters()}
    assert all(parameter.data_ptr() not in ours and parameter.is_contiguous() for parameter in twin.parameters())
    assert all(parameter.requires_grad for parameter in twin.parameters())


def test_an_extract_of_an_extract_is_the_extract() -> None:
    model, batch = random_model(), random_batch()
    middle = Subnet((KeptLayer(0, LayerShape(3, 5, 4, 12)), KeptLayer(3, LayerShape(2, 3, 6, 9))), 20)
    inner = Subnet((KeptLayer(1, LayerShape(1, 2, 5, 4)),), 15)
    direct = Subnet((KeptLayer(3, LayerShape(1, 2, 5, 4)),), 15)
    assert_same(run(extract(extract(model, middle), inner), batch), run(extract(model, direct), batch))


def test_training_mode_number_type_and_random_state_are_kept() -> None:
    model = random_model().to(torch.bfloat16).train()
    state = torch.random.get_rng_state()
    small = extract(model, Subnet((KeptLayer(0, LayerShape(1, 6, 6, 4)),), 24))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert small.training and {parameter.dtype for parameter in small.parameters()} == {torch.bfloat16}


def test_a_subnet_must_fit() -> None:
    with pytest.raises(ShapeError, match=r"num_heads of layer 0 must lie in 0\.\.4, got 5"):
        extract(random_model(), Subnet((KeptLayer(0, LayerShape(5, 6, 6, 4)),), 24))


def test_a_hidden_prefix_as_wide_as_electras_tables_is_refused() -> None:
    model = random_model(shape=tiny_shape(10))
    with pytest.raises(ShapeError, match="must differ from embedding_size, got 10 for both"):
        extract(model, Subnet((), 10))
