"""`cutbert sweep`: a plan of many runs, resumable, and their scores as one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutbert import api
from cutbert.cli.verb import Verb, Word
from cutbert.sweeps.settings import SweepSettings


def show(data: Mapping[str, Any]) -> RenderableType:
    """Return the runs, then the table of their scores on dev."""
    from cutbert.sweeps.table import heading, is_number, notes, shown, shown_columns

    runs = Table("run", "status", "s", "", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for run in data["runs"]:
        seconds = f"{run['seconds']:.0f}" if "seconds" in run else ""
        runs.add_row(*map(Text, (run["name"], run["status"], seconds, run.get("error", ""))))
    rows = [row for row in data["table"] if row["split"] == "dev"]
    if not rows:
        return Group(runs, "", "no run is finished yet")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    columns = shown_columns(rows)
    for name in columns:
        table.add_column(heading(name), justify="right" if is_number(name) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(row, name)) for name in columns))
    return Group(runs, "", table, *notes())


def failures(data: Mapping[str, Any]) -> Sequence[str]:
    """Return a line for each run that failed."""
    return [f"run {run['name']} failed: {run['error']}" for run in data["runs"] if run["status"] == "failed"]


VERB = Verb(
    name="sweep",
    summary="Many runs from one plan, resumable, here or on a Ray cluster; their scores in one table.",
    words=(Word("PLAN", "a plan file (.toml); none with --show.", is_optional=True),),
    settings=(SweepSettings,),
    run=lambda words, options: api.sweep(*words, **options),
    show=show,
    resumes=True,
    failures=failures,
)
