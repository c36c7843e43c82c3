"""A head of whole texts that reads the mean over tokens: beside a plain loop, in subnets, permuted, cut, in bf16."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cutbert.errors import ModelError
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import LayerShape
from cutbert.shape.subnet import KeptLayer, Subnet
from cutbert.shape.units import Place
from cutbert.surgery.extract import extract
from cutbert.surgery.rewire import permuted
from tiny_models import CLASSES, HEADS, assert_same, random_batch, random_model, run

NARROW = Subnet((KeptLayer(0, LayerShape(2, 3, 6, 9)), KeptLayer(3, LayerShape(1, 4, 2, 9))), 16)


def mean_model(head: HeadSpec = CLASSES) -> TaskModel:
    """Return a random model whose head, if it is of whole texts, reads the mean."""
    plain = random_model(head)
    model = TaskModel(plain.shape, replace(plain.style, pooling="mean"), head)
    model.load_state_dict(plain.state_dict())
    return model.eval()


@pytest.mark.parametrize("head", [each for each in HEADS if each.is_sequence], ids=lambda head: head.kind)
@pytest.mark.parametrize("subnet", [None, NARROW], ids=["whole", "narrow"])
def test_mean_beside_a_plain_loop(head: HeadSpec, subnet: Subnet | None) -> None:
    model, batch = mean_model(head), random_batch()
    with torch.no_grad():
        output = model(batch.input_ids, batch.attention_mask, batch.token_type_ids, subnet=subnet)
        last, H = output.hidden_states[-1], output.hidden_states[-1].shape[-1]
        for row, mask in enumerate(batch.attention_mask):
            total, count = torch.zeros(H, dtype=torch.float64), 0
            for position, is_token in enumerate(mask.tolist()):
                if is_token:
                    total, count = total + last[row, position].double(), count + 1
            dense, out = model.head.dense, model.head.out
            pooled = torch.tanh(dense.weight[:H, :H].double() @ (total / count) + dense.bias[:H].double())
            logits = out.weight[:, :H].double() @ pooled + out.bias.double()
            torch.testing.assert_close(output.logits[row].double(), logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.kind)
def test_other_heads_do_not_ask(head: HeadSpec) -> None:
    batch = random_batch()
    mean, first = run(mean_model(head), batch), run(random_model(head), batch)
    if head.is_sequence:
        assert (mean[-1] - first[-1]).abs().max() > 1e-3
    else:
        assert_same(mean, first, atol=0.0)


def test_a_text_without_padding_needs_no_mask() -> None:
    model, batch = mean_model(), random_batch(rows=1)
    assert batch.attention_mask.all()
    masked = model(batch.input_ids, batch.attention_mask, batch.token_type_ids).logits
    torch.testing.assert_close(model(batch.input_ids, None, batch.token_type_ids).logits, masked)


def test_extracted_answers_as_in_place() -> None:
    model, batch = mean_model(), random_batch()
    assert_same(run(extract(model, NARROW), batch), run(model, batch, subnet=NARROW))


def test_permuted_hidden_units_change_nothing() -> None:
    model, batch = mean_model(), random_batch()
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    moved = permuted(model, {Place("h"): order})
    assert_same(run(moved, batch)[-1:], run(model, batch)[-1:])


def test_bf16_sums_in_float32() -> None:
    """A sum of 512 bf16 numbers near 1, kept in bf16, would stop growing at 256."""
    model = mean_model()
    states = torch.full((1, 512, 24), 1.0).bfloat16()
    states[0, 511] = 1000.0
    mask = torch.ones(1, 512, dtype=torch.long)
    mask[0, 511] = 0
    model.head.bfloat16()
    pooled = model.apply_head((states,), mask).pooled
    torch.testing.assert_close(pooled, model.head.pool(torch.ones(1, 24).bfloat16()))


def test_pooling_that_is_refused() -> None:
    with pytest.raises(ModelError, match="pooling must be one of cls, mean, got 'max'"):
        EncoderStyle(family="bert", pooling="max")
