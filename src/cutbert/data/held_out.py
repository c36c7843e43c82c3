"""Which sequences of a stream of text are held out: a share of them, by hash."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

SHARE = 0.01
MOST = 1000
FEW = 16  # of a small text; 1 % of it would measure nothing


def num_held_out(seen: int) -> int:
    """Return how many of a text's sequences are held out: 1 %; of a small text 10 % up to FEW, but two of four or more.

    Two: one to choose on, one to report.
    """
    return max(1, int(SHARE * seen), min(FEW, seen // 10), min(2, seen // 2))


class HeldOut:
    """Keeps the rows with the smallest hashes out of a stream, so that order and place in it do not matter.

    Equal rows are kept or passed on together.

    Args:
        most: rows kept at most.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most, self.seen, self.count = most, 0, 0
        self.limit = 1 << 64
        self.kept: dict[int, list[NDArray[np.int32]]] = {}
        self.largest: list[int] = []  # a heap of the kept hashes, negative

    def pass_on(self, rows: NDArray[np.int32]) -> Iterator[NDArray[np.int32]]:
        """Take rows in and yield those that are not kept, or no longer."""
        self.seen += len(rows)
        for row in rows:
            key = int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest())
            if key >= self.limit:
                yield row
                continue
            if key not in self.kept:
                heapq.heappush(self.largest, -key)
            self.kept.setdefault(key, []).append(row.copy())  # a view would keep all rows it came with
            self.count += 1
            yield from self._shrink(self.most)

    def cut_down(self) -> Iterator[NDArray[np.int32]]:
        """Yield rows until only those that are to be held out are kept, at most `most`."""
        yield from self._shrink(min(self.most, num_held_out(self.seen)))

    def rows(self) -> Iterator[NDArray[np.int32]]:
        """Yield the rows kept."""
        for key in sorted(self.kept):
            yield from self.kept[key]

    def _shrink(self, most: int) -> Iterator[NDArray[np.int32]]:
        while self.count > most:
            self.limit = -heapq.heappop(self.largest)
            rows = self.kept.pop(self.limit)
            self.count -= len(rows)
            yield from rows
