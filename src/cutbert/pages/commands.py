"""The commands that a page shows: those that made a network, and the one that picks it out of its run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cutbert.fronts.entry import Entry
from cutbert.fronts.front import Front
from cutbert.fronts.pick import choose
from cutbert.fronts.settings import PickSettings
from cutbert.pages.points import ReportedRun
from cutbert.settings import command_line
from cutbert.shape.folder import read_object

SIDECAR = "cutbert.json"
PLAIN_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


def commands_of(source: ReportedRun) -> tuple[str, ...]:
    """Return the commands that made a run's model, in order: those in its cutbert.json, else the run's own."""
    path = Path(source.path) / "model" / SIDECAR
    commands = read_object(path).get("commands") if path.is_file() else None
    if isinstance(commands, list) and source.line in commands:
        return tuple(str(each) for each in commands)
    return (source.line,)


def commands_before(source: ReportedRun) -> tuple[str, ...]:
    """Return the commands that made the model a run cut; the run's own command where it made that itself."""
    commands = commands_of(source)
    return commands[: commands.index(source.line)] or (source.line,)


def pick_command(run: str, front: Front, entry: Entry) -> str | None:
    """Return the `cutbert pick` command that picks an entry, None where another entry wins under every limit it meets.

    A limit on latency is tried last: it holds on one machine only.
    """
    for limits in limits_of(front, entry):
        if limits_pick(front, entry, limits):
            return command_line("pick", [run], limits)
    return None


def limits_of(front: Front, entry: Entry) -> Iterator[PickSettings]:
    """Yield the tightest limits that an entry meets."""
    out = entry.name if PLAIN_NAME.fullmatch(entry.name) else "picked"
    for stock in (False, True) if entry.is_stock else (False,):
        yield PickSettings(max_macs=entry.macs, stock=stock, out=out)
        yield PickSettings(max_params=entry.params, stock=stock, out=out)
        if entry.latency_ms is not None:
            backend: Any = "torch" if front.measured is None else front.measured["backend"]
            yield PickSettings(max_latency_ms=entry.latency_ms, backend=backend, stock=stock, out=out)


def limits_pick(front: Front, entry: Entry, limits: PickSettings) -> bool:
    return choose(front, limits, stock=limits.stock).name == entry.name
