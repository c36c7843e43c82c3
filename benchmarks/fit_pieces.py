"""What the page of results shows of `fit`'s pieces: pilots, the race, repair without training, int8."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from results import TASKS, has_record, points, read_record, table

BASE = "as fit does it"
Cells = Mapping[tuple[str, str, int], Mapping[str, Any]]


def pilots_table() -> str:
    """Return what each piece changes alone: its KL as a share of the base's, and points of the metric."""
    cells: Cells = {(each["variant"], each["task"], each["seed"]): each for each in read_record("pilots")["cells"]}
    rows = []
    for name in dict.fromkeys(variant for variant, _, _ in cells):
        if name == BASE:
            continue
        pairs = {task: pairs_of(cells, name, task) for task in TASKS}
        found = [pair for each in pairs.values() for pair in each]
        ratios = [kl_ratio(*pair) for pair in found]
        is_whole = all(pairs.values())
        mean = f"{with_spread(ratios, 2)}; {points(fmean(gained(*pair) for pair in found))}" if is_whole else "—"
        rows.append([name, *(pair_cell(each) for each in pairs.values()), mean])
    return table(["changed alone", *TASKS.values(), "mean"], rows)


def pairs_of(cells: Cells, name: str, task: str) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return a variant's cell and the base's, of each seed that has both."""
    return [
        (cell, cells[BASE, task, seed])
        for (variant, of_task, seed), cell in cells.items()
        if variant == name and of_task == task and (BASE, task, seed) in cells
    ]


def kl_ratio(ours: Mapping[str, Any], base: Mapping[str, Any]) -> float:
    return float(ours["select_kl"] / base["select_kl"])


def gained(ours: Mapping[str, Any], base: Mapping[str, Any]) -> float:
    return float(ours["select_score"] - base["select_score"])


def pair_cell(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> str:
    if not pairs:
        return "—"
    return f"{with_spread([kl_ratio(*pair) for pair in pairs], 2)}; {points(fmean(gained(*pair) for pair in pairs))}"


def with_spread(values: Sequence[float], digits: int) -> str:
    """Return a mean with its standard deviation, where there are several values."""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{spread}"


def pilots_line() -> str:
    """Return how many changes, seeds and steps the pilots have, for the page."""
    record = read_record("pilots")
    seeds = {task: len({cell["seed"] for cell in record["cells"] if cell["task"] == task}) for task in TASKS}
    counts = ", ".join(f"{TASKS[task]} {count}" for task, count in seeds.items() if count)
    steps = ", ".join(f"{TASKS[task]} {record['steps'][task]}" for task in TASKS)
    variants = {cell["variant"] for cell in record["cells"]} - {BASE}
    run = {(cell["variant"], cell["task"]) for cell in record["cells"]}
    whole = sum(all((name, task) in run for task in TASKS) for name in variants)
    return (
        f"{whole} of {len(variants)} changes were run on every task. Seeds, each with a teacher of its own: {counts}. "
        f"Steps of 32 rows: {steps}.\n"
    )


def race_table() -> str:
    """Return how far each kind of candidate got in the races of fit's record."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for cell in read_record("fit")["cells"]:
        board = [each for each in cell["leaderboards"]["fit"] if each["kind"] != "teacher"]
        least = min(each["steps"] for each in board)
        for each in board:
            counts = found[sort_of(each)]
            counts[0] += 1
            counts[1] += each["steps"] > least
            counts[2] += each["chosen"]
    rows = sorted(found.items(), key=lambda item: [-count for count in reversed(item[1])])
    head = ["candidate", "took part", "outlived the first round", "taken"]
    return table(head, [[name, *map(str, counts)] for name, counts in rows])


def sort_of(entry: Mapping[str, Any]) -> str:
    """Return which sort a candidate is of, for people."""
    if entry["kind"] == "sizes":
        return "`knapsack`" if entry["name"] == "knapsack" else "`thin`"
    return f"`{entry['kind']}`"


def repair_table() -> str:
    """Return what a cut to half of the multiply-adds keeps without a gradient step, before and after its repair."""
    rows = []
    for task, title in TASKS.items():
        if not has_record(f"repair_{task}"):
            continue
        record = read_record(f"repair_{task}")
        for each in record["networks"]:
            at = each["at"]
            seconds = each["choice"]["processor_seconds"] + at["repaired"]["processor_seconds"]
            scores = [f"{100 * at[name]['select_score']:.1f}" for name in ("cut", "repaired")]
            loss = points(at["repaired"]["select_score"] - record["teacher"]["select_score"])
            teacher = f"{100 * record['teacher']['select_score']:.1f}"
            rows.append([title, each["name"], teacher, *scores, loss, f"{seconds:.0f} s"])
    head = ["task", "what stays", "teacher", "cut", "repaired", "repaired - teacher", "processor time"]
    return table(head, rows)


def int8_lines() -> str:
    """Return what int8 costs cut networks, which is the most that a stage on the int8 network could bring."""
    changes = []
    for task in TASKS:
        networks = {(each["name"], each["backend"]): each["score"] for each in read_record(f"int8_{task}")["networks"]}
        names = {name for name, _ in networks} - {"teacher"}
        changes += [100 * (networks[name, "onnx-int8"] - networks[name, "onnx"]) for name in sorted(names)]
    lines = [
        f"- {len(changes)} cut networks (`int8_TASK`, one seed, dev, the exporter of then): {fmean(changes):+.2f} "
        f"points on average, ± {stdev(changes):.2f} between networks."
    ]
    if has_record("fit_int8"):
        for network, name in (("fit", "What `fit` took"), ("layers", "Plain layers")):
            found = [row for row in read_record("fit_int8")["summary"] if row["network"] == network]
            gaps = {row["task"]: row["int8 - float32"] for row in found}
            each = ", ".join(
                f"{TASKS[task]} {points(gap['mean'])} [{points(gap['low'])}, {points(gap['high'])}]"
                for task, gap in gaps.items()
            )
            mean = points(fmean(gap["mean"] for gap in gaps.values()))
            lines.append(f"- {name} (`fit_int8`, {max(row['seeds'] for row in found)} seeds, dev): {mean}; {each}.")
    return "\n".join([*lines, ""])
