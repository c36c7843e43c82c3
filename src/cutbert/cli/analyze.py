"""`cutbert analyze`: what a model's layers represent, alone or beside another model's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from cutbert import api
from cutbert.analysis.settings import AnalyzeSettings
from cutbert.cli.tables import plain_table, points
from cutbert.cli.verb import Verb
from cutbert.cli.words import MODEL
from cutbert.data.settings import DataSettings

MOST_COLUMNS = 12
ROWS = {"tokens": "tokens", "cls": "texts by [CLS]", "mean": "texts by their mean"}


def show(data: Mapping[str, Any]) -> RenderableType:
    """Return CKA of layer outputs, then probes and importance by layer, the other model's too, then what is missing."""
    lines: list[RenderableType] = [cka_table(data)]
    if "probe" in data or "importance" in data:
        lines += ["", *([f"layers of {data['model']}:"] if "against" in data else []), layers_table(data)]
    if "probe_against" in data:
        lines += ["", f"layers of {data['against']}:", layers_table(data, "_against")]
    lines += legend(data)
    lines += data["notes"]
    if "out" in data:
        lines.append(f"in {data['out']}: {', '.join(['analysis.json', *data.get('pictures', [])])}")
    return Group(*lines)


def cka_table(data: Mapping[str, Any]) -> RenderableType:
    """Return CKA of layer outputs, rows ours; of deep models only the line to the other's last layer."""
    columns: Sequence[str] = data.get("layers_against", data["layers"])
    shown = range(len(columns)) if len(columns) <= MOST_COLUMNS else [len(columns) - 1]
    table = plain_table("name", *(columns[j] for j in shown))
    for name, row in zip(data["layers"], data["cka"], strict=True):
        table.add_row(name, *("-" if row[j] is None else f"{row[j]:.3f}" for j in shown))
    sides = f"rows {data['model']}, columns {data['against']}" if "against" in data else data["model"]
    rows = f"{data['num_rows']:,} {ROWS[data['rows']]}"
    return Group(f"CKA of layer outputs ({data['kernel']}, {data['estimator']}, {rows}): {sides}", table)


def layers_table(data: Mapping[str, Any], end: str = "") -> Table:
    """Return by layer what probes score, in points, and the importance of each sub-layer, which is ours alone.

    Args:
        data: the result.
        end: of its keys: "_against" for the other model.
    """
    has_probe, has_importance = "probe" in data, not end and "importance" in data
    probe = ["probe", "control", "by heart", "attention probe", "ffn probe"] if has_probe else []
    importance = ["attention importance", "ffn importance"] if has_importance else []
    table = plain_table("name", *probe, *importance)
    for name in ["embeddings", *data[f"layers{end}"]]:
        cells = []
        if has_probe:
            found = data[f"probe_embeddings{end}"] if name == "embeddings" else data[f"probe{end}"][name]
            cells += [points(found[key]) for key in ("score", "control", "control_train_score")]
            cells += [
                points(site_score(data[f"probe_sites{end}"], kind, name)) for kind in ("attention", "feed_forward")
            ]
        if has_importance:
            parts = data["importance"].get(name, {})
            cells += [f"{parts[kind]:.4g}" if kind in parts else "" for kind in ("attention", "feed_forward")]
        table.add_row(name, *cells)
    return table


def site_score(probes: Mapping[str, Any], kind: str, name: str) -> float | None:
    found = probes.get(kind, {}).get(name)
    return None if found is None else found["score"]


def legend(data: Mapping[str, Any]) -> list[str]:
    """Return the lines that must stand below the table by layer."""
    lines = []
    if "probe" in data:
        lines += [
            f"probes: {data['metric']} in points on dev; control: the same probe with shuffled labels;",
            "by heart: the control on its own training texts, what such a probe can learn without any sense",
        ]
    if "importance" in data:
        lines.append("importance: first-order change of the loss, summed over heads and over neurons")
    return lines


VERB = Verb(
    name="analyze",
    summary="What layers represent: CKA between layers or models, linear probes, importance by layer.",
    words=(MODEL,),
    settings=(AnalyzeSettings, DataSettings),
    run=lambda words, options: api.analyze(words[0], **options),
    show=show,
    hidden=("unlabeled",),
)
