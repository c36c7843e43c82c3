"""The progress of a sweep on standard error: a live table on a terminal, else a line for each change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cutbert.sweeps.folder import RunState
from cutbert.train.progress import say

STYLES = {"finished": "green", "failed": "red", "not run": "red", "running": "bold"}
LINES_LEFT_FREE = 6


class StatesView(Protocol):
    """Shows the states of the runs."""

    def __call__(self, states: Mapping[str, RunState]) -> None: ...


@contextmanager
def sweep_view() -> Iterator[StatesView]:
    """Yield the view that fits this standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield LineView()
        return
    # Refreshed by hand: rich's refresh thread would be a second thread in a program that forks processes.
    with Live(console=console, auto_refresh=False) as live:
        yield lambda states: live.update(live_table(states, console.height - LINES_LEFT_FREE), refresh=True)


class LineView:
    """Prints a line whenever a run's status changes."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def __call__(self, states: Mapping[str, RunState]) -> None:
        ended = sum(state.status in ("finished", "failed", "not run") for state in states.values())
        for name, state in states.items():
            if state.status != self._seen.get(name, "waiting"):
                why = f": {state.error}" if state.error else ""
                say(f"[{ended}/{len(states)}] {name} {state.status}{why}")
            self._seen[name] = state.status


def live_table(states: Mapping[str, RunState], most_lines: int) -> Group:
    """Return the runs with their status; where there are many, only running and failed ones; and counts of all."""
    table = Table("run", "status", "s", "", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    shown = dict(states)
    if len(shown) > max(most_lines, 1):
        shown = {name: each for name, each in states.items() if each.status in ("running", "failed")}
        shown = dict(list(shown.items())[: max(most_lines, 1)])
    for name, state in shown.items():
        seconds = "" if state.seconds is None else f"{state.seconds:.0f}"
        style = STYLES.get(state.status, "dim")
        table.add_row(Text(name), Text(state.status, style=style), seconds, Text(state.error or "", style="red"))
    counts = Counter(state.status for state in states.values())
    return Group(table, Text(f"{len(states)} runs: " + ", ".join(f"{n} {status}" for status, n in counts.items())))
