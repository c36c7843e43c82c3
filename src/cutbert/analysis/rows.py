"""Representations as rows: from the states of a batch to one row per text, or one per drawn token.

Axes: T positions of a batch, B texts, N rows, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutbert.analysis.settings import RowKind
from cutbert.data.batches import MAX_TOKENS, Batch, plan_eval_batches
from cutbert.data.tokens import Tokens
from cutbert.model.layout import blocks_of
from cutbert.model.sites import Site, SiteKind, walk
from cutbert.model.task_model import TaskModel
from cutbert.shape.blocks import placed
from cutbert.train.collating import block_batch

StatesReader = Callable[[Tensor], Tensor]  # [T, H] to [N, H]


@dataclass(frozen=True, eq=False)
class TextPositions:
    """The positions of each text in a flattened batch.

    Args:
        starts: int64 [B], the first position of each text.
        lengths: int64 [B], its number of tokens.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, batch: Batch) -> TextPositions:
        """Return the positions of a batch, packed or padded."""
        mask = torch.ones_like(batch.input_ids) if batch.attention_mask is None else batch.attention_mask
        flat = mask.reshape(-1).cpu().numpy()
        starts, lengths = [], []
        for block, start in placed(blocks_of(batch.input_ids, batch.attention_mask, batch.blocks)):
            starts.append(np.arange(start, start + block.size, block.length))
            lengths.append(flat[start : start + block.size].reshape(block.rows, block.length).sum(1))
        return cls(np.concatenate(starts), np.concatenate(lengths))

    def tokens(self) -> NDArray[np.int64]:
        """Return the positions of all tokens, text by text."""
        return np.concatenate([np.arange(s, s + n) for s, n in zip(self.starts, self.lengths, strict=True)])


class DrawnTokens(NamedTuple):
    """Tokens drawn from some texts, in order: the index of the text, and of the token in it. Both int64 [N]."""

    texts: NDArray[np.int64]
    tokens: NDArray[np.int64]


def draw_tokens(lengths: NDArray[np.int64], size: int, random: np.random.Generator) -> DrawnTokens:
    """Draw `size` tokens from texts of these lengths, without replacement; all where there are fewer.

    Special tokens are drawn like others.
    """
    texts = np.repeat(np.arange(len(lengths)), lengths)
    tokens = np.arange(len(texts)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    drawn = np.sort(random.permutation(len(texts))[:size])
    return DrawnTokens(texts[drawn], tokens[drawn])


def text_reader(rows: RowKind, texts_at: TextPositions, device: torch.device) -> StatesReader:
    """Return the function that reads one row per text: its first token (`cls`), or the mean over its tokens."""
    return position_reader(texts_at.starts, device) if rows == "cls" else mean_reader(texts_at, device)


def mean_reader(texts_at: TextPositions, device: torch.device) -> StatesReader:
    """Return the function that reads the mean over each text's tokens, special tokens included."""
    positions = torch.from_numpy(texts_at.tokens()).to(device)
    lengths = torch.from_numpy(texts_at.lengths).to(device)
    texts = torch.repeat_interleave(lengths)

    def read(states_TH: Tensor) -> Tensor:
        sums = states_TH.new_zeros(len(lengths), states_TH.shape[-1])
        return sums.index_add_(0, texts, states_TH.index_select(0, positions)) / lengths[:, None]

    return read


def position_reader(positions: NDArray[np.int64], device: torch.device) -> StatesReader:
    """Return the function that reads the given positions."""
    index = torch.from_numpy(positions).to(device)
    return lambda states_TH: states_TH.index_select(0, index)


@torch.inference_mode()
def read_representations(
    model: TaskModel,
    tokens: Tokens,
    texts: NDArray[np.int64],
    *,
    sites: Collection[SiteKind],
    rows: Collection[RowKind],
    picks: DrawnTokens | None = None,
) -> dict[RowKind, dict[Site, Tensor]]:
    """Return the rows of a representation at each site, for some texts, in one forward pass.

    Args:
        model: in evaluation mode, in float32.
        tokens: all texts.
        texts: [B], indices of the texts to read.
        sites: the kinds of site to read.
        rows: the kinds of row: `cls` and `mean` give one per text, `tokens` one per drawn token.
        picks: the tokens drawn from `texts`, for rows of kind `tokens`.

    Returns:
        By kind of row and by site: [N, H] in the order of `texts` or of `picks`, on the model's device.
    """
    representations: dict[RowKind, dict[Site, Tensor]] = {kind: {} for kind in rows}
    device = next(model.parameters()).device
    for part in plan_eval_batches(tokens.lengths[texts], MAX_TOKENS):
        batch = block_batch(model, tokens, texts[part]).to(device)
        readers = {kind: reader(kind, TextPositions.of(batch), part, picks, device) for kind in rows}
        for site, states in walk(
            model.encoder, batch.input_ids, batch.attention_mask, batch.token_type_ids, blocks=batch.blocks
        ):
            if site.kind not in sites:
                continue
            for kind, (where, read) in readers.items():
                part_rows = read(states.flatten(0, -2))
                size = len(picks.texts) if kind == "tokens" and picks is not None else len(texts)
                whole = representations[kind].setdefault(site, part_rows.new_empty(size, part_rows.shape[-1]))
                whole[where] = part_rows
    return representations


def reader(
    kind: RowKind, texts_at: TextPositions, part: NDArray[np.int64], picks: DrawnTokens | None, device: torch.device
) -> tuple[Tensor, StatesReader]:
    """Return the indices of the rows that a batch gives, and the function that reads them.

    Args:
        kind: of row.
        texts_at: positions of the texts in the batch.
        part: [B], the index of each text of the batch in the list of texts.
        picks: the tokens drawn from that list.
        device: of the batch.
    """
    if kind != "tokens":
        return torch.from_numpy(part).to(device), text_reader(kind, texts_at, device)
    assert picks is not None
    row_in_batch = np.full(max(part.max(), picks.texts.max()) + 1, -1)
    row_in_batch[part] = np.arange(len(part))
    where = np.flatnonzero(row_in_batch[picks.texts] >= 0)
    positions = texts_at.starts[row_in_batch[picks.texts[where]]] + picks.tokens[where]
    return torch.from_numpy(where).to(device), position_reader(positions, device)
