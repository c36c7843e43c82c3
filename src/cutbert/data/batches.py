"""Length-bucketed batches: rows of similar length to groups, groups to batches, batches to tensors.

Axes: B rows of a batch or block, S positions, T positions of all blocks.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from cutbert.data.tokens import Tokens
from cutbert.errors import DataError
from cutbert.shape.blocks import Block, Blocks
from cutbert.shape.head import IGNORED

MAX_TOKENS = 4096  # positions of a forward pass without gradients
NUM_GROUPS = 4  # groups of similar length in a batch
MAX_PADDING = 1 / 32  # share of a block's positions
ROUND_TO = 16  # positions of a batch are a multiple: oneDNN compiles and keeps a kernel for every new size


def plan_batches(lengths: ArrayLike, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Return the rows of each training batch of an epoch.

    Rows are shuffled, sorted by length and cut into groups; each group, longest first, goes to the batch with the
    fewest tokens so far. So a group has padding only where two lengths meet, every batch has long and short texts
    (docs/log.md compares batches of one length), and all batches have nearly the same number of tokens. Every row comes
    once; there are ceil(N / batch_size) batches, in random order. Where all rows are equally long (plain text, maybe
    tens of millions of them), the plan is just a random order cut into batches.
    Processes that share a run compute the same plan and take `rows[rank::world]` of each batch.

    Args:
        lengths: tokens of each row, [N].
        batch_size: rows in a batch; a few batches may have fewer.
        seed: of the run, at least 0.
        epoch: number of the pass over the data; each has its own order.
    """
    if batch_size < 1:
        raise DataError(f"batch_size must be at least 1, got {batch_size}")
    lengths = np.asarray(lengths)
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    if not len(order):
        return []
    if lengths.min() == lengths.max():
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    order = order[np.argsort(lengths[order], kind="stable")]
    size = group_size(batch_size)
    groups = np.split(order, np.arange(size, len(order), size))
    batches: list[list[NDArray[np.int64]]] = [[] for _ in range(-(-len(order) // batch_size))]
    lightest = [(0, index) for index in range(len(batches))]
    for group in reversed(groups):
        tokens, index = heapq.heappop(lightest)
        batches[index].append(group)
        if len(batches[index]) < batch_size // size:
            heapq.heappush(lightest, (tokens + int(lengths[group].sum()), index))
    return [np.concatenate(batches[index]) for index in rng.permutation(len(batches))]


def group_size(batch_size: int) -> int:
    """Return the number of rows in a group: batch_size / NUM_GROUPS, or the next smaller divisor of batch_size."""
    return next(size for size in range(max(1, batch_size // NUM_GROUPS), 0, -1) if batch_size % size == 0)


def plan_blocks(lengths: ArrayLike) -> list[int]:
    """Return the number of rows of each block of a batch: neighbours share a block while little of it is padding.

    Args:
        lengths: tokens of each row of the batch, in its order, [B].
    """
    sizes: list[int] = []
    longest = total = 0
    for length in np.asarray(lengths).tolist():
        longest = max(longest, length)
        total += length
        if sizes and longest * (sizes[-1] + 1) - total <= MAX_PADDING * longest * (sizes[-1] + 1):
            sizes[-1] += 1
        else:
            sizes.append(1)
            longest = total = length
    return sizes


def plan_eval_batches(lengths: ArrayLike, max_tokens: int) -> list[NDArray[np.int64]]:
    """Return the rows of each evaluation batch, longest rows first; deterministic.

    Args:
        lengths: tokens of each row, [N].
        max_tokens: largest number of positions in a batch, padding included; a longer row is a batch by itself.
    """
    if max_tokens < 1:
        raise DataError(f"max_tokens must be at least 1, got {max_tokens}")
    lengths = np.asarray(lengths)
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        stop = start + max(1, max_tokens // max(1, int(lengths[order[start]])))
        batches.append(order[start:stop])
        start = stop
    return batches


@dataclass(frozen=True, eq=False)
class Batch:
    """The tensors of one batch.

    Args:
        input_ids: int64 [B, S]; or [T], the rows in blocks.
        attention_mask: shaped as input_ids, 1 at tokens, 0 at padding; None where there is no padding.
        token_type_ids: shaped as input_ids; None where all are 0.
        labels: int64 [B], float32 [B], float32 [B, C]; int64 [B, 2] for spans; shaped as input_ids where labels are
            per token, -100 where ignored; or None.
        num_rows: number of texts.
        num_tokens: number of tokens, without padding.
        blocks: rows and positions of each block of [T]; None for [B, S].
        num_labelled: number of labelled tokens where labels are per token, else None.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    token_type_ids: torch.Tensor | None
    labels: torch.Tensor | None
    num_rows: int
    num_tokens: int
    blocks: Blocks | None = None
    num_labelled: int | None = None

    @property
    def num_labels(self) -> int:
        """Number of labels that a loss averages over: labelled tokens where labels are per token, else rows."""
        return self.num_rows if self.num_labelled is None else self.num_labelled

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device."""

        def move(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        return Batch(
            input_ids=self.input_ids.to(device, non_blocking=True),
            attention_mask=move(self.attention_mask),
            token_type_ids=move(self.token_type_ids),
            labels=move(self.labels),
            num_rows=self.num_rows,
            num_tokens=self.num_tokens,
            blocks=self.blocks,
            num_labelled=self.num_labelled,
        )


def collate_blocks(tokens: Tokens, rows: ArrayLike, *, pad_token_id: int, use_token_types: bool) -> Batch:
    """Return some rows as one batch in blocks of similar length, in the order of the rows.

    Args:
        tokens, pad_token_id, use_token_types: as in `collate`.
        rows: indices of the batch's rows, at least one; sorted by length they need few blocks.
    """
    rows = np.asarray(rows)
    stops = np.cumsum(plan_blocks(tokens.offsets[rows + 1] - tokens.offsets[rows]))
    parts = [
        collate(tokens, part, pad_token_id=pad_token_id, use_token_types=use_token_types)
        for part in np.split(rows, stops[:-1])
    ]
    return join_blocks(parts, pad_token_id)


def join_blocks(parts: Sequence[Batch], pad_token_id: int) -> Batch:
    """Return batches of [B, S] concatenated to [T], padded to a multiple of ROUND_TO positions."""
    size = sum(part.input_ids.numel() for part in parts)
    rest = -size % ROUND_TO

    def joined(tensors: Iterable[torch.Tensor], filler: int) -> torch.Tensor:
        return torch.cat([*(tensor.flatten() for tensor in tensors), torch.full((rest,), filler)])

    def mask_of(part: Batch) -> torch.Tensor:
        return torch.ones_like(part.input_ids) if part.attention_mask is None else part.attention_mask

    labels = [part.labels for part in parts if part.labels is not None]
    counts = [part.num_labelled for part in parts if part.num_labelled is not None]
    types = [part.token_type_ids for part in parts if part.token_type_ids is not None]
    is_full = not rest and all(part.attention_mask is None for part in parts)
    return Batch(
        input_ids=joined((part.input_ids for part in parts), pad_token_id),
        attention_mask=None if is_full else joined(map(mask_of, parts), 0),
        token_type_ids=joined(types, 0) if types else None,
        labels=joined(labels, IGNORED) if counts else torch.cat(labels) if labels else None,
        num_rows=sum(part.num_rows for part in parts),
        num_tokens=sum(part.num_tokens for part in parts),
        blocks=tuple(block_of(part) for part in parts),
        num_labelled=sum(counts) if counts else None,
    )


def block_of(part: Batch) -> Block:
    rows, length = part.input_ids.shape
    return Block(rows, length, is_padded=part.attention_mask is not None)


def collate(
    tokens: Tokens, rows: ArrayLike, *, pad_token_id: int, use_token_types: bool, pad_to: int | None = None
) -> Batch:
    """Return some rows as one batch, padded on the right to the longest of them.

    Args:
        tokens: all rows.
        rows: indices of the batch's rows, at least one.
        pad_token_id: id of the padding.
        use_token_types: whether the model has two token types.
        pad_to: pad to this length instead; no row may be longer.
    """
    rows = np.asarray(rows)
    if not len(rows):
        raise DataError("a batch must have at least one row")
    starts = tokens.offsets[rows]
    lengths = tokens.offsets[rows + 1] - starts
    longest = int(lengths.max())
    if pad_to is not None and pad_to < longest:
        raise DataError(f"pad_to must be at least the longest row's {longest} tokens, got {pad_to}")
    places_S = np.arange(pad_to or longest)
    real_BS = places_S < lengths[:, None]
    flat_BS = np.where(real_BS, starts[:, None] + places_S, 0)
    input_ids = np.where(real_BS, tokens.ids[flat_BS], pad_token_id).astype(np.int64)
    types_BS = None
    if use_token_types and tokens.pair_starts is not None:
        types_BS = (real_BS & (places_S >= tokens.pair_starts[rows][:, None])).astype(np.int64)
    num_tokens = int(lengths.sum())
    labels = None if tokens.labels is None else tokens.labels[rows]
    if tokens.token_labels is not None:
        labels = np.where(real_BS, tokens.token_labels[flat_BS], IGNORED)
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        attention_mask=None if num_tokens == real_BS.size else torch.from_numpy(real_BS.astype(np.int64)),
        token_type_ids=None if types_BS is None else torch.from_numpy(types_BS),
        labels=None if labels is None else torch.from_numpy(labels),
        num_rows=len(rows),
        num_tokens=num_tokens,
        num_labelled=None if tokens.token_labels is None else int(tokens.label_counts[rows].sum()),
    )
