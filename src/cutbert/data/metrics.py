"""Scores of a model's outputs against labels, as fractions of 1."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cutbert.errors import DataError
from cutbert.shape.head import HeadSpec


@dataclass(frozen=True)
class ScoredOutputs:
    """The scores of a model's predictions, and the predictions.

    Args:
        metrics: by name, fractions of 1.
        outputs: what is stored of the predictions, by name: one JSON value per row.
        metric: name of the primary metric of these rows, where they have one of their own.
    """

    metrics: dict[str, float]
    outputs: dict[str, Any]
    metric: str | None = None


class SplitScorer(Protocol):
    """Has the right outputs of one split's tokens, decodes a model's outputs from its logits, and scores them."""

    @property
    def num_scored(self) -> int:
        """How many questions, sentences, groups, pairs, queries or texts are scored."""
        ...

    def __call__(self, logits: NDArray[np.float32]) -> ScoredOutputs: ...


def metrics_for(head: HeadSpec, logits: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """Return every metric of the head's kind; the primary one is among them.

    A metric that is undefined (constant predictions) is 0.0, and so is every metric of outputs that are not finite.

    Args:
        head: a sequence head.
        logits: [N, C].
        labels: int64 ids [N], float scores [N], or multi-hot [N, C].

    Returns:
        single_label: accuracy, matthews, f1_macro, and f1 of class 1 where there are two classes.
        regression: pearson, spearman. multi_label: f1 (micro), f1_macro, accuracy (all labels right).
    """
    if not head.is_sequence:
        raise DataError(f"metrics must be asked for a head of sequences, got kind {head.kind}")
    compute = {"single_label": class_metrics, "regression": score_metrics, "multi_label": multi_label_metrics}
    logits = np.asarray(logits, dtype=np.float64)
    finite = bool(np.isfinite(logits).all())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = compute[head.kind](np.nan_to_num(logits), np.asarray(labels))
    return {name: float(value) if finite and np.isfinite(value) else 0.0 for name, value in values.items()}


def near_chance(metric: str, score: float, labels: NDArray[Any]) -> str | None:
    """Return a sentence where a score is no better than that of an answer that ignores the texts; None elsewhere.

    That answer is the most frequent class (accuracy) or the best set of labels (f1); a correlation (matthews, pearson,
    spearman) with it is 0. A score counts as no better up to two standard errors above, of a share or of a correlation
    of 0.

    Args:
        metric: accuracy, matthews, pearson, spearman or f1; of others nothing is known.
        score: on the rows of the labels.
        labels: classes or numbers [N], or multi-hot [N, C] for f1; no rows, for f1 of entities, of which a constant
            answer finds none.
    """
    num_rows = len(labels)
    if metric in ("matthews", "pearson", "spearman"):
        chance, error, answer = 0.0, 1 / np.sqrt(max(1, num_rows)), "answers that ignore the texts get"
    elif metric == "accuracy":
        chance = float(np.unique(labels, return_counts=True)[1].max() / num_rows)
        error, answer = share_error(chance, num_rows), "the most frequent label, always given, gets"
    elif metric == "f1":
        chance = best_constant_f1(labels) if num_rows else 0.0
        error, answer = share_error(chance, num_rows), "the best set of labels, always given, gets"
    else:
        return None
    if score > chance + 2 * error:
        return None
    on = f" on these {num_rows:,} rows" if num_rows else ""
    return f"{metric} {100 * score:.2f} is near chance: {answer} {100 * chance:.2f}{on}"


def share_error(share: float, num_rows: int) -> float:
    """Return the standard error of a share of rows."""
    return float(np.sqrt(share * (1 - share) / max(1, num_rows)))


def best_constant_f1(labels: NDArray[Any]) -> float:
    """Return the best micro F1 of one set of labels given to every row: labels enter it from the most frequent on."""
    counts = np.sort(labels.sum(axis=0))[::-1]
    given = len(labels) * np.arange(1, len(counts) + 1)
    total = counts.sum()
    return float((2 * np.cumsum(counts) / (given + total)).max()) if total else 0.0


def class_metrics(logits: NDArray[Any], labels: NDArray[Any]) -> dict[str, Any]:
    from sklearn import metrics

    predicted = logits.argmax(axis=1)
    classes = range(logits.shape[1])
    values = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "matthews": metrics.matthews_corrcoef(labels, predicted),
        "f1_macro": metrics.f1_score(labels, predicted, labels=list(classes), average="macro", zero_division=0),
    }
    if len(classes) == 2:
        values["f1"] = metrics.f1_score(labels, predicted, zero_division=0)
    return values


def score_metrics(logits: NDArray[Any], labels: NDArray[Any]) -> dict[str, Any]:
    from scipy import stats

    predicted = logits[:, 0]
    if len(labels) < 2:
        return {"pearson": 0.0, "spearman": 0.0}
    return {
        "pearson": stats.pearsonr(labels, predicted).statistic,
        "spearman": stats.spearmanr(labels, predicted).statistic,
    }


def multi_label_metrics(logits: NDArray[Any], labels: NDArray[Any]) -> dict[str, Any]:
    from sklearn import metrics

    predicted, true = (logits > 0).astype(np.int64), labels.astype(np.int64)
    return {
        "f1": metrics.f1_score(true, predicted, average="micro", zero_division=0),
        "f1_macro": metrics.f1_score(true, predicted, average="macro", zero_division=0),
        "accuracy": metrics.accuracy_score(true, predicted),
    }
