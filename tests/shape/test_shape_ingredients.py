"""What encoders are made of: written and read, fitted to other layers, counted, and refused where it makes no sense."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cutbert.errors import ShapeError
from cutbert.model.distances import table_rows
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.ingredients import BERT, Ingredients, num_scores, spans
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.subnet import KeptLayer, Subnet
from tiny_families import DEBERTA, INGREDIENTS, OTHERS, family_model, family_shape
from tiny_models import HEADS


@pytest.mark.parametrize("family", OTHERS)
def test_json_round_trip(family: str) -> None:
    shape = family_shape(family)
    assert EncoderShape.from_json(shape.to_json()) == shape
    assert shape.to_json()["ingredients"] == INGREDIENTS[family].to_json()
    assert "ingredients" not in replace(shape, ingredients=BERT).to_json()


@pytest.mark.parametrize("family", OTHERS)
@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.kind)
@pytest.mark.parametrize("length", [3, 9])
def test_macs_are_half_of_the_flop_counters(family: str, head: HeadSpec, length: int) -> None:
    model, counter = family_model(family, head).requires_grad_(False), FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(torch.zeros(1, length, dtype=torch.long))
    assert counter.get_total_flops() == 2 * cost_of(model.shape, head, length).macs


def test_a_long_text_costs_its_windows() -> None:
    shape = EncoderShape.uniform(
        hidden_size=8, num_layers=1, num_heads=2, intermediate_size=8, vocab_size=9, num_token_types=0,
        ingredients=Ingredients(window=4, local_layers=(True,)),
    )  # fmt: skip
    one, two = (cost_of(shape, None, length).macs for length in (400, 800))
    assert two < 2.02 * one
    assert num_scores(12, 4) == 144 and num_scores(16, 4) == 4 * (8 + 12 + 12 + 8)
    for length, window in ((30, 4), (31, 7), (5, 4)):
        read = {(q, k) for queries, keys in spans(length, window) for q in queries for k in keys}
        assert all((q, k) in read for q in range(length) for k in range(length) if abs(q - k) <= window)


def test_rows_of_distances_are_those_of_the_buckets() -> None:
    """Of DeBERTa-v3, of every length it takes, and of a few small ones; in float64 here, in float32 there."""
    for made in (replace(INGREDIENTS["deberta-v2"], num_distance_buckets=256, max_distance=512), DEBERTA):
        for length in range(1, made.max_distance + 20):
            rows, counted = table_rows(length, made, torch.device("cpu")), made.distance_rows(length)
            assert (int(rows.min()), int(rows.max())) == (counted[-1] - len(counted) + 1, counted[-1]), length


def test_layers_keep_their_kind() -> None:
    shape = family_shape("modernbert")
    kept = Subnet(tuple(KeptLayer(i, shape.layers[i]) for i in (1, 2)), 24).shape_in(shape)
    assert kept.ingredients.local_layers == (True, False) and kept.ingredients.bare_layers == ()
    assert shape.with_layers((), ()).ingredients.local_layers == ()


def test_new_sizes_of_the_same_making() -> None:
    plain = EncoderShape(8, (LayerShape(2, 4, 4, 8),) * 5, 9, 16, 0)
    made = plain.made_as(family_shape("modernbert"))
    assert made.ingredients.local_layers == (False, True, False, True, False)
    assert made.ingredients.bare_layers == (True, False, False, False, False)
    assert plain.made_as(family_shape("mpnet")).ingredients.num_bias_heads == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"norm": True}, "ingredients must have keys of bare_layers, .*, got norm"),
        ({"norm_first": 1}, "norm_first must be true or false, got 1"),
        ({"num_bias_heads": -1}, "num_bias_heads must be an integer of at least 0, got -1"),
        ({"rotary_bases": [1.0]}, "rotary_bases must be none or two numbers above 0"),
        ({"rotary_bases": 5}, "rotary_bases must be a list, got 5"),
        ({"local_layers": [True, False]}, "window must be at least 1 where there are local layers, got 0"),
        ({"local_layers": [1], "window": 3}, "local_layers must be true or false for each layer"),
        ({"num_distance_buckets": 8, "max_distance": 5}, "max_distance must be at least 6 with these buckets, got 5"),
        ({"bare_layers": [True]}, "bare_layers must come with norm_first"),
        (
            {"has_neuron_bias": False, "has_feed_forward_bias": False},
            "has_neuron_bias must be true without has_feed_forward_bias",
        ),
    ],
)
def test_what_is_refused(data: dict[str, object], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Ingredients.from_json(data)


def test_no_object_and_other_layers_are_refused() -> None:
    with pytest.raises(ShapeError, match="ingredients must be a JSON object, got list"):
        Ingredients.from_json([])
    with pytest.raises(ShapeError, match="local_layers must be of 1 layers, got 2"):
        EncoderShape(8, (LayerShape(1, 4, 4, 4),), 9, 9, ingredients=Ingredients(window=1, local_layers=(True, True)))
