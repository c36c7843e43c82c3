"""Costs against the papers' totals, the built model's parameters and torch's flop counter."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from random_shapes import BERT_BASE, encoder_shapes, head_specs
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cutbert.errors import ShapeError
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.space import grid

TWO_CLASSES = HeadSpec("single_label", ("negative", "positive"))
POOLER = HeadSpec("pooler")


def millions(count: int) -> float:
    return round(count / 1e6, 1)


def with_layers(layers: list[LayerShape], hidden_size: int = 768) -> EncoderShape:
    return dataclasses.replace(BERT_BASE, layers=tuple(layers), hidden_size=hidden_size)


# PAPERS 1.8: DynaBERT's 12 subnets, millions of params with pooler and 2 classes, forward GFLOPs at 128.
DYNABERT = {
    "w1.0-d1.0": (109.5, 22.3),
    "w0.75-d1.0": (88.2, 16.8),
    "w0.5-d1.0": (67.0, 11.2),
    "w0.25-d1.0": (45.7, 5.6),
    "w1.0-d0.75": (88.2, 16.8),
    "w0.75-d0.75": (72.3, 12.6),
    "w0.5-d0.75": (56.3, 8.4),
    "w0.25-d0.75": (40.4, 4.2),
    "w1.0-d0.5": (67.0, 11.2),
    "w0.75-d0.5": (56.3, 8.4),
    "w0.5-d0.5": (45.7, 5.6),
    "w0.25-d0.5": (35.1, 2.8),
}


def test_dynabert_totals() -> None:
    points = grid(BERT_BASE, width_mults=(1.0, 0.75, 0.5, 0.25), depth_mults=(1.0, 0.75, 0.5), stock=False)
    found = {}
    for point in points:
        shape = point.subnet.shape_in(BERT_BASE)
        found[point.name] = (millions(cost_of(shape, TWO_CLASSES).params), round(2 * cost_of(shape).macs / 1e9, 1))
    assert found == DYNABERT


# PAPERS 2.6: schuBERT's found nets, counted with biases and LayerNorm, without pooler.
SCHUBERT_99M_F = (2022, 2222, 2344, 2478, 2576, 2530, 2638, 2660, 2748, 2792, 2852, 2974)
SCHUBERT_99M_V = (54, 54, 46, 58, 52, 60, 64, 64, 64, 64, 64, 62)
SCHUBERT_88M_F = (1382, 1550, 1672, 1956, 2052, 2030, 2210, 2314, 2474, 2556, 2668, 2938)
SCHUBERT_88M_A = (12, 12, 11, 12, 11, 12, 12, 12, 12, 12, 12, 12)
SCHUBERT_88M_V = (46, 48, 42, 52, 46, 54, 64, 62, 64, 64, 64, 40)


def test_schubert_totals() -> None:
    # "a = 12 in all but layer 5 (11)"
    net_99m = [
        LayerShape(11 if i == 5 else 12, 64, v, f)
        for i, (v, f) in enumerate(zip(SCHUBERT_99M_V, SCHUBERT_99M_F, strict=True), start=1)
    ]
    net_88m = [LayerShape(a, 64, v, f) for a, v, f in zip(SCHUBERT_88M_A, SCHUBERT_88M_V, SCHUBERT_88M_F, strict=True)]
    full = list(BERT_BASE.layers)
    shapes = {
        98.3: with_layers(net_99m),
        87.9: with_layers(net_88m, hidden_size=756),
        77.2: with_layers(full, hidden_size=544),
        43.1: with_layers(full, hidden_size=304),
        87.6: with_layers(full[:9]),
        45.1: with_layers(full[:3]),
    }
    assert {total: millions(cost_of(shape).params) for total, shape in shapes.items()} == {t: t for t in shapes}


def test_undivided_totals() -> None:
    # PAPERS 3.3: n of 12 feed-forward sub-blocks stay.
    totals = [52.8, 57.5, 62.2, 67.0, 71.7, 76.4, 81.1, 85.9, 90.6, 95.3, 100.0, 104.8, 109.5]
    found = [
        millions(cost_of(with_layers([LayerShape(12, 64, 64, 3072 * (i < n)) for i in range(12)]), POOLER).params)
        for n in range(13)
    ]
    assert found == totals
    whole = cost_of(BERT_BASE, POOLER)
    attention_only = cost_of(with_layers([LayerShape(12, 64, 64, 0)] * 12), POOLER)
    assert millions(whole.params_embeddings) == 23.8
    assert millions(attention_only.params_encoder) == 28.4
    assert millions(whole.params_encoder - attention_only.params_encoder) == 56.7
    assert millions(whole.params - whole.params_encoder - whole.params_embeddings) == 0.6


def test_depth_totals() -> None:
    # PAPERS 4.4: the first k layers, with pooler and embeddings.
    totals = [31.5, 38.6, 45.7, 52.8, 59.9, 67.0, 74.0, 81.1, 88.2, 95.3, 102.4, 109.5]
    layers = list(BERT_BASE.layers)
    assert [millions(cost_of(with_layers(layers[:k]), POOLER).params) for k in range(1, 13)] == totals


def style(family: str = "bert") -> EncoderStyle:
    return EncoderStyle(family=family)


@settings(max_examples=60)
@given(encoder_shapes, head_specs)
def test_params_are_the_built_models(shape: EncoderShape, head: HeadSpec) -> None:
    model, cost = TaskModel(shape, style(), head), cost_of(shape, head)
    assert cost.params == sum(p.numel() for p in model.parameters())
    assert cost.params_embeddings == sum(p.numel() for p in model.encoder.embeddings.parameters())
    assert cost.params_encoder == sum(p.numel() for p in model.encoder.layers.parameters())
    assert cost.bytes == 4 * cost.params


@settings(max_examples=60)
@given(encoder_shapes, head_specs)
def test_macs_are_half_of_the_flop_counters(shape: EncoderShape, head: HeadSpec) -> None:
    model = TaskModel(shape, style(), head).eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(torch.zeros(1, 7, dtype=torch.long))
    assert counter.get_total_flops() == 2 * cost_of(shape, head, sequence_length=7).macs


def test_json_has_the_documented_keys() -> None:
    cost = cost_of(BERT_BASE)
    assert cost.sequence_length == 128
    assert set(cost.to_json()) == {
        "params", "params_embeddings", "params_encoder", "macs", "bytes", "sequence_length",
    }  # fmt: skip


@pytest.mark.parametrize("length", [0, 12.5, True])
def test_a_sequence_must_have_tokens(length: int) -> None:
    with pytest.raises(ShapeError, match=f"sequence_length must be an integer of at least 1, got {length}"):
        cost_of(BERT_BASE, sequence_length=length)
