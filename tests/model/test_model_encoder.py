"""The encoder in training and out of it, whole and in part: one function, and no state."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cutbert.data.batches import Batch, collate
from cutbert.errors import ModelError
from cutbert.model.layout import blocks_of
from cutbert.model.prefix import accumulate_in_place
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import LayerShape
from cutbert.shape.subnet import KeptLayer, Subnet
from tiny_runs import HEAD, SHAPE, tiny_grid, tiny_model, tiny_tokens

NARROW = Subnet((KeptLayer(0, LayerShape(2, 4, 3, 9)), KeptLayer(2, LayerShape(3, 6, 6, 20))), hidden_size=17)
SUBNETS = [None, NARROW, *(point.subnet for point in tiny_grid())]


def padded_batch() -> Batch:
    batch = collate(tiny_tokens(), range(6), pad_token_id=0, use_token_types=False)
    assert batch.attention_mask is not None and not batch.attention_mask.all()
    return batch


def run(model: TaskModel, batch: Batch, subnet: Subnet | None) -> list[Tensor]:
    """Return hidden states at real tokens and the logits."""
    output = model(batch.input_ids, batch.attention_mask, subnet=subnet)
    assert batch.attention_mask is not None
    return [states[batch.attention_mask.bool()] for states in output.hidden_states] + [output.logits]


@pytest.mark.parametrize("subnet", SUBNETS)
def test_training_path_equals_inference_path(subnet: Subnet | None) -> None:
    model, batch = tiny_model(), padded_batch()
    with torch.no_grad():
        wanted = run(model, batch, subnet)
    plain = run(model, batch, subnet)
    accumulate_in_place(model)
    for got in (plain, run(model, batch, subnet)):
        assert got[-1].requires_grad
        for one, other in zip(got, wanted, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("subnet", SUBNETS)
def test_gradients_in_place_equal_autograd(subnet: Subnet | None) -> None:
    model, batch = tiny_model(), padded_batch()
    twin = copy.deepcopy(model)
    accumulate_in_place(model)
    for net in (model, twin):
        torch.stack([states.square().mean() for states in run(net, batch, subnet)]).sum().backward()
    for (name, weight), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        wanted = torch.zeros_like(other) if other.grad is None else other.grad
        torch.testing.assert_close(
            weight.grad, wanted, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_padding_changes_nothing() -> None:
    model, tokens = tiny_model(), tiny_tokens()
    batch = padded_batch()
    logits = model(batch.input_ids, batch.attention_mask).logits
    for row in range(6):
        alone = collate(tokens, [row], pad_token_id=0, use_token_types=False)
        torch.testing.assert_close(model(alone.input_ids).logits[0], logits[row], atol=1e-5, rtol=1e-5)


def test_skipped_sub_layers_do_nothing() -> None:
    model, batch = tiny_model(), padded_batch()
    whole = SHAPE.layers[0]
    no_attention, no_feed_forward = replace(whole, num_heads=0), replace(whole, intermediate_size=0)
    empty = LayerShape(0, 0, 0, 0)
    subnet = Subnet((KeptLayer(0, no_attention), KeptLayer(1, no_feed_forward), KeptLayer(2, empty)), 24)
    states = model(batch.input_ids, batch.attention_mask, subnet=subnet).hidden_states
    layers = model.encoder.layers
    written = layers[0].feed_forward(states[0], intermediate_size=32)
    torch.testing.assert_close(states[1], layers[0].feed_forward.add(states[0], written))
    blocks = blocks_of(batch.input_ids, batch.attention_mask, None)
    layout = model.encoder.layout(batch.attention_mask, blocks, states[0])
    written = layers[1].attention(states[1], layout, num_heads=4, key_dim=6, value_dim=6)
    torch.testing.assert_close(states[2], layers[1].attention.add(states[1], written))
    assert torch.equal(states[3], states[2])


def test_absent_sub_layers_have_no_parameters() -> None:
    shape = replace(SHAPE, layers=(LayerShape(4, 6, 6, 0), LayerShape(0, 0, 0, 13)))
    model = TaskModel(shape, EncoderStyle(family="bert"), HEAD)
    first, second = model.encoder.layers
    assert first.feed_forward is None and second.attention is None
    assert model(torch.ones(1, 3, dtype=torch.long)).logits.shape == (1, 2)


def test_a_subnet_leaves_no_state() -> None:
    model, batch = tiny_model(), padded_batch()
    with torch.no_grad():
        before = run(model, batch, None)
        facts = {name: dict(vars(module)) for name, module in model.named_modules()}
        run(model, batch, NARROW)
        after = run(model, batch, None)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    for name, module in model.named_modules():
        now = {key: value for key, value in vars(module).items() if not key.startswith("_")}
        assert now == {key: value for key, value in facts[name].items() if not key.startswith("_")}


def test_dropout_is_for_training_only() -> None:
    model, batch = tiny_model(), padded_batch()
    assert torch.equal(run(model, batch, None)[-1], run(model, batch, None)[-1])
    model.train()
    assert not torch.equal(run(model, batch, None)[-1], run(model, batch, None)[-1])


def test_an_unknown_family_or_style_is_refused() -> None:
    with pytest.raises(ModelError, match=r"family must be one of bert, roberta, .* got 'gpt2'"):
        EncoderStyle(family="gpt2")
    with pytest.raises(ModelError, match=r"style must have the keys .* got \['family'\]"):
        EncoderStyle.from_json({"family": "bert"})
