"""How much a frozen layer's features say about labels: one number per selector, larger is better.

Axes: N rows, F features, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]
Labels = NDArray[Any]
Score = Callable[[Features, Labels, int], float]

FOLDS = 5
PROBE_C = 0.01
QUANTILES = 5


@dataclass(frozen=True)
class Selector:
    """A way to say how good a depth is.

    Args:
        of_classes: features [N, F], class ids [N] and a seed to a score.
        of_numbers: the same for numbers; None: the numbers' quintiles are taken as classes (our choice).
        epsilon: how far below the best a depth may lie, by default.
        is_relative: epsilon is a share of the best score; else in the score's own unit.
        has_chance: scores of classes are balanced accuracies and those of numbers shares of variance, so it is known
            what chance and perfection would score.
    """

    of_classes: Score
    of_numbers: Score | None = None
    epsilon: float = 0.0
    is_relative: bool = False
    has_chance: bool = False

    def score(self, x_NF: Features, labels: Labels, seed: int) -> float:
        """Return the score of features for labels of any kind.

        Args:
            x_NF: features.
            labels: class ids [N] (integers), numbers [N] (floats), or multi-hot [N, C]: the mean over those labels
                that at least two rows have and two have not.
            seed: of folds and starts.
        """
        if labels.ndim == 2:
            columns = [column.astype(np.int64) for column in labels.T if 2 <= column.sum() <= len(column) - 2]
            return float(np.mean([self.of_classes(x_NF, column, seed) for column in columns]))
        if np.issubdtype(labels.dtype, np.integer):
            return self.of_classes(x_NF, labels, seed)
        if self.of_numbers is not None:
            return self.of_numbers(x_NF, labels, seed)
        return self.of_classes(x_NF, quantile_classes(labels), seed)

    def choose(self, scores: Sequence[float], epsilon: float | None = None) -> int:
        """Return the smallest depth whose score lies within epsilon of the best; scores begin at depth 1."""
        best = max(scores)
        allowed = self.epsilon if epsilon is None else epsilon
        least = best - allowed * (abs(best) if self.is_relative else 1.0)
        return next(depth for depth, score in enumerate(scores, 1) if score >= least)

    def gain(self, scores: Sequence[float], labels: Labels) -> float | None:
        """Return how far the best score lies on the way from chance (0) to perfection (1); None: not known."""
        chance = self._chance(labels) if self.has_chance else 1.0
        return None if chance == 1.0 else (max(scores) - chance) / (1.0 - chance)

    def _chance(self, labels: Labels) -> float:
        if labels.ndim == 2:
            return 0.5
        if not np.issubdtype(labels.dtype, np.integer):
            return 0.0
        return 1.0 / int((np.bincount(labels) >= 2).sum())


def can_be_scored(labels: Labels) -> bool:
    """Return whether labels say anything: two classes of two rows, two different numbers, a label some rows lack."""
    if labels.ndim == 2:
        return any(2 <= column.sum() <= len(column) - 2 for column in labels.T)
    if np.issubdtype(labels.dtype, np.integer):
        return int((np.bincount(labels) >= 2).sum()) >= 2
    return len(labels) >= 2 * QUANTILES and len(np.unique(labels)) >= 2


def quantile_classes(numbers: Labels) -> Labels:
    """Return which fifth of the numbers each lies in; fewer classes where many are equal."""
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, QUANTILES + 1)[1:-1]))
    classes = np.searchsorted(edges, numbers, side="right")
    return np.unique(classes, return_inverse=True)[1].astype(np.int64)


def scatter(x_NF: Features, labels: Labels, seed: int) -> float:
    """Return between-class over within-class scatter, traces of both.

    Source:
        Fukunaga 1990, Introduction to Statistical Pattern Recognition, section 10.2 (J4: the ratio of traces).
    """
    x_NF, labels = common(x_NF, labels)
    x_NF = np.asarray(x_NF, dtype=np.float64)
    mean_F, between, within = x_NF.mean(0), 0.0, 0.0
    for label in np.unique(labels):
        part = x_NF[labels == label]
        centre = part.mean(0)
        between += len(part) * float(((centre - mean_F) ** 2).sum())
        within += float(((part - centre) ** 2).sum())
    return between / max(within, np.finfo(np.float64).tiny)


def probe(x_NF: Features, labels: Labels, seed: int) -> float:
    """Return the balanced accuracy of a linear classifier on rows it was not fitted to.

    Source:
        Alain and Bengio 2016 (1610.01644). Standardised features, strong decay, classes of equal weight: our choice.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegression(C=PROBE_C, class_weight="balanced", max_iter=200)
    return cross_validated(make_pipeline(StandardScaler(), model), x_NF, labels, seed)


def ridge_probe(x_NF: Features, numbers: Labels, seed: int) -> float:
    """Return the share of variance that ridge regression explains on rows it was not fitted to."""
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = KFold(min(FOLDS, len(numbers)), shuffle=True, random_state=seed)
    model = make_pipeline(StandardScaler(), Ridge(alpha=float(len(numbers))))
    return float(r2_score(numbers, cross_val_predict(model, x_NF, numbers, cv=folds)))


def cross_validated(model: Any, x_NF: Features, labels: Labels, seed: int) -> float:
    """Return the balanced accuracy of a classifier over stratified folds; rows of a class seen once are left out."""
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    x_NF, labels = common(x_NF, labels)
    folds = min(FOLDS, int(np.bincount(labels).min()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a solver at its last round still gives a probe
        split = StratifiedKFold(folds, shuffle=True, random_state=seed)
        return float(balanced_accuracy_score(labels, cross_val_predict(model, x_NF, labels, cv=split)))


def common(x_NF: Features, labels: Labels) -> tuple[Features, Labels]:
    """Return the rows of classes with at least two, classes numbered from 0 again."""
    kept = np.isin(labels, np.flatnonzero(np.bincount(labels) >= 2))
    return x_NF[kept], np.unique(labels[kept], return_inverse=True)[1]


SELECTORS: dict[str, Selector] = {
    "probe": Selector(probe, ridge_probe, has_chance=True),
    "scatter": Selector(scatter, epsilon=0.1, is_relative=True),
}
