"""How `analyze` and `depth` look to people: what layers represent, and how many a task needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cutbert.table import Table, View, millions, points

MOST_COLUMNS = 12
ROWS = {"tokens": "tokens", "cls": "texts by [CLS]", "mean": "texts by their mean"}
VERDICTS = {
    "smaller is better": "the smaller network beats the full one",
    "no worse": "the smaller network is no worse than the full one, within the margin",
    "full is better": "the full model is better",
    "not decided": "dev's rows and these seeds do not say which is better",
    "the full model was chosen": "the full model was chosen",
}


def analyze_view(data: Mapping[str, Any]) -> View:
    """Return CKA of layer outputs, then probes and importance by layer, the other model's too, then what is missing."""
    lines: list[Table | str] = [*cka_view(data)]
    if "probe" in data or "importance" in data:
        lines += ["", *([f"layers of {data['model']}:"] if "against" in data else []), layers_table(data)]
    if "probe_against" in data:
        lines += ["", f"layers of {data['against']}:", layers_table(data, "_against")]
    lines += legend(data)
    lines += data["notes"]
    if "out" in data:
        lines.append(f"in {data['out']}: {', '.join(['analysis.json', *data.get('pictures', [])])}")
    return tuple(lines)


def cka_view(data: Mapping[str, Any]) -> View:
    """Return CKA of layer outputs, rows ours; of deep models only the line to the other's last layer."""
    columns: Sequence[str] = data.get("layers_against", data["layers"])
    shown = range(len(columns)) if len(columns) <= MOST_COLUMNS else [len(columns) - 1]
    cells = [
        (name, *("-" if row[j] is None else f"{row[j]:.3f}" for j in shown))
        for name, row in zip(data["layers"], data["cka"], strict=True)
    ]
    sides = f"rows {data['model']}, columns {data['against']}" if "against" in data else data["model"]
    rows = f"{data['num_rows']:,} {ROWS[data['rows']]}"
    return (
        f"CKA of layer outputs ({data['kernel']}, {data['estimator']}, {rows}): {sides}",
        Table(("name", *(columns[j] for j in shown)), tuple(cells)),
    )


def layers_table(data: Mapping[str, Any], end: str = "") -> Table:
    """Return by layer what probes score, in points, and the importance of each sub-layer, which is ours alone.

    Args:
        data: the result.
        end: of its keys: "_against" for the other model.
    """
    has_probe, has_importance = "probe" in data, not end and "importance" in data
    probe = ["probe", "control", "memorised", "attention probe", "ffn probe"] if has_probe else []
    importance = ["attention importance", "ffn importance"] if has_importance else []
    rows = []
    for name in ["embeddings", *data[f"layers{end}"]]:
        cells = [name]
        if has_probe:
            scores = data[f"probe_embeddings{end}"] if name == "embeddings" else data[f"probe{end}"][name]
            cells += [points(scores[key]) for key in ("score", "control", "control_train_score")]
            cells += [
                points(site_score(data[f"probe_sites{end}"], kind, name)) for kind in ("attention", "feed_forward")
            ]
        if has_importance:
            parts = data["importance"].get(name, {})
            cells += [f"{parts[kind]:.4g}" if kind in parts else "" for kind in ("attention", "feed_forward")]
        rows.append(tuple(cells))
    return Table(("name", *probe, *importance), tuple(rows))


def site_score(probes: Mapping[str, Any], kind: str, name: str) -> float | None:
    probe = probes.get(kind, {}).get(name)
    return None if probe is None else probe["score"]


def legend(data: Mapping[str, Any]) -> list[str]:
    """Return the lines that explain the table by layer."""
    lines = []
    if "probe" in data:
        lines += [
            f"probes: {data['metric']} in points on dev; control: the same probe with shuffled labels;",
            "memorised: the control on its own training texts, what such a probe can learn without any sense",
        ]
    if "importance" in data:
        lines.append("importance: first-order change of the loss, summed over heads and over neurons")
    return lines


def depth_view(data: Mapping[str, Any]) -> View:
    """Return every depth with its score, the chosen one marked, and what it costs beside the full model."""
    parts: list[Table | str] = [depth_table(data), "", costs_table(data)]
    if "verdict" in data:
        parts += ["", verdict_line(data)]
    return (*parts, *notes(data))


def depth_table(data: Mapping[str, Any]) -> Table:
    """Return the depths: the scores of selectors, and dev where each was fine-tuned."""
    selectors = {name: each["scores"] for name, each in data.get("selectors", {}).items() if "scores" in each}
    own = list(data["depth_scores"].values())
    columns = {data["selector"]: own} if own else {}
    columns |= {name: scores for name, scores in selectors.items() if name != data["selector"]}
    series = {each["depth"]: each for each in data.get("series", ())}
    series = series or made_depths(data)
    rows = []
    for depth in range(1, data["num_layers"] + 1):
        made = series.get(depth, {})
        rows.append(
            (
                "*" if depth == data["chosen_depth"] else "",
                str(depth),
                *(f"{scores[depth - 1]:.4f}" for scores in columns.values()),
                points(made.get("score")),
                points(made.get("select_score")),
            )
        )
    return Table(("", "layers", *columns, "dev", "select"), tuple(rows))


def made_depths(data: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """Return the scores of the depths that were fine-tuned: the chosen one, and the full one where it was."""
    full = {"score": data.get("full_score"), "select_score": data.get("full_select_score")}
    return {data["num_layers"]: full, data["chosen_depth"]: data}


def costs_table(data: Mapping[str, Any]) -> Table:
    """Return time, memory and size of the chosen network, and of the full one where it was made."""
    rows = {
        "chosen": (data["seconds"], data["peak_bytes"], data["file_bytes"], data["params"], data["macs"]),
        "full": tuple(data.get(f"full_{key}") for key in ("seconds", "peak_bytes", "file_bytes", "params", "macs")),
    }
    cells = [
        (name, f"{seconds:.1f}", *map(millions, counts))
        for name, (seconds, *counts) in rows.items()
        if seconds is not None
    ]
    return Table(("name", "s", "peak MB", "file MB", "params M", "MACs M"), tuple(cells))


def verdict_line(data: Mapping[str, Any]) -> str:
    """Return what may be said of the two, with the numbers behind it."""
    verdict = VERDICTS[data["verdict"]]
    if "difference" not in data:
        return verdict
    test = data["difference"]
    gap, low, high = (f"{100 * test[key]:+.2f}" for key in ("difference", "low", "high"))
    seeds = f"{count} seeds" if (count := len(test["by_seed"])) > 1 else "1 seed"
    return (
        f"{verdict}: {gap} points [{low}, {high}], p = {test['p_value']:.3g} "
        f"({test['test']}, {test['rows']:,} rows of dev, {seeds})"
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
