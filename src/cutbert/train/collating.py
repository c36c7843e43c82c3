"""Rows of tokens as batches of the kind that a model takes; random samples of rows."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike

from cutbert.data.batches import Batch, collate, collate_blocks, plan_eval_batches
from cutbert.data.tokens import Tokens
from cutbert.model.style import EncoderStyle
from cutbert.shape.shape import EncoderShape

SAMPLE_TOKENS = 1024  # per batch of a sample, padding included


class HasShape(Protocol):
    """A network that batches are for."""

    @property
    def shape(self) -> EncoderShape: ...

    @property
    def style(self) -> EncoderStyle: ...


def padded_batch(model: HasShape, tokens: Tokens, rows: ArrayLike, *, pad_to: int | None = None) -> Batch:
    """Return rows as one batch, padded with the model's padding; arguments and errors as in `collate`."""
    pad, types = model.style.pad_token_id, model.shape.num_token_types > 1
    return collate(tokens, rows, pad_token_id=pad, use_token_types=types, pad_to=pad_to)


def block_batch(model: HasShape, tokens: Tokens, rows: ArrayLike) -> Batch:
    """Return rows as one batch in blocks of similar length; arguments and errors as in `collate_blocks`."""
    pad, types = model.style.pad_token_id, model.shape.num_token_types > 1
    return collate_blocks(tokens, rows, pad_token_id=pad, use_token_types=types)


def sample_rows(num_rows: int, size: int, seed: int) -> np.ndarray:
    """Return the indices of a random sample of rows, rising."""
    drawn = np.random.default_rng(seed).permutation(num_rows)[:size]
    return np.sort(drawn)


def sample_batches(model: HasShape, tokens: Tokens, size: int, seed: int, device: torch.device) -> list[Batch]:
    """Return a random sample of rows as padded batches of similar length, on a device."""
    rows = sample_rows(len(tokens.lengths), size, seed)
    return [
        padded_batch(model, tokens, rows[batch]).to(device)
        for batch in plan_eval_batches(tokens.lengths[rows], SAMPLE_TOKENS)
    ]
