"""Prices and sizes of units, against the paper's numbers and against plain counting."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from random_shapes import BERT_BASE, encoder_shapes

from cutbert.errors import BudgetError, ShapeError
from cutbert.shape.cost import cost_of, matrix_params
from cutbert.shape.head import HeadSpec
from cutbert.shape.paper_shapes import PAPER_SHAPES, paper_shape
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.units import (
    DIMS,
    Place,
    in_groups,
    least_sizes,
    places_of,
    resized,
    size_at,
    sizes_of,
    uniform_sizes,
    unit_prices,
)

MASKED_LM = HeadSpec("masked_lm")


def params(shape: EncoderShape) -> float:
    return cost_of(shape).params_encoder


def test_prices_are_the_papers_on_bert_base() -> None:
    prices = unit_prices(BERT_BASE, lambda shape: matrix_params(shape, MASKED_LM))
    assert prices[Place("a", 3)] == 1.0
    assert prices[Place("h")] == pytest.approx(0.728, abs=5e-4)
    assert prices[Place("k", 0)] == prices[Place("v", 11)] == 0.09375
    assert prices[Place("f", 5)] == 0.0078125
    assert len(prices) == 1 + 4 * 12


def test_prices_by_multiply_adds_know_the_length() -> None:
    def macs(length: int) -> float:
        return unit_prices(BERT_BASE, lambda shape: cost_of(shape, None, length).macs)[Place("f", 0)]

    head = 128 * 768 * 4 * 64 + 2 * 128**2 * 64
    assert macs(128) == pytest.approx(2 * 128 * 768 / head)
    assert macs(512) < macs(128)


def test_prices_without_attention_are_absolute() -> None:
    shape = EncoderShape(8, (LayerShape(0, 0, 0, 6),), vocab_size=5, num_positions=4)
    assert unit_prices(shape, params, "f") == {Place("f", 0): 2 * 8 + 1}


@given(encoder_shapes)
def test_matrix_params_are_all_but_biases_and_norms(shape: EncoderShape) -> None:
    for head in (HeadSpec("none"), HeadSpec("pooler"), HeadSpec("span"), HeadSpec("single_label", ("a", "b"))):
        H = shape.hidden_size
        vectors = 2 * shape.table_size + (0 if shape.embedding_size is None else H)
        for layer in shape.layers:
            if layer.has_attention:
                vectors += layer.num_heads * (2 * layer.key_dim + layer.value_dim) + 3 * H
            if layer.has_feed_forward:
                vectors += layer.intermediate_size + 3 * H
        vectors += {"none": 0, "pooler": H, "span": 2, "single_label": H + 2}[head.kind]
        assert matrix_params(shape, head) == cost_of(shape, head).params - vectors


@example(EncoderShape(3, (), vocab_size=3, num_positions=9), 2, 1.0)
@given(encoder_shapes, st.integers(1, 4), st.floats(0.0, 1.0))
def test_uniform_sizes_keep_the_limit_and_are_tight(shape: EncoderShape, multiple: int, share: float) -> None:
    least = params(resized(shape, least_sizes(shape, tuple(DIMS), multiple)))
    limit = least + share * (params(shape) - least)
    sizes = uniform_sizes(shape, tuple(DIMS), params, limit, multiple)
    assert params(resized(shape, sizes)) <= limit
    for place, size in sizes.items():
        assert 1 <= size <= size_at(shape, place)
        assert size % multiple == 0 or size == size_at(shape, place) or place.dim == "a"
    if share == 1.0:
        assert resized(shape, sizes) == shape


def test_a_limit_below_the_smallest_is_refused() -> None:
    with pytest.raises(BudgetError, match=r"must be at least [0-9.]+, the cost of the smallest shape, got 10"):
        uniform_sizes(BERT_BASE, "fa", params, 10)


def test_hidden_units_are_never_as_many_as_separate_tables_are_wide() -> None:
    shape = EncoderShape(12, (LayerShape(2, 3, 3, 6),), vocab_size=5, num_positions=4, embedding_size=6)
    sizes = {in_groups(shape, Place("h"), wanted, 2) for wanted in range(13)}
    assert sizes == {2, 4, 8, 10, 12}
    assert in_groups(shape, Place("h"), 5.0, 6) == 12
    for share in (0.2, 0.35, 0.5, 0.7):
        least = params(resized(shape, least_sizes(shape, "h")))
        found = uniform_sizes(shape, "h", params, least + share * (params(shape) - least))
        assert found[Place("h")] != 6


@pytest.mark.parametrize(
    ("name", "millions"), [("99M", 98.3), ("88M", 87.9), ("77M", 77.2), ("43M", 43.1)], ids=lambda value: str(value)
)
def test_the_papers_architectures_have_the_recounted_sizes(name: str, millions: float) -> None:
    assert cost_of(paper_shape(name)).params == pytest.approx(1e6 * millions, abs=6e4)


def test_the_papers_architectures_are_cuts_of_bert_base() -> None:
    for shape in PAPER_SHAPES.values():
        assert resized(BERT_BASE, sizes_of(BERT_BASE, shape, "it")) == shape
    assert paper_shape("99M").layers[4].num_heads == 11
    with pytest.raises(ShapeError, match=r"--from-paper must be one of 99M, .*33M, got '12M'"):
        paper_shape("12M")


def test_a_target_that_is_no_cut() -> None:
    small = EncoderShape.uniform(hidden_size=24, num_layers=12, num_heads=2, intermediate_size=9, vocab_size=30522)
    with pytest.raises(ShapeError) as caught:
        sizes_of(small, BERT_BASE, "BERT-base")
    assert "hidden_size must be at least 768 for BERT-base, got 24" in caught.value.mistakes
    assert "num_heads of layer 11 must be at least 12 for BERT-base, got 2" in caught.value.mistakes
    with pytest.raises(ShapeError, match="num_layers must be 12 for BERT-base, got 3"):
        sizes_of(EncoderShape(24, small.layers[:3], 30522, 512), BERT_BASE, "BERT-base")


def test_places_of_absent_parts_are_none() -> None:
    shape = EncoderShape(8, (LayerShape(0, 0, 0, 6), LayerShape(2, 3, 3, 0)), vocab_size=5, num_positions=4)
    assert places_of(shape, tuple(DIMS)) == [
        Place("h"),
        Place("f", 0),
        Place("a", 1),
        Place("k", 1),
        Place("v", 1),
    ]
