"""The best spans of windows that a reader's logits name, with numpy alone.

Axes: W windows, S positions, M further positions of a span, K best.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_ANSWER_TOKENS = 30


def best_spans(
    logits_WS2: NDArray[np.float64], count: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return score, first and last position of the spans of at most 30 tokens with the highest sums, best first.

    Of equal sums the shorter span comes first, then the earlier.

    Args:
        logits_WS2: of first and last positions; -inf where no span may begin or end.
        count: spans of each window, from 1.

    Returns:
        [W, K] each; a score is -inf where a window has no further span.

    Source:
        Devlin et al. 2018 (1810.04805), section 4.2. The released run_squad tries the 20 best starts with the 20 best
        ends; we try all.
    """
    W, S, _ = logits_WS2.shape
    M = min(MAX_ANSWER_TOKENS, S)
    sums_WMS = np.full((W, M, S), -np.inf)
    for more in range(M):
        sums_WMS[:, more, : S - more] = logits_WS2[:, : S - more, 0] + logits_WS2[:, more:, 1]
    sums, rows_W = sums_WMS.reshape(W, M * S), np.arange(W)
    score_WK, place_WK = np.full((W, count), -np.inf), np.zeros((W, count), np.int64)
    for k in range(count):
        place_WK[:, k] = sums.argmax(axis=1)
        score_WK[:, k] = sums[rows_W, place_WK[:, k]]
        sums[rows_W, place_WK[:, k]] = -np.inf
    first_WK = place_WK % S
    return score_WK, first_WK, first_WK + place_WK // S
