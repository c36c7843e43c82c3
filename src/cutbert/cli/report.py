"""`cutbert report`: one HTML page of one run or several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType

from cutbert import api
from cutbert.cli.tables import pairs_table
from cutbert.cli.verb import Verb
from cutbert.cli.words import RUNS
from cutbert.pages.settings import ReportSettings


def show(data: Mapping[str, Any]) -> RenderableType:
    """Return what the page holds and where it is."""
    return pairs_table(
        {"runs": data["runs"], "networks": data["points"], "size": f"{data['bytes'] / 1000:,.0f} kB", "in": data["out"]}
    )


VERB = Verb(
    name="report",
    summary="One HTML page of one run or several: fronts, shapes, training, pictures; it opens offline.",
    words=(RUNS,),
    settings=(ReportSettings,),
    run=lambda words, options: api.report(*words, **options),
    show=show,
)
