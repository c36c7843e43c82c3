"""`cutbert search`: networks of a finished family beyond its grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType

from cutbert import api
from cutbert.cli.tables import front_table
from cutbert.cli.verb import Verb
from cutbert.cli.words import RUN
from cutbert.fronts.search_settings import SearchSettings


def show(data: Mapping[str, Any]) -> RenderableType:
    """Return the front that was found, and how much of the area it covers."""
    areas = data["hypervolume"]
    lines = [
        f"{data['trials']} networks scored on select; these are now in the front of {data['out']}",
        f"area under the front of select score and {areas['cost']}: {areas['grid']:.4f} before, "
        f"{areas['found']:.4f} with what was found (1 is a perfect score for nothing)",
        "select scores of networks found are optimistic, being the best of many; dev was not looked at before",
    ]
    if "latency_error" in data:
        lines.append(f"latency was foretold within {100 * data['latency_error']:.1f} % (median)")
    return Group(front_table(data), *lines)


VERB = Verb(
    name="search",
    summary="Per-layer subnets of a dynabert run under a budget, beyond its grid; adds to the run's front.",
    words=(RUN,),
    settings=(SearchSettings,),
    run=lambda words, options: api.search(words[0], **options),
    show=show,
    resumes=True,
)
