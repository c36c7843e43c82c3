"""NDCG and MRR against figures worked by hand, scikit-learn, and every order of tied rows."""

import math
from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from cutbert.data.ranking import can_be_ranked, group_rows, mrr, ndcg, ranking_scores
from cutbert.errors import DataError


def test_ndcg_worked_by_hand():
    relevance = np.array([3, 2, 3, 0, 1, 2])  # the example of Wikipedia's page on discounted cumulative gain
    scores = -np.arange(6)
    assert ndcg(scores, relevance) == pytest.approx(6.861 / 7.141, abs=1e-4)
    ranked = 3 + 2 / math.log2(3)
    assert ndcg(scores, relevance, k=2) == pytest.approx(ranked / (3 + 3 / math.log2(3)))
    exponential = (7 + 3 / math.log2(3)) / (7 + 7 / math.log2(3))
    assert ndcg(scores, relevance, k=2, gain="exponential") == pytest.approx(exponential)


def test_ndcg_of_a_ranking_that_lacks_relevant_rows():
    found = ndcg(np.array([2.0, 1.0]), np.array([0, 1]), all_relevance_M=np.array([1, 1]))
    assert found == pytest.approx((1 / math.log2(3)) / (1 + 1 / math.log2(3)))
    assert math.isnan(ndcg(np.array([1.0, 2.0]), np.zeros(2)))


@pytest.mark.parametrize("num_scores", [3, 1000])
def test_ndcg_is_scikit_learns_with_and_without_ties(num_scores):
    rng = np.random.default_rng(num_scores)
    for k in (1, 3, 10):
        scores, relevance = rng.integers(0, num_scores, 14), rng.integers(0, 4, 14)
        assert ndcg(scores, relevance, k=k) == pytest.approx(ndcg_score(relevance[None], scores[None], k=k), abs=1e-12)


def test_mrr_worked_by_hand():
    scores = np.array([0.1, 0.9, 0.5, 0.4])
    assert mrr(scores, np.array([0, 0, 0, 2.5])) == pytest.approx(1 / 3)
    assert mrr(scores, np.array([1, 0, 0, 1]), k=2) == 0.0
    assert mrr(scores, np.zeros(4)) == 0.0


@pytest.mark.parametrize("k", [1, 2, 4, 10])
def test_tied_rows_count_as_the_mean_over_their_orders(k):
    rng = np.random.default_rng(k)
    for _ in range(6):
        scores, relevance = rng.integers(0, 2, 6), rng.integers(0, 2, 6)
        if not relevance.any():
            continue
        orders = [np.array(order) for order in permutations(range(6)) if (np.diff(scores[list(order)]) <= 0).all()]
        ranks = -np.arange(6)
        for measure in (ndcg, mrr):
            expected = np.mean([measure(ranks, relevance[order], k=k) for order in orders])
            assert measure(scores, relevance, k=k) == pytest.approx(expected, abs=1e-12)


def test_groups_need_not_be_in_one_piece():
    groups = group_rows(["b", "a", "b", "c", "a"])
    assert [rows.tolist() for rows in groups] == [[0, 2], [1, 4], [3]]
    assert group_rows([]) == []
    scores, relevance = np.array([1.0, 2, 2, 0, 1]), np.array([1, 0, 0, 1, 1])
    counted = [rows for rows in groups if can_be_ranked(relevance[rows])]
    assert ranking_scores(scores, relevance, counted) == {
        "ndcg@10": [pytest.approx(1 / math.log2(3))] * 2,
        "mrr@10": [0.5, 0.5],
    }
    assert not can_be_ranked(np.array([])) and not can_be_ranked(np.ones(3))


@pytest.mark.parametrize(
    ("scores", "relevance", "message"),
    [
        ([1.0, 2.0], [1], "must have one score and one relevance a row"),
        ([np.nan], [1], "scores of a ranking must be finite"),
        ([1.0], [-1], "relevance must be 0 or larger, got -1"),
    ],
)
def test_what_cannot_be_ranked_is_refused(scores, relevance, message):
    with pytest.raises(DataError, match=message):
        mrr(np.array(scores), np.array(relevance))
