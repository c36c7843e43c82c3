"""Reads finished runs for a page: their networks, curves and pictures."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cutbert.checks import is_number
from cutbert.errors import Mistakes, RunError
from cutbert.files import read_json
from cutbert.fronts.front import FRONT, Front
from cutbert.fronts.leaderboard import LEADERBOARD, Leaderboard
from cutbert.fronts.leaderboard_view import verdict
from cutbert.fronts.outputs import interval_fact
from cutbert.fronts.pick import search_lines
from cutbert.pages.commands import SIDECAR, commands_before, commands_of, pick_command
from cutbert.pages.headline import front_headline
from cutbert.pages.logs import read_curves
from cutbert.pages.points import Point, ReportedRun, check_numbers, point_of
from cutbert.shape.cost import cost_of
from cutbert.shape.folder import read_folder_shape, read_object
from cutbert.train.run_folder import RunFolder

MOST_RUNS = 36  # number of pairs of colour and marker
FIT = "fit"
ANALYSIS = "analysis.json"
IMAGE_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


def read_sources(paths: Sequence[str]) -> list[ReportedRun]:
    """Read runs for a page.

    Raises:
        RunError: too many runs, a run given twice, no runs, unfinished or damaged ones; all mistakes together.
    """
    mistakes = Mistakes()
    if not 1 <= len(paths) <= MOST_RUNS:
        mistakes.add(f"a report must be of 1..{MOST_RUNS} runs, got {len(paths)}")
    twice = [path for path, count in Counter(Path(each).resolve() for each in paths).items() if count > 1]
    mistakes.extend(f"{path}: must be given once" for path in twice)
    sources = []
    for path, name in zip(paths, short_names(paths), strict=True):
        with mistakes.collect():
            sources.append(read_source(path, name))
    mistakes.check(RunError)
    return sources


def read_source(path: str, name: str) -> ReportedRun:
    """Read one run: its front, or its single score; of a demo, its run of fit.

    Raises:
        RunError: not a finished run, or a damaged one.
    """
    run = RunFolder.read(path)
    result: Mapping[str, Any] = run.finished_result
    if run.data["command"] == "demo":
        return read_source(str(Path(path) / FIT), name)
    stages, notes = read_curves(run.path)
    source = ReportedRun(
        path=path,
        name=name,
        command=str(run.data["command"]),
        line=run.line,
        settings=run.settings,
        stages=stages,
        pictures=read_pictures(run.path),
        notes=tuple(notes),
        warnings=read_warnings(run.path),
        seconds={name: value for name, value in run.data["timings"].items() if is_number(value)},
    )
    if (run.path / FRONT).is_file():
        return with_front(source, Front.load(run.path))
    if (run.path / LEADERBOARD).is_file():
        return with_leaderboard(source, Leaderboard.load(run.path))
    result = with_only_network(result)
    return with_score(source, result) if "score" in result and "metric" in result else source


def with_only_network(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a result with the scores of its only network at the top; runs from scratch have it under `subnets`."""
    subnets = result.get("subnets")
    if isinstance(subnets, list) and len(subnets) == 1 and isinstance(subnets[0], Mapping):
        return {**subnets[0], **result}
    return result


def with_front(source: ReportedRun, front: Front) -> ReportedRun:
    """Add the networks of a front."""
    measured = front.measured or {}
    backend = None if front.measured is None else str(measured["backend"])
    before, after = commands_before(source), commands_of(source)
    teacher = replace(point_of(front.teacher, "teacher", backend), commands=before)
    others = front.others
    teacher = also_timed(teacher, others)
    subnets = [also_timed(point_of(entry, "subnet", backend), others) for entry in front]
    picks = [pick_command(source.path, front, entry) for entry in front]
    intervals = intervals_of(source, front)
    made = [(*after, *search_lines(source.path, entry)) for entry in front]
    points = [replace(each[0], commands=each[1], pick=each[2]) for each in zip(subnets, made, picks, strict=True)]
    points = [replace(point, interval=intervals[point.name]) for point in (teacher, *points)]
    notes = [] if front.near_chance is None else [f"the uncut model: {front.near_chance}"]
    if front.teacher_int8 is not None:
        notes.append(f"in int8 (onnx-int8) the uncut model takes {front.teacher_int8['latency_ms']:.2f} ms")
    return replace(
        source,
        notes=(*source.notes, *notes),
        metric=str(front.metric),
        select_is_dev=bool(front.select_is_dev),
        points=tuple(points),
        headline=front_headline(Path(source.path), front),
        uncut=front.teacher.shape,
        measured={
            **({} if backend is None else {backend: measured}),
            **{name: each["measured"] for name, each in others.items()},
        },
    )


def intervals_of(source: ReportedRun, front: Front) -> dict[str, tuple[float, float] | None]:
    """Return the interval of each network's dev score, where its outputs are stored."""
    intervals: dict[str, tuple[float, float] | None] = {}
    for entry in (front.teacher, *front):
        try:
            interval = interval_fact(source.path, entry.name, front.metric).get("score_interval")
        except (LookupError, TypeError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise RunError(f"{source.path}: the stored outputs of {entry.name} are damaged: {problem}") from None
        intervals[entry.name] = None if interval is None else (interval[0], interval[1])
    return intervals


def with_leaderboard(source: ReportedRun, leaderboard: Leaderboard) -> ReportedRun:
    """Add everything that a run of fit tried."""
    uncut = leaderboard.uncut
    candidates: dict[str, Point] = {}
    for entry in leaderboard:
        is_part = entry.layers is not None and len(entry.layers) == entry.shape.num_layers
        point = Point(
            name=entry.name,
            kind="teacher" if entry.kind == "teacher" else "alternative",
            score=entry.score,
            params=entry.params,
            macs=entry.macs,
            shape=entry.shape,
            kept=entry.layers if is_part else None,
        )
        candidates.setdefault(entry.name, point)
    return replace(
        source,
        metric=leaderboard.metric,
        select_is_dev=leaderboard.select_is_dev,
        uncut=None if uncut is None else uncut.shape,
        headline=verdict(leaderboard),
        leaderboard=leaderboard,
        candidates=tuple(candidates.values()),
    )


def read_warnings(run: Path) -> tuple[str, ...]:
    """Return what a run's front and its model warn of, each warning once."""
    warnings: dict[str, None] = {}
    for path in (run / FRONT, run / "model" / SIDECAR):
        data = read_json(path, RunError) if path.is_file() else None
        stored = data.get("warnings") if isinstance(data, dict) else None
        if isinstance(stored, list):
            warnings |= dict.fromkeys(str(each) for each in stored)
    return tuple(warnings)


def also_timed(point: Point, others: Mapping[str, Mapping[str, Any]]) -> Point:
    """Add a network's latencies on the front's other backends, where it was timed."""
    latencies = dict(point.latencies)
    for backend, each in others.items():
        times = {key: value for key, value in each["times"].get(point.name, {}).items() if value is not None}
        if "latency_ms" in times:
            latencies[backend] = times
    return replace(point, latencies=latencies)


def with_score(source: ReportedRun, result: Mapping[str, Any]) -> ReportedRun:
    """Add the single network of a run without a front, such as fine-tuning, as an alternative to others' subnets."""
    scores = {key: result[key] for key in ("score", "select_score") if key in result}
    check_numbers(source.path, "its result", scores)
    facts = read_folder_shape(Path(source.path))
    cost = cost_of(facts.shape, facts.head)
    point = Point(
        name=source.command,
        kind="alternative",
        params=cost.params,
        macs=cost.macs,
        shape=facts.shape,
        pooling=facts.style_data.get("pooling") if facts.head.is_sequence else None,
        interval=model_interval(Path(source.path)),
        commands=commands_of(source),
        **scores,
    )
    return replace(
        source,
        notes=(*source.notes, *([str(result["near_chance"])] if "near_chance" in result else [])),
        metric=str(result["metric"]),
        select_is_dev=bool(result.get("select_is_dev", False)),
        points=(point,),
    )


def model_interval(run: Path) -> tuple[float, float] | None:
    """Return the interval of the dev score that a run's model records."""
    path = run / "model" / SIDECAR
    interval = read_object(path).get("score_interval") if path.is_file() else None
    if not isinstance(interval, list) or len(interval) != 2 or not all(map(is_number, interval)):
        return None
    return interval[0], interval[1]


def short_names(paths: Sequence[str]) -> list[str]:
    """Return for each path its shortest unique end, in whole path components."""
    ends = [["/".join(parts[i:]) for i in range(len(parts) - 1, -1, -1)] for parts in map(parts_of, paths)]
    counts = Counter(end for each in ends for end in set(each))
    return [next((end for end in each if counts[end] == 1), each[-1]) for each in ends]


def parts_of(path: str) -> tuple[str, ...]:
    return Path(path).resolve().parts


def read_pictures(run: Path) -> dict[str, str]:
    """Return by title, as data URIs, the pictures beside an analysis.json in a run folder or one folder below it.

    They are shown as images: browsers run no script and load nothing in them.
    """
    folders = [run, *sorted(path for path in run.iterdir() if path.is_dir())]
    return {
        path.stem if folder == run else f"{folder.name}: {path.stem}": data_uri(path)
        for folder in folders
        if (folder / ANALYSIS).is_file()
        for path in sorted(folder.iterdir())
        if path.suffix in IMAGE_TYPES
    }


def data_uri(path: Path) -> str:
    return f"data:{IMAGE_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
