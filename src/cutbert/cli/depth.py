"""`cutbert depth`: how many layers a task needs, chosen before fine-tuning, and a net of so many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType

from cutbert import api
from cutbert.cli.tables import millions, plain_table, points
from cutbert.cli.verb import Verb
from cutbert.cli.words import MODEL
from cutbert.data.settings import DataSettings
from cutbert.methods.depth_settings import DepthSettings
from cutbert.settings import RunSettings
from cutbert.train.settings import TrainSettings

SAID = {
    "smaller is better": "the smaller network beats the full one",
    "no worse": "the smaller network is no worse than the full one, within the margin",
    "full is better": "the full model is better",
    "not decided": "dev's rows and these seeds do not say which is better",
    "the full model was chosen": "the full model was chosen",
}


def show(data: Mapping[str, Any]) -> RenderableType:
    """Return every depth with its score, the chosen one marked, and what it costs beside the full model."""
    parts = [depth_table(data), "", costs_table(data)]
    if "verdict" in data:
        parts += ["", verdict_line(data)]
    return Group(*parts, *notes(data))


def depth_table(data: Mapping[str, Any]) -> RenderableType:
    """Return the depths: what selectors say, and dev where each was fine-tuned."""
    selectors = {name: each["scores"] for name, each in data.get("selectors", {}).items() if "scores" in each}
    own = list(data["depth_scores"].values())
    columns = {data["selector"]: own} if own else {}
    columns |= {name: scores for name, scores in selectors.items() if name != data["selector"]}
    series = {each["depth"]: each for each in data.get("series", ())}
    series = series or made_depths(data)
    table = plain_table("", "layers", *columns, "dev", "select")
    for depth in range(1, data["num_layers"] + 1):
        found = series.get(depth, {})
        table.add_row(
            "*" if depth == data["chosen_depth"] else "",
            str(depth),
            *(f"{scores[depth - 1]:.4f}" for scores in columns.values()),
            points(found.get("score")),
            points(found.get("select_score")),
        )
    return table


def made_depths(data: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """Return the scores of the depths that were fine-tuned: the chosen one, and the full one where it was."""
    full = {"score": data.get("full_score"), "select_score": data.get("full_select_score")}
    return {data["num_layers"]: full, data["chosen_depth"]: data}


def costs_table(data: Mapping[str, Any]) -> RenderableType:
    """Return time, memory and size of the chosen network, and of the full one where it was made."""
    rows = {
        "chosen": (data["seconds"], data["peak_bytes"], data["file_bytes"], data["params"], data["macs"]),
        "full": tuple(data.get(f"full_{key}") for key in ("seconds", "peak_bytes", "file_bytes", "params", "macs")),
    }
    table = plain_table("name", "s", "peak MB", "file MB", "params M", "MACs M")
    for name, (seconds, *counts) in rows.items():
        if seconds is not None:
            table.add_row(name, f"{seconds:.1f}", *map(millions, counts))
    return table


def verdict_line(data: Mapping[str, Any]) -> str:
    """Return what may be said of the two, with the numbers behind it."""
    said = SAID[data["verdict"]]
    if "difference" not in data:
        return said
    found = data["difference"]
    gap, low, high = (f"{100 * found[key]:+.2f}" for key in ("difference", "low", "high"))
    seeds = f"{count} seeds" if (count := len(found["by_seed"])) > 1 else "1 seed"
    return (
        f"{said}: {gap} points [{low}, {high}], p = {found['p_value']:.3g} "
        f"({found['test']}, {found['rows']:,} rows of dev, {seeds})"
    )


def notes(data: Mapping[str, Any]) -> list[str]:
    """Return the lines below."""
    choosing = f"{data['choosing_seconds']:.1f} s choosing, " if data["depth_scores"] else ""
    lines = [
        f"* chosen by {data['selector']}, before fine-tuning; dev and select: {data['metric']} in points",
        f"chosen: {choosing}{data['training_seconds']:.1f} s training, {data['scoring_seconds']:.1f} s scoring",
    ]
    if "oracle_depth" in data:
        lines.append(
            f"best depth on dev itself, which no choice may look at: {data['oracle_depth']} "
            f"({points(data['oracle_score'])}); the choice is {points(data['regret'])} points below it"
        )
    if data.get("select_is_dev"):
        lines.append("select is the dev split itself, so select and dev scores are the same")
    return [*lines, f"in {data['out']}"]


VERB = Verb(
    name="depth",
    summary="How many layers a task needs, chosen before fine-tuning; fine-tunes the first so many.",
    words=(MODEL,),
    settings=(RunSettings, DataSettings, DepthSettings, TrainSettings),
    run=lambda words, options: api.depth(words[0], **options),
    show=show,
    resumes=True,
)
