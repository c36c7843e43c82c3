"""The table of latencies gives back what it was made of, lies between on the way, and never lets a unit be free."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from cutbert.bench.latency_table import MOST_PARTIAL, Curve, LatencyTable, interpolated
from cutbert.bench.measure_table import TABLE_ROWS, measure_table, new_network, part_shapes, random_cut, timed_copy
from cutbert.bench.settings import LatencySettings
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.units import DIMS, Place, resized
from known_times import take_known_times
from tiny_runs import HEAD, SHAPE, tiny_model

QUICK = LatencySettings(rounds=1, threads=1)


def true_ms(shape: EncoderShape) -> float:
    """Return a time that is a sum over sub-layers, each with a fixed part and one that grows with its sizes."""
    H, total = shape.hidden_size, 0.3
    for layer in shape.layers:
        total += 0.2 + 0.001 * H * layer.num_heads * (layer.key_dim + layer.value_dim) if layer.has_attention else 0
        total += 0.1 + 0.002 * H * layer.intermediate_size if layer.has_feed_forward else 0
    return total


@pytest.fixture
def known_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every network take just the time that `true_ms` says, whatever the length."""
    take_known_times(monkeypatch, lambda shape, length: true_ms(shape))


@pytest.mark.usefixtures("known_times")
def test_sums_over_sub_layers_are_foretold() -> None:
    table = measure_table(tiny_model(), tuple(DIMS), [4, 9], QUICK)
    assert table.error < 0.02 and table(SHAPE) == pytest.approx(table.uncut_ms) == pytest.approx(true_ms(SHAPE))
    one_off = replace(SHAPE, layers=(LayerShape(0, 0, 0, 5), LayerShape(3, 6, 6, 0)))
    for shape in (
        one_off,
        replace(SHAPE, layers=()),
        resized(SHAPE, {Place("f", 1): 3, Place("a", 0): 1}),
        resized(SHAPE, {Place("k", 2): 3, Place("v", 2): 3}),
        resized(SHAPE, {Place("h"): 10}),
    ):
        assert table(shape) == pytest.approx(true_ms(shape), rel=0.02)
    assert measure_table(tiny_model(), ("a", "f"), [4], QUICK).dims is None


@pytest.mark.usefixtures("known_times")
def test_a_table_survives_its_file() -> None:
    table = measure_table(tiny_model(), tuple(DIMS), [4], QUICK)
    again = LatencyTable.from_json(json.loads(json.dumps(table.to_json())))
    cut = random_cut(SHAPE, tuple(DIMS), seed=9)
    assert again(cut) == table(cut) and again.error == table.error
    assert again.measured["backend"] == "torch" and again.measured["machine"]["processor"]


@pytest.mark.parametrize("share", [0.1, -0.06])
def test_what_parts_take_beyond_the_sum_is_learned(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    def in_part(shape: EncoderShape, length: int) -> float:
        """Every sub-layer cut in part takes a share more than its curve."""
        whole = true_ms(replace(shape, layers=()))
        for layer, full in zip(shape.layers, SHAPE.layers, strict=False):
            for name in ("num_heads", "intermediate_size"):
                alone = replace(
                    layer, **({"num_heads": 0} if name == "intermediate_size" else {"intermediate_size": 0})
                )
                ms = true_ms(replace(shape, layers=(alone,))) - true_ms(replace(shape, layers=()))
                is_cut = 0 < getattr(layer, name) < getattr(full, name) and len({*shape.layers}) > 1
                whole += ms * (1 + share * is_cut)
        return whole

    take_known_times(monkeypatch, in_part)
    table = measure_table(tiny_model(), ("a", "f"), [4], QUICK)
    assert table.partial == pytest.approx(share, abs=0.04) and table.error < 0.03
    assert table(SHAPE) == pytest.approx(true_ms(SHAPE))
    layers = SHAPE.with_layers(SHAPE.layers[:2], [0, 1])
    assert table(layers) == pytest.approx(true_ms(layers), rel=0.02)  # whole ones are not cut in part
    assert replace(table, partial=0.0)(layers) == table(layers)


@pytest.mark.parametrize("partial", [-MOST_PARTIAL, MOST_PARTIAL])
def test_more_units_never_take_less_whatever_parts_add(partial: float) -> None:
    table = replace(measure_table(tiny_model(), ("a", "f"), [4], QUICK), partial=partial)
    whole = SHAPE.layers[0]
    for name in ("num_heads", "intermediate_size"):
        sizes = range(1, getattr(whole, name) + 1)
        times = [table(replace(SHAPE, layers=(replace(whole, **{name: size}), *SHAPE.layers[1:]))) for size in sizes]
        assert times == sorted(times)


def test_a_cut_is_never_dearer_whatever_the_noise() -> None:
    curve = Curve.rising((1, 2, 4), (3.0, 2.0, 4.0))
    assert curve(1) < curve(2) < curve(3) < curve(4) < curve(5) and curve.at_none >= 0
    assert Curve.rising((1, 2), (-1.0, -2.0)).ms == (0.0, 0.0)
    assert Curve.rising((1, 1, 2), (1.0, 3.0, 4.0)).ms == (2.0, 4.0)


def test_straight_lines_go_on_beyond_the_ends() -> None:
    assert [interpolated((1, 2, 4), (1.0, 3.0, 4.0), at) for at in (0, 1.5, 3, 6)] == [-1.0, 2.0, 3.5, 5.0]


def test_parts_are_stacks_of_one_sub_layer() -> None:
    parts = part_shapes(SHAPE, ("a", "f"))
    assert {key[0] for key in parts} == {"base", "attention", "feed_forward"}
    for (kind, hidden, size), shape in parts.items():
        assert hidden == shape.hidden_size == SHAPE.hidden_size
        assert all(layer.has_attention == (kind == "attention") for layer in shape.layers)
        assert size == (shape.layers[0].intermediate_size if kind == "feed_forward" else size)
    wide = EncoderShape(24, SHAPE.layers, 20, 128, embedding_size=12)
    assert {shape.hidden_size for shape in part_shapes(wide, ("h",)).values()} == {6, 11, 24}


def test_a_long_token_table_is_not_made_again() -> None:
    shape = replace(SHAPE, vocab_size=30_000)
    with torch.device("meta"):
        model, masked = (
            TaskModel(shape, EncoderStyle(family="bert"), HeadSpec(kind)) for kind in ("none", "masked_lm")
        )
    assert new_network(model, shape).shape.vocab_size == TABLE_ROWS
    assert new_network(masked, shape).shape.vocab_size == 30_000
    assert timed_copy(masked).shape.vocab_size == 30_000


def test_a_copy_to_time_has_the_same_weights_but_few_tokens() -> None:
    model = TaskModel(replace(SHAPE, vocab_size=TABLE_ROWS + 5), EncoderStyle(family="bert"), HEAD).eval()
    copy, ids = timed_copy(model), torch.randint(0, TABLE_ROWS, (3, 7))
    assert copy.shape.vocab_size == TABLE_ROWS and not copy.training
    with torch.no_grad():
        assert torch.equal(copy(ids).logits, model(ids).logits)
    own, shared = dict(model.named_parameters()), dict(copy.named_parameters())
    assert all(own[name].data_ptr() == shared[name].data_ptr() for name in own)


def test_real_times_make_a_table() -> None:
    rounds: list[None] = []
    table = measure_table(tiny_model(), ("f",), [4], QUICK, on_round=lambda: rounds.append(None))
    assert table(SHAPE) > 0 and table.error >= 0 and len(rounds) == 1 + 3
    assert table(resized(SHAPE, {Place("f", 0): 1})) <= table(SHAPE)
