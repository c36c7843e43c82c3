"""Reads finished runs for a page: their networks with the commands that make them, their curves and pictures."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cutbert.errors import Mistakes, RunError
from cutbert.fronts.front import FRONT, Entry, Front
from cutbert.fronts.pick import choose, search_lines
from cutbert.fronts.settings import PickSettings
from cutbert.pages.logs import read_curves
from cutbert.pages.points import Point, Source, check_numbers, point_of
from cutbert.settings import command_line
from cutbert.shape.cost import cost_of
from cutbert.shape.folder import read_folder_shape, read_object
from cutbert.train.run_folder import RunFolder

MOST_RUNS = 36  # number of pairs of colour and marker
FAMILY = "family"
SIDECAR = "cutbert.json"
ANALYSIS = "analysis.json"
IMAGE_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
PLAIN_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


def read_sources(paths: Sequence[str]) -> list[Source]:
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


def read_source(path: str, name: str) -> Source:
    """Read one run: its front, or its single score; of a demo, the run of its family.

    Raises:
        RunError: not a finished run, or a damaged one.
    """
    run = RunFolder.read(path)
    result = check_object(path, "result", run.finished_result)
    if run.data["command"] == "demo":
        return read_source(str(Path(path) / FAMILY), name)
    stages, notes = read_curves(run.path)
    source = Source(
        path=path,
        name=name,
        command=str(run.data["command"]),
        line=run.line,
        settings=run.settings,
        stages=stages,
        pictures=read_pictures(run.path),
        notes=tuple(notes),
    )
    if (run.path / FRONT).is_file():
        return with_front(source, Front.load(run.path))
    result = with_only_network(result)
    return with_score(source, result) if "score" in result and "metric" in result else source


def with_only_network(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a result with the scores of its only network at the top; runs from scratch have it under `subnets`."""
    subnets = result.get("subnets")
    if isinstance(subnets, list) and len(subnets) == 1 and isinstance(subnets[0], Mapping):
        return {**subnets[0], **result}
    return result


def with_front(source: Source, front: Front) -> Source:
    """Add the networks of a front."""
    measured = check_object(source.path, "measured", front.measured or {})
    backend = str(measured["backend"]) if "backend" in measured else None
    before, after = commands_before(source), commands_of(source)
    teacher = replace(point_of(front.teacher, "teacher", backend, source.path), commands=before)
    others = {name: check_object(source.path, name, each) for name, each in front.others.items()}
    teacher = also_timed(teacher, others, source.path)
    subnets = [also_timed(point_of(entry, "subnet", backend, source.path), others, source.path) for entry in front]
    picks = [pick_command(source.path, front, entry) for entry in front]
    made = [(*after, *search_lines(source.path, entry)) for entry in front]
    points = [replace(each[0], commands=each[1], pick=each[2]) for each in zip(subnets, made, picks, strict=True)]
    return replace(
        source,
        metric=str(front.metric),
        select_is_dev=bool(front.select_is_dev),
        points=(teacher, *points),
        uncut=front.teacher.shape,
        measured={
            **({} if backend is None else {backend: measured}),
            **{name: check_object(source.path, "measured", each.get("measured")) for name, each in others.items()},
        },
    )


def also_timed(point: Point, others: Mapping[str, Mapping[str, Any]], where: str) -> Point:
    """Add a network's latencies on the front's other backends, where it was timed."""
    latencies = dict(point.latencies)
    for backend, each in others.items():
        stored = check_object(where, "times", each.get("times")).get(point.name, {})
        times = {key: value for key, value in check_object(where, point.name, stored).items() if value is not None}
        check_numbers(where, point.name, times)
        if "latency_ms" in times:
            latencies[backend] = times
    return replace(point, latencies=latencies)


def with_score(source: Source, result: Mapping[str, Any]) -> Source:
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
        commands=commands_of(source),
        **scores,
    )
    return replace(
        source,
        metric=str(result["metric"]),
        select_is_dev=bool(result.get("select_is_dev", False)),
        points=(point,),
    )


def check_object(path: str, key: str, value: Any) -> Mapping[str, Any]:
    """Return a value that must be a JSON object, or raise a RunError."""
    if not isinstance(value, Mapping):
        raise RunError(f"{path}: {key} must be a JSON object, got {type(value).__name__}")
    return value


def commands_of(source: Source) -> tuple[str, ...]:
    """Return the commands that made a run's model, in order: those in its cutbert.json, else the run's own."""
    path = Path(source.path) / "model" / SIDECAR
    commands = read_object(path).get("commands") if path.is_file() else None
    if isinstance(commands, list) and source.line in commands:
        return tuple(str(each) for each in commands)
    return (source.line,)


def commands_before(source: Source) -> tuple[str, ...]:
    """Return the commands that made the model a run cut; the run's own command where it made that itself."""
    commands = commands_of(source)
    return commands[: commands.index(source.line)] or (source.line,)


def short_names(paths: Sequence[str]) -> list[str]:
    """Return for each path its shortest unique end, in whole path components."""
    ends = [["/".join(parts[i:]) for i in range(len(parts) - 1, -1, -1)] for parts in map(parts_of, paths)]
    counts = Counter(end for each in ends for end in set(each))
    return [next((end for end in each if counts[end] == 1), each[-1]) for each in ends]


def parts_of(path: str) -> tuple[str, ...]:
    return Path(path).resolve().parts


def pick_command(run: str, front: Front, entry: Entry) -> str | None:
    """Return the `cutbert pick` command that picks an entry, None where another entry wins under every limit it meets.

    A limit on latency is tried last: it holds on one machine only.
    """
    for limits in limits_of(entry):
        if limits_pick(front, entry, limits):
            return command_line("pick", [run], limits)
    return None


def limits_of(entry: Entry) -> Iterator[PickSettings]:
    """Yield the tightest limits that an entry meets."""
    out = entry.name if PLAIN_NAME.fullmatch(entry.name) else "picked"
    for stock in (False, True) if entry.is_stock else (False,):
        yield PickSettings(max_macs=entry.macs, stock=stock, out=out)
        yield PickSettings(max_params=entry.params, stock=stock, out=out)
        if entry.latency_ms is not None:
            yield PickSettings(max_latency_ms=entry.latency_ms, stock=stock, out=out)


def limits_pick(front: Front, entry: Entry, limits: PickSettings) -> bool:
    return choose(front, limits, stock=limits.stock).name == entry.name


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
