"""Shapes, subnets and heads: JSON both ways, normalised absence, every mistake."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_shapes import BERT_BASE, encoder_shapes, head_specs, subnets_of

from cutbert.errors import ShapeError
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.subnet import KeptLayer, Subnet


def through_text(data: object) -> object:
    return json.loads(json.dumps(data))


@given(encoder_shapes)
def test_a_shape_survives_json(shape: EncoderShape) -> None:
    assert EncoderShape.from_json(through_text(shape.to_json())) == shape


@given(head_specs)
def test_a_head_survives_json(head: HeadSpec) -> None:
    assert HeadSpec.from_json(through_text(head.to_json())) == head


@given(st.data(), encoder_shapes)
def test_a_subnet_survives_json_and_fits(data: st.DataObject, shape: EncoderShape) -> None:
    subnet = data.draw(subnets_of(shape))
    assert Subnet.from_json(through_text(subnet.to_json())) == subnet
    assert subnet.shape_in(shape).hidden_size == subnet.hidden_size


def test_json_has_exactly_the_documented_keys() -> None:
    data = EncoderShape.uniform(
        hidden_size=8, num_layers=1, num_heads=2, intermediate_size=5, vocab_size=11, num_positions=16
    ).to_json()
    assert data == {
        "hidden_size": 8,
        "vocab_size": 11,
        "num_positions": 16,
        "num_token_types": 2,
        "layers": [{"num_heads": 2, "key_dim": 4, "value_dim": 4, "intermediate_size": 5}],
    }


def test_sizes_of_an_absent_sub_layer_are_normalised() -> None:
    assert LayerShape(0, 64, 32, 7) == LayerShape(0, 0, 0, 7)
    wide = EncoderShape(8, (), 11, 16, embedding_size=8)
    assert wide == EncoderShape(8, (), 11, 16) and "embedding_size" not in wide.to_json()


def test_stock_needs_equal_whole_layers_with_the_usual_head_size() -> None:
    def stock(*layers: LayerShape) -> bool:
        return EncoderShape(8, layers, 11, 16).is_stock

    whole = LayerShape(2, 4, 4, 5)
    assert BERT_BASE.is_stock and stock(whole, whole)
    for other in (LayerShape(1, 4, 4, 5), LayerShape(2, 4, 2, 5), LayerShape(2, 4, 4, 0), LayerShape(0, 0, 0, 5)):
        assert not stock(other) and not stock(whole, other)
    assert stock(LayerShape(2, 4, 4, 6)) and not stock(whole, LayerShape(2, 4, 4, 6)) and not stock()


def test_all_mistakes_of_a_shape_are_shown_together() -> None:
    data = {"hidden_size": 0, "vocab_size": 3.5, "num_positions": 4, "num_token_types": True, "layers": []}
    data["layers"] = [{"num_heads": 2, "key_dim": 0, "value_dim": 4, "intermediate_size": -1}]
    with pytest.raises(ShapeError) as caught:
        EncoderShape.from_json(data)
    assert caught.value.mistakes == (
        "layer 0: intermediate_size must be an integer of at least 0, got -1",
        "hidden_size must be an integer of at least 1, got 0",
        "vocab_size must be an integer of at least 1, got 3.5",
        "num_token_types must be an integer of at least 0, got True",
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "shape must be a JSON object, got list"),
        ({"hidden_size": 8}, "shape: missing key 'layers'"),
        ({"hidden": 8}, "shape: unknown key 'hidden'; known are embedding_size, hidden_size"),
        ({**BERT_BASE.to_json(), "layers": 12}, "layers must be a list of objects, got int"),
        ({**BERT_BASE.to_json(), "layers": [{"num_heads": 1}]}, "layer 0: missing key 'key_dim'"),
        ({**BERT_BASE.to_json(), "embedding_size": 0}, "embedding_size must be an integer of at least 1, got 0"),
    ],
)
def test_json_that_is_no_shape(data: object, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        EncoderShape.from_json(data)


def test_present_attention_must_have_keys_and_values() -> None:
    with pytest.raises(ShapeError, match="key_dim must be an integer of at least 1, got 0\nvalue_dim must be"):
        LayerShape(1, 0, 0, 0)


def test_uniform_needs_heads_that_divide_the_hidden_size() -> None:
    with pytest.raises(ShapeError, match="hidden_size must be a multiple of num_heads, got 10 and 3"):
        EncoderShape.uniform(hidden_size=10, num_layers=1, num_heads=3, intermediate_size=5, vocab_size=11)


def test_all_misfits_of_a_subnet_are_shown_together() -> None:
    shape = EncoderShape(8, (LayerShape(2, 4, 4, 5),), 11, 16)
    kept = (
        KeptLayer(0, LayerShape(3, 5, 4, 6)),
        KeptLayer(0, LayerShape(1, 1, 1, 1)),
        KeptLayer(1, LayerShape(1, 1, 1, 1)),
    )
    with pytest.raises(ShapeError) as caught:
        Subnet(kept, 9).check_fits(shape)
    assert caught.value.mistakes == (
        "hidden_size of the subnet must lie in 1..8, got 9",
        "indices of kept layers must rise, got [0, 0, 1]",
        "num_heads of layer 0 must lie in 0..2, got 3",
        "key_dim of layer 0 must lie in 0..4, got 5",
        "intermediate_size of layer 0 must lie in 0..5, got 6",
        "index of a kept layer must lie in 0..0, got 1",
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"layers": []}, "subnet: missing key 'hidden_size'"),
        ({"hidden_size": "8", "layers": []}, "hidden_size of the subnet must be an integer of at least 1, got '8'"),
        ({"hidden_size": 8, "layers": {}}, "layers of the subnet must be a list of objects, got dict"),
        ({"hidden_size": 8, "layers": [3]}, "layer 0 of the subnet must be a JSON object, got int"),
        ({"hidden_size": 8, "layers": [{"index": True}]}, "layer 0 of the subnet: index must be an integer, got True"),
        ({"hidden_size": 8, "layers": [{"index": 0}]}, "layer 0 of the subnet: missing key 'num_heads'"),
    ],
)
def test_json_that_is_no_subnet(data: object, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Subnet.from_json(data)


@pytest.mark.parametrize(
    ("kind", "names", "message"),
    [
        ("classifier", (), "head kind must be one of none, pooler, single_label"),
        ("token", (), "a head of kind token must have labels"),
        ("span", ("a",), "a head of kind span must have no labels"),
    ],
)
def test_heads_that_cannot_be(kind: str, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        HeadSpec(kind, names)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "head must be a JSON object, got list"),
        ({"kind": "span"}, "head: missing key 'labels'"),
        ({"kind": "token", "labels": [1]}, r"labels of a head must be a list of names, got \[1\]"),
        ({"kind": ["token"], "labels": ["a"]}, "head kind must be one of"),
    ],
)
def test_json_that_is_no_head(data: object, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        HeadSpec.from_json(data)


def test_a_hidden_prefix_as_wide_as_the_tables_is_no_subnet() -> None:
    shape = EncoderShape(8, (LayerShape(2, 4, 4, 5),), 11, 16, embedding_size=4)
    with pytest.raises(ShapeError, match="hidden_size of the subnet must differ from embedding_size, got 4 for both"):
        Subnet((), 4).check_fits(shape)
    assert Subnet((), 5).shape_in(shape).embedding_size == 4
    Subnet.full(shape).check_fits(shape)


def test_outputs_of_heads() -> None:
    assert HeadSpec("span").num_outputs == 2 and HeadSpec("masked_lm").num_outputs == 0
    assert HeadSpec("token", ("a", "b", "c")).num_outputs == 3
    assert HeadSpec("regression", ("score",)).is_sequence and not HeadSpec("pooler").is_sequence
