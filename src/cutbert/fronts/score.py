"""Scores the subnets of a supernet on select and dev, and stores dev's outputs row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cutbert.checks import is_number, list_of
from cutbert.data.tokens import Tokens
from cutbert.errors import DataError, RunError
from cutbert.files import read_json, write_json
from cutbert.fronts.entry import Entry
from cutbert.model.task_model import TaskModel
from cutbert.shape.cost import cost_of
from cutbert.shape.shape import EncoderShape
from cutbert.shape.space import GridPoint
from cutbert.shape.subnet import Subnet
from cutbert.train.evaluate import Scores, predict_logits, score
from cutbert.train.run_folder import RunFolder

PREDICTIONS = "predictions"
ARE_TAGS = list_of(list_of(lambda value: value is None or isinstance(value, str)))
ScoreFn = Callable[[TaskModel, Subnet, Tokens], Scores]


def score_points(
    run: RunFolder,
    model: TaskModel,
    points: Sequence[GridPoint],
    *,
    select: Tokens,
    dev: Tokens,
    metric: str,
    scores_of: ScoreFn | None = None,
    on_point: Callable[[Entry], None] | None = None,
) -> list[Entry]:
    """Return one scored entry per point, in order.

    Each point's dev outputs are written to predictions/NAME.json, whole or not at all. A point whose file
    exists is read, not run, so scoring that was killed resumes where it was. Where select and dev are the
    same object, a point runs once.

    Args:
        run: the run's folder, started.
        model: the supernet with its task head.
        points: the subnets to score.
        select: rows that choices are made on, with labels.
        dev: rows that are only reported, with labels.
        metric: the primary metric's name.
        scores_of: scores a subnet on rows; None compares its logits with their labels.
        on_point: called with each entry, for progress.

    Raises:
        DataError: select or dev has no labels.
    """
    if scores_of is None:
        check_labelled(select=select, dev=dev)
        scores_of = partial(label_scores, metric=metric)
    entries = []
    for point in points:
        path = run.path / PREDICTIONS / f"{point.name}.json"
        stored = read_stored(path, point.subnet)
        if stored is None:
            stored = score_point(model, point, select=select, dev=dev, metric=metric, scores_of=scores_of)
            if run.is_writer:
                write_json(path, stored)
        entries.append(entry_of(model, point, stored))
        if on_point is not None:
            on_point(entries[-1])
    return entries


def whole_point(shape: EncoderShape, name: str = "teacher") -> GridPoint:
    """Return the whole of a model as a point."""
    return GridPoint(name, 1.0, 1.0, 1.0, 1.0, Subnet.full(shape))


def check_labelled(**parts: Tokens) -> None:
    """Raise a DataError where rows have no labels."""
    for name, tokens in parts.items():
        if not tokens.is_labelled:
            raise DataError(f"the {name} rows must have labels to be scored against, got none")


def score_point(
    model: TaskModel, point: GridPoint, *, select: Tokens, dev: Tokens, metric: str, scores_of: ScoreFn
) -> dict[str, Any]:
    """Return the contents of predictions/NAME.json: scores on both splits, dev's outputs per row."""
    dev_scores = scores_of(model, point.subnet, dev)
    select_scores = dev_scores if select is dev else scores_of(model, point.subnet, select)
    return {
        "name": point.name,
        "subnet": point.subnet.to_json(),
        "metric": metric,
        "score": dev_scores.score,
        "metrics": dev_scores.metrics,
        "select_score": select_scores.score,
        "select_metrics": select_scores.metrics,
        **dev_scores.outputs,
    }


def label_scores(model: TaskModel, subnet: Subnet, tokens: Tokens, metric: str) -> Scores:
    return score(model.head_spec, metric, predict_logits(model, tokens, subnet=subnet), tokens)


def read_stored(path: Path, subnet: Subnet) -> dict[str, Any] | None:
    """Return the stored predictions of a point, or None where they are missing or belong to another subnet."""
    if not path.is_file():
        return None
    data: dict[str, Any] = read_json(path, RunError, read_outputs)
    return data if data.get("subnet") == subnet.to_json() else None


def read_outputs(data: Any) -> dict[str, Any]:
    """Return what a file of predictions/ holds.

    Raises:
        RunError: it has no score; or logits that are not a row of numbers for each label, or labels predicted for other
            words than have one.
    """
    if not is_number(data["score"]):
        raise RunError(f"score must be a number, got {data['score']!r}")
    if "logits" in data:
        logits, labels = np.asarray(data["logits"], dtype=np.float64), np.asarray(data["labels"], dtype=np.float64)
        if logits.ndim != 2 or labels.shape not in (logits.shape[:1], logits.shape):
            raise RunError("logits must be a row of numbers for each label")
    if "predicted" in data:
        both = [data["predicted"], data["labels"]]
        sizes = [list(map(len, each)) for each in both if ARE_TAGS(each)]
        if len(sizes) < 2 or sizes[0] != sizes[1]:
            raise RunError("predicted must have a label, or none, for each word of labels")
    return dict(data)


def entry_of(model: TaskModel, point: GridPoint, stored: dict[str, Any]) -> Entry:
    """Return a subnet's line on the front, without latency, from its stored outputs."""
    shape = point.subnet.shape_in(model.shape)
    cost = cost_of(shape, model.head_spec)
    return Entry(
        name=point.name,
        head_mult=point.head_mult,
        ffn_mult=point.ffn_mult,
        width_mult=point.width_mult,
        depth_mult=point.depth_mult,
        shape=shape,
        subnet=point.subnet,
        params=cost.params,
        macs=cost.macs,
        score=stored["score"],
        select_score=stored["select_score"],
        metrics=stored["metrics"],
        pooling=model.pooling if model.head_spec.is_sequence else None,
    )
