"""Paired comparisons beside scikit-learn, beside known tests, and what may be said of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from cutbert.fronts import paired
from cutbert.fronts.paired import METRICS, Paired, compare, mcnemar, order_of, permutation

FOUND = Paired(0.02, 0.01, 0.03, 0.01, "permutation", (0.01, 0.03), 100)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "RESAMPLES", 2000)


def answers(truth: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return answers that are right on about a share of the rows."""
    wrong = np.random.default_rng(seed).random(len(truth)) > share
    return np.where(wrong, 1 - truth, truth)


@pytest.fixture
def truth() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, 300).astype(float)


def test_metrics_are_scikit_learns(truth: np.ndarray) -> None:
    said = answers(truth, 0.7, 1)
    assert METRICS["accuracy"](said, truth) == metrics.accuracy_score(truth, said)
    assert METRICS["matthews"](said, truth) == pytest.approx(metrics.matthews_corrcoef(truth, said))
    numbers = truth + np.random.default_rng(2).normal(size=300)
    assert METRICS["pearson"](numbers, truth) == pytest.approx(stats.pearsonr(numbers, truth).statistic)
    ties, places = np.round(numbers, 1), order_of(np.round(numbers, 1))  # values that are equal share a place
    rows = np.random.default_rng(3).integers(0, 300, (5, 300))
    expected = [stats.spearmanr(ties[each], truth[each]).statistic for each in rows]
    assert METRICS["spearman"](places[rows], truth[rows]) == pytest.approx(expected)
    assert METRICS["spearman"](places, truth) == pytest.approx(stats.spearmanr(ties, truth).statistic)
    assert METRICS["spearman"](0 * places, truth) == 0
    both = [[stats.spearmanr(each[row], truth[row]).statistic for row in rows] for each in (ties, said)]
    gaps = paired.gap(METRICS["spearman"], places[None], said[None], truth, rows)
    assert gaps == pytest.approx(np.subtract(*both)) and paired.resamples_for(METRICS["spearman"]) == 2_000
    hot, said_hot = truth.reshape(100, 3), said.reshape(100, 3)
    assert METRICS["f1"](said_hot, hot) == pytest.approx(metrics.f1_score(hot, said_hot, average="micro"))
    constant = np.ones(300)
    assert METRICS["matthews"](constant, truth) == METRICS["pearson"](constant, truth) == 0
    assert METRICS["f1"](0 * hot, 0 * hot) == 0


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_work_on_many_draws_at_once(metric: str, truth: np.ndarray) -> None:
    said, so = answers(truth, 0.8, 3), truth
    if metric == "f1":
        said, so = said.reshape(100, 3), so.reshape(100, 3)
    draws = np.random.default_rng(4).integers(0, len(so), (5, len(so)))
    wanted = [METRICS[metric](said[each], so[each]) for each in draws]
    np.testing.assert_allclose(METRICS[metric](said[draws], so[draws]), wanted)


@pytest.mark.parametrize("metric", METRICS)
def test_a_clear_difference_is_found_and_none_where_there_is_none(metric: str, truth: np.ndarray) -> None:
    good, poor, same = (answers(truth, share, seed) for share, seed in ((0.95, 1), (0.6, 2), (0.95, 3)))
    if metric == "mean":  # of scores, not of answers
        good, poor, same = ((each == truth).astype(float) for each in (good, poor, same))
    parts = [each.reshape(100, 3) if metric == "f1" else each for each in (good, poor, same, truth)]
    good, poor, same, so = parts
    better = compare(metric, [good, same], [poor, poor], so)
    assert better.verdict(0.01) == "smaller is better" and better.low > 0 and better.p_value < 0.01
    assert better.low < better.difference < better.high and better.rows == len(so)
    assert compare(metric, [poor], [good], so).verdict(0.01) == "full is better"
    equal = compare(metric, [good], [good], so)
    assert equal.difference == 0 and -equal.low == equal.high > 0 and equal.p_value == 1
    assert compare(metric, [good], [same], so).p_value > 0.05


def test_the_interval_is_the_normal_one_where_that_holds(truth: np.ndarray) -> None:
    one, other = answers(truth, 0.9, 1), answers(truth, 0.8, 2)
    found = compare("accuracy", [one], [other], truth)
    gains = (one == truth).astype(float) - (other == truth)
    half = 1.96 * gains.std() / np.sqrt(len(gains))
    assert found.low == pytest.approx(gains.mean() - half, abs=0.01)
    assert found.high == pytest.approx(gains.mean() + half, abs=0.01)
    assert found.test == "mcnemar" and compare("accuracy", [one] * 2, [other] * 2, truth).test == "permutation"


def test_mcnemar_is_the_sign_test_of_the_rows_that_differ() -> None:
    truth = np.zeros(10)
    one, other = np.array([1.0] * 1 + [0] * 9), np.array([0.0] + [1] * 6 + [0] * 3)
    assert mcnemar(one, other, truth) == pytest.approx(2 * (1 + 7) / 2**7)
    exact = permutation(METRICS["accuracy"], one[None], other[None], truth)
    assert exact == pytest.approx(mcnemar(one, other, truth))


def test_chance_alone_is_seldom_significant() -> None:
    truth, random = np.zeros(60), np.random.default_rng(5)
    p_values = [mcnemar(*(random.integers(0, 2, (2, 60)).astype(float)), truth) for _ in range(300)]
    assert np.mean(np.array(p_values) < 0.05) < 0.07


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "smaller is better"),
        ({"by_seed": (-0.01, 0.05)}, "no worse"),
        ({"p_value": 0.06}, "no worse"),
        ({"low": -0.005}, "no worse"),
        ({"low": -0.02}, "not decided"),
        ({"difference": -0.05, "low": -0.08, "high": -0.02, "by_seed": (-0.05, -0.05)}, "full is better"),
        ({"difference": -0.05, "low": -0.08, "high": -0.02, "by_seed": (-0.11, 0.01)}, "not decided"),
        ({"difference": -0.005, "low": -0.009, "high": -0.001, "by_seed": (-0.005, -0.005)}, "no worse"),
    ],
)
def test_no_more_is_said_than_the_numbers_hold(changes: dict, verdict: str) -> None:
    assert replace(FOUND, **changes).verdict(0.01) == verdict


@pytest.mark.parametrize(("rows", "verdict"), [(71, "not decided"), (277, "not decided"), (872, "no worse")])
def test_equal_answers_on_few_rows_say_little(rows: int, verdict: str) -> None:
    truth = np.random.default_rng(0).integers(0, 2, rows).astype(float)
    equal = compare("accuracy", [np.ones(rows)], [np.ones(rows)], truth)
    exact = stats.binomtest(0, rows).proportion_ci(method="exact")
    assert equal.high == -equal.low == pytest.approx(exact.high)
    assert equal.verdict(0.01) == verdict


def test_one_row_says_nothing() -> None:
    one = compare("accuracy", [np.ones(1)], [np.zeros(1)], np.ones(1))
    assert one.verdict(0.5) == "not decided" and (one.low, one.high) == (-1.0, 1.0)
