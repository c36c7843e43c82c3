"""Linear probes: how well a linear model reads the task's labels out of a representation, beside shuffled labels.

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
UNSEEN = -1e9  # the logit of a class that no training text has


@dataclass(frozen=True)
class Labelled:
    """Texts as a probe sees them.

    Args:
        features: float [N, H].
        labels: as in Rows: int64 ids [N], float scores [N], or float multi-hot [N, C].
    """

    features: NDArray[Any]
    labels: NDArray[Any]


@dataclass(frozen=True)
class Probe:
    """How well a probe reads labels, as values of the task's metric.

    Args:
        score: on dev.
        control: of the same probe with shuffled labels, on dev with shuffled labels: what chance gives.
        selectivity: score less control.
        train_score: on the texts it was trained on.
        control_train_score: of the control on the texts it was trained on: what the probe can learn by heart.
        strength: the regularisation chosen: scikit-learn's C of a logistic regression, alpha of a ridge.
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
    """Return how well a linear model reads the labels out of features.

    Logistic regression for classes (one per label where several may hold), ridge regression for scores, on features
    standardised by the training texts. The strength of regularisation is the best of four by the task's metric in
    cross-validation on the training texts; dev is only scored.

    Args:
        head: the kind of the labels; of whole texts.
        metric: name of the task's metric.
        train: what the probe is trained on.
        dev: what it is scored on.
        seed: of folds and shuffling; the same seed shuffles every site's labels in the same way.

    Raises:
        InputError: fewer than 2 training texts a fold, fewer than two classes of two texts, or one score only.

    Source:
        Alain and Bengio 2016 (1610.01644) for probes of each layer; Hewitt and Liang 2019 (1909.03368) for control
        tasks and selectivity. Theirs gives each word a random label, which a probe can learn for words it sees again.
        Texts do not come again, so ours shuffles the texts' labels, and what the probe can learn by heart shows on its
        training texts.
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
    """Return the strength with the best mean score of held-out folds; of equals, the strongest regularisation."""
    from sklearn.model_selection import KFold, StratifiedKFold

    kind = StratifiedKFold if head.kind == "single_label" else KFold
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # rare classes are in some folds only
        folds = list(kind(PROBE_FOLDS, shuffle=True, random_state=seed).split(x_NH, labels))
    strengths = STRENGTHS["alpha"][::-1] if head.kind == "regression" else STRENGTHS["C"]
    found = []
    for strength in strengths:
        scores = []
        for inside, outside in folds:
            model = fitted(head, strength, x_NH[inside], labels[inside])
            scores.append(metrics_for(head, logits_of(head, model, x_NH[outside]), labels[outside])[metric])
        found.append(float(np.mean(scores)))
    return strengths[int(np.argmax(found))]


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
        warnings.simplefilter("ignore", ConvergenceWarning)  # a last digit of a probe's weights
        warnings.filterwarnings("ignore", message="Label (not )?.* is present in all training examples")
        return model.fit(x_NH, labels.astype(np.int64))


def logits_of(head: HeadSpec, model: Any, x_NH: NDArray[Any]) -> NDArray[np.float64]:
    """Return the outputs that `metrics_for` reads: [N, C], or [N, 1] of a regression."""
    if head.kind == "regression":
        return model.predict(x_NH)[:, None]
    decided = np.asarray(model.decision_function(x_NH), dtype=np.float64)
    if head.kind == "multi_label":
        return decided.reshape(len(x_NH), -1)
    logits = np.full((len(x_NH), len(head.labels)), UNSEEN)
    logits[:, model.classes_] = np.stack([-decided, decided], 1) if decided.ndim == 1 else decided
    return logits
