"""From stored dev outputs: a network's answers, the intervals of scores and differences, and what is near chance.

Axes: R resamples, N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.data.metrics import near_chance
from cutbert.files import read_json
from cutbert.fronts.paired import METRICS, Answers, compare, percentiles
from cutbert.fronts.score import PREDICTIONS


def answers_of(stored: Mapping[str, Any]) -> Answers:
    """Return the predicted class of each row, the number in regression, or 0 and 1 for each label [N, C]."""
    logits = np.asarray(stored["logits"], dtype=np.float64)
    if np.ndim(stored["labels"]) == 2:
        return (logits > 0).astype(np.float64)
    return logits[:, 0] if logits.shape[1] == 1 else logits.argmax(axis=1).astype(np.float64)


def interval_fact(run: str | Path, name: str, metric: str) -> dict[str, Any]:
    """Return the interval of a network's dev score as a fact for cutbert.json, empty where it is not known.

    Args:
        run: run folder with its predictions.
        name: of its entry.
        metric: of the run.
    """
    path = Path(run) / PREDICTIONS / f"{name}.json"
    interval = score_interval(read_json(path), metric) if path.is_file() else None
    return {} if interval is None else {"score_interval": list(interval)}


def chance_note(run: str | Path, name: str, metric: str) -> str | None:
    """Return a sentence where a network's dev score is near chance, by its stored outputs; None where it is not.

    Of question answering and plain text nothing is known.
    """
    path = Path(run) / PREDICTIONS / f"{name}.json"
    stored = read_json(path) if path.is_file() else {}
    if "labels" not in stored:
        return None
    if "logits" in stored:
        return near_chance(metric, stored["score"], np.asarray(stored["labels"]))
    words = [] if metric == "f1" else [label for row in stored["labels"] for label in row]
    return near_chance(metric, stored["score"], np.asarray(words))


def chance_fact(run: str | Path, name: str, metric: str) -> dict[str, str]:
    """Return the note that a network's dev score is near chance as a fact for cutbert.json; empty where it is not."""
    note = chance_note(run, name, metric)
    return {} if note is None else {"near_chance": note}


def difference_interval(run: str | Path, one: str, other: str, metric: str) -> tuple[float, float] | None:
    """Return the paired 95 % interval of one network's dev score minus another's, by their stored outputs.

    None for scores of words (tagging) and of plain text, and where outputs are not stored.
    """
    paths = [Path(run) / PREDICTIONS / f"{name}.json" for name in (one, other)]
    if not all(path.is_file() for path in paths):
        return None
    ours, theirs = map(read_json, paths)
    if isinstance(ours.get(metric), list):
        gaps = np.asarray(ours[metric], dtype=np.float64) - np.asarray(theirs[metric], dtype=np.float64)
        return None if len(gaps) < 2 else percentiles(lambda rows_RN: gaps[rows_RN].mean(axis=-1), gaps.shape)
    if "logits" not in ours or metric not in METRICS or len(ours["labels"]) < 2:
        return None
    found = compare(metric, [answers_of(ours)], [answers_of(theirs)], np.asarray(ours["labels"], dtype=np.float64))
    return found.low, found.high


def score_interval(stored: Mapping[str, Any], metric: str) -> tuple[float, float] | None:
    """Return the 95 % bootstrap interval of a score, None for scores of words (tagging) and of plain text.

    Args:
        stored: a file of predictions/: labels and logits, or a list of each question's score by the metric's name.
        metric: one of METRICS, or the name of such a list.
    """
    if isinstance(stored.get(metric), list):
        of_rows = np.asarray(stored[metric], dtype=np.float64)
        return None if len(of_rows) < 2 else percentiles(lambda rows_RN: of_rows[rows_RN].mean(axis=-1), of_rows.shape)
    if "logits" not in stored or metric not in METRICS or len(stored["labels"]) < 2:
        return None
    answers, truth = answers_of(stored), np.asarray(stored["labels"], dtype=np.float64)

    def score(rows_RN: NDArray[np.intp]) -> Answers:
        return METRICS[metric](answers[rows_RN], truth[rows_RN])

    return percentiles(score, truth.shape)
