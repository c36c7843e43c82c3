"""Batches in blocks give what batches of one block give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cutbert.data.batches import Batch, collate, collate_blocks
from cutbert.data.tokens import Tokens
from cutbert.model.layout import blocks_of, first_positions, padding_biases, positions_in_text
from cutbert.model.prefix import accumulate_in_place
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.blocks import Block, num_positions, placed
from cutbert.shape.head import HeadSpec
from cutbert.shape.pooling import Pooling
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.space import grid_point
from cutbert.shape.subnet import Subnet
from tiny_families import OTHERS, family_model
from tiny_models import random_batch, random_model

LENGTHS = (5, 5, 3, 3, 3, 16, 15, 4)
HEADS = {
    "text": HeadSpec(kind="single_label", labels=("a", "b", "c")),
    "token": HeadSpec(kind="token", labels=("a", "b", "c")),
}


def make_model(head: str, position_offset: int, pooling: Pooling = "cls") -> TaskModel:
    torch.manual_seed(0)
    layer = LayerShape(num_heads=4, key_dim=8, value_dim=8, intermediate_size=64)
    shape = EncoderShape(vocab_size=50, num_positions=40, num_token_types=2, hidden_size=32, layers=(layer,) * 3)
    style = EncoderStyle(family="bert", pooling=pooling, position_offset=position_offset, initializer_range=0.3)
    return TaskModel(shape, style, HEADS[head]).eval()


def make_tokens() -> Tokens:
    random = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int64)
    pair_starts = np.array([length // 2 for length in LENGTHS], dtype=np.int32)
    return Tokens(random.integers(2, 50, offsets[-1]).astype(np.int32), offsets, pair_starts, np.arange(len(LENGTHS)))


def both(rows: list[int]) -> tuple[Batch, Batch]:
    tokens = make_tokens()
    settings = {"pad_token_id": 1, "use_token_types": True}
    return collate(tokens, rows, **settings), collate_blocks(tokens, rows, **settings)


def test_rows_of_like_length_share_a_block() -> None:
    _, packed = both(list(range(8)))
    assert packed.blocks == ((2, 5, False), (3, 3, False), (2, 16, True), (1, 4, False))
    assert packed.input_ids.shape == (64,)
    assert packed.num_rows == 8 and packed.num_tokens == sum(LENGTHS)
    assert packed.attention_mask is not None and int(packed.attention_mask.sum()) == sum(LENGTHS)
    assert packed.labels is not None and packed.labels.tolist() == list(range(8))


def test_one_length_is_one_block() -> None:
    _, packed = both([2, 3, 4])
    assert packed.blocks == ((3, 3, False),) and packed.input_ids.shape == (16,)
    assert packed.attention_mask is not None and packed.attention_mask.tolist() == [1] * 9 + [0] * 7


@pytest.mark.parametrize("position_offset", [0, 2])
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_blocks_change_nothing(position_offset: int, in_place: bool, pooling: Pooling) -> None:
    model = make_model("text", position_offset, pooling)
    if in_place:
        accumulate_in_place(model)
    padded, packed = both(list(range(8)))
    for subnet in (None, grid_point(model.shape, 0.5, 0.5, 2 / 3, "paper").subnet):
        results = []
        for batch in (padded, packed):
            model.zero_grad(set_to_none=not in_place)
            output = model(
                batch.input_ids, batch.attention_mask, batch.token_type_ids, subnet=subnet, blocks=batch.blocks
            )
            output.logits.square().sum().backward()
            assert batch.attention_mask is not None
            states = [state[batch.attention_mask.bool()] for state in output.hidden_states]
            gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
            results.append([output.logits, *states, *gradients])
        assert len(results[0]) == len(results[1]) > 20
        for wanted, got in zip(*results, strict=True):
            most = max(1.0, float(wanted.abs().max()))  # gradients are up to 11
            torch.testing.assert_close(got, wanted, atol=3e-5 * most, rtol=1e-4)
        assert max(float(gradient.abs().max()) for gradient in results[0][-10:]) > 1e-3


def test_token_heads_answer_every_position() -> None:
    model = make_model("token", 0)
    padded, packed = both(list(range(8)))
    wanted = model(padded.input_ids, padded.attention_mask, padded.token_type_ids).logits
    got = model(packed.input_ids, packed.attention_mask, packed.token_type_ids, blocks=packed.blocks).logits
    assert padded.attention_mask is not None and packed.attention_mask is not None
    torch.testing.assert_close(
        got[packed.attention_mask.bool()], wanted[padded.attention_mask.bool()], atol=1e-5, rtol=1e-5
    )


BLOCKS = (Block(2, 3, True), Block(1, 4, False), Block(3, 1, True))
MASK = torch.tensor([1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0])


def test_one_block_stands_for_rows_and_positions() -> None:
    ids = torch.zeros(3, 5, dtype=torch.long)
    assert blocks_of(ids, None, None) == ((3, 5, False),)
    assert blocks_of(ids, torch.ones_like(ids), None) == ((3, 5, True),)
    assert blocks_of(ids.flatten(), None, BLOCKS) is BLOCKS


def test_blocks_lie_end_to_end() -> None:
    assert [block.size for block in BLOCKS] == [6, 4, 3]
    assert [start for _, start in placed(BLOCKS)] == [0, 6, 10]
    assert num_positions(BLOCKS) == 13
    assert list(placed(())) == []


def test_places_count_from_the_start_of_each_text() -> None:
    ids = torch.full((15,), 7)
    assert positions_in_text(ids, BLOCKS).tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 3, 0, 0, 0, 0, 0]
    assert positions_in_text(ids.view(3, 5), None).tolist() == [0, 1, 2, 3, 4]


def test_first_positions_are_of_every_text_and_of_no_other() -> None:
    states = torch.arange(30.0).view(15, 2)
    assert torch.equal(first_positions(states, BLOCKS), states[[0, 3, 6, 10, 11, 12]])
    rows = states.view(3, 5, 2)
    assert torch.equal(first_positions(rows, None), rows[:, 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_biases_shut_padding_out_of_padded_blocks(dtype: torch.dtype) -> None:
    first, second, third = padding_biases(MASK, BLOCKS, dtype)
    lowest = torch.finfo(dtype).min
    assert first is not None and first.shape == (2, 1, 1, 3) and first.dtype == dtype
    assert first.flatten().tolist() == [0, 0, 0, 0, 0, lowest]
    assert second is None
    assert third is not None and third.shape == (3, 1, 1, 1) and not third.any()
    assert padding_biases(None, BLOCKS, dtype) == [None] * 3
    (whole,) = padding_biases(MASK.view(3, 5), (Block(3, 5, True),), dtype)
    assert whole is not None and torch.equal(whole[:, 0, 0] == lowest, MASK.view(3, 5) == 0)


@pytest.mark.parametrize("family", ["bert", *OTHERS])
@pytest.mark.parametrize("num_layers", [0, 1, 2, 3, 4])
def test_states_that_no_head_reads_change_nothing(family: str, num_layers: int) -> None:
    model = (random_model() if family == "bert" else family_model(family)).double()
    full, batch = Subnet.full(model.shape), random_batch()
    subnet = replace(full, layers=full.layers[:num_layers])
    places = model.read_at(batch.input_ids, None)
    results = []
    for last_at in (None, places):
        model.zero_grad()
        types = batch.token_type_ids if model.shape.num_token_types else None
        states = model.encoder(batch.input_ids, batch.attention_mask, types, subnet=subnet, last_at=last_at)
        output = model.apply_head(states, batch.attention_mask, is_read=last_at is not None)
        assert output.logits is not None and states[-1].shape[:-1] == ((5, 9) if last_at is None else (5,))
        output.logits.square().sum().backward()
        gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
        results.append((output.logits, output.pooled, gradients))
    torch.testing.assert_close(*results)


def test_places_that_a_head_reads() -> None:
    padded, packed = both(list(range(8)))
    text = make_model("text", 0)
    assert text.read_at(padded.input_ids, None).tolist() == list(range(0, 8 * 16, 16))
    assert text.read_at(packed.input_ids, packed.blocks).tolist() == [0, 5, 10, 13, 16, 19, 35, 51]
    assert make_model("text", 0, "mean").read_at(padded.input_ids, None) is None
    assert make_model("token", 0).read_at(padded.input_ids, None) is None
