"""From a network's stored dev outputs: its answers, and the confidence interval of its score.

Axes: R resamples, N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.files import read_json
from cutbert.fronts.paired import METRICS, Answers, percentiles
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
    return interval_of(read_json(path), metric) if path.is_file() else {}


def interval_of(stored: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """Return the interval of a score as a fact for cutbert.json, empty where it has none; arguments as below."""
    interval = score_interval(stored, metric)
    return {} if interval is None else {"score_interval": list(interval)}


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
