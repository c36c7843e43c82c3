"""Batches: every row once, hardly any padding, tensors equal to a plain collator's."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from cutbert.data.batches import (
    NUM_GROUPS,
    ROUND_TO,
    Batch,
    collate,
    collate_blocks,
    group_size,
    plan_batches,
    plan_blocks,
    plan_eval_batches,
)
from cutbert.data.dataset import load_dataset
from cutbert.data.rows import Rows
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import Tokens, tokenize_rows
from cutbert.errors import DataError
from cutbert.shape.blocks import Block
from cutbert.shape.head import IGNORED


def random_lengths(count: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).geometric(0.08, count) + 2


def padding_share(lengths: NDArray[np.int64], plan: list[NDArray[np.int64]]) -> float:
    positions = sum(len(rows) * int(lengths[rows].max()) for rows in plan)
    return 1 - int(lengths.sum()) / positions


@pytest.mark.parametrize(
    ("count", "batch_size"), [(1, 4), (4, 4), (5, 4), (9, 1), (50, 3), (50, 6), (1000, 32), (31, 100)]
)
def test_every_row_comes_once(count: int, batch_size: int) -> None:
    plan = plan_batches(random_lengths(count), batch_size, seed=0, epoch=0)
    assert len(plan) == -(-count // batch_size)
    assert sorted(np.concatenate(plan)) == list(range(count))
    assert all(1 <= len(rows) <= batch_size for rows in plan)
    assert sum(len(rows) < batch_size for rows in plan) <= NUM_GROUPS


def test_nothing_gives_no_batches() -> None:
    assert plan_batches([], 4, seed=0, epoch=0) == []
    assert plan_eval_batches([], 4) == []


def test_plans_depend_on_seed_and_epoch_only() -> None:
    lengths = random_lengths(1000)
    plans = [plan_batches(lengths, 32, seed, epoch) for seed, epoch in [(0, 0), (0, 0), (0, 1), (1, 0)]]
    flat = [np.concatenate(plan).tolist() for plan in plans]
    assert flat[0] == flat[1]
    assert flat[0] != flat[2] != flat[3] != flat[0]


@pytest.mark.parametrize(
    ("batch_size", "size"), [(1, 1), (2, 1), (7, 1), (8, 2), (9, 1), (12, 3), (14, 2), (15, 3), (32, 8), (64, 16)]
)
def test_groups_are_a_quarter_of_a_batch_or_the_next_size_that_divides_it(batch_size: int, size: int) -> None:
    assert group_size(batch_size) == size


@pytest.mark.parametrize("batch_size", [8, 15, 32])
def test_a_batch_is_groups_of_like_length(batch_size: int) -> None:
    lengths = random_lengths(40 * batch_size)
    plan = plan_batches(lengths, batch_size, seed=0, epoch=0)
    groups = [group for rows in plan for group in np.split(lengths[rows], batch_size // group_size(batch_size))]
    groups.sort(key=lambda group: (group.min(), group.max()))
    assert all(shorter.max() <= longer.min() for shorter, longer in pairwise(groups))


def test_batches_have_nearly_as_many_tokens_each_and_come_in_random_order() -> None:
    lengths = random_lengths(32 * 100)
    plan = plan_batches(lengths, 32, seed=0, epoch=0)
    tokens = np.array([lengths[rows].sum() for rows in plan])
    assert tokens.std() < 0.1 * tokens.mean()
    longest = [int(lengths[rows].max()) for rows in plan]
    assert abs(np.corrcoef(longest, range(len(plan)))[0, 1]) < 0.3


def test_rows_of_one_length_meet_others_each_epoch() -> None:
    lengths = np.repeat([10, 20, 30], 400)
    first, second = (plan_batches(lengths, 8, seed=0, epoch=epoch) for epoch in (0, 1))
    pairs = [{frozenset(pair.tolist()) for rows in plan for pair in np.split(rows, 4)} for plan in (first, second)]
    assert len(pairs[0]) == len(pairs[1]) == 600
    assert len(pairs[0] & pairs[1]) < 10


def split_plainly(lengths: list[int]) -> list[int]:
    """Return the rows of each block: a row joins the last block if no more than 1/32 of it becomes padding."""
    blocks: list[list[int]] = []
    for length in lengths:
        joined = [*blocks[-1], length] if blocks else []
        size = len(joined) * max(joined, default=0)
        if joined and 32 * (size - sum(joined)) <= size:
            blocks[-1] = joined
        else:
            blocks.append([length])
    return [len(block) for block in blocks]


@pytest.mark.parametrize(
    ("lengths", "sizes"),
    [
        ([], []),
        ([7], [1]),
        ([5, 5, 5], [3]),
        ([32, 30], [2]),
        ([32, 29], [1, 1]),
        ([30, 32], [2]),
        ([4, 3, 4], [1, 1, 1]),
        ([40, 40, 40, 37, 41], [4, 1]),
    ],
)
def test_neighbours_share_a_block_while_little_is_padding(lengths: list[int], sizes: list[int]) -> None:
    assert plan_blocks(lengths) == split_plainly(lengths) == sizes


@pytest.mark.parametrize("seed", range(5))
def test_blocks_of_random_batches(seed: int) -> None:
    lengths = random_lengths(64, seed) + 20
    assert plan_blocks(lengths) == split_plainly(lengths.tolist())
    assert plan_blocks(np.sort(lengths)) == split_plainly(sorted(lengths.tolist()))
    assert len(plan_blocks(np.sort(lengths))) < len(plan_blocks(lengths))


def test_eval_batches_hold_every_row_once_within_the_limit() -> None:
    lengths = random_lengths(1000)
    plan = plan_eval_batches(lengths, 64)
    assert sorted(np.concatenate(plan)) == list(range(1000))
    assert all(len(rows) == 1 or len(rows) * lengths[rows].max() <= 64 for rows in plan)
    assert any(lengths[rows].max() > 64 for rows in plan)
    longest = [int(lengths[rows].max()) for rows in plan]
    assert longest == sorted(longest, reverse=True)


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(DataError, match="batch_size must be at least 1, got 0"):
        plan_batches([1], 0, seed=0, epoch=0)
    with pytest.raises(DataError, match="max_tokens must be at least 1, got 0"):
        plan_eval_batches([1], 0)


TEXTS = ["the film", "it is not very good .", "dull", "a warm film ! !"]
PAIRS = ["it is good", "the plot", "of the film , very dull", "bad"]


def collate_plainly(tokenizer: PreTrainedTokenizerFast, rows: list[int], pairs: bool) -> dict[str, torch.Tensor]:
    return dict(
        tokenizer(
            [TEXTS[i] for i in rows],
            [PAIRS[i] for i in rows] if pairs else None,
            padding=True,
            return_token_type_ids=True,
            return_tensors="pt",
        )
    )


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 1], [2]])
def test_collate_equals_a_plain_collator(tokenizer: PreTrainedTokenizerFast, rows: list[int], pairs: bool) -> None:
    labels = np.array([0.5, 1.5, 2.5, 3.5], dtype=np.float32)
    tokens = tokenize_rows(Rows(TEXTS, PAIRS if pairs else None, labels), tokenizer, "tiny", 128)
    pad = tokenizer.pad_token_id
    batch = collate(tokens, rows, pad_token_id=pad, use_token_types=True)
    expected = collate_plainly(tokenizer, rows, pairs)
    assert torch.equal(batch.input_ids, expected["input_ids"])
    mask = torch.ones_like(batch.input_ids) if batch.attention_mask is None else batch.attention_mask
    assert torch.equal(mask, expected["attention_mask"])
    assert (batch.attention_mask is None) == bool(expected["attention_mask"].all())
    if pairs:
        assert batch.token_type_ids is not None
        assert torch.equal(batch.token_type_ids, expected["token_type_ids"])
    else:
        assert batch.token_type_ids is None
    assert batch.labels is not None and batch.labels.dtype == torch.float32
    assert batch.labels.tolist() == [labels[i] for i in rows]
    assert batch.num_tokens == int(expected["attention_mask"].sum())
    assert batch.num_rows == len(rows) and batch.blocks is None
    assert collate(tokens, rows, pad_token_id=pad, use_token_types=False).token_type_ids is None


def test_pad_to_fills_up(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = tokenize_rows(Rows(TEXTS, PAIRS), tokenizer, "tiny", 128)
    short = collate(tokens, [2], pad_token_id=9, use_token_types=True)
    batch = collate(tokens, [2], pad_token_id=9, use_token_types=True, pad_to=20)
    length = short.input_ids.shape[1]
    assert batch.input_ids.shape == (1, 20)
    assert batch.input_ids[0, length:].tolist() == [9] * (20 - length)
    assert torch.equal(batch.input_ids[:, :length], short.input_ids)
    assert batch.attention_mask is not None and batch.attention_mask.sum() == length == batch.num_tokens
    assert batch.token_type_ids is not None and batch.token_type_ids[0, length:].sum() == 0
    exact = collate(tokens, [2], pad_token_id=9, use_token_types=True, pad_to=length)
    assert exact.attention_mask is None
    with pytest.raises(DataError, match=f"pad_to must be at least the longest row's {length} tokens, got 4"):
        collate(tokens, [2], pad_token_id=9, use_token_types=True, pad_to=4)


def test_a_batch_without_rows_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = tokenize_rows(Rows(TEXTS), tokenizer, "tiny", 128)
    with pytest.raises(DataError, match="a batch must have at least one row"):
        collate(tokens, np.array([], dtype=np.int64), pad_token_id=0, use_token_types=False)


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [(np.array([1, 0]), torch.int64), (np.array([[1, 0], [1, 1]], dtype=np.float32), torch.float32)],
)
def test_labels_keep_their_kind(labels: NDArray[np.generic], dtype: torch.dtype) -> None:
    tokens = Tokens(np.array([1, 2, 3], dtype=np.int32), np.array([0, 1, 3]), labels=labels)
    batch = collate(tokens, [1, 0], pad_token_id=0, use_token_types=False)
    assert batch.labels is not None and batch.labels.dtype == dtype
    assert batch.labels.tolist() == labels[[1, 0]].tolist()


def random_tokens(lengths: NDArray[np.int64], labels: NDArray[np.generic] | None = None, pairs: bool = True) -> Tokens:
    draw = np.random.default_rng(1)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = draw.integers(5, 90, offsets[-1]).astype(np.int32)
    return Tokens(ids, offsets, (draw.integers(0, lengths + 1)).astype(np.int32) if pairs else None, labels)


def rows_of(batch: Batch) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Return ids, mask and types of each text of a batch in blocks, padding too, and last of what belongs to none."""
    assert batch.blocks is not None and batch.attention_mask is not None and batch.token_type_ids is not None
    found, start = [], 0
    for rows, length, _ in batch.blocks:
        for _ in range(rows):
            place, start = slice(start, start + length), start + length
            found.append((batch.input_ids[place], batch.attention_mask[place], batch.token_type_ids[place]))
    return [*found, (batch.input_ids[start:], batch.attention_mask[start:], batch.token_type_ids[start:])]


@pytest.mark.parametrize("seed", range(4))
def test_blocks_hold_each_text_in_order(seed: int) -> None:
    lengths = np.sort(random_lengths(60, seed)) + 20
    tokens = random_tokens(lengths, labels=np.arange(60))
    rows = np.concatenate(plan_batches(lengths, 24, seed, 0))[:24]
    batch = collate_blocks(tokens, rows, pad_token_id=3, use_token_types=True)
    *texts, tail = rows_of(batch)
    assert len(texts) == batch.num_rows == 24
    assert batch.num_tokens == int(lengths[rows].sum()) == int(batch.attention_mask.sum())
    assert batch.labels is not None and batch.labels.tolist() == rows.tolist()
    for row, (ids, mask, types) in zip(rows, texts, strict=True):
        size, pair_start = int(lengths[row]), int(tokens.pair_starts[row])
        rest = len(ids) - size
        assert ids.tolist() == tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]].tolist() + [3] * rest
        assert mask.tolist() == [1] * size + [0] * rest
        assert types.tolist() == [0] * pair_start + [1] * (size - pair_start) + [0] * rest
    assert batch.input_ids.shape == batch.attention_mask.shape == batch.token_type_ids.shape
    assert len(batch.input_ids) % ROUND_TO == 0 and len(tail[0]) < ROUND_TO
    assert set(tail[0].tolist()) <= {3} and not tail[1].any() and not tail[2].any()
    padded = [bool((mask == 0).any()) for _, mask, _ in texts]
    stops = np.cumsum([block.rows for block in batch.blocks])[:-1]
    assert [block.is_padded for block in batch.blocks] == [bool(part.any()) for part in np.split(padded, stops)]
    assert any(padded) and len(batch.blocks) < 24


@pytest.mark.parametrize(
    ("lengths", "tail"), [([16, 16], 0), ([16, 17], 14), ([31], 1), ([33], 15), ([1], 15), ([64, 62, 2], 14)]
)
def test_a_batch_is_filled_up_to_a_round_number_of_positions(lengths: list[int], tail: int) -> None:
    rows = range(len(lengths))
    batch = collate_blocks(random_tokens(np.array(lengths)), rows, pad_token_id=0, use_token_types=False)
    assert batch.blocks is not None and batch.token_type_ids is None
    assert len(batch.input_ids) - sum(block.size for block in batch.blocks) == tail
    assert (batch.attention_mask is None) == (lengths == [16, 16])


def test_a_mask_is_there_as_soon_as_one_block_has_padding() -> None:
    batch = collate_blocks(random_tokens(np.array([64, 62, 32])), range(3), pad_token_id=0, use_token_types=False)
    assert batch.blocks == ((2, 64, True), (1, 32, False)) and len(batch.input_ids) == 160
    assert batch.attention_mask is not None
    assert batch.attention_mask.nonzero().flatten().tolist() == [*range(126), *range(128, 160)]


@pytest.mark.parametrize(
    "labels",
    [None, np.array([0.5, 1.5, 2.5], dtype=np.float32), np.array([[1, 0], [1, 1], [0, 0]], dtype=np.float32)],
)
def test_labels_of_blocks_are_joined(labels: NDArray[np.generic] | None) -> None:
    tokens = random_tokens(np.array([4, 9, 9]), labels, pairs=False)
    batch = collate_blocks(tokens, [2, 0, 1], pad_token_id=0, use_token_types=True)
    assert batch.blocks is not None and len(batch.blocks) == 3 and batch.token_type_ids is None
    if labels is None:
        assert batch.labels is None
    else:
        assert batch.labels is not None and batch.labels.dtype == torch.float32
        assert batch.labels.tolist() == labels[[2, 0, 1]].tolist()


def test_blocks_without_rows_are_refused() -> None:
    with pytest.raises(DataError, match="a batch must have at least one row"):
        collate_blocks(
            random_tokens(np.array([4])), np.array([], dtype=np.int64), pad_token_id=0, use_token_types=False
        )


def shares_of_padding(tokens: Tokens, batch_size: int) -> tuple[float, float]:
    """Return which share of an epoch's positions is padding, and which of those in blocks."""
    positions = in_blocks = 0
    for rows in plan_batches(tokens.lengths, batch_size, seed=0, epoch=0):
        batch = collate_blocks(tokens, rows, pad_token_id=0, use_token_types=False)
        assert batch.blocks is not None
        positions += len(batch.input_ids)
        in_blocks += sum(block.size for block in batch.blocks)
    total = int(tokens.lengths.sum())
    return 1 - total / positions, 1 - total / in_blocks


@pytest.mark.parametrize("batch_size", [32, 64])
def test_little_of_a_batch_is_padding(batch_size: int) -> None:
    whole, blocks = shares_of_padding(random_tokens(random_lengths(2000), pairs=False), batch_size)
    assert 0 < blocks < 0.02
    assert blocks < whole < 0.05


def test_a_batch_moves_whole() -> None:
    ones = torch.ones(2, 3, dtype=torch.int64)
    moved = Batch(ones, ones, None, ones[:, 0], 2, 6, (Block(2, 3, True),)).to("meta")
    assert moved.attention_mask is not None and moved.labels is not None
    assert {moved.input_ids.device.type, moved.attention_mask.device.type, moved.labels.device.type} == {"meta"}
    assert (moved.token_type_ids, moved.num_rows, moved.num_tokens) == (None, 2, 6)
    assert moved.blocks == ((2, 3, True),)


@pytest.mark.real_data
@pytest.mark.real_weights
def test_padding_on_real_sst2_is_below_four_percent(real_data: Path, real_weights: Path) -> None:
    from transformers import AutoTokenizer

    data = load_dataset(DataSettings(task="sst2", data_dir=str(real_data)))
    tokens = tokenize_rows(data.train, AutoTokenizer.from_pretrained(real_weights), "minilm", 128)
    whole, blocks = shares_of_padding(tokens, 32)
    assert blocks < 0.005 and whole < 0.04
    assert padding_share(tokens.lengths, plan_eval_batches(tokens.lengths, 4096)) < 0.02


def labelled_tokens() -> Tokens:
    """Rows of 3, 5, 5, 2 tokens whose labels equal their ids, or are ignored where the id is even."""
    ids = np.arange(1, 16, dtype=np.int32)
    labels = np.where(ids % 2 == 1, ids, IGNORED).astype(np.int64)
    return Tokens(ids, np.array([0, 3, 8, 13, 15]), token_labels=labels)


@pytest.mark.parametrize("pad_to", [None, 8])
def test_labels_per_token_are_padded_with_ignored_ones(pad_to: int | None) -> None:
    batch = collate(labelled_tokens(), [3, 1], pad_token_id=0, use_token_types=False, pad_to=pad_to)
    ids, labels = batch.input_ids, batch.labels
    assert labels is not None and labels.shape == ids.shape == (2, pad_to or 5) and labels.dtype == torch.int64
    assert torch.equal(labels, torch.where(ids % 2 == 1, ids, IGNORED))
    assert batch.num_labels == batch.num_labelled == 3 and batch.to("cpu").num_labelled == 3


def test_labels_per_token_lie_in_blocks_as_the_tokens_do() -> None:
    tokens = labelled_tokens()
    batch = collate_blocks(tokens, [1, 2, 0, 3], pad_token_id=0, use_token_types=False)
    assert batch.labels is not None and batch.labels.shape == batch.input_ids.shape == (16,)
    assert torch.equal(batch.labels, torch.where(batch.input_ids % 2 == 1, batch.input_ids, IGNORED))
    assert batch.num_labels == 8 and tokens.label_counts.tolist() == [2, 2, 3, 1]


def test_other_labels_count_once_a_row() -> None:
    tokens = Tokens(np.arange(4, dtype=np.int32), np.array([0, 2, 4]), labels=np.array([[0, 1], [1, 1]]))
    batch = collate_blocks(tokens, [1, 0], pad_token_id=0, use_token_types=False)
    assert batch.labels is not None and batch.labels.tolist() == [[1, 1], [0, 1]]
    assert batch.num_labels == 2 and batch.num_labelled is None and tokens.label_counts.tolist() == [1, 1]
