"""What knows of a batch's blocks: padding masks, positions, and the state that stands for a text.

Everything else works position by position.

Axes: B texts of a block, S positions of each; T positions of the whole batch (`shape.blocks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cutbert.model.distances import Distances
from cutbert.shape.blocks import Block, Blocks, placed
from cutbert.shape.pooling import Pooling

AT_PADDING = -1e9  # finite: the difference of two such logits is 0, of two infinities NaN


@dataclass(frozen=True, eq=False)
class Layout:
    """What every layer needs to know of a batch, beside its states.

    Args:
        blocks: texts and positions of each block.
        padding: for each block [B, 1, 1, S], added to the scores (0 = token, very negative = padding), or None.
        relative: for each block [1, N, S, S], added to the scores of all texts, N the columns of the table of relative
            biases; empty where the encoder has none.
        distances: of disentangled positions; None where the encoder has none.
        positions: the place of each position in its text, [T]; None where the encoder has no rotary positions.
    """

    blocks: Blocks
    padding: Sequence[Tensor | None]
    relative: Sequence[Tensor] = ()
    positions: Tensor | None = None
    distances: Distances | None = None
    _angles: dict[tuple[float, int], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def rotation(self, base: float, key_dim: int) -> tuple[Tensor, Tensor]:
        """Return cosine and sine of the angles of rotary positions, [T, 1, key_dim / 2] each, in float32.

        Source:
            Su et al. 2021 (2104.09864), equation 15: pair j turns by position * base^(-2 j / key_dim).
        """
        if (base, key_dim) not in self._angles:
            assert self.positions is not None
            steps = torch.arange(0, key_dim, 2, dtype=torch.float32, device=self.positions.device)
            angles = self.positions[:, None, None].float() * (1.0 / base ** (steps / key_dim))
            self._angles[base, key_dim] = (angles.cos(), angles.sin())
        return self._angles[base, key_dim]


def blocks_of(input_ids: Tensor, attention_mask: Tensor | None, blocks: Blocks | None) -> Blocks:
    """Return the blocks of a batch; None stands for one block of [B, S]."""
    if blocks is not None:
        return blocks
    rows, length = input_ids.shape
    return (Block(rows, length, attention_mask is not None),)


def padding_biases(attention_mask: Tensor | None, blocks: Blocks, dtype: torch.dtype) -> list[Tensor | None]:
    """Return for each block [B, 1, 1, S]: 0 at tokens, the lowest finite number at padding; None without padding."""
    biases: list[Tensor | None] = []
    for block, start in placed(blocks):
        if not block.is_padded or attention_mask is None:
            biases.append(None)
            continue
        mask = attention_mask.reshape(-1)[start : start + block.size].view(block.rows, 1, 1, block.length)
        bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
        biases.append(bias.masked_fill_(mask == 0, torch.finfo(dtype).min))
    return biases


def text_states(states: Tensor, attention_mask: Tensor | None, blocks: Blocks | None, pooling: Pooling) -> Tensor:
    """Return what a head of whole texts reads of every text, [texts, H].

    Args:
        states: [B, S, H], or [T, H] in blocks.
        attention_mask: of the batch; None where nothing is padded.
        blocks: of the batch; None for [B, S].
        pooling: the first token's state, or the mean over the text's tokens.
    """
    if pooling == "cls":
        return first_positions(states, blocks)
    return mean_states(states, attention_mask, blocks)


def mean_states(states: Tensor, attention_mask: Tensor | None, blocks: Blocks | None) -> Tensor:
    """Return the mean of every text's states over its tokens, special tokens too, [texts, H]; summed in float32."""
    flat = states.flatten(0, -2)
    means = []
    for block, start in placed(blocks_of(states[..., 0], attention_mask, blocks)):
        x_BSH = flat[start : start + block.size].view(block.rows, block.length, -1)
        if not block.is_padded or attention_mask is None:
            means.append(x_BSH.mean(1, dtype=torch.float32))
            continue
        mask = attention_mask.reshape(-1)[start : start + block.size].view(block.rows, block.length, 1)
        total_BH = (x_BSH * mask.to(x_BSH.dtype)).sum(1, dtype=torch.float32)
        means.append(total_BH / mask.sum(1))
    return torch.cat(means).to(states.dtype)


def first_positions(states: Tensor, blocks: Blocks | None) -> Tensor:
    """Return the state of every text's first token, [texts, H]."""
    if blocks is None:
        return states[:, 0]
    return states.index_select(0, first_places(states[:, 0], blocks))


def first_places(input_ids: Tensor, blocks: Blocks | None) -> Tensor:
    """Return the place of every text's first token in the flattened batch, [texts].

    Args:
        input_ids: [B, S]; or [T] with blocks.
        blocks: of the batch; None for [B, S].
    """
    places = [
        torch.arange(start, start + block.size, block.length, device=input_ids.device)
        for block, start in placed(blocks_of(input_ids, None, blocks))
    ]
    return torch.cat(places)


def at_places(states: Tensor, places: Tensor | None) -> Tensor:
    """Return the states at some places of the flattened batch, [M, H]; all as they are for None."""
    return states if places is None else states.flatten(0, -2).index_select(0, places)


def logits_by_text(logits: Tensor, attention_mask: Tensor | None, blocks: Blocks | None) -> list[Tensor]:
    """Return for each block its texts' logits with positions last, [B, C, S], and AT_PADDING at padding.

    Args:
        logits: [B, S, C], or [T, C] in blocks.
        attention_mask: of the batch.
        blocks: of the batch; positions after the last block belong to no text and are left out.
    """
    flat = logits.flatten(0, -2)
    by_text = []
    for block, start in placed(blocks_of(logits[..., 0], attention_mask, blocks)):
        part = flat[start : start + block.size].view(block.rows, block.length, -1).transpose(1, 2)
        if block.is_padded and attention_mask is not None:
            mask = attention_mask.reshape(-1)[start : start + block.size].view(block.rows, 1, block.length)
            part = part.masked_fill(mask == 0, AT_PADDING)
        by_text.append(part)
    return by_text


def positions_in_text(input_ids: Tensor, blocks: Blocks | None) -> Tensor:
    """Return the position of each token in its text, counted from 0: [S], the same for all texts, or [T]."""
    if blocks is None:
        return torch.arange(input_ids.shape[-1], device=input_ids.device)
    positions = torch.zeros_like(input_ids)
    for block, start in placed(blocks):
        positions[start : start + block.size].view(block.rows, block.length)[:] = torch.arange(
            block.length, device=input_ids.device
        )
    return positions


def positions_in_blocks(states: Tensor, blocks: Blocks) -> Tensor:
    """Return the place of each position in its text, counted from 0, [T]; 0 where no text is.

    Args:
        states: [B, S, H] or [T, H].
        blocks: of the batch.
    """
    flat = states[..., 0].flatten()
    return positions_in_text(torch.zeros_like(flat, dtype=torch.long), blocks)
