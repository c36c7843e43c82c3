"""Linear probes: how well a linear model predicts the task's labels from a representation, beside shuffled labels.

Axes: N texts, H features, C classes.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.analysis.settings import PROBE_FOLDS, SAME
from cutbert.data.metrics import metrics_for
from cutbert.errors import InputError
from cutbert.shape.head import HeadSpec

STRENGTHS = {"C": (1e-4, 1e-3, 1e-2, 1e-1), "alpha": (1e1, 1e2, 1e3, 1e4)}  # of standardised features
TOLERANCE, MAX_ITERATIONS = 1e-3, 300
UNSEEN = -1e9  # logit of a class without training texts


@dataclass(frozen=True)
class Labelled:
    """The inputs and targets of a probe.

    Args:
        features: float [N, H].
        labels: as in Rows: int64 ids [N], float scores [N], or float multi-hot [N, C].
    """

    features: NDArray[Any]
    labels: NDArray[Any]


@dataclass(frozen=True)
class Probe:
    """The scores of a probe, by the task's metric.

    Args:
        score: on dev.
        control: of a probe trained on shuffled labels, on dev with shuffled labels: the score of chance.
        selectivity: score - control.
        train_score: on its training texts.
        control_train_score: of the control on its training texts: how much the probe can memorise.
        strength: the chosen regularisation: scikit-learn's C of a logistic regression, alpha of a ridge.
    """

    score: float
    control: float
    selectivity: float
    train_score: float
    control_train_score: float
    strength: float

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def fit_probe(head: HeadSpec, metric: str, train: Labelled, dev: Labelled, *, seed: int = 0) -> Probe:
    """Return how well a linear model predicts the labels from features.

    Logistic regression for classes (one per label for multi-label tasks), ridge regression for scores, on features
    standardised by the training texts. The strength of regularisation is the best of four by the task's metric in
    cross-validation on the training texts; dev is only scored.

    Args:
        head: the kind of the labels; of whole texts.
        metric: name of the task's metric.
        train: features and labels that the probe is trained on.
        dev: features and labels that it is scored on.
        seed: of folds and shuffling; the same seed shuffles every site's labels in the same way.

    Raises:
        InputError: fewer than 2 training texts per fold, fewer than two classes with two texts, or only one score.

    Source:
        Alain and Bengio 2016 (1610.01644) for probes of each layer; Hewitt and Liang 2019 (1909.03368) for control
        tasks and selectivity. Their control gives each word a random label, which a probe can memorise for words that
        occur again. Texts do not, so ours shuffles the texts' labels, and memorising shows in control_train_score.
    """
    check_labels(head, train.labels)
    random = np.random.default_rng(seed)
    control = [each.labels[random.permutation(len(each.labels))] for each in (train, dev)]
    means, scale = train.features.mean(0), train.features.std(0)
    varies = scale > SAME * np.abs(train.features).max()
    x, x_dev = (np.where(varies, each.features - means, 0.0) / np.where(varies, scale, 1.0) for each in (train, dev))
    strength = best_strength(head, metric, x, train.labels, seed)

    def scores(train_labels: NDArray[Any], dev_labels: NDArray[Any]) -> tuple[float, float]:
        model = fitted(head, strength, x, train_labels)
        pairs = ((x, train_labels), (x_dev, dev_labels))
        on_train, on_dev = (metrics_for(head, logits_of(head, model, at), labels)[metric] for at, labels in pairs)
        return on_train, on_dev

    train_score, score = scores(train.labels, dev.labels)
    control_train_score, control_score = scores(*control)
    return Probe(score, control_score, score - control_score, train_score, control_train_score, strength)


def check_labels(head: HeadSpec, labels: NDArray[Any]) -> None:
    """Raise an InputError unless a probe can be trained and cross-validated on these labels."""
    if len(labels) < 2 * PROBE_FOLDS:
        raise InputError(f"probes must have at least {2 * PROBE_FOLDS} training texts, got {len(labels)}")
    counts = np.unique(labels, return_counts=True)[1]
    if head.kind == "single_label" and (counts > 1).sum() < 2:
        raise InputError("probes must have two classes with two training texts each, got fewer; draw more texts")
    if head.kind == "regression" and len(counts) < 2:
        raise InputError("probes must have training texts of different scores, got one score")


def best_strength(head: HeadSpec, metric: str, x_NH: NDArray[Any], labels: NDArray[Any], seed: int) -> float:
    """Return the strength with the best mean score on held-out folds; among equals the strongest regularisation."""
    from sklearn.model_selection import KFold, StratifiedKFold

    kind = StratifiedKFold if head.kind == "single_label" else KFold
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # rare classes are in some folds only
        folds = list(kind(PROBE_FOLDS, shuffle=True, random_state=seed).split(x_NH, labels))
    strengths = STRENGTHS["alpha"][::-1] if head.kind == "regression" else STRENGTHS["C"]
    means = []
    for strength in strengths:
        scores = []
        for inside, outside in folds:
            model = fitted(head, strength, x_NH[inside], labels[inside])
            scores.append(metrics_for(head, logits_of(head, model, x_NH[outside]), labels[outside])[metric])
        means.append(float(np.mean(scores)))
    return strengths[int(np.argmax(means))]


def fitted(head: HeadSpec, strength: float, x_NH: NDArray[Any], labels: NDArray[Any]) -> Any:
    """Return a fitted linear model of scikit-learn."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    if head.kind == "regression":
        return Ridge(alpha=strength).fit(x_NH, labels)
    model: Any = LogisticRegression(C=strength, tol=TOLERANCE, max_iter=MAX_ITERATIONS)
    if head.kind == "multi_label":
        model = OneVsRestClassifier(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it concerns the last digits of a probe's weights
        warnings.filterwarnings("ignore", message="Label (not )?.* is present in all training examples")
        return model.fit(x_NH, labels.astype(np.int64))


def logits_of(head: HeadSpec, model: Any, x_NH: NDArray[Any]) -> NDArray[np.float64]:
    """Return a probe's outputs as `metrics_for` takes them: [N, C], or [N, 1] for regression."""
    if head.kind == "regression":
        return model.predict(x_NH)[:, None]
    decided = np.asarray(model.decision_function(x_NH), dtype=np.float64)
    if head.kind == "multi_label":
        return decided.reshape(len(x_NH), -1)
    logits = np.full((len(x_NH), len(head.labels)), UNSEEN)
    logits[:, model.classes_] = np.stack([-decided, decided], 1) if decided.ndim == 1 else decided
    return logits
