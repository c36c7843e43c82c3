"""What a page shows of a leaderboard: its table, its picture, its plan, and where the time went."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cutbert.checks import is_number
from cutbert.fronts.leaderboard import Leaderboard, LeaderboardEntry
from cutbert.fronts.leaderboard_view import bounds_words, dtype_of, limit_words, signed
from cutbert.pages.points import ReportedRun
from cutbert.table import points
from cutbert.train.run_record import flat

TOTAL = "total"


@dataclass(frozen=True)
class Column:
    """A column of the table: what a cell says, and by what number it sorts; None where there is nothing to say."""

    heading: str
    text: Callable[[LeaderboardEntry], str | None]
    value: Callable[[LeaderboardEntry], float | None] | None = None


COLUMNS = (
    Column("chosen", lambda entry: (entry.limit or "yes") if entry.chosen else None),
    Column("kind", lambda entry: entry.kind),
    Column("backend", lambda entry: entry.backend),
    Column("steps", lambda entry: f"{entry.steps:,}", lambda entry: entry.steps),
    Column("dev", lambda entry: points(entry.score), lambda entry: entry.score),
    Column(
        "95 % interval",
        lambda entry: None if entry.interval is None else "{:.1f} to {:.1f}".format(*(100 * x for x in entry.interval)),
        lambda entry: None if entry.interval is None else entry.interval[0],
    ),
    Column(
        "against uncut",
        lambda entry: None if entry.difference is None else difference_words(entry.difference),
        lambda entry: None if entry.difference is None else entry.difference["mean"],
    ),
    Column("select", lambda entry: points(entry.select_score), lambda entry: entry.select_score),
    Column("loss", lambda entry: None if entry.kl is None else f"{entry.kl:.3f}", lambda entry: entry.kl),
    Column("ms", lambda entry: f"{entry.latency_ms:.2f}", lambda entry: entry.latency_ms),
    Column("p95 ms", lambda entry: f"{entry.latency_p95_ms:.2f}", lambda entry: entry.latency_p95_ms),
    Column("texts/s", lambda entry: f"{entry.throughput_per_s:,.0f}", lambda entry: entry.throughput_per_s),
    Column("MB", lambda entry: f"{entry.file_bytes / 1e6:,.1f}", lambda entry: entry.file_bytes),
    Column("params M", lambda entry: f"{entry.params / 1e6:,.1f}", lambda entry: entry.params),
    Column("MACs M", lambda entry: f"{entry.macs / 1e6:,.1f}", lambda entry: entry.macs),
    Column("rounds", lambda entry: str(entry.rounds) if entry.rounds else None, lambda entry: entry.rounds),
    Column("train s", lambda entry: f"{entry.train_seconds:,.0f}", lambda entry: entry.train_seconds),
    Column("within limit", lambda entry: "yes" if entry.within_limit else None),
    Column("note", lambda entry: entry.note or None),
)


def tried_facts(run: int, source: ReportedRun) -> dict[str, Any] | None:
    """Return the facts about a run's leaderboard, None where it has none.

    Columns in which no entry has anything are left out.
    """
    board = source.leaderboard
    if board is None:
        return None
    columns = [column for column in COLUMNS if any(column.text(entry) for entry in board)]
    return {
        "run": run,
        "limits": limit_words(board),
        "tokenizer_ms": board.tokenizer_ms,
        "notes": board.notes,
        "headings": [column.heading for column in columns],
        "rows": [row_facts(entry, columns) for entry in board],
        "chart": {
            "metric": board.metric,
            "backend": board.backend,
            "latency_limits": latency_limits(board),
            "points": [point_facts(board, entry) for entry in board],
        },
        "plan": {name: plan_words(value) for name, value in flat(board.plan).items()},
        "seconds": seconds_by_stage(source.seconds),
    }


def row_facts(entry: LeaderboardEntry, columns: list[Column]) -> dict[str, Any]:
    """Return name and cells of an entry, each cell as its text and the number it sorts by."""
    cells = [(column.text(entry) or "", column.value and column.value(entry)) for column in columns]
    return {"name": entry.name, "is_chosen": entry.chosen, "cells": cells}


def point_facts(board: Leaderboard, entry: LeaderboardEntry) -> dict[str, Any]:
    """Return what the picture shows of an entry."""
    is_uncut = entry.kind == "teacher"
    return {
        "name": f"{entry.name}, {dtype_of(entry)}" if is_uncut or entry.backend != board.backend else entry.name,
        "kind": entry.kind,
        "backend": entry.backend,
        "score": entry.score,
        "interval": entry.interval,
        "latency_ms": entry.latency_ms,
        "quartiles_ms": None if None in (q := (entry.latency_q1_ms, entry.latency_q3_ms)) else q,
        "is_uncut": is_uncut,
        "is_chosen": entry.chosen,
    }


def difference_words(difference: Mapping[str, float]) -> str:
    return f"{signed(difference['mean'])} {bounds_words(difference['low'], difference['high'])}"


def plan_words(value: object) -> str:
    """Return a value of a plan as people read it.

    >>> plan_words([{"name": "layers-3", "steps": 400}, {"name": "sizes", "steps": 200.5}])
    'name layers-3, steps 400; name sizes, steps 200.5'
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plan_words(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ("; " if any(isinstance(each, Mapping) for each in value) else ", ").join(map(plan_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def latency_limits(board: Leaderboard) -> list[float]:
    """Return the limits on latency in ms, one or several."""
    given = board.limits.get("max_latency_ms")
    return [each for each in (given if isinstance(given, list | tuple) else [given]) if is_number(each)]


def seconds_by_stage(seconds: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """Return name, seconds and share of the longest stage, in order; the total last."""
    stages = {name: value for name, value in seconds.items() if name != TOTAL}
    longest = max(stages.values(), default=0)
    rows = [(name, value, value / longest if longest else 0.0) for name, value in stages.items()]
    return [*rows, (TOTAL, seconds[TOTAL], 0.0)] if TOTAL in seconds else rows
