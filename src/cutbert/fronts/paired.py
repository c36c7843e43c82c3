"""Two networks on the same rows: the difference of their scores, its confidence interval, test and verdict.

Axes: R resamples, N rows, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
RESAMPLES_OF_RANKS = 2_000  # which take several times as long as other scores
ELEMENTS_AT_ONCE = 1 << 22  # array elements of the resamples computed together
SIGNIFICANT = 0.05

AnswerValues = NDArray[np.float64]
Metric = Callable[[AnswerValues, AnswerValues], AnswerValues]
Verdict = Literal["smaller is better", "no worse", "full is better", "not decided"]


@dataclass(frozen=True)
class Paired:
    """How one network's score differs from another's on the same rows, the mean over seeds.

    Args:
        difference: one's score minus the other's.
        low, high: its 95 % interval.
        p_value: probability of a difference at least as far from 0 if the two were equally good.
        test: the test it comes from: mcnemar or permutation.
        by_seed: the difference for each seed.
        rows: number of rows compared.
    """

    difference: float
    low: float
    high: float
    p_value: float
    test: str
    by_seed: tuple[float, ...]
    rows: int

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "by_seed": list(self.by_seed)}

    def verdict(self, margin: float) -> Verdict:
        """Return the verdict on the smaller network (one) against the full one (other).

        Better or worse only where interval and test agree and every seed has that sign; no worse only where the whole
        interval is above -margin.
        """
        is_significant = self.p_value < SIGNIFICANT
        if is_significant and self.low > 0 and min(self.by_seed) > 0:
            return "smaller is better"
        if self.low >= -margin:
            return "no worse"
        if is_significant and self.high < 0 and max(self.by_seed) < 0:
            return "full is better"
        return "not decided"


def compare(metric: str, one: Sequence[AnswerValues], other: Sequence[AnswerValues], truth: AnswerValues) -> Paired:
    """Return how two networks differ on the same rows.

    The interval is a percentile bootstrap: rows are resampled, the same rows for both networks and all seeds. For two
    networks with nearly the same answers it would have almost no width, however few the rows, so on either side it is
    at least as wide as the exact interval of a share that was 0 in N rows (our choice for metrics other than accuracy).

    For the accuracy of one seed the test is McNemar's exact one; otherwise the two networks' answers are swapped at
    random, row by row, the same rows for all seeds. Interval and test do not include the spread over other seeds.

    Args:
        metric: one of METRICS.
        one, other: the answers of each seed's network, the same seeds for both: classes or numbers [N], or 0 and 1
            [N, C]; for `spearman` as in `order_of`; for `mean` the score of each group, which then is what a row is
            here.
        truth: labels, in the form of the answers.

    Source:
        McNemar 1947; Dietterich 1998 (Approximate statistical tests for comparing supervised classifiers); Clopper and
        Pearson 1934 for a share of 0.
    """
    score = METRICS[metric]
    ours, theirs = np.stack(one), np.stack(other)
    by_seed = tuple(float(score(a, truth) - score(b, truth)) for a, b in zip(ours, theirs, strict=True))
    difference, low, high = difference_interval(metric, ours, theirs, truth)
    if metric == "accuracy" and len(ours) == 1:
        test, p_value = "mcnemar", mcnemar(ours[0], theirs[0], truth)
    else:
        test, p_value = "permutation", permutation(score, ours, theirs, truth)
    return Paired(difference, low, high, p_value, test, by_seed, len(truth))


def difference_interval(
    metric: str, ours: AnswerValues, theirs: AnswerValues, truth: AnswerValues
) -> tuple[float, float, float]:
    """Return the mean difference over seeds, and its interval as in `compare`; the answers [seeds, N, ...]."""
    score = METRICS[metric]
    difference = float(np.mean([score(a, truth) - score(b, truth) for a, b in zip(ours, theirs, strict=True)]))
    return difference, *widened(difference, *interval(score, ours, theirs, truth), len(truth))


def widened(difference: float, low: float, high: float, num_rows: int) -> tuple[float, float]:
    """Return the interval of a difference at least as wide on either side as `compare` says."""
    least = 1 - (SIGNIFICANT / 2) ** (1 / num_rows)
    return min(low, max(-1.0, difference - least)), max(high, min(1.0, difference + least))


def interval(score: Metric, ours: AnswerValues, theirs: AnswerValues, truth: AnswerValues) -> tuple[float, float]:
    """Return the 95 % interval of the difference, by bootstrapping the rows."""

    def statistic(rows_RN: NDArray[np.intp]) -> AnswerValues:
        return gap(score, ours, theirs, truth, rows_RN)

    return (-1.0, 1.0) if len(truth) < 2 else percentiles(statistic, truth.shape, resamples=resamples_for(score))


def gap(
    score: Metric, ours: AnswerValues, theirs: AnswerValues, truth: AnswerValues, rows: NDArray[np.intp]
) -> AnswerValues:
    """Return the difference of two networks' scores on some rows, [N] or [R, N], as the mean over seeds."""
    pairs, drawn = zip(ours, theirs, strict=True), truth[rows]
    if score is spearman:  # the truth is ranked once for all networks
        score, drawn = correlation_with_ranks, mean_ranks(drawn)
    return np.asarray(np.mean([score(a[rows], drawn) - score(b[rows], drawn) for a, b in pairs], axis=0))


def resamples_for(score: Metric) -> int:
    """Return how many resamples a score's interval comes from."""
    return RESAMPLES_OF_RANKS if score is spearman else RESAMPLES


def percentiles(
    statistic: Callable[..., AnswerValues], *shapes: tuple[int, ...], resamples: int | None = None
) -> tuple[float, float]:
    """Return the 95 % interval of a statistic of rows, by scipy's percentile bootstrap.

    Args:
        statistic: takes row indices [R, N] for each sample, returns [R].
        shapes: of the samples' data, [N, ...], N at least 2; several samples are resampled independently.
        resamples: how many; None for RESAMPLES.
    """
    from scipy import stats  # which loads slowly

    bounds = stats.bootstrap(
        [np.arange(shape[0]) for shape in shapes],
        lambda *rows_RN, axis: statistic(*rows_RN),
        n_resamples=resamples or RESAMPLES,
        batch=max(1, ELEMENTS_AT_ONCE // max(math.prod(shape) for shape in shapes)),
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(bounds.low), float(bounds.high)


def mcnemar(one: AnswerValues, other: AnswerValues, truth: AnswerValues) -> float:
    """Return the exact p-value of McNemar's test; 1 where the two are right on the same rows."""
    from scipy import stats  # which loads slowly

    only_one = int(((one == truth) & (other != truth)).sum())
    only_other = int(((one != truth) & (other == truth)).sum())
    return 1.0 if only_one + only_other == 0 else float(stats.binomtest(only_one, only_one + only_other).pvalue)


def permutation(score: Metric, ours: AnswerValues, theirs: AnswerValues, truth: AnswerValues) -> float:
    """Return the p-value of the difference under swaps of the two networks' answers, by scipy's permutation test."""
    from scipy import stats  # which loads slowly

    N = len(truth)
    both = np.concatenate([ours, theirs], axis=1)

    def statistic(one_RN: NDArray[np.intp], other_RN: NDArray[np.intp], axis: int) -> AnswerValues:
        # Rows 0..N-1 of `both` are our answers, N..2N-1 theirs: a swap within a pair swaps the answers of one row, and
        # every row stays in its place beside the truth.
        return np.mean([score(each[one_RN], truth) - score(each[other_RN], truth) for each in both], axis=0)

    rows = np.arange(N)
    result = stats.permutation_test(
        (rows, rows + N),
        statistic,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES - 1,
        batch=max(1, ELEMENTS_AT_ONCE // truth.size),
        axis=-1,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def accuracy(answers: AnswerValues, truth: AnswerValues) -> AnswerValues:
    return np.asarray((answers == truth).mean(axis=-1))


def matthews(answers: AnswerValues, truth: AnswerValues) -> AnswerValues:
    """Return Matthews' correlation of two classes; 0 where one side is constant."""
    predicted, actual = answers == 1, truth == 1
    parts = ((predicted, actual), (predicted, ~actual), (~predicted, actual), (~predicted, ~actual))
    tp, fp, fn, tn = ((a & b).sum(axis=-1).astype(np.float64) for a, b in parts)
    denominator = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return np.asarray(np.divide(tp * tn - fp * fn, denominator, out=np.zeros_like(denominator), where=denominator > 0))


def pearson(answers: AnswerValues, truth: AnswerValues) -> AnswerValues:
    """Return Pearson's correlation; 0 where one side is constant."""
    a, b = answers - answers.mean(-1, keepdims=True), truth - truth.mean(-1, keepdims=True)
    denominator = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return np.asarray(np.divide((a * b).sum(-1), denominator, out=np.zeros_like(denominator), where=denominator > 0))


def spearman(answers: AnswerValues, truth: AnswerValues) -> AnswerValues:
    """Return Spearman's correlation of places in two orders, as `order_of` gives them; 0 where one side is constant."""
    return correlation_with_ranks(answers, mean_ranks(truth))


def correlation_with_ranks(places: AnswerValues, ranks: AnswerValues) -> AnswerValues:
    """Return Spearman's correlation of places with the ranks of others."""
    return pearson(mean_ranks(places), ranks)


def mean_ranks(places_RN: AnswerValues) -> AnswerValues:
    """Return the rank of each of [N] or [R, N] places in their order, the mean of their ranks for equal ones.

    Places are whole numbers from 0, so that ranks are counts and no resample is sorted.
    """
    N = places_RN.shape[-1]
    rows_RN = places_RN.reshape(-1, N).astype(np.intp)
    size = int(rows_RN.max()) + 1
    shifted = rows_RN + size * np.arange(len(rows_RN))[:, None]
    counts = np.bincount(shifted.ravel(), minlength=size * len(rows_RN)).reshape(-1, size)
    ranks = counts.cumsum(axis=1) - (counts - 1) / 2
    return np.asarray(ranks.ravel()[shifted].reshape(places_RN.shape))


def order_of(values: Sequence[float]) -> AnswerValues:
    """Return the place of each value among the different ones, from 0.

    >>> order_of([0.5, 0.1, 0.5]).tolist()
    [1.0, 0.0, 1.0]
    """
    return np.unique(np.asarray(values, dtype=np.float64), return_inverse=True)[1].astype(np.float64)


def f1(answers: AnswerValues, truth: AnswerValues) -> AnswerValues:
    """Return micro-averaged F1 over all labels of all rows; 0 where no label is predicted or true."""
    hits = (answers * truth).sum(axis=(-2, -1))
    denominator = answers.sum(axis=(-2, -1)) + truth.sum(axis=(-2, -1))
    return np.asarray(np.divide(2 * hits, denominator, out=np.zeros_like(hits), where=denominator > 0))


def mean(scores: AnswerValues, truth: AnswerValues) -> AnswerValues:
    """Return the mean of scores that were computed before, one a group; the truth is in them."""
    return np.asarray(scores.mean(axis=-1))


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
    "f1": f1,
    "mean": mean,
}
