"""Patterns and shapes: read and written, placed, counted against the paper's arithmetic, refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_shapes import BERT_BASE

from cutbert.errors import ShapeError
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.pattern import (
    check_layers,
    even_layers,
    every_nth,
    feed_forward_layers,
    layers_of_pattern,
    parse_pattern,
    pattern_of,
    shape_of_pattern,
    with_equal_params,
    with_feed_forwards,
)
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.subnet import Subnet

SMALL = EncoderShape.uniform(
    hidden_size=24, num_layers=6, num_heads=4, intermediate_size=96, vocab_size=20, num_positions=16
)
# PAPERS 3.3: millions of parameters of BERT-base when n of 12 feed-forwards stay, with the pooler; share saved.
KEPT = {
    12: (109.5, 0.0), 11: (104.8, 4.3), 10: (100.0, 8.6), 9: (95.3, 12.9), 8: (90.6, 17.3), 7: (85.9, 21.6),
    6: (81.1, 25.9), 5: (76.4, 30.2), 4: (71.7, 34.5), 3: (67.0, 38.8), 2: (62.2, 43.1), 1: (57.5, 47.5),
    0: (52.8, 51.8),
}  # fmt: skip


@pytest.mark.parametrize("count", KEPT)
def test_parameters_of_bert_base(count: int) -> None:
    pooler = HeadSpec("pooler")
    found = cost_of(with_feed_forwards(BERT_BASE, even_layers(BERT_BASE, count)), pooler).params
    params, saved = KEPT[count]
    assert round(found / 1e6, 1) == params
    assert round(100 * (1 - found / cost_of(BERT_BASE, pooler).params), 1) == saved


@given(st.lists(st.booleans(), min_size=6, max_size=6))
def test_a_pattern_is_read_as_it_is_written(kept: list[bool]) -> None:
    layers = tuple(i for i, is_kept in enumerate(kept) if is_kept)
    shape = with_feed_forwards(SMALL, layers)
    text = pattern_of(shape)
    assert parse_pattern(text) == tuple(kept)
    assert layers_of_pattern(SMALL, text) == feed_forward_layers(shape) == layers
    assert shape_of_pattern(SMALL, text) == shape
    assert EncoderShape.from_json(shape.to_json()) == shape
    assert Subnet.full(shape).shape_in(SMALL) == shape, "a part of the whole"


def test_a_layer_without_attention_is_an_f_alone() -> None:
    shape = replace(SMALL, layers=(LayerShape(0, 0, 0, 5), LayerShape(0, 0, 0, 0), LayerShape(2, 3, 3, 0)))
    assert pattern_of(shape) == "FA"


@pytest.mark.parametrize(
    ("n", "pattern"),
    [(1, "AF" * 6), (2, "AAF" * 3), (3, "AAAF" * 2), (4, "AAAAFAA"), (5, "AAAAAFA"), (6, "AAAAAAF")],
)
def test_every_nth_layer(n: int, pattern: str) -> None:
    assert pattern_of(with_feed_forwards(SMALL, every_nth(SMALL, n))) == pattern


@pytest.mark.parametrize(("count", "layers"), [(6, (0, 1, 2, 3, 4, 5)), (4, (1, 2, 4, 5)), (2, (2, 5)), (0, ())])
def test_evenly_spaced(count: int, layers: tuple[int, ...]) -> None:
    assert even_layers(SMALL, count) == layers


def test_even_is_every_nth_where_it_divides_and_spares_what_is_there() -> None:
    assert all(even_layers(BERT_BASE, 12 // n) == every_nth(BERT_BASE, n) for n in (1, 2, 3, 4, 6, 12))
    assert even_layers(with_feed_forwards(SMALL, (0, 1, 4)), 2) == (1, 4)


def test_more_attention_layers() -> None:
    shape = shape_of_pattern(SMALL, "AAAF" * 3)
    assert pattern_of(shape) == "AAAF" * 3 and shape.num_layers == 9
    assert set(shape.layers) == {SMALL.layers[0], replace(SMALL.layers[0], intermediate_size=0)}


@pytest.mark.parametrize(
    ("kept", "pattern"), [((1, 3, 5), "AAAFAAAAFAAAAF"), ((), "A" * 17), ((0, 1, 2, 3, 4, 5), "AF" * 6)]
)
def test_equal_parameters(kept: tuple[int, ...], pattern: str) -> None:
    """A feed-forward of 96 neurons has 4,776 parameters, an attention layer 2,448: not quite two for one."""
    shape = with_equal_params(SMALL, pattern_of(with_feed_forwards(SMALL, kept)))
    assert pattern_of(shape) == pattern
    limit, bare = cost_of(SMALL).params, replace(SMALL, layers=(replace(SMALL.layers[0], intermediate_size=0),))
    one_more = cost_of(bare).params_encoder
    assert limit - one_more < cost_of(shape).params <= limit


def test_equal_parameters_of_bert_base() -> None:
    """Two attention layers have 3,840 parameters more than one feed-forward, so 6 feed-forwards give 11, not 12."""
    shape = with_equal_params(BERT_BASE, "AAF" * 6)
    assert shape.num_layers == 12 + 11 and len(feed_forward_layers(shape)) == 6
    assert 0 <= cost_of(BERT_BASE).params - cost_of(shape).params < 2_363_904


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--pattern must be a string of A and F, got ''"),
        ("AXF", "--pattern must be a string of A and F, got 'AXF'"),
        ("FAA", "--pattern must have every F directly after the A of its layer, got 'FAA'"),
        ("AFF", "--pattern must have every F directly after the A of its layer, got 'AFF'"),
        ("AFAF", "--pattern must have one A for each attention layer of the model, 6, got 2 in 'AFAF'"),
    ],
)
def test_patterns_that_are_none(text: str, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        layers_of_pattern(SMALL, text)


def test_what_does_not_fit_a_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"--ffn-every must lie in 1\.\.6, the model's layers, got 7"):
        every_nth(SMALL, 7)
    with pytest.raises(ShapeError, match=r"--num-ffn must lie in 0\.\.6, the model's feed-forwards, got 7"):
        even_layers(SMALL, 7)
    with pytest.raises(ShapeError, match="feed-forwards to keep must be of layers 0, 1, got 2, 9"):
        check_layers(with_feed_forwards(SMALL, (0, 1)), (9, 1, 2))
    with pytest.raises(ShapeError, match=r"feed-forwards to keep must be of layers \(none\), got 0"):
        check_layers(with_feed_forwards(SMALL, ()), (0,))
    with pytest.raises(ShapeError, match="--pattern must have at least 6 A, the shape's layers, got 1"):
        shape_of_pattern(SMALL, "AF")
    mixed = replace(SMALL, layers=(LayerShape(0, 0, 0, 5), *SMALL.layers))
    with pytest.raises(ShapeError, match="--pattern needs a model with attention in every layer; use --ffn-keep"):
        layers_of_pattern(mixed, "A" * 7)
    with pytest.raises(ShapeError, match="--pattern with more A than layers must have a shape whose layers are all"):
        shape_of_pattern(mixed, "A" * 9)
    with pytest.raises(ShapeError, match="--equal-params must have a shape whose layers are all alike"):
        with_equal_params(mixed, "A" * 9)
    with pytest.raises(ShapeError, match="--equal-params must have a pattern of at most the shape's parameters, got"):
        with_equal_params(SMALL, "AF" * 7)
