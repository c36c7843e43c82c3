"""Which training rows become the select split, and which must leave train for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

SELECT_SHARE = 0.1
MAX_SELECT_ROWS = 1000
SAMPLE_SEED = 20200404


def select_mask(keys: Sequence[bytes]) -> NDArray[np.bool_]:
    """Return which rows are select: 10 % of them, at most 1,000, by hash of the text.

    Equal texts lie on one side. The choice depends on the texts only, not on their order or on a seed. Where
    every text is repeated too often for 10 %, the least repeated one is select; one text alone never is.

    Args:
        keys: `Rows.text_keys()` of the training rows; already hashes, so sorting them draws at random.
    """
    wanted = min(MAX_SELECT_ROWS, max(1, int(SELECT_SHARE * len(keys))))
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
    """Return the indices of the keys that none of the others holds."""
    taken = set().union(*others)
    return np.array([i for i, key in enumerate(keys) if key not in taken], dtype=np.int64)


def sample(num_rows: int, size: int | None) -> NDArray[np.int64]:
    """Return `size` of the indices below `num_rows`, drawn at random once and for all, in file order."""
    if size is None or size >= num_rows:
        return np.arange(num_rows)
    return np.sort(np.random.default_rng(SAMPLE_SEED).permutation(num_rows)[:size])
