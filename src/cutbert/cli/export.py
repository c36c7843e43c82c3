"""`cutbert export`: ONNX and int8 files of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType

from cutbert import api
from cutbert.cli.tables import pairs_table, points
from cutbert.cli.verb import Verb
from cutbert.cli.words import MODEL
from cutbert.data.settings import DataSettings
from cutbert.exporters.settings import ExportSettings


def show(data: Mapping[str, Any]) -> RenderableType:
    """Return what was written and how well it answers."""
    pairs = {}
    if "max_abs_diff" in data:
        pairs["largest difference to torch"] = f"{data['max_abs_diff']:.1e}"
    if "score_before" in data:
        for split, key in (("select", "select_score"), ("dev", "score")):
            pairs[f"{data['metric']} on {split}"] = (
                f"{points(data[f'{key}_before'])} before, {points(data[f'{key}_after'])} after"
            )
    if data.get("select_is_dev"):
        pairs["mind"] = "select is the dev split itself"
    pairs["written"] = ", ".join(data["files"])
    return pairs_table(pairs)


VERB = Verb(
    name="export",
    summary="ONNX and int8 files that ONNX Runtime loads with no cutbert and no torch.",
    words=(MODEL,),
    settings=(ExportSettings, DataSettings),
    run=lambda words, options: api.export(words[0], **options),
    show=show,
    hidden=("unlabeled",),
)
