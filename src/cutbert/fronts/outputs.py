"""From stored dev outputs: a network's answers, the intervals of scores and differences, and what is near chance.

Axes: R resamples, N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.data.entities import tag_counts
from cutbert.data.metrics import near_chance
from cutbert.data.ranking import near_random_order
from cutbert.errors import RunError
from cutbert.files import read_json
from cutbert.fronts.leaderboard import difference_of
from cutbert.fronts.paired import (
    METRICS,
    SIGNIFICANT,
    AnswerValues,
    difference_interval,
    order_of,
    percentiles,
    resamples_for,
    widened,
)
from cutbert.fronts.score import PREDICTIONS, read_outputs


def answers_of(stored: Mapping[str, Any]) -> AnswerValues:
    """Return the predicted class of each row, the number in regression, or 0 and 1 for each label [N, C].

    Of pairs that an embedding model is judged by: the places of their cosines in order.
    """
    if "pair_cosines" in stored:
        return order_of(stored["pair_cosines"])
    logits = np.asarray(stored["logits"], dtype=np.float64)
    if np.ndim(stored["labels"]) == 2:
        return (logits > 0).astype(np.float64)
    return logits[:, 0] if logits.shape[1] == 1 else logits.argmax(axis=1).astype(np.float64)


def truth_of(stored: Mapping[str, Any]) -> AnswerValues:
    """Return the labels in the form of the answers."""
    return order_of(stored["numbers"]) if "numbers" in stored else np.asarray(stored["labels"], dtype=np.float64)


def can_be_resampled(stored: Mapping[str, Any], metric: str) -> bool:
    """Return whether answers and labels of each row are there, at least two, from which the metric is computed."""
    rows = stored.get("numbers" if metric == "spearman" else "labels", ())
    has_answers = ("pair_cosines" if metric == "spearman" else "logits") in stored
    return has_answers and metric in METRICS and len(rows) >= 2


def shares_of(stored: Mapping[str, Any], metric: str) -> AnswerValues | None:
    """Return two numbers for each row, [N, 2]: the score is the sum of the first divided by that of the second.

    So it is of questions and queries, whose score is a mean, and of tagged sentences; None for others.
    """
    if isinstance(stored.get(metric), list):
        of_rows = np.asarray(stored[metric], dtype=np.float64)
        return np.stack([of_rows, np.ones_like(of_rows)], axis=1)
    if "predicted" in stored and metric in ("f1", "accuracy"):
        return tag_counts(metric, stored["predicted"], stored["labels"])
    return None


def ratio(shares: AnswerValues) -> AnswerValues:
    """Return the scores of rows [..., N, 2] as `shares_of` gives them; 0 where nothing is predicted or true."""
    sums = shares.sum(axis=-2)
    return np.asarray(np.divide(sums[..., 0], sums[..., 1], out=np.zeros(sums.shape[:-1]), where=sums[..., 1] > 0))


def stored_outputs(run: str | Path, name: str) -> dict[str, Any]:
    """Return what a run stored of a network's dev outputs, empty where it stored nothing."""
    path = Path(run) / PREDICTIONS / f"{name}.json"
    stored: dict[str, Any] = read_json(path, RunError, read_outputs) if path.is_file() else {}
    return stored


def interval_fact(run: str | Path, name: str, metric: str) -> dict[str, Any]:
    """Return the interval of a network's dev score as a fact for cutbert.json, empty where it is not known.

    Args:
        run: run folder with its predictions.
        name: of its entry.
        metric: of the run.
    """
    return interval_of(stored_outputs(run, name), metric)


def interval_of(stored: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """Return the interval of a score as a fact for cutbert.json, empty where it has none; arguments as below."""
    interval = score_interval(stored, metric)
    return {} if interval is None else {"score_interval": list(interval)}


def chance_note(run: str | Path, name: str, metric: str) -> str | None:
    """Return a sentence where a network's dev score is near chance, by its stored outputs; None where it is not."""
    return chance_of(stored_outputs(run, name), metric)


def chance_of(stored: Mapping[str, Any], metric: str) -> str | None:
    """Return a sentence where a score is near chance, None where it is not; arguments as in `score_interval`.

    Of question answering and plain text nothing is known.
    """
    if metric == "spearman" and "numbers" in stored:
        return near_chance(metric, stored["score"], np.asarray(stored["numbers"]))
    if "labels" not in stored:
        return None
    if "groups" in stored:
        return near_random_order(metric, stored[metric], np.asarray(stored["labels"]), stored["groups"])
    if "logits" in stored:
        return near_chance(metric, stored["score"], np.asarray(stored["labels"]))
    words = [] if metric == "f1" else [label for row in stored["labels"] for label in row]
    return near_chance(metric, stored["score"], np.asarray(words))


def chance_fact(run: str | Path, name: str, metric: str) -> dict[str, str]:
    """Return the note that a network's dev score is near chance as a fact for cutbert.json; empty where it is not."""
    note = chance_note(run, name, metric)
    return {} if note is None else {"near_chance": note}


def score_interval(stored: Mapping[str, Any], metric: str) -> tuple[float, float] | None:
    """Return the 95 % bootstrap interval of a score, None for plain text; of tagging sentences are drawn.

    Of accuracy it is exact: the number of right answers in a resample is binomial.

    Args:
        stored: a file of predictions/: labels and logits, labels of words and predicted ones, cosines of pairs and
            their numbers, or a list of each question's score by the metric's name.
        metric: one of METRICS, or the name of such a list.
    """
    shares = shares_of(stored, metric)
    if shares is not None:
        return None if len(shares) < 2 else percentiles(lambda rows_RN: ratio(shares[rows_RN]), shares.shape)
    if not can_be_resampled(stored, metric):
        return None
    answers, truth = answers_of(stored), truth_of(stored)
    if metric == "accuracy":
        from scipy import stats  # which loads slowly

        bounds = stats.binom.ppf((SIGNIFICANT / 2, 1 - SIGNIFICANT / 2), len(truth), (answers == truth).mean())
        return float(bounds[0]) / len(truth), float(bounds[1]) / len(truth)

    def score(rows_RN: NDArray[np.intp]) -> AnswerValues:
        return METRICS[metric](answers[rows_RN], truth[rows_RN])

    return percentiles(score, truth.shape, resamples=resamples_for(METRICS[metric]))


def stored_difference(stored: Mapping[str, Any], uncut: Mapping[str, Any], metric: str) -> dict[str, float] | None:
    """Return mean, low and high of a network's score less the uncut model's on the same rows, a 95 % interval.

    Args:
        stored, uncut: files of predictions/ of the same rows.
        metric: one of METRICS, or the name of a list of each question's score.

    Returns:
        As an entry of a leaderboard has it; None where it cannot be known, as in score_interval, or where the rows
        differ.
    """
    ours, theirs = shares_of(stored, metric), shares_of(uncut, metric)
    if ours is not None and theirs is not None:
        if len(ours) != len(theirs) or len(ours) < 2 or stored.get("labels") != uncut.get("labels"):
            return None
        mean = float(ratio(ours) - ratio(theirs))
        low, high = percentiles(lambda rows_RN: ratio(ours[rows_RN]) - ratio(theirs[rows_RN]), ours.shape)
        return difference_of(mean, *widened(mean, low, high, len(ours)))
    if not (can_be_resampled(stored, metric) and can_be_resampled(uncut, metric)):
        return None
    truth = truth_of(stored)
    if not np.array_equal(truth, truth_of(uncut)):
        return None
    return difference_of(*difference_interval(metric, answers_of(stored)[None], answers_of(uncut)[None], truth))
