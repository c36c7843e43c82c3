"""How the texts of a batch lie one after the other. No torch.

Axes: B texts of a block, S positions of each; T positions of the whole batch.

A batch is one block, [B, S], or several laid end to end, [T]: the texts of a block are padded to its longest, and
positions after the last block belong to no text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Block(NamedTuple):
    """Texts of one length, padding counted.

    Args:
        rows: B.
        length: S.
        is_padded: some text is shorter.
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
    """Return the positions of all blocks together, padding inside them counted."""
    return sum(block.size for block in blocks)
