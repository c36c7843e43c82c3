"""Writes the tables of results in README and docs, and docs/results.png, out of the records; --check compares them.

Every method is shown at nearly equal measured latency, beside plain layers that were distilled by the same losses for
the same number of steps. Where a record holds one seed, or no spread, the cell says so.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "benchmarks" / "records"
README = ROOT / "README.md"
FIT_PAGE, METHODS_PAGE = ROOT / "docs" / "fit.md", ROOT / "docs" / "evidence.md"
PICTURE = ROOT / "docs" / "results.png"
BEGIN, END = "<!-- {name}: python benchmarks/figures.py -->", "<!-- end of {name} -->"
TASKS = {"sst2": "SST-2, accuracy", "cola": "CoLA, Matthews", "mrpc": "MRPC, accuracy"}
SERIES = {
    "plain layers, distilled": ("s", "#444444"),
    "schubert": ("o", "#0072b2"),
    "undivided": ("^", "#d55e00"),
    "dynabert, a family's members": ("D", "#009e73"),
}

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """One network on one task, over seeds.

    Args:
        scores: dev's metric by seed, a fraction of 1; where only the mean was recorded, that alone.
        latency: share of the teacher's latency; None where the record only says that it is no more than another's.
        num_seeds: how many seeds the mean is over.
        minus_teacher: score less the teacher's, by seed, where both were recorded.
    """

    scores: tuple[float, ...]
    latency: float | None
    num_seeds: int
    minus_teacher: tuple[float, ...] = ()

    def cell(self) -> str:
        """Return the mean in points, with its standard deviation over seeds where there are several values."""
        mean = f"{100 * statistics.mean(self.scores):.1f}"
        if len(self.scores) > 1:
            return f"{mean} ± {100 * statistics.stdev(self.scores):.1f}"
        return f"{mean} (one seed)" if self.num_seeds == 1 else mean


def read_record(name: str) -> Record:
    record: Record = json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))
    return record


def teacher(record: Record) -> Result:
    scores = tuple(record["teacher"]["scores"])
    return Result(scores, 1.0, len(scores))


def run(record: Record, **which: Any) -> Result:
    """Return the only run of a record whose values are these."""
    (entry,) = (each for each in record["runs"] if all(each[name] == value for name, value in which.items()))
    scores = tuple(entry["scores"])
    differences = tuple(a - b for a, b in zip(scores, record["teacher"]["scores"], strict=True))
    return Result(scores, statistics.mean(entry["latency_shares"]), len(scores), differences)


def best_member(task: str) -> Result:
    """Return the subnet of a DynaBERT family that is best on select and no slower than schubert's cut to 35 %.

    Of SST-2 there is one seed. Of the others the record has the mean, and that the limit is kept, but no spread.
    """
    if task == "sst2":
        return backend_member("1/2 of the multiply-adds")
    record = read_record(f"cuts_{task}")
    (cut,) = (each for each in record["runs"] if each["variant"] == "fakv" and each["budget"] == "params_encoder=0.35")
    return Result((cut["minus_family_at_equal_latency"]["score"],), None, len(record["seeds"]))


def table() -> str:
    """Return the table of the single methods."""
    cuts = {task: read_record(f"cuts_{task}") for task in TASKS}
    undivided = {task: read_record(f"undivided_{task}") for task in TASKS}
    half, cut = {"budget": "params_encoder=0.5"}, {"budget": "params_encoder=0.35"}
    rows = (
        ("**600 steps** (MRPC 312): teacher", [teacher(each) for each in cuts.values()]),
        ("three plain layers, distilled", [run(r, variant="layers", **half) for r in cuts.values()]),
        ("`schubert`, 35 % of the encoder", [run(r, variant="all", **cut) for r in cuts.values()]),
        ("the same, `--dims f,a,k,v`", [run(r, variant="fakv", **cut) for r in cuts.values()]),
        ("`dynabert`, best member no slower than that", [best_member(task) for task in TASKS]),
        ("**200 steps**: teacher", [teacher(each) for each in undivided.values()]),
        ("four plain layers, distilled", [run(r, variant="layers-3") for r in undivided.values()]),
        ("`undivided`, three of six feed-forwards", [run(r, variant="importance-3") for r in undivided.values()]),
    )
    head = ["| network | latency | " + " | ".join(TASKS.values()) + " |", "|---|---:|---:|---:|---:|"]
    lines = [f"| {name} | {latency_cell(row)} | {' | '.join(each.cell() for each in row)} |" for name, row in rows]
    return "\n".join([*head, *lines, ""])


def fit_table() -> str:
    """Return the table of what fit takes beside plain layers, for the same time, at limits of the int8 latency."""
    record = read_record("fit")
    rows = [
        "| task | limit, share of the int8 latency | teacher in int8 | `fit` | plain layers | `fit` - teacher | "
        "`fit` - plain layers |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in record["summary"]:
        share = record["shares"][row["limit"]]
        cells = [f"{spread_cell(row[name])}" for name in ("uncut", "fit", "layers")]
        differences = [difference_cell(row[f"fit - {other}"]) for other in ("uncut", "layers")]
        rows.append(f"| {TASKS[row['task']]} | {share:.2f} | {' | '.join([*cells, *differences])} |")
    return "\n".join([*rows, ""])


def spread_cell(found: Mapping[str, Any]) -> str:
    """Return a mean in points, with its deviation over seeds and its share of the latency, where it has them."""
    text = f"{100 * found['mean']:.1f}"
    text += "" if found["spread"] is None else f" ± {100 * found['spread']:.1f}"
    return text + (f" at {found['share']:.2f}" if "share" in found else "")


def difference_cell(found: Mapping[str, Any]) -> str:
    """Return a mean difference in points with its 95 % interval over rows, then that of each seed."""
    seeds = ", ".join(f"{100 * each:+.1f}" for each in found["by_seed"])
    return f"{100 * found['mean']:+.1f} [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}] ({seeds})"


def parts_table() -> str:
    """Return the table of what each part of a small network's recipe does alone, by KL to the teacher on select."""
    cells = read_record("distillation")["cells"]
    kl: dict[tuple[str, str], list[float]] = {}
    for cell in (each for each in cells if each["num_layers"] == 3):
        kl.setdefault((cell["variant"], cell["task"]), []).append(cell["select_kl"])
    tasks = [task for task in TASKS if ("base", task) in kl]
    variants = [name for name in dict.fromkeys(name for name, _ in kl) if all((name, task) in kl for task in tasks)]
    ranked = sorted(variants, key=lambda name: statistics.mean(statistics.mean(kl[name, task]) for task in tasks))
    seeds = max(map(len, kl.values()))
    head = [f"| {seeds} seeds | " + " | ".join(TASKS[task].partition(",")[0] for task in tasks) + " | mean |"]
    lines = []
    for name in ranked:
        means = [statistics.mean(kl[name, task]) for task in tasks]
        lines.append(f"| {name} | " + " | ".join(f"{each:.4f}" for each in [*means, statistics.mean(means)]) + " |")
    return "\n".join([*head, "|---|" + "---:|" * (len(tasks) + 1), *lines, ""])


def latency_cell(row: Sequence[Result]) -> str:
    """Return the range of the tasks' latency shares; where one was not recorded, the limit that was kept."""
    shares = [result.latency for result in row if result.latency is not None]
    if len(shares) < len(row):
        return "at most the cut's"
    low, high = f"{min(shares):.2f}", f"{max(shares):.2f}"
    return low if low == high else f"{low} to {high}"


def points(task: str) -> dict[str, list[Result]]:
    """Return what the picture shows of a task: by series, networks with a latency and a difference to their teacher."""
    cuts, undivided = read_record(f"cuts_{task}"), read_record(f"undivided_{task}")
    budgets = ("params_encoder=0.5", "params_encoder=0.35")
    kept = [each["variant"] for each in undivided["runs"] if each["kind"] == "importance" and each["kept"] < 6]
    layers = [*(run(cuts, variant="layers", budget=each) for each in budgets), run(undivided, variant="layers-3")]
    return {
        "plain layers, distilled": layers,
        "schubert": [run(cuts, variant=variant, budget=each) for variant in ("all", "fakv") for each in budgets],
        "undivided": [run(undivided, variant=each) for each in kept],
        "dynabert, a family's members": family_members(task),
    }


def family_members(task: str) -> list[Result]:
    """Return members of DynaBERT families of the grid, which were trained for other numbers of steps than the rest.

    SST-2: the best on select within a half, a third and a quarter of the multiply-adds, one seed. CoLA and MRPC: every
    width and depth below the full network.
    """
    if task == "sst2":
        shares = ("1/2", "1/3", "1/4")
        return [backend_member(f"{share} of the multiply-adds") for share in shares]
    networks = read_record(f"family_{task}")["networks"]
    (whole,) = (each for each in networks if each["kind"] == "teacher")
    members = (each for each in networks if each["kind"] == "subnet" and each["macs"] < whole["macs"])
    return [
        Result(
            tuple(each["scores"]),
            each["latency_ms"] / whole["latency_ms"],
            len(each["scores"]),
            tuple(a - b for a, b in zip(each["scores"], whole["scores"], strict=True)),
        )
        for each in members
    ]


def backend_member(name: str) -> Result:
    """Return a network of SST-2's table of backends, as torch runs it; its teacher and rows are those of the cuts."""
    (member,) = (n for n in read_record("int8_sst2")["networks"] if n["backend"] == "torch" and n["name"] == name)
    return Result((member["score"],), member["latency_share"], 1, (-member["points_below_float_teacher"] / 100,))


def fingerprint() -> str:
    """Return a hash of everything the picture shows; the picture carries it."""
    return hashlib.sha256(repr({task: points(task) for task in TASKS}).encode()).hexdigest()


def draw(path: Path) -> None:
    """Write the picture: points lost to the teacher against share of its latency, one panel a task."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(TASKS))
    for panel, (task, title) in zip(panels, TASKS.items(), strict=True):
        for name, (marker, color) in SERIES.items():
            for result in points(task)[name]:
                spread = 100 * statistics.stdev(result.minus_teacher) if len(result.minus_teacher) > 1 else None
                mean = 100 * statistics.mean(result.minus_teacher)
                panel.errorbar(result.latency, mean, spread, fmt=marker, color=color, capsize=2)
        panel.set_xlim(0.15, 0.9)
        panel.axhline(0, color="#999999", linewidth=0.8)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("share of the teacher's latency", fontsize=9)
    panels[0].set_ylabel("dev, points from the teacher", fontsize=9)
    handles = [panels[0].plot([], [], marker, color=color, label=name)[0] for name, (marker, color) in SERIES.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(SERIES), fontsize=9, frameon=False)
    figure.savefig(path, dpi=110, metadata={"Comment": fingerprint(), "Software": ""})


TABLES = (
    (README, "fit", fit_table),
    (METHODS_PAGE, "results", table),
    (FIT_PAGE, "fit", fit_table),
    (FIT_PAGE, "parts", parts_table),
)


def split_page(page: Path, name: str) -> tuple[str, str, str]:
    """Return a page's text before a table, the table, and the text after it."""
    begin, end = BEGIN.format(name=name), END.format(name=name)
    before, rest = page.read_text(encoding="utf-8").split(f"{begin}\n")
    shown, after = rest.split(end)
    return f"{before}{begin}\n", shown, f"{end}{after}"


def stale() -> list[str]:
    """Return what differs from the records: pages, picture, or nothing."""
    differing = [page.name for page, name, make in TABLES if split_page(page, name)[1] != make()]
    if not PICTURE.is_file() or fingerprint().encode() not in PICTURE.read_bytes():
        differing.append(PICTURE.name)
    return differing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where something differs")
    if parser.parse_args().check:
        differing = stale()
        if differing:
            print(
                f"{', '.join(differing)}: not what the records say; run python benchmarks/figures.py", file=sys.stderr
            )
        return 1 if differing else 0
    for page, name, make in TABLES:
        before, _, after = split_page(page, name)
        page.write_text(before + make() + after, encoding="utf-8")
    draw(PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
