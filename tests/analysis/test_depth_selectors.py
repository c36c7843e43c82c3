"""Selectors on features whose separability is known, beside plain formulas; and which depth they take."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cutbert.analysis.depth_selectors import SELECTORS, Selector, can_be_scored, quantile_classes, scatter
from cutbert.methods.depth_settings import KNOW_CHANCE

N, F = 200, 8


def features(distance: float, labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return noise, moved along one direction by the label."""
    x = np.random.default_rng(seed).normal(size=(len(labels), F)).astype(np.float32)
    x[:, 0] += distance * labels
    return x


@pytest.fixture
def classes() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 3, N)


@pytest.mark.parametrize("name", SELECTORS)
def test_more_separable_features_score_higher(name: str, classes: np.ndarray) -> None:
    selector = SELECTORS[name]
    scores = [selector.score(features(distance, classes), classes, 0) for distance in (0.0, 2.0, 8.0)]
    assert scores[0] < scores[1] < scores[2]
    numbers = classes + np.random.default_rng(2).normal(scale=0.1, size=N)
    scores = [selector.score(features(distance, numbers), numbers, 0) for distance in (0.0, 2.0, 8.0)]
    assert scores[0] < scores[1] < scores[2]
    hot = np.eye(3, dtype=np.float32)[classes]
    assert selector.score(features(0.0, classes), hot, 0) < selector.score(features(8.0, classes), hot, 0)


def test_noise_is_at_chance_and_an_answer_at_one(classes: np.ndarray) -> None:
    """Cross-validated, however many features there are; and whatever the share of the classes."""
    rare = (np.arange(N) % 10 == 0).astype(np.int64)
    wide = np.random.default_rng(3).normal(size=(N, 300)).astype(np.float32)
    assert SELECTORS["probe"].score(wide, classes, 0) == pytest.approx(1 / 3, abs=0.1)
    assert SELECTORS["probe"].score(wide, rare, 0) == pytest.approx(1 / 2, abs=0.15)
    assert SELECTORS["probe"].score(features(50.0, rare), rare, 0) > 0.95


def test_scatter_is_anova(classes: np.ndarray) -> None:
    x = features(1.0, classes)[:, :1]
    groups = [x[classes == label, 0].astype(np.float64) for label in range(3)]
    assert scatter(x, classes, 0) == pytest.approx(stats.f_oneway(*groups).statistic * 2 / (N - 3), rel=1e-4)


def test_a_rare_class_is_left_out_of_folds(classes: np.ndarray) -> None:
    classes[classes == 2] = 0
    classes[:4] = [2, 3, 3, 1]  # one row, two rows
    for name, selector in SELECTORS.items():
        assert np.isfinite(selector.score(features(2.0, classes), classes, 0)), name


@pytest.mark.parametrize(
    ("scores", "epsilon", "depth"),
    [
        ([0.7, 0.795, 0.8, 0.8], None, 3),
        ([0.7, 0.795, 0.8, 0.8], 0.01, 2),
        ([0.7, 0.795, 0.8, 0.8], 1.0, 1),
        ([0.5], None, 1),
    ],
)
def test_the_smallest_depth_within_epsilon(scores: list[float], epsilon: float | None, depth: int) -> None:
    assert SELECTORS["probe"].choose(scores, epsilon) == depth


def test_epsilon_may_be_a_share_of_the_best() -> None:
    relative = Selector(scatter, epsilon=0.1, is_relative=True)
    assert relative.choose([0.0089, 0.0091, 0.01]) == 2
    assert relative.choose([-1.2, -1.05, -1.0]) == 2


@pytest.mark.parametrize(
    ("name", "labels", "best", "gain"),
    [
        ("probe", np.array([0, 1] * 10), 0.6, 0.2),
        ("probe", np.array([0, 1, 2, 3] * 10), 0.4, 0.2),
        ("probe", np.eye(2)[[0, 1] * 10], 0.5, 0.0),
        ("probe", np.arange(20.0), 0.3, 0.3),  # share of variance
        ("probe", np.array([0, 1] * 10), 0.4, -0.2),
        ("scatter", np.array([0, 1] * 10), 0.6, None),
    ],
)
def test_gain_is_the_way_from_chance_to_perfection(
    name: str, labels: np.ndarray, best: float, gain: float | None
) -> None:
    assert SELECTORS[name].gain([best - 0.1, best], labels) == (None if gain is None else pytest.approx(gain))


def test_settings_name_those_that_know_chance() -> None:
    assert tuple(name for name, each in SELECTORS.items() if each.has_chance) == KNOW_CHANCE


def test_labels_that_tell_something() -> None:
    assert can_be_scored(np.array([0, 0, 1, 1])) and not can_be_scored(np.array([0, 0, 0, 1]))
    assert can_be_scored(np.arange(10.0)) and not can_be_scored(np.ones(10)) and not can_be_scored(np.arange(9.0))
    hot = np.zeros((6, 2), np.float32)
    assert not can_be_scored(hot)
    hot[:2, 0] = 1
    assert can_be_scored(hot)


def test_quintiles_are_equal_parts_and_fewer_where_values_repeat() -> None:
    assert np.bincount(quantile_classes(np.random.default_rng(0).permutation(100).astype(float))).tolist() == [20] * 5
    assert set(quantile_classes(np.array([0.0] * 50 + [1.0] * 50))) == {0, 1}
