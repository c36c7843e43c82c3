"""Rows of tokens as batches of the kind that a model takes."""

from __future__ import annotations

from typing import Protocol

from numpy.typing import ArrayLike

from cutbert.data.batches import Batch, collate, collate_blocks
from cutbert.data.tokens import Tokens
from cutbert.model.style import EncoderStyle
from cutbert.shape.shape import EncoderShape


class Taker(Protocol):
    """A network that batches are for."""

    @property
    def shape(self) -> EncoderShape: ...

    @property
    def style(self) -> EncoderStyle: ...


def padded_batch(model: Taker, tokens: Tokens, rows: ArrayLike, *, pad_to: int | None = None) -> Batch:
    """Return rows as one batch, padded with the model's padding; arguments and errors as of `collate`."""
    pad, types = model.style.pad_token_id, model.shape.num_token_types > 1
    return collate(tokens, rows, pad_token_id=pad, use_token_types=types, pad_to=pad_to)


def block_batch(model: Taker, tokens: Tokens, rows: ArrayLike) -> Batch:
    """Return rows as one batch in blocks of like length; arguments and errors as of `collate_blocks`."""
    pad, types = model.style.pad_token_id, model.shape.num_token_types > 1
    return collate_blocks(tokens, rows, pad_token_id=pad, use_token_types=types)
