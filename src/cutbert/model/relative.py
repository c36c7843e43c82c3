"""Biases of attention scores by relative position, from one table of buckets that all layers share.

Axes: S positions of a text, N columns of the table.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from cutbert.shape.blocks import Blocks
from cutbert.shape.ingredients import NUM_BUCKETS

MAX_DISTANCE = 128  # from here on all distances share a bucket


def biases_by_distance(table: Tensor, length: int) -> Tensor:
    """Return the biases at each distance `key - query` of a text, -(length - 1) first: [2 length - 1, N].

    Args:
        table: [NUM_BUCKETS, N].
        length: positions, at least 1.
    """
    return F.embedding(buckets(torch.arange(1 - length, length, device=table.device)), table)


def buckets(distances: Tensor) -> Tensor:
    """Return the bucket of each distance `key - query`.

    Source:
        Raffel et al. 2020 (1910.10683), section 2.1: half of the buckets for keys on each side; of these the first half
        for one distance each, the others for ranges that grow with the logarithm. In float32, as transformers' MPNet.
    """
    side = NUM_BUCKETS // 2
    exact = side // 2
    far = distances.abs().float().clamp(min=1) / exact
    grown = exact + (torch.log(far) / math.log(MAX_DISTANCE / exact) * (side - exact)).long()
    near = distances.abs() < exact
    return (distances > 0) * side + torch.where(near, distances.abs(), grown.clamp(max=side - 1))


def relative_biases(table: Tensor, blocks: Blocks) -> list[Tensor]:
    """Return for each block the biases of its texts' scores, [1, N, S, S], queries first; gradients reach the table.

    Args:
        table: [NUM_BUCKETS, N].
        blocks: of the batch.
    """
    longest = max((block.length for block in blocks), default=1)
    by_distance = biases_by_distance(table, longest).T
    biases = []
    for block in blocks:
        own = by_distance[:, longest - block.length : longest + block.length - 1]
        biases.append(own.unfold(1, block.length, 1).flip(1)[None])
    return biases
