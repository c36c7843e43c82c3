"""Probes find what is linear in features, controls find nothing on dev and show what can be memorised."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from cutbert.analysis.probes import Labelled, Probe, fit_probe
from cutbert.errors import InputError
from cutbert.shape.head import HeadSpec

TWO = HeadSpec("single_label", ("no", "yes"))
SCORES = HeadSpec("regression", ("score",))


@pytest.fixture(autouse=True)
def no_warnings() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def parts(label, rows: int = 200, width: int = 6) -> tuple[Labelled, Labelled]:
    random = np.random.default_rng(0)
    features = random.normal(3.0, 10.0, size=(2 * rows, width)).astype(np.float32)
    labels = label(features - 3.0, random)
    return Labelled(features[:rows], labels[:rows]), Labelled(features[rows:], labels[rows:])


def test_linear_labels_are_found_and_shuffled_ones_are_not() -> None:
    train, dev = parts(lambda x, random: (x[:, 0] + x[:, 1] > 0).astype(np.int64))
    probe = fit_probe(TWO, "accuracy", train, dev)
    assert probe.score > 0.95 and probe.train_score > 0.95
    assert abs(probe.control - 0.5) < 0.12
    assert probe.selectivity == probe.score - probe.control
    assert probe.control_train_score < 0.7


def test_what_no_linear_model_sees_scores_like_chance() -> None:
    train, dev = parts(lambda x, random: (x[:, 0] * x[:, 1] > 0).astype(np.int64))
    assert abs(fit_probe(TWO, "accuracy", train, dev).score - 0.5) < 0.12


def test_a_wide_probe_learns_shuffled_labels_by_heart() -> None:
    train, dev = parts(lambda x, random: (x[:, 0] > 0).astype(np.int64), rows=100, width=300)
    probe = fit_probe(TWO, "accuracy", train, dev)
    assert probe.control_train_score > 0.9
    assert abs(probe.control - 0.5) < 0.15


def test_equals_scikit_learn_written_out() -> None:
    train, dev = parts(lambda x, random: (x[:, 0] + 8 * random.normal(size=len(x)) > 0).astype(np.int64))
    probe = fit_probe(TWO, "accuracy", train, dev, seed=3)
    means, scale = train.features.mean(0), train.features.std(0)
    model = LogisticRegression(C=probe.strength, tol=1e-3).fit((train.features - means) / scale, train.labels)
    assert probe.score == pytest.approx(model.score((dev.features - means) / scale, dev.labels), abs=0.01)
    assert probe == fit_probe(TWO, "accuracy", train, dev, seed=3)
    assert probe.control_train_score != fit_probe(TWO, "accuracy", train, dev, seed=4).control_train_score


def test_scores_by_ridge() -> None:
    train, dev = parts(lambda x, random: (x[:, 0] - x[:, 2] + random.normal(size=len(x))).astype(np.float32))
    probe = fit_probe(SCORES, "pearson", train, dev)
    assert probe.score > 0.97 and abs(probe.control) < 0.25
    means, scale = train.features.mean(0), train.features.std(0)
    model = Ridge(alpha=probe.strength).fit((train.features - means) / scale, train.labels)
    predicted = model.predict((dev.features - means) / scale)
    assert probe.score == pytest.approx(np.corrcoef(predicted, dev.labels)[0, 1], abs=1e-5)


def test_several_labels_some_of_which_all_or_no_text_has() -> None:
    def label(x, random):
        return np.stack([x[:, 0] > 0, x[:, 1] > 0, x[:, 2] > 1e9, x[:, 2] < 1e9], 1).astype(np.float32)

    train, dev = parts(label)
    probe = fit_probe(HeadSpec("multi_label", ("a", "b", "never", "always")), "f1", train, dev)
    assert probe.score > 0.95 > probe.control + 0.05


def test_a_rare_class_and_one_that_training_never_sees() -> None:
    train, dev = parts(lambda x, random: (x[:, 0] > 0).astype(np.int64))
    train.labels[5], dev.labels[5] = 2, 3
    probe = fit_probe(HeadSpec("single_label", ("a", "b", "c", "d")), "accuracy", train, dev)
    assert isinstance(probe, Probe) and 0.9 < probe.score < 1.0


def test_features_that_are_the_same_everywhere_give_the_most_frequent_class() -> None:
    train, dev = parts(lambda x, random: (random.random(len(x)) < 0.7).astype(np.int64))
    same = [Labelled(np.full_like(each.features, 0.1), each.labels) for each in (train, dev)]
    assert fit_probe(TWO, "accuracy", *same).score == dev.labels.mean()


@pytest.mark.parametrize(
    ("head", "labels", "message"),
    [
        (TWO, np.array([0, 1, 0, 1]), "probes must have at least 6 training texts, got 4"),
        (TWO, np.array([0] * 9 + [1]), "two classes with two training texts each, got fewer; draw more texts"),
        (SCORES, np.ones(9), "training texts of different scores, got one score"),
    ],
)
def test_labels_that_no_probe_can_learn_are_refused(head: HeadSpec, labels: np.ndarray, message: str) -> None:
    rows = Labelled(np.random.default_rng(0).normal(size=(len(labels), 3)), labels)
    with pytest.raises(InputError, match=message):
        fit_probe(head, "accuracy", rows, rows)
