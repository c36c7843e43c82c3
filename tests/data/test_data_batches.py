"""Batches: every row once, hardly any padding, tensors equal to a plain collator's."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from cutbert.data.batches import Batch, collate, plan_batches, plan_eval_batches
from cutbert.data.dataset import load_dataset
from cutbert.data.rows import Rows
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import Tokens, tokenize_rows
from cutbert.errors import DataError


def random_lengths(count: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).geometric(0.08, count) + 2


def padding_share(lengths: NDArray[np.int64], plan: list[NDArray[np.int64]]) -> float:
    positions = sum(len(rows) * int(lengths[rows].max()) for rows in plan)
    return 1 - int(lengths.sum()) / positions


@pytest.mark.parametrize(("count", "batch_size"), [(1, 4), (4, 4), (5, 4), (1000, 32), (31, 100)])
def test_every_row_comes_once(count: int, batch_size: int) -> None:
    plan = plan_batches(random_lengths(count), batch_size, seed=0, epoch=0)
    assert len(plan) == -(-count // batch_size)
    assert sorted(np.concatenate(plan)) == list(range(count))
    assert sorted(len(rows) for rows in plan)[1:] == [batch_size] * (len(plan) - 1)


def test_nothing_gives_no_batches() -> None:
    assert plan_batches([], 4, seed=0, epoch=0) == []
    assert plan_eval_batches([], 4) == []


def test_plans_depend_on_seed_and_epoch_only() -> None:
    lengths = random_lengths(1000)
    plans = [plan_batches(lengths, 32, seed, epoch) for seed, epoch in [(0, 0), (0, 0), (0, 1), (1, 0)]]
    flat = [np.concatenate(plan).tolist() for plan in plans]
    assert flat[0] == flat[1]
    assert flat[0] != flat[2] != flat[3] != flat[0]


def test_batches_hold_one_length_but_where_two_meet() -> None:
    lengths = random_lengths(5000)
    plan = plan_batches(lengths, 16, seed=0, epoch=0)
    mixed = sum(len(set(lengths[rows])) > 1 for rows in plan)
    assert mixed < len(set(lengths))
    assert padding_share(lengths, plan) < 0.02


def test_rows_of_one_length_meet_others_each_epoch_and_batches_come_in_random_order() -> None:
    lengths = np.repeat([10, 20, 30], 400)
    first, second = (plan_batches(lengths, 8, seed=0, epoch=epoch) for epoch in (0, 1))
    assert not {frozenset(rows.tolist()) for rows in first} & {frozenset(rows.tolist()) for rows in second}
    order = [int(lengths[rows[0]]) for rows in first]
    assert sum(a != b for a, b in pairwise(order)) > len(order) // 3


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


def test_a_batch_moves_whole() -> None:
    ones = torch.ones(2, 3, dtype=torch.int64)
    moved = Batch(ones, ones, None, ones[:, 0], 6).to("meta")
    assert moved.attention_mask is not None and moved.labels is not None
    assert {moved.input_ids.device.type, moved.attention_mask.device.type, moved.labels.device.type} == {"meta"}
    assert (moved.token_type_ids, moved.num_tokens) == (None, 6)


@pytest.mark.real_data
@pytest.mark.real_weights
def test_padding_on_real_sst2_is_below_half_a_percent(real_data: Path, real_weights: Path) -> None:
    from transformers import AutoTokenizer

    data = load_dataset(DataSettings(task="sst2", data_dir=str(real_data)))
    tokens = tokenize_rows(data.train, AutoTokenizer.from_pretrained(real_weights), "minilm", 128)
    for batch_size in (32, 64):
        assert padding_share(tokens.lengths, plan_batches(tokens.lengths, batch_size, seed=0, epoch=0)) < 0.005
    assert padding_share(tokens.lengths, plan_eval_batches(tokens.lengths, 4096)) < 0.02
