"""Disentangled positions: scores that compare contents with distances, by a table of distances' states.

Axes: B texts of a block, S positions of each, H hidden, N heads, K key_dim; R rows of the table that are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cutbert.shape.blocks import Blocks
from cutbert.shape.ingredients import Ingredients


class Distances(NamedTuple):
    """The distances of a batch.

    Args:
        states: of the rows that its longest text reads, [R, H].
        rows: for each block which of these rows it reads.
        pairs: for each block the row of each distance `query - key`, counted from the first of `rows`, [S, S].
    """

    states: Tensor
    rows: Sequence[slice]
    pairs: Sequence[Tensor]


def buckets(distances: Tensor, ingredients: Ingredients) -> Tensor:
    """Return the bucket of each distance `query - key`, of its sign.

    Source:
        He et al. 2021 (2006.03654 and 2111.09543): one distance each near by, ranges that grow with the logarithm far
        off. As in transformers' DeBERTa-v2, in float32.
    """
    exact = ingredients.num_distance_buckets // 2
    far = distances.abs().clamp(min=exact).float()
    whole = torch.log(torch.tensor((ingredients.max_distance - 1) / exact, device=distances.device))
    grown = torch.ceil(torch.log(far / exact) / whole * (exact - 1)).long() + exact
    return torch.where(distances.abs() <= exact, distances, grown * distances.sign())


def table_rows(length: int, ingredients: Ingredients, device: torch.device) -> Tensor:
    """Return the row of the table for each distance `query - key` of a text, -(length - 1) first: [2 length - 1]."""
    span = ingredients.num_distance_buckets
    distances = torch.arange(1 - length, length, device=device)
    return (buckets(distances, ingredients) + span).clamp(0, 2 * span - 1)


def distances_of(states: Tensor, blocks: Blocks, ingredients: Ingredients) -> Distances:
    """Return the distances of a batch, of the states of the whole table, [2 x buckets, H]."""
    ranges = [ingredients.distance_rows(block.length) for block in blocks]
    first, stop = min(each.start for each in ranges), max(each.stop for each in ranges)
    index = []
    for block, own in zip(blocks, ranges, strict=True):
        by_distance = table_rows(block.length, ingredients, states.device) - own.start
        index.append(by_distance.unfold(0, block.length, 1).flip(1))  # row i has distances i, i - 1, ... of its keys
    return Distances(states[first:stop], [slice(own.start - first, own.stop - first) for own in ranges], index)


def distance_scores(q_BNSK: Tensor, k_BNSK: Tensor, q_NRK: Tensor, k_NRK: Tensor, index_SS: Tensor) -> Tensor:
    """Return the scores of contents with distances, [B, N, S, S], not yet scaled.

    Args:
        q_BNSK, k_BNSK: queries and keys of contents.
        q_NRK, k_NRK: queries and keys of distances.
        index_SS: row of each distance `query - key`.

    Source:
        He et al. 2021 (2006.03654), equation 4: content to position, and position to content.
    """
    shape = (*q_BNSK.shape[:2], *index_SS.shape)
    to_position = (q_BNSK @ k_NRK.mT).gather(-1, index_SS.expand(shape))
    to_content = (k_BNSK @ q_NRK.mT).gather(-1, index_SS.T.expand(shape))
    return to_position + to_content.mT
