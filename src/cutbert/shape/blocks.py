"""The layout of a batch: blocks of texts padded to one length, one block after the other. No torch.

Axes: B texts of a block, S positions of each; T positions of the whole batch.

A batch is one block, [B, S], or several blocks concatenated, [T]: the texts of a block are padded to its longest.
Positions after the last block belong to no text (they round T up to a multiple).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Block(NamedTuple):
    """Texts padded to one length.

    Args:
        rows: number of texts, B.
        length: positions of each text, S, padding included.
        is_padded: whether some text is shorter than `length`.
    """

    rows: int
    length: int
    is_padded: bool

    @property
    def size(self) -> int:
        return self.rows * self.length


Blocks = tuple[Block, ...]


def placed(blocks: Blocks) -> Iterator[tuple[Block, int]]:
    """Yield each block and its first position."""
    start = 0
    for block in blocks:
        yield block, start
        start += block.size


def num_positions(blocks: Blocks) -> int:
    """Return the number of positions of all blocks together, padding inside them included."""
    return sum(block.size for block in blocks)
