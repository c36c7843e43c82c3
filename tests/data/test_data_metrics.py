"""Metrics: equal to their formulas, 0.0 where they have no value."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import f1_score

from cutbert.data.metrics import best_constant_f1, metrics_for, near_chance
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


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.1), (0.5, 0.3, 0.2)])
def test_answers_that_ignore_the_texts_are_near_chance_and_right_ones_are_not(shares: tuple[float, ...]) -> None:
    draw = np.random.default_rng(0)
    labels = draw.choice(len(shares), size=400, p=shares)
    constant = float((labels == np.bincount(labels).argmax()).mean())
    note = near_chance("accuracy", constant, labels)
    assert note == (
        f"accuracy {100 * constant:.2f} is near chance: the most frequent label, always given, gets "
        f"{100 * constant:.2f} on these 400 rows"
    )
    # Two standard errors of that share are the border.
    border = constant + 2 * np.sqrt(constant * (1 - constant) / 400)
    assert near_chance("accuracy", border - 1e-6, labels) and near_chance("accuracy", border + 1e-6, labels) is None
    assert near_chance("accuracy", 0.0, labels) and near_chance("accuracy", 1.0, labels) is None


@pytest.mark.parametrize("metric", ["matthews", "pearson"])
def test_random_answers_correlate_with_nothing(metric: str) -> None:
    draw = np.random.default_rng(1)
    found = []
    for _ in range(200):
        labels, answers = draw.integers(2, size=(2, 150))
        head = HeadSpec("single_label", ("a", "b")) if metric == "matthews" else HeadSpec("regression", ("x",))
        logits = np.eye(2)[answers] if metric == "matthews" else answers[:, None].astype(float)
        found.append(near_chance(metric, metrics_for(head, logits, labels)[metric], labels))
    assert np.mean([note is not None for note in found]) > 0.94
    assert near_chance(metric, 0.2, np.zeros(150)) is None and "0.00 on these 150 rows" in str(found[0] or found[1])


def test_the_best_constant_set_of_labels_is_the_best_of_all() -> None:
    draw = np.random.default_rng(2)
    for _ in range(20):
        labels = (draw.random((30, 4)) < draw.random(4)).astype(int)
        sets = [np.array(each) for each in itertools.product((0, 1), repeat=4) if any(each)]
        best = max(f1_score(labels, np.tile(each, (30, 1)), average="micro", zero_division=0) for each in sets)
        assert best_constant_f1(labels) == pytest.approx(best)
        assert near_chance("f1", best, labels) is not None
    assert near_chance("f1", 0.0, np.array([])) == (
        "f1 0.00 is near chance: the best set of labels, always given, gets 0.00"
    )
    assert near_chance("f1", 0.01, np.array([])) is None and near_chance("masked_accuracy", 0.0, labels) is None
