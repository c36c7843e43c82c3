"""The `cutbert pick` that leads to a given network of a front, where there is one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cutbert.fronts.front import Entry, Front
from cutbert.fronts.pick import choose
from cutbert.fronts.settings import PickSettings
from cutbert.settings import command_line

PLAIN_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


def pick_command(run: str, front: Front, entry: Entry) -> str | None:
    """Return the command that picks an entry, None where another is at least as good under every limit it meets.

    A limit on latency comes last: it holds on one machine only.
    """
    for limits in limits_of(entry):
        if limits_pick(front, entry, limits):
            return command_line("pick", [run], limits)
    return None


def limits_of(entry: Entry) -> Iterator[PickSettings]:
    """Yield limits that an entry just meets."""
    out = entry.name if PLAIN_NAME.fullmatch(entry.name) else "picked"
    for stock in (False, True) if entry.shape.is_stock else (False,):
        yield PickSettings(max_macs=entry.macs, stock=stock, out=out)
        yield PickSettings(max_params=entry.params, stock=stock, out=out)
        if entry.latency_ms is not None:
            yield PickSettings(max_latency_ms=entry.latency_ms, stock=stock, out=out)


def limits_pick(front: Front, entry: Entry, limits: PickSettings) -> bool:
    return choose(front, limits, stock=limits.stock).name == entry.name
