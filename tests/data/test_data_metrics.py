"""Metrics: equal to their formulas, 0.0 where they have no value."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cutbert.data.metrics import metrics_for
from cutbert.data.tasks import TASKS
from cutbert.errors import DataError
from cutbert.shape.head import HeadSpec

TWO = HeadSpec("single_label", ("0", "1"))
THREE = HeadSpec("single_label", ("a", "b", "c"))
SCORE = HeadSpec("regression", ("score",))
MANY = HeadSpec("multi_label", ("a", "b", "c"))


def test_two_classes() -> None:
    labels = np.array([1] * 6 + [0] * 4)
    predicted = np.array([1] * 4 + [0] * 2 + [1] * 1 + [0] * 3)  # 4 hits, 2 misses, 1 false alarm, 3 right rejections
    found = metrics_for(TWO, np.eye(2)[predicted] * 3 - 1, labels)
    assert found["accuracy"] == pytest.approx(0.7)
    assert found["f1"] == pytest.approx(2 * 4 / (2 * 4 + 2 + 1))
    assert found["matthews"] == pytest.approx((4 * 3 - 1 * 2) / math.sqrt(5 * 6 * 4 * 5))
    assert found["f1_macro"] == pytest.approx((8 / 11 + 6 / 9) / 2)


def test_three_classes() -> None:
    found = metrics_for(THREE, np.eye(3)[[0, 1, 1, 2]], np.array([0, 1, 2, 2]))
    assert found["accuracy"] == 0.75
    assert found["f1_macro"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert "f1" not in found


def test_classes_that_never_occur_count_in_macro_f1() -> None:
    assert metrics_for(THREE, np.eye(3)[[0, 1]], np.array([0, 1]))["f1_macro"] == pytest.approx(2 / 3)


def test_regression() -> None:
    labels = np.array([0, 1, 2, 3], dtype=np.float32)
    found = metrics_for(SCORE, np.array([[0.0], [1.0], [4.0], [9.0]]), labels)
    assert found["spearman"] == pytest.approx(1.0)
    assert found["pearson"] == pytest.approx(np.corrcoef([0, 1, 4, 9], labels)[0, 1])


def test_multi_label() -> None:
    labels = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]], dtype=np.float32)
    logits = np.array([[2.0, 1.0, 3.0], [-1.0, -1.0, -1.0], [0.0, 0.5, -2.0]])
    found = metrics_for(MANY, logits, labels)
    assert found["f1"] == pytest.approx(2 * 3 / (2 * 3 + 1))
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["f1_macro"] == pytest.approx((1 + 2 / 3 + 1) / 3)


@pytest.mark.filterwarnings("error")
def test_metrics_without_a_value_are_zero() -> None:
    assert metrics_for(TWO, np.zeros((4, 2)), np.array([0, 1, 1, 1]))["matthews"] == 0.0
    assert metrics_for(TWO, np.zeros((4, 2)), np.array([1, 1, 1, 1])) == dict.fromkeys(
        ("accuracy", "matthews", "f1", "f1_macro"), 0.0
    )
    for head, width in ((SCORE, 1), (TWO, 2), (MANY, 3)):
        labels = {"regression": np.arange(4.0), "single_label": np.arange(4) % 2, "multi_label": np.ones((4, 3))}
        found = metrics_for(head, np.full((4, width), np.nan), labels[head.kind])
        assert set(found.values()) == {0.0}
    constant = np.full((4, 1), 0.1)
    assert metrics_for(SCORE, constant, np.arange(4.0)) == {"pearson": 0.0, "spearman": 0.0}
    assert metrics_for(SCORE, constant[:1], np.arange(1.0)) == {"pearson": 0.0, "spearman": 0.0}
    assert metrics_for(MANY, np.full((2, 3), -1.0), np.zeros((2, 3)))["f1"] == 0.0


def test_primary_metrics_are_among_them() -> None:
    for task in TASKS.values():
        head = SCORE if task.regression else HeadSpec("single_label", task.labels)
        assert task.metric in metrics_for(head, np.eye(4)[:, : head.num_outputs], np.array([0, 1, 0, 1]))
    assert "f1" in metrics_for(MANY, np.eye(3), np.eye(3))


def test_heads_without_sequence_labels_are_refused() -> None:
    with pytest.raises(DataError, match="metrics must be asked for a head of sequences, got kind span"):
        metrics_for(HeadSpec("span"), np.zeros((1, 2)), np.zeros(1))
