"""The tables at equal cost: measured int8 latency, float32 latency, parameters; each method beside plain layers."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from statistics import fmean, stdev
from typing import Any

from results import (
    HALF,
    HEADS,
    TASKS,
    THIRD,
    Gap,
    cut,
    cut_gap,
    differences,
    family_title,
    fit_summary,
    has_record,
    kept,
    kept_gap,
    limit_text,
    minutes_of,
    points,
    read_record,
    remarks_on,
    rival_minutes_of,
    rival_shares,
    score,
    several,
    since,
    table,
)

WEAK_HEADS = tuple(head.replace("MRPC", "MRPC†") for head in HEADS)
BACKENDS = tuple(f"int8_{task}" for task in TASKS)
SAME = 0.02  # parameters this near count as equal


def fit_rows(name: str) -> list[list[str]]:
    """Return what fit and its rival took under each limit of a record: score, from the int8 teacher, at what share."""
    record = read_record(name)
    rows = []
    for limit, share in enumerate(record["shares"]):
        found = {row["task"]: row for row in fit_summary(name) if row["limit"] == limit}
        counts = sorted({row["seeds"] for row in found.values()})
        is_rivalled = any("layers" in row for row in found.values())
        sides = {
            "fit": ("`fit`", minutes_of(name)),
            "layers": ("plain layers, any, by the same code", rival_minutes_of(name) if is_rivalled else "not run"),
        }
        for network, (title, time) in sides.items():
            cells = [fit_cell(found.get(task, {}), network) for task in TASKS]
            limits = rival_shares(name) if network == "layers" else record["shares"]
            own = limits[limit] if limit < len(limits) else share
            rows.append([f"{title}: limit {limit_text(own)}, {time}", " or ".join(map(str, counts)), *cells])
    return rows


def fit_cell(row: Mapping[str, Any], name: str) -> str:
    """Return what one network of a summary's row scores; nothing where the rival had fewer limits."""
    if name not in row:
        return "—"
    found, teacher = row[name], row["uncut"]
    spread = "" if found["spread"] is None else f" ± {100 * found['spread']:.1f}"
    return f"{100 * found['mean']:.1f}{spread} ({points(found['mean'] - teacher['mean'])}) at {found['share']:.2f}"


def backend_cell(task: str, name: str) -> str:
    """Return one network of the table of backends in int8: score, from the int8 teacher, at what share of it."""
    networks = {
        each["name"]: each for each in read_record(f"int8_{task}")["networks"] if each["backend"] == "onnx-int8"
    }
    if name not in networks:
        return "—"
    found, teacher = networks[name], networks["teacher"]
    is_own = name != "fewer layers" or has_teacher_of_layers(task)
    less = f" ({points(found['score'] - teacher['score'])})" if is_own else ""
    mark = "†" if task == "mrpc" else ""
    return f"{100 * found['score']:.1f}{mark}{less} at {found['latency_ms'] / teacher['latency_ms']:.2f}"


def has_teacher_of_layers(task: str) -> bool:
    """Return whether the layers of a table of backends were distilled from its teacher: both are runs of one folder."""
    words = shlex.split(read_record(f"int8_{task}")["command"])
    teacher, layers = (PurePath(words[words.index(option) + 1]) for option in ("--teacher", "--layers"))
    return teacher.parent == layers.parent


def method_rows() -> list[list[str]]:
    """Return the rows of the networks that a method's own plan left; those no record has share the last."""
    titles = {
        "schubert": "`schubert`, `f,a,k,v`, half of the encoder",
        "undivided": "`undivided`, three of six feed-forwards",
    }
    cells = {name: [backend_cell(task, name) for task in TASKS] for name in titles}
    there = [name for name, row in cells.items() if set(row) != {"—"}]
    missing = ", ".join(f"`{name}`" for name in titles if name not in there)
    rows = [[titles[name], "1", *cells[name]] for name in there]
    return rows + ([[f"{missing}: not measured in int8", "—", *("—" for _ in TASKS)]] if missing else [])


def int8_table() -> str:
    """Return what each method scores as an int8 file, at shares of the int8 latency of its own teacher."""
    rows = [
        *fit_rows("fit"),
        *(fit_rows("fit_limits") if has_record("fit_limits") else []),
        ["three plain layers, distilled", "1", *(backend_cell(task, "fewer layers") for task in TASKS)],
        [
            f"best on select within half of the multiply-adds, of {family_title(*TASKS)}",
            "1",
            *(backend_cell(task, "1/2 of the multiply-adds") for task in TASKS),
        ],
        *method_rows(),
    ]
    changed = {
        "`fit` and plain layers by the same code": remarks_on("fit", "fit_limits"),
        "The other rows": since(*BACKENDS),
    }
    remarks = [f"- {rows_of}. {words}" for rows_of, words in changed.items() if words]
    return "\n".join([table(["network", "seeds", *HEADS], rows, text_columns=2), *remarks, ""])


def float_row(name: str, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a row of the table at equal float32 latency."""
    cells = [f"{score(each['scores'])} at {fmean(each['latency_shares']):.2f}" for each in runs]
    return [name, *cells]


def family_row() -> list[str]:
    """Return the family's members no slower than the cut; their spread and latency are not in the records."""
    cells = []
    for task in TASKS:
        run = cut(task, "fakv", THIRD)
        found = run.get("minus_family_at_equal_latency")
        cells.append(f"{100 * found['score']:.1f}, at most {fmean(run['latency_shares']):.2f}" if found else "—")
    return ["`dynabert`, best on select no slower than that (spread not recorded)", *cells]


def latency_table() -> str:
    """Return scores at nearly equal float32 latency, about a half of the teacher's."""
    teachers = [read_record(f"cuts_{task}")["teacher"]["scores"] for task in TASKS]
    rows = [
        ["teacher", *map(score, teachers)],
        float_row("three plain layers", [cut(task, "layers", HALF) for task in TASKS]),
        float_row("`schubert`, 35 % of the encoder", [cut(task, "all", THIRD) for task in TASKS]),
        float_row("the same, `--dims f,a,k,v`", [cut(task, "fakv", THIRD) for task in TASKS]),
        ["that less three plain layers", *map(cross_cell, TASKS)],
        family_row(),
    ]
    return table(["600 steps (MRPC 312)", *WEAK_HEADS], rows)


def cross_cell(task: str) -> str:
    """Return the cut to 35 % less three layers: the difference over seeds, whose interval no record has."""
    gaps = differences(cut(task, "fakv", THIRD)["scores"], cut(task, "layers", HALF)["scores"])
    return f"{points(fmean(gaps))} ± {100 * stdev(gaps):.1f}, no interval"


def parameter_table() -> str:
    """Return scores at equal parameters, and each network's difference from plain layers of as many."""
    rows = []
    for budget, layers in ((HALF, "three"), (THIRD, "two")):
        rows.append(cut_row(f"{layers} plain layers, 600 steps (MRPC 312)", "layers", budget))
        rows += [cut_row(f"`schubert`{more}", name, budget) for name, more in (("fakv", ", `f,a,k,v`"), ("all", ""))]
    rows.append(kept_row("four plain layers, 200 steps", "layers-3"))
    rows.append(kept_row("all layers, thinner feed-forwards", "thin-3"))
    for name, title in (("importance-3", ""), ("even-3", ", evenly spaced"), ("cka-3", ", by CKA")):
        rows.append(kept_row(f"`undivided`, three of six{title}", name))
    return table(["network", "M parameters", *WEAK_HEADS], rows)


def cut_row(title: str, variant: str, budget: str) -> list[str]:
    runs = [cut(task, variant, budget) for task in TASKS]
    rivals = [cut(task, "layers", budget) for task in TASKS]
    check_equal([(run["params"], rival["params"]) for run, rival in zip(runs, rivals, strict=True)], title)
    gaps = [None if variant == "layers" else cut_gap(task, variant, budget) for task in TASKS]
    return size_row(title, runs, gaps)


def kept_row(title: str, variant: str) -> list[str]:
    found = [has_kept(task, variant) for task in TASKS]
    runs = [kept(task, variant) if there else None for task, there in zip(TASKS, found, strict=True)]
    pairs = [(run["params"], kept(task, "layers-3")["params"]) for task, run in zip(TASKS, runs, strict=True) if run]
    check_equal(pairs, title)
    gaps = [
        kept_gap(task, variant, "layers") if run and variant != "layers-3" else None
        for task, run in zip(TASKS, runs, strict=True)
    ]
    return size_row(title, runs, gaps)


def has_kept(task: str, variant: str) -> bool:
    return any(run["variant"] == variant for run in read_record(f"undivided_{task}")["runs"])


def size_row(title: str, runs: Sequence[Mapping[str, Any] | None], gaps: Sequence[Gap | None]) -> list[str]:
    sizes = [size / 1e6 for run in runs if run for size in run["params"]]
    cells = [
        "—" if run is None else score(run["scores"]) + (f"; {gap.text}" if gap else "")
        for run, gap in zip(runs, gaps, strict=True)
    ]
    return [title, several(sizes, 1), *cells]


def check_equal(pairs: Sequence[tuple[Sequence[int], Sequence[int]]], title: str) -> None:
    """Raise where a network has not as many parameters as the layers it stands beside."""
    for ours, theirs in pairs:
        if abs(fmean(ours) / fmean(theirs) - 1) > SAME:
            raise ValueError(f"{title}: {fmean(ours):.0f} parameters are not equal to {fmean(theirs):.0f}")
