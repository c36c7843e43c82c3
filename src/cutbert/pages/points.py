"""A run and its networks as plain, checked values, without anything about their display."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cutbert.checks import is_number
from cutbert.errors import RunError
from cutbert.fronts.entry import LATENCIES, Entry
from cutbert.fronts.leaderboard import Leaderboard
from cutbert.shape.cost import BYTES_PER_PARAM
from cutbert.shape.shape import EncoderShape

PointKind = Literal["teacher", "subnet", "alternative"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One scored network.

    Args:
        name: unique in its run.
        kind: a subnet can be picked; the teacher and alternatives are shown for comparison.
        score, select_score: fractions of 1; no select_score where it was scored on dev alone.
        params, macs: its cost.
        interval: 95 % interval of score over dev's rows, where it is known.
        latencies: by backend, its times with a front's names.
        shape: its sizes; None where only its costs are known.
        pooling: what its head of whole texts reads, cls or mean; None for another head, or not known.
        kept: for each layer of `shape` the uncut model's layer it comes from; None where there is no uncut model.
        on_front: as in its front, by select_score and macs.
        commands: the commands that make it, in order.
        pick: the command that cuts it out of its run; None where no limit selects it.
    """

    name: str
    kind: PointKind
    score: float
    params: int
    macs: int
    select_score: float | None = None
    interval: tuple[float, float] | None = None
    latencies: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    shape: EncoderShape | None = None
    pooling: str | None = None
    kept: tuple[int, ...] | None = None
    on_front: bool = False
    commands: tuple[str, ...] = ()
    pick: str | None = None

    @property
    def bytes(self) -> int:
        """Size of the weights in float32."""
        return BYTES_PER_PARAM * self.params


@dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """A finished run that a report shows.

    Args:
        path: as the user gave it.
        name: its name on the page, unique.
        command, line: the verb and the whole command line.
        settings: of the run.
        metric: name of the primary metric; None where nothing is scored.
        select_is_dev: whether choices were made on dev itself.
        points: its networks; empty where nothing is scored.
        uncut: the shape its networks were cut from, where there is one.
        measured: by backend, the conditions of its latencies.
        stages: training curves by stage and quantity, as pairs of step and value.
        pictures: by title, an image as a data URI.
        notes: for the reader.
        warnings: for the reader, before anything else.
        headline: what was given up for what, in one line.
        leaderboard: everything that a run of fit tried.
        candidates: the networks of the leaderboard that have a shape of their own, for its drawings.
        seconds: time spent by stage.
    """

    path: str
    name: str
    command: str
    line: str
    settings: Mapping[str, Any]
    metric: str | None = None
    select_is_dev: bool = False
    points: tuple[Point, ...] = ()
    uncut: EncoderShape | None = None
    measured: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stages: Mapping[str, Mapping[str, list[tuple[int, float]]]] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    headline: str | None = None
    leaderboard: Leaderboard | None = None
    candidates: tuple[Point, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def seed(self) -> int | None:
        train = self.settings.get("train")
        return train.get("seed") if isinstance(train, Mapping) else None

    @property
    def task(self) -> str:
        """The data and metric of the scores; only runs of the same task can be compared."""
        data = self.settings.get("data")
        data = data if isinstance(data, Mapping) else {}
        files = data.get("dev") or data.get("train") or ()
        rows = data.get("task") or ", ".join(str(each) for each in files) or "unnamed data"
        most = data.get("max_eval_samples")
        return f"{rows}, {self.metric}" + ("" if most is None else f", at most {most} rows")


def point_of(entry: Entry, kind: PointKind, backend: str | None) -> Point:
    """Return an entry of a front as a point.

    Args:
        entry: with scores, and latencies where measured.
        kind: teacher or subnet.
        backend: of its latencies.
    """
    times = {name: value for name in LATENCIES if (value := getattr(entry, name)) is not None}
    return Point(
        name=entry.name,
        kind=kind,
        score=entry.score,
        select_score=entry.select_score,
        params=entry.params,
        macs=entry.macs,
        latencies={} if backend is None or "latency_ms" not in times else {backend: times},
        shape=entry.shape,
        pooling=entry.pooling,
        kept=tuple(layer.index for layer in entry.subnet.layers),
        on_front=entry.on_front,
    )


def check_numbers(where: str, name: str, values: Mapping[str, Any]) -> None:
    """Raise a RunError with every value that is not a finite number."""
    wrong = [f"{where}: {key} of {name} must be a number, got {each!r}" for key, each in values.items()
             if not is_number(each)]  # fmt: skip
    if wrong:
        raise RunError(*wrong)
