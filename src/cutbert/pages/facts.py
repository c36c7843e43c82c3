"""Collects the contents of a page, for the template and, as JSON, for the scripts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cutbert.fronts.leaderboard_view import KINDS
from cutbert.fronts.view import noise_warning, spread_lines
from cutbert.pages.drawing import Drawing, draw, scale_of
from cutbert.pages.points import Point, ReportedRun
from cutbert.pages.repeats import Spread, spreads
from cutbert.pages.tried import tried_facts
from cutbert.shape.pooling import fits_stock

NUM_COLOURS = NUM_MARKERS = 6
ROUNDED = ("torch-bf16", "onnx-int8")  # backends for latency only: a front's scores are those of the float32 network
COSTS = (
    {"key": "macs", "label": "multiply-adds at 128 tokens, millions", "unit": "M", "per": 1e6, "limit": "--max-macs"},
    {"key": "params", "label": "parameters, millions", "unit": "M", "per": 1e6, "limit": "--max-params"},
    {"key": "bytes", "label": "bytes of float32 weights, MB", "unit": "MB", "per": 1e6, "limit": "--max-bytes"},
)


def facts_of(sources: Sequence[ReportedRun]) -> dict[str, Any]:
    """Return everything the template uses: runs, points, drawings, pictures, and `data` for the scripts."""
    runs = [run_facts(i, source) for i, source in enumerate(sources)]
    spread_of = spreads(sources)
    drawings, places = draw_all(sources)
    points: list[dict[str, Any]] = []
    for run, source in zip(runs, sources, strict=True):
        for point in source.points:
            spread = spread_of.get((source.name, point.name))
            points.append(point_facts(len(points), run, point, spread, places.get((source.name, point.name))))
    backends = dict.fromkeys(backend for source in sources for point in source.points for backend in point.latencies)
    data = {
        "runs": runs,
        "points": points,
        "axes": [*(latency_axis(backend) for backend in backends), *COSTS],
        "tasks": list(dict.fromkeys(source.task for source in sources if source.points)),
        "stages": [
            {"run": run["id"], "name": stage, "curves": curves}
            for run, source in zip(runs, sources, strict=True)
            for stage, curves in source.stages.items()
            if "loss" in curves
        ],
    }
    boards = [tried_facts(run["id"], source) for run, source in zip(runs, sources, strict=True)]
    tried = [each for each in boards if each is not None]
    data["tried"] = [each["chart"] for each in tried]
    pictures = [(source.name, title, uri) for source in sources for title, uri in source.pictures.items()]
    kinds = dict.fromkeys(point["kind"] for each in tried for point in each["chart"]["points"])
    return {
        "data": data,
        "drawings": drawings,
        "pictures": pictures,
        "has_spreads": any(point["spread"] for point in points),
        "has_intervals": any(point["interval"] for point in points),
        "kinds": {name: KINDS[name] for name in kinds},
        **data,
        "tried": tried,
    }


def latency_axis(backend: str) -> dict[str, Any]:
    label = f"latency on {backend}, median ms at batch 1"
    if backend in ROUNDED:
        label += "; scores are float32's"
    limit = "--max-latency-ms" if backend == "torch" else f"--backend {backend} --max-latency-ms"
    return {"key": "latency", "backend": backend, "label": label, "unit": "ms", "per": 1, "limit": limit}


def run_facts(number: int, source: ReportedRun) -> dict[str, Any]:
    """Return the facts about a run; no other run has the same pair of colour and marker."""
    return {
        "id": number,
        "colour": (number + number // NUM_MARKERS) % NUM_COLOURS,
        "marker": number % NUM_MARKERS,
        "name": source.name,
        "command": source.command,
        "line": source.line,
        "pick": shlex.join(["cutbert", "pick", source.path]),
        "task": source.task if source.points or source.leaderboard else None,
        "metric": source.metric,
        "select_is_dev": source.select_is_dev,
        "seed": source.seed,
        "measured": {backend: conditions(measured) for backend, measured in measured_of(source).items()},
        "notes": list(source.notes),
        "warnings": [*source.warnings, *noise_of(source)],
        "headline": source.headline,
    }


def noise_of(source: ReportedRun) -> list[str]:
    """Return a warning for each backend that was timed while the machine was not quiet."""
    warnings = {name: noise_warning(measured) for name, measured in measured_of(source).items()}
    return [f"{name}: {warning}" for name, warning in warnings.items() if warning is not None]


def measured_of(source: ReportedRun) -> Mapping[str, Mapping[str, Any]]:
    """Return the conditions of a run's latencies by backend; those of a leaderboard hold for all its backends."""
    board = source.leaderboard
    if board is None or not board.measured:
        return source.measured
    return {board.backend: {"backend": board.backend, **board.measured}}


def point_facts(
    number: int, run: Mapping[str, Any], point: Point, spread: Spread | None, drawing: int | None
) -> dict[str, Any]:
    """Return the facts about a network."""
    return {
        "id": number,
        "run": run["id"],
        "name": point.name,
        "kind": point.kind,
        "score": point.score,
        "select_score": point.select_score,
        "interval": point.interval,
        "spread": None if spread is None else asdict(spread),
        "params": point.params,
        "macs": point.macs,
        "bytes": point.bytes,
        "latency": {backend: times["latency_ms"] for backend, times in point.latencies.items()},
        "p95": {backend: times.get("latency_p95_ms") for backend, times in point.latencies.items()},
        "stock": None if point.shape is None else fits_stock(point.shape, point.pooling),
        "on_front": point.on_front,
        "commands": [*point.commands, *([] if point.pick is None else [point.pick])],
        "is_picked": point.kind != "subnet" or point.pick is not None,
        "drawing": drawing,
    }


def draw_all(sources: Sequence[ReportedRun]) -> tuple[list[dict[str, Any]], dict[tuple[str, str], int]]:
    """Return the drawings, equal ones once with all their names, and the index of the drawing by run and network."""
    networks = [(source, point) for source in sources for point in (*source.points, *source.candidates)]
    shaped = [(source, point) for source, point in networks if point.shape is not None]
    shapes = [point.shape for _, point in shaped if point.shape is not None]
    scale = scale_of([*shapes, *(source.uncut for source in sources if source.uncut is not None)])
    numbers: dict[str, int] = {}
    drawings: list[dict[str, Any]] = []
    places = {}
    for source, point in shaped:
        drawing: Drawing = draw(point, source.uncut, scale)
        number = numbers.setdefault(repr(drawing), len(numbers))
        if number == len(drawings):
            drawings.append({"drawing": drawing, "names": {}})
        drawings[number]["names"].setdefault(point.name, []).append(source.name)
        places[source.name, point.name] = number
    return drawings, places


def conditions(measured: Mapping[str, Any]) -> str:
    """Return the conditions of latencies in one line; what was not recorded is left out."""
    machine = measured.get("machine")
    processor = machine.get("processor") if isinstance(machine, Mapping) else None
    lengths = measured.get("lengths")
    tokens = None
    if isinstance(lengths, list) and lengths:
        tokens = f"{lengths[0]} tokens" if lengths[0] == lengths[-1] else f"{lengths[0]} to {lengths[-1]} tokens"
    parts = [
        f"{measured.get('backend')} on {measured.get('device')}",
        f"{measured.get('threads')} threads",
        processor,
        tokens,
        *spread_lines(measured),
    ]
    return ", ".join(str(part) for part in parts if part is not None)
