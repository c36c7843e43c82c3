"""The tables of the papers' size: every method on all-mpnet-base-v2 at shares of its int8 latency."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from results import METRICS, TASKS, developed_on, limit_text, points, read_record, since, table

RECORD = "base_size"
TITLES = {
    "fit": "`fit`",
    "plain": "any whole layers, `fit --kinds layers`",
    "layers": "layers at even distances, distilled",
    "cut": "`schubert`",
    "family": "`dynabert`, best of one family",
    "undivided": "`undivided`, two of twelve feed-forwards",
    "student": "MiniLM's layers, distilled",
    "depth": "the first layers, fine-tuned (`depth --depth K`)",
}


def short_table() -> str:
    """Return for each method its score under each limit, less the teacher's, and the share that it takes."""
    record = read_record(RECORD)
    rows = []
    for task in record["tasks"]:
        teacher = teacher_of(task)
        name = f"{TASKS[task['task']]}, {METRICS[task['task']]}"
        whole = f"{100 * teacher['score']:.1f} in {teacher['latency_ms']:.1f} ms"
        rows.append([f"{name}: the uncut model", *(whole for _ in record["shares"])])
        for method, title in TITLES.items():
            cells = [short_cell(task, share, method) for share in record["shares"]]
            rows += [[title, *cells]] if set(cells) != {"—"} else []
    head = ["int8, one core", *(f"at most {limit_text(share)}" for share in record["shares"])]
    return f"{table(head, rows)}\n{training_line()}"


def training_line() -> str:
    """Return how differently the methods were trained, and what else the record's figures must be read with."""
    steps: dict[str, set[int]] = defaultdict(set)
    for task in read_record(RECORD)["tasks"]:
        for under in task["under"].values():
            for method in TITLES.keys() & under.keys():
                steps[method].add(task["networks"][under[method]["network"]]["steps"])
    ((usual, _),) = Counter(count for counts in steps.values() for count in counts).most_common(1)
    names = {"plain": "`--kinds layers`", "fit": "`fit`", "student": "MiniLM"}
    others = [f"{span(steps[method])} for {title}" for method, title in names.items() if steps[method] - {usual}]
    head = f" (of which {max(steps['student']) - usual:,} fine-tune its head)" if steps["student"] - {usual} else ""
    line = f"Training differs: {usual:,} steps each, but {', '.join(others)}{head}."
    seeds = "One seed: the table ranks nothing." if len(read_record(RECORD)["seeds"]) == 1 else ""
    return " ".join(filter(None, [line, since(RECORD), developed_on(RECORD), seeds])) + "\n"


def span(counts: set[int]) -> str:
    """Return the least and the most of some counts."""
    low, high = f"{min(counts):,}", f"{max(counts):,}"
    return low if low == high else f"{low} to {high}"


def teacher_of(task: Mapping[str, Any]) -> Mapping[str, Any]:
    (found,) = (row for row in task["networks"] if row["method"] == "teacher")
    return dict(found)


def short_cell(task: Mapping[str, Any], share: float, method: str) -> str:
    found = task["under"][f"{share:g}"].get(method)
    if found is None:
        return "—"
    row = task["networks"][found["network"]]
    return f"{100 * row['score']:.1f} ({points(found['minus_teacher']['mean'])}) at {row['share']:.2f}"


def long_table() -> str:
    """Return each network under each limit: what it scores, less plain layers, what it takes, how it was trained."""
    record = read_record(RECORD)
    rows = []
    for task in record["tasks"]:
        for share in record["shares"]:
            under = task["under"][f"{share:g}"]
            for i, (method, title) in enumerate((name, each) for name, each in TITLES.items() if name in under):
                row, gap = task["networks"][under[method]["network"]], under[method].get("minus_plain")
                less = "" if gap is None else f"{points(gap['mean'])} [{points(gap['low'])}, {points(gap['high'])}]"
                cells = [
                    f"{TASKS[task['task']]}, {limit_text(share)}" if i == 0 else "",
                    title,
                    f"`{row['name']}`",
                    f"{100 * row['score']:.1f}",
                    less,
                    f"{row['latency_ms']:.2f} ({row['share']:.2f})",
                    f"{row['params'] / 1e6:.1f}",
                    f"{row['file_bytes'] / 1e6:.1f}",
                    f"{row['steps']:,}",
                    f"{row['run_seconds'] / 60:.0f}",
                ]
                rows.append(cells)
    head = ["limit", "method", "network", "dev", "less any whole layers", "p50 (ms, share)", "M parameters", "MB"]
    return table([*head, "steps", "minutes of its run"], rows, text_columns=3) + f"\n{training_line()}"
