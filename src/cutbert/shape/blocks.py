"""The sizes of a batch: texts of like length, block after block."""

from __future__ import annotations

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
