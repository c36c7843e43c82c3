"""Splits by hash: which training rows are held out as select or dev, and which sequences of plain text.

The hash of a text decides, not its place or a seed: equal texts are on one side, and the split is the same in every
run, on every machine, in any order of the rows.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

ROWS_SHARE = 0.1
MAX_ROWS = 1000
SAMPLE_SEED = 20200404
HELD_OUT_SHARE = 0.01
MAX_HELD_OUT = 1000
FEW_HELD_OUT = 16  # of a small text, of which 1 % would be too little to measure anything


def held_out_mask(keys: Sequence[bytes]) -> NDArray[np.bool_]:
    """Return which rows are held out: 10 % of them, at most 1,000, by hash of the text.

    Rows with equal texts are all held out, or none is. Where every text is repeated too often for 10 %, the least
    repeated one is; a single text never is.

    Args:
        keys: `text_keys()` of the training rows; they are hashes, so their sorted order is random.
    """
    wanted = min(MAX_ROWS, max(1, int(ROWS_SHARE * len(keys))))
    counts = Counter(keys)
    chosen: set[bytes] = set()
    taken = 0
    for key in sorted(counts):
        if taken + counts[key] <= wanted:
            chosen.add(key)
            taken += counts[key]
    if not chosen and len(counts) > 1:
        chosen = {min(counts, key=lambda key: (counts[key], key))}
    elif len(counts) < 2:
        chosen = set()
    return np.array([key in chosen for key in keys], dtype=bool)


def outside(keys: Sequence[bytes], others: Iterable[Sequence[bytes]]) -> NDArray[np.int64]:
    """Return the indices of the keys that are in none of the others."""
    taken = set().union(*others)
    return np.array([i for i, key in enumerate(keys) if key not in taken], dtype=np.int64)


def sample(num_rows: int, size: int | None) -> NDArray[np.int64]:
    """Return `size` of the indices below `num_rows`, drawn at random with a fixed seed, in file order."""
    if size is None or size >= num_rows:
        return np.arange(num_rows)
    return np.sort(np.random.default_rng(SAMPLE_SEED).permutation(num_rows)[:size])


def num_held_out(seen: int) -> int:
    """Return how many of a text's sequences are held out: 1 %, of a small text 10 % up to 16, of four or more two.

    Two, because choices are made on one and the other is reported.
    """
    return max(1, int(HELD_OUT_SHARE * seen), min(FEW_HELD_OUT, seen // 10), min(2, seen // 2))


class HeldOut:
    """Holds out the rows of a stream with the smallest hashes, whatever their order; the others pass through.

    Equal rows are held out or passed on together.

    Args:
        most: largest number of rows held out.
    """

    def __init__(self, most: int = MAX_HELD_OUT) -> None:
        self.most, self.seen, self.count = most, 0, 0
        self.limit = 1 << 64
        self.kept: dict[int, list[NDArray[np.int32]]] = {}
        self.largest: list[int] = []  # a heap of the kept hashes, negative

    def pass_on(self, rows: NDArray[np.int32]) -> Iterator[NDArray[np.int32]]:
        """Take rows, and yield those that are not held out, or no longer."""
        self.seen += len(rows)
        for row in rows:
            key = int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest())
            if key >= self.limit:
                yield row
                continue
            if key not in self.kept:
                heapq.heappush(self.largest, -key)
            self.kept.setdefault(key, []).append(row.copy())  # a view would keep the whole array in memory
            self.count += 1
            yield from self._shrink(self.most)

    def cut_down(self) -> Iterator[NDArray[np.int32]]:
        """Yield the surplus rows, so that `num_held_out` are left, at most `most`."""
        yield from self._shrink(min(self.most, num_held_out(self.seen)))

    def rows(self) -> Iterator[NDArray[np.int32]]:
        """Yield the rows held out."""
        for key in sorted(self.kept):
            yield from self.kept[key]

    def _shrink(self, most: int) -> Iterator[NDArray[np.int32]]:
        while self.count > most:
            self.limit = -heapq.heappop(self.largest)
            rows = self.kept.pop(self.limit)
            self.count -= len(rows)
            yield from rows
