"""The scores of a sweep as one table with mean and spread over seeds, also as Markdown, CSV and Parquet files."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cutbert.files import replacing_file
from cutbert.sweeps.folder import RunState, StoredRun
from cutbert.table import millions

FORMATS = ("table.md", "table.csv", "table.parquet")
WHOLE = "model"  # name of the single network of a run without a front
SPREAD = ("mean", "std", "min", "max")
SIZES = ("params", "macs")


def table_rows(runs: Sequence[StoredRun], states: Mapping[str, RunState]) -> list[dict[str, Any]]:
    """Return a row for each network, metric and split, over all seeds that are finished.

    `std` is the sample standard deviation (n - 1), None for a single seed. `seconds` is the mean time of whole runs.
    Networks of a front or a leaderboard have their names there; `model` is the network of a run without either.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for run in runs:
        result = states[run.name].result
        for score in scores_of(result) if result is not None else ():
            labels = tuple((key, label) for key, label in run.labels.items() if key not in run.seeds)
            key = (run.step, run.verb, labels, score["network"], score["metric"], score["split"])
            groups.setdefault(key, []).append({**score, "seconds": states[run.name].seconds})
    axes = list(dict.fromkeys(key for run in runs for key in run.labels if key not in run.seeds))
    return [row_of(key, scores, axes) for key, scores in groups.items()]


def row_of(key: tuple[Any, ...], scores: Sequence[Mapping[str, Any]], axes: Sequence[str]) -> dict[str, Any]:
    """Return the row of runs that differ in nothing but seeds.

    Args:
        key: what they share: step, verb, labels on the axes, network, metric, split.
        scores: of each, with sizes and seconds.
        axes: of the whole table; None where the runs have no value on one.
    """
    step, verb, labels, network, metric, split = key
    values = [each["score"] for each in scores]
    return {
        "step": step,
        "verb": verb,
        **{axis: dict(labels).get(axis) for axis in axes},
        "network": network,
        "metric": metric,
        "split": split,
        "runs": len(values),
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "min": min(values),
        "max": max(values),
        **{size: mean_of(each.get(size) for each in scores) for size in SIZES},
        "seconds": mean_of(each["seconds"] for each in scores),
    }


def mean_of(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None, None where there are none."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def scores_of(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield network, metric, split and score of everything that was scored; runs from scratch have no teacher."""
    if "subnets" in result:
        teachers = [result["teacher"]] if "teacher" in result else []
        for entry in (*teachers, *result["subnets"]):
            yield from scores_of_entry(entry, entry["name"], result["metric"])
    elif "leaderboard" in result:
        for entry in result["leaderboard"]:
            limit = f" at {entry['limit']}" if "limit" in entry else ""  # one name may be tried under several
            yield from scores_of_entry(entry, f"{entry['name']} {entry['backend']}{limit}", result["metric"])
    elif "score" in result:
        yield from scores_of_entry(result, WHOLE, result["metric"])
    elif "perplexity" in result:
        yield {"network": WHOLE, "metric": "perplexity", "split": "dev", "score": result["perplexity"]}


def scores_of_entry(entry: Mapping[str, Any], network: str, metric: str) -> Iterator[dict[str, Any]]:
    sizes = {size: entry.get(size) for size in SIZES}
    for split, name in (("dev", "score"), ("select", "select_score")):
        if name in entry:
            yield {"network": network, "metric": metric, "split": split, "score": entry[name], **sizes}


def main_score(verb: str, result: Mapping[str, Any]) -> float | None:
    """Return the dev score of the network in a run's `model/`, None where it has none.

    In a `dynabert` run that is the largest subnet, in one of `fit` what was chosen, under the loosest limit; the other
    methods with a front put their result last.
    """
    if "leaderboard" in result:
        return next((float(entry["score"]) for entry in result["leaderboard"] if entry["chosen"]), None)
    if "subnets" not in result:
        return result.get("score")
    subnets = result["subnets"]
    entry = max(subnets, key=lambda each: each["params"]) if verb == "dynabert" else subnets[-1]
    return float(entry["score"])


def write_tables(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the table in all formats, each file whole or not at all; in CSV and Parquet scores are fractions of 1."""
    with replacing_file(folder / "table.md") as aside:
        aside.write_text(markdown(rows), encoding="utf-8")
    columns = list(rows[0]) if rows else []
    with replacing_file(folder / "table.csv") as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    import pyarrow
    from pyarrow import parquet

    with replacing_file(folder / "table.parquet") as aside:
        parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), aside)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table in Markdown, scores in points."""
    if not rows:
        return "No run is finished yet.\n"
    columns = shown_columns(rows)
    lines = ["| " + " | ".join(heading(name) for name in columns) + " |"]
    lines.append("|" + "|".join("---:" if is_numeric(name) else "---" for name in columns) + "|")
    for row in rows:
        lines.append("| " + " | ".join(shown(row, name).replace("|", "\\|") for name in columns) + " |")
    lines += ["", *notes()]
    return "\n".join(lines) + "\n"


def shown_columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns that have values, in their order."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if name != "verb" and any(row.get(name) is not None for row in rows)]


def notes() -> list[str]:
    """Return the notes below the table."""
    return [
        "Scores are in points (100 x the metric), perplexities as they are; mean, std (of a sample), min and max are "
        "over the runs that differ in nothing but their seed. seconds: of a whole run, mean.",
    ]


def heading(name: str) -> str:
    return {"params": "params M", "macs": "MACs M"}.get(name, name)


def is_numeric(name: str) -> bool:
    return name in (*SPREAD, *SIZES, "runs", "seconds")


def shown(row: Mapping[str, Any], name: str) -> str:
    """Return one cell as text."""
    value = row.get(name)
    if value is None:
        return ""
    if name in SPREAD:
        return f"{value:.2f}" if row["metric"] == "perplexity" else f"{100 * value:.2f}"
    if name in SIZES:
        return millions(value)
    return f"{value:.0f}" if name == "seconds" else str(value)
