"""Scores of a ranking against how relevant its rows are: NDCG@k and MRR@k of each group (query), with numpy alone.

Rows with equal scores have no order of their own, so that the order of a file decides nothing: both measures are then
the mean over every order of the tied rows, computed exactly. Scores that differ in the last bit are not ties.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cutbert.errors import DataError

TOP = 10
Gain = Literal["linear", "exponential"]


def ndcg(
    scores_N: NDArray[Any],
    relevance_N: NDArray[Any],
    *,
    k: int = TOP,
    gain: Gain = "linear",
    all_relevance_M: NDArray[Any] | None = None,
) -> float:
    """Return NDCG@k of one group's ranking: the discounted gain of its first k rows over that of the best order.

    Args:
        scores_N: the model's, finite; the highest is ranked first.
        relevance_N: of the same rows, 0 or larger; 0 is not relevant.
        k: ranks that count, from 1.
        gain: of a relevance r: r itself (linear), or 2^r - 1 (exponential).
        all_relevance_M: of every relevant row there is, where the ranking may lack some of them (retrieval);
            None: of the rows ranked.

    Returns:
        In 0..1; nan where no row is relevant.

    Raises:
        DataError: scores or relevance are not as said.

    Source:
        Jarvelin and Kekalainen 2002 (Cumulated gain-based evaluation of IR techniques), with the discount
        log2(1 + rank) from rank 1. Linear is what trec_eval (ndcg_cut), BEIR (Thakur et al. 2021, 2104.08663) and
        scikit-learn compute; exponential is Burges et al. 2005. Ties as McSherry and Najork 2008 and scikit-learn;
        trec_eval orders them by name.
    """
    scores_N, relevance_N = checked(scores_N, relevance_N)
    best_M = relevance_N if all_relevance_M is None else np.asarray(all_relevance_M, dtype=np.float64)
    best = dcg(best_M, gains(best_M, gain), k)
    return dcg(scores_N, gains(relevance_N, gain), k) / best if best > 0 else math.nan


def mrr(scores_N: NDArray[Any], relevance_N: NDArray[Any], *, k: int = TOP) -> float:
    """Return the reciprocal rank of the first relevant row among the first k, 0 where none is there.

    Args:
        scores_N, relevance_N, k: as in `ndcg`; a row is relevant whose relevance is above 0.

    Raises:
        DataError: scores or relevance are not as said.

    Source:
        Voorhees 1999 (TREC-8 question answering), cut at k as in MS MARCO's MRR@10. Among t tied rows of which r are
        relevant, the first relevant one is at place j with probability C(t - j, r - 1) / C(t, r).
    """
    scores_N, relevance_N = checked(scores_N, relevance_N)
    first_relevant = scores_N[relevance_N > 0]
    if not len(first_relevant):
        return 0.0
    is_tied_N = scores_N == first_relevant.max()
    num_above, t = int((scores_N > first_relevant.max()).sum()), int(is_tied_N.sum())
    r = int((relevance_N[is_tied_N] > 0).sum())
    value, chance = 0.0, r / t  # that the first of the tied rows is relevant
    for j in range(1, min(t - r + 1, k - num_above) + 1):
        value += chance / (num_above + j)
        chance *= (t - j - r + 1) / (t - j) if t > j else 0.0
    return value


def checked(scores_N: NDArray[Any], relevance_N: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scores and relevance as float64, or refuse what cannot be ranked."""
    scores, relevance = np.asarray(scores_N, dtype=np.float64), np.asarray(relevance_N, dtype=np.float64)
    if scores.ndim != 1 or scores.shape != relevance.shape:
        raise DataError(f"a ranking must have one score and one relevance a row, got {scores.shape}, {relevance.shape}")
    if not np.isfinite(scores).all():
        raise DataError("scores of a ranking must be finite")
    if not (np.isfinite(relevance).all() and (relevance >= 0).all()):
        raise DataError(f"relevance must be 0 or larger, got {relevance.min():g}")
    return scores, relevance


def gains(relevance_N: NDArray[np.float64], gain: Gain) -> NDArray[np.float64]:
    """Return what each row adds before its discount."""
    return relevance_N if gain == "linear" else np.exp2(relevance_N) - 1


def dcg(scores_N: NDArray[np.float64], gains_N: NDArray[np.float64], k: int) -> float:
    """Return the discounted gain of the first k rows; tied rows each have the mean discount of their ranks."""
    N = len(scores_N)
    discount_N = np.where(np.arange(N) < k, 1 / np.log2(np.arange(N) + 2), 0.0)
    _, tie_N, size_T = np.unique(-scores_N, return_inverse=True, return_counts=True)
    ends_T = np.cumsum(size_T)
    upto = np.concatenate([[0.0], np.cumsum(discount_N)])
    mean_T = (upto[ends_T] - upto[ends_T - size_T]) / size_T
    return float((mean_T[tie_N] * gains_N).sum())


def group_rows(groups_N: Sequence[Hashable]) -> list[NDArray[np.int64]]:
    """Return the rows of each group, in order of each group's first row; a group need not be in one piece."""
    ids: dict[Hashable, int] = {}
    group_N = np.array([ids.setdefault(group, len(ids)) for group in groups_N], dtype=np.int64)
    order_N = np.argsort(group_N, kind="stable")
    return np.split(order_N, np.cumsum(np.bincount(group_N, minlength=len(ids)))[:-1]) if ids else []


def can_be_ranked(relevance_N: NDArray[Any]) -> bool:
    """Return whether a group says anything of a model: some rows of it are more relevant than others.

    Where no row is relevant the measures have no value, and where all are equally so (one row among them) every order
    is the best. sentence-transformers' reranking evaluator leaves out the same queries.
    """
    return len(relevance_N) > 0 and bool(np.max(relevance_N) > np.min(relevance_N))


def ranking_scores(
    scores_N: NDArray[Any], relevance_N: NDArray[Any], groups: Sequence[NDArray[np.int64]], *, k: int = TOP
) -> dict[str, list[float]]:
    """Return `ndcg@k` and `mrr@k` of each group, linear gains; their means are the scores of a model.

    Args:
        scores_N, relevance_N: as in `ndcg`.
        groups: rows of each group that `can_be_ranked`, as `group_rows` has them.
        k: ranks that count.
    """
    return {
        f"ndcg@{k}": [ndcg(scores_N[rows], relevance_N[rows], k=k) for rows in groups],
        f"mrr@{k}": [mrr(scores_N[rows], relevance_N[rows], k=k) for rows in groups],
    }


def near_random_order(
    metric: str, scores: Sequence[float], relevance_N: NDArray[Any], groups_N: Sequence[Hashable]
) -> str | None:
    """Return a sentence where a model ranks no better than a random order does; None elsewhere.

    A score counts as no better up to two standard errors of its difference, group by group, above.

    Args:
        metric: `ndcg@k` or `mrr@k`.
        scores: of each group that can be ranked, in the order of `group_rows`.
        relevance_N, groups_N: of each row.
    """
    groups = [rows for rows in group_rows(groups_N) if can_be_ranked(relevance_N[rows])]
    random = ranking_scores(np.zeros(len(relevance_N)), relevance_N, groups)[metric]
    gain = np.asarray(scores) - random
    if gain.mean() > 2 * gain.std() / math.sqrt(len(gain)):
        return None
    score, chance = 100 * float(np.mean(scores)), 100 * float(np.mean(random))
    return f"{metric} {score:.2f} is near chance: a random order gets {chance:.2f} on these {len(gain):,} groups"
