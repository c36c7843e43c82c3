"""`cutbert pick`: the best subnet of a run under limits, as a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType

from cutbert import api
from cutbert.cli.tables import millions, number, pairs_table, points
from cutbert.cli.verb import Verb
from cutbert.cli.words import RUN
from cutbert.fronts.settings import PickSettings


def show(data: Mapping[str, Any]) -> RenderableType:
    """Return what was picked."""
    pairs = {
        "picked": data["name"],
        "score": f"{points(data['score'])} on dev, {points(data['select_score'])} on select",
        "params": f"{millions(data['params'])} M",
        "MACs": f"{millions(data['macs'])} M",
    }
    if "latency_ms" in data:
        pairs["latency"] = f"{number(data['latency_ms'])} ms on {data.get('backend', 'torch')}"
    pairs["loads in"] = "plain transformers" if data["stock"] else "transformers after `import cutbert.hub`"
    if data.get("select_is_dev"):
        pairs["mind"] = "chosen on the dev split itself, so the dev score is optimistic"
    if "out" in data:
        pairs["in"] = data["out"]
    return pairs_table(pairs)


VERB = Verb(
    name="pick",
    summary="The best subnet of a run under your limits, written as a model folder.",
    words=(RUN,),
    settings=(PickSettings,),
    run=lambda words, options: api.pick(words[0], **options),
    show=show,
)
