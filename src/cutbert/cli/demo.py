"""`cutbert demo`: the main job on an embedded model and data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutbert import api
from cutbert.cli.pick import show as show_picked
from cutbert.cli.tables import front_table
from cutbert.cli.verb import Verb
from cutbert.methods.demo_settings import DemoSettings


def show(data: Mapping[str, Any]) -> RenderableType:
    """Return the front, what was picked, and the texts that both models classified."""
    texts = Table("text", "label", "teacher", "picked")
    for each in data["texts"]:
        both = " / ".join([each["text"], *([each["text_pair"]] if "text_pair" in each else [])])
        texts.add_row(Text(both), *(str(each[name]) for name in ("label", "teacher", "picked")))
    took = f"{data['seconds']:.0f} s in all; the limit was {data['max_latency_ms']:.2f} ms"
    page = [f"all of it on a page that opens offline: {data['report']}"] if "report" in data else []
    return Group(front_table(data), show_picked(data["picked"]), texts, took, *page)


VERB = Verb(
    name="demo",
    summary="The main job on an embedded model and data set, in minutes on two cores.",
    words=(),
    settings=(DemoSettings,),
    run=lambda words, options: api.demo(**options),
    show=show,
    resumes=True,
)
