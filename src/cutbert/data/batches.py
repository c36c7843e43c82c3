"""Rows of like length to batches, batches to tensors.

Axes: B rows of a batch, S positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from cutbert.data.tokens import Tokens
from cutbert.errors import DataError


def plan_batches(lengths: ArrayLike, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Return the rows of each training batch of an epoch.

    Rows are drawn at random, then put beside rows of the same length: only a batch where two lengths meet has
    padding. Every row comes once; there are ceil(N / batch_size) batches, in random order. Processes that
    share a run compute the same plan and take `rows[rank::world]` of each batch.

    Args:
        lengths: tokens of each row, [N].
        batch_size: rows in a batch; one batch may hold fewer.
        seed: of the run, at least 0.
        epoch: number of the pass over the data; each has its own order.
    """
    if batch_size < 1:
        raise DataError(f"batch_size must be at least 1, got {batch_size}")
    lengths = np.asarray(lengths)
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    order = order[np.argsort(lengths[order], kind="stable")]
    batches = np.split(order, np.arange(batch_size, len(order), batch_size)) if len(order) else []
    return [batches[i] for i in rng.permutation(len(batches))]


def plan_eval_batches(lengths: ArrayLike, max_tokens: int) -> list[NDArray[np.int64]]:
    """Return the rows of each evaluation batch, longest rows first, always the same.

    Args:
        lengths: tokens of each row, [N].
        max_tokens: most positions in a batch, padding counted; a longer row is a batch of its own.
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
        input_ids: int64 [B, S].
        attention_mask: int64 [B, S], 1 at tokens, 0 at padding; None where there is no padding.
        token_type_ids: int64 [B, S]; None where all are 0.
        labels: int64 [B], float32 [B], float32 [B, C], or None.
        num_tokens: real tokens, padding not counted.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    token_type_ids: torch.Tensor | None
    labels: torch.Tensor | None
    num_tokens: int

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device."""

        def move(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        return Batch(
            input_ids=self.input_ids.to(device, non_blocking=True),
            attention_mask=move(self.attention_mask),
            token_type_ids=move(self.token_type_ids),
            labels=move(self.labels),
            num_tokens=self.num_tokens,
        )


def collate(
    tokens: Tokens, rows: ArrayLike, *, pad_token_id: int, use_token_types: bool, pad_to: int | None = None
) -> Batch:
    """Return some rows as one batch, padded on the right to the longest of them.

    Args:
        tokens: all rows.
        rows: indices of the batch's rows, at least one.
        pad_token_id: the id that fills up short rows.
        use_token_types: the model has two token types.
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
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        attention_mask=None if num_tokens == real_BS.size else torch.from_numpy(real_BS.astype(np.int64)),
        token_type_ids=None if types_BS is None else torch.from_numpy(types_BS),
        labels=None if tokens.labels is None else torch.from_numpy(tokens.labels[rows]),
        num_tokens=num_tokens,
    )
