"""Answers of every kind of head, and intervals beside the normal approximation and sizes where none can be known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from cutbert.data.entities import tag_metrics
from cutbert.errors import RunError
from cutbert.files import write_json
from cutbert.fronts import paired
from cutbert.fronts.outputs import (
    answers_of,
    chance_fact,
    chance_note,
    chance_of,
    interval_fact,
    score_interval,
    stored_difference,
)
from cutbert.fronts.score import read_outputs

LOGITS = [[0.5, -1.0], [-2.0, 3.0], [-0.1, -0.2]]
ROWS = 400


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "RESAMPLES", 2000)


@pytest.mark.parametrize(
    ("logits", "labels", "answers"),
    [
        (LOGITS, [0, 1, 1], [0.0, 1.0, 0.0]),
        ([[0.5], [-2.0]], [0.25, 1.5], [0.5, -2.0]),
        (LOGITS, [[1, 0], [0, 1], [1, 1]], [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]),
    ],
)
def test_answers_of_each_kind(logits: list[Any], labels: list[Any], answers: list[Any]) -> None:
    assert answers_of({"logits": logits, "labels": labels}).tolist() == answers


def outputs(share: float) -> dict[str, Any]:
    """Return outputs that are right on a share of the rows, half of which are of either class."""
    labels = np.arange(ROWS) % 2
    is_right = np.arange(ROWS) < share * ROWS
    said = np.where(is_right, labels, 1 - labels)
    return {"score": share, "labels": labels.tolist(), "logits": np.eye(2)[said].tolist()}


def test_the_interval_is_the_binomials() -> None:
    low, high = score_interval(outputs(0.8), "accuracy") or (0, 0)
    reach = 1.96 * (0.8 * 0.2 / ROWS) ** 0.5
    of_rows = [1.0] * 320 + [0.0] * 80  # the same answers, resampled
    assert (low, high) == pytest.approx(score_interval({"accuracy": of_rows}, "accuracy"), abs=0.003)
    assert (low, high) == pytest.approx((0.8 - reach, 0.8 + reach), abs=0.006)
    low, high = score_interval(outputs(0.8), "matthews") or (0, 0)
    assert low < 0.6 < high and high - low > 2 * reach


def pairs(noise: float) -> dict[str, Any]:
    """Return outputs of pairs: cosines that are the pairs' numbers with noise."""
    draw = np.random.default_rng(0)
    numbers = draw.normal(size=ROWS)
    cosines = numbers + noise * draw.normal(size=ROWS)
    score = stats.spearmanr(numbers, cosines).statistic
    return {"score": score, "pair_cosines": cosines.tolist(), "numbers": numbers.tolist()}


def test_the_interval_of_spearman_is_near_fishers() -> None:
    stored = pairs(1.0)
    low, high = score_interval(stored, "spearman") or (0, 0)
    error = np.sqrt((1 + stored["score"] ** 2 / 2) / (ROWS - 3))  # Bonett and Wright 2000
    expected = np.tanh(np.arctanh(stored["score"]) + 1.96 * np.array([-error, error]))
    assert (low, high) == pytest.approx(expected, abs=0.015)
    found = stored_difference(pairs(0.5), stored, "spearman") or {}
    assert found["mean"] == pytest.approx(pairs(0.5)["score"] - stored["score"]) and 0 < found["low"] < found["mean"]
    assert stored_difference(stored, {**stored, "numbers": stored["numbers"][::-1]}, "spearman") is None
    assert "near chance" in str(chance_of({**stored, "score": 0.05}, "spearman"))


def test_questions_have_a_score_each() -> None:
    low, high = score_interval({"ids": ["a", "b"], "f1": [0.0, 1.0], "exact_match": [0.0, 1.0]}, "f1") or (0, 0)
    assert (low, high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("stored", "metric"),
    [
        ({"labels": [["B-x"]], "predicted": [["O"]]}, "f1"),  # one sentence
        ({"losses": [1.0], "hits": [1], "counts": [2]}, "masked_accuracy"),
        ({"labels": [1], "logits": [[0.0, 1.0]]}, "accuracy"),
        ({"f1": [0.5]}, "f1"),
        (outputs(0.5), "rouge"),
    ],
)
def test_where_none_can_be_known(stored: dict[str, Any], metric: str) -> None:
    assert score_interval(stored, metric) is None


def test_the_fact_is_of_the_stored_file(tmp_path: Path) -> None:
    assert interval_fact(tmp_path, "net", "accuracy") == {}
    (tmp_path / "predictions").mkdir()
    write_json(tmp_path / "predictions" / "net.json", outputs(0.8))
    assert interval_fact(tmp_path, "net", "accuracy") == {
        "score_interval": list(score_interval(outputs(0.8), "accuracy"))
    }


def test_the_difference_is_of_the_same_rows() -> None:
    one, other = outputs(0.8), outputs(0.9)
    expected = paired.compare("accuracy", [answers_of(one)], [answers_of(other)], np.arange(ROWS) % 2.0)
    assert stored_difference(one, other, "accuracy") == {
        "mean": expected.difference,
        "low": expected.low,
        "high": expected.high,
    }
    found = stored_difference({"f1": [0.5, 0.0, 1.0]}, {"f1": [1.0, 0.0, 1.0]}, "f1") or {}
    least = 1 - 0.025 ** (1 / 3)  # as of `compare`: three rows with nearly the same answers say little
    assert tuple(found.values()) == pytest.approx((-1 / 6, -1 / 6 - least, -1 / 6 + least))
    for ours, theirs, metric in (
        (one, {**other, "labels": other["labels"][1:]}, "accuracy"),
        ({"f1": [0.5, 1.0]}, {"f1": [0.5]}, "f1"),
        ({"losses": [1.0]}, {"losses": [2.0]}, "masked_accuracy"),
    ):
        assert stored_difference(ours, theirs, metric) is None


def test_a_score_near_chance_has_a_note(tmp_path: Path) -> None:
    (tmp_path / "predictions").mkdir()

    def note(name: str, metric: str, **stored: object) -> str | None:
        write_json(tmp_path / "predictions" / f"{name}.json", stored)
        return chance_note(tmp_path, name, metric)

    labels = [0] * 60 + [1] * 40
    near = note("classes", "accuracy", score=0.6, labels=labels, logits=[[0.0, 1.0]] * 100)
    assert near is not None and chance_fact(tmp_path, "classes", "accuracy") == {"near_chance": near}
    assert note("good", "accuracy", score=0.9, labels=labels, logits=[[0.0, 1.0]] * 100) is None
    assert chance_fact(tmp_path, "good", "accuracy") == {} == chance_fact(tmp_path, "none", "accuracy")
    words = [["NOUN", "NOUN", "VERB"], ["NOUN"]] * 20
    assert "most frequent label, always given, gets 75.00 on these 80 rows" in str(
        note("words", "accuracy", score=0.76, labels=words, predicted=words)
    )
    assert note("entities", "f1", score=0.0, labels=[["B-X", "O"]], predicted=[["O", "O"]]) is not None
    assert note("answers", "f1", score=0.0, ids=["a"], answers=["x"], f1=[0.0]) is None


@pytest.mark.parametrize("metric", ["f1", "accuracy"])
def test_of_tagging_sentences_are_drawn(metric: str) -> None:
    """The metric of all sentences is the one of `tag_metrics`; of equal sentences it has no spread."""
    draw, names = np.random.default_rng(0), ["B-PER", "I-PER", "B-ORG", "O"]
    counts = draw.integers(1, 9, 120).tolist()
    true, wrong = (draw.integers(0, 4, sum(counts)) for _ in range(2))
    said = np.where(draw.random(len(true)) < 0.8, true, wrong)
    better = np.where(draw.random(len(true)) < 0.5, true, said)

    def rows(labels: Any) -> list[list[str]]:
        return [[names[i] for i in part] for part in np.split(labels, np.cumsum(counts)[:-1])]

    one, other = ({"labels": rows(true), "predicted": rows(each)} for each in (said, better))
    scores = [tag_metrics(names, each, true, counts)[metric] for each in (said, better)]
    low, high = score_interval(one, metric) or (0, 0)
    assert low < scores[0] < high and 0.03 < high - low < 0.25
    found = stored_difference(other, one, metric) or {}
    assert found["mean"] == pytest.approx(scores[1] - scores[0]) and 0 < found["low"] < found["mean"] < found["high"]
    same = {"labels": 5 * [["B-PER", "O"]], "predicted": 5 * [["B-PER", None]]}
    assert score_interval(same, metric) == ((1, 1) if metric == "f1" else (0.5, 0.5))
    assert stored_difference(same, one, metric) is None


@pytest.mark.parametrize("predicted", [None, [["O"]], [["O", 1]], "OO"])
def test_stored_labels_of_words_are_checked(predicted: Any) -> None:
    stored = {"score": 0.5, "labels": [["O", "B-X"]], "predicted": [[None, "B-X"]]}
    assert read_outputs(stored) == stored
    with pytest.raises(RunError, match="predicted must have a label, or none, for each word of labels"):
        read_outputs({**stored, "predicted": predicted})


def test_a_difference_of_each_questions_scores_has_their_interval() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.random((2, 300))
    gaps, found = one - other, stored_difference({"f1": one.tolist()}, {"f1": other.tolist()}, "f1") or {}
    error = gaps.std() / np.sqrt(300)
    expected = (gaps.mean(), gaps.mean() - 1.96 * error, gaps.mean() + 1.96 * error)
    assert tuple(found[key] for key in ("mean", "low", "high")) == pytest.approx(expected, abs=0.2 * error)
    assert stored_difference({"f1": one.tolist()}, {}, "f1") is None
