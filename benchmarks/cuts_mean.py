"""How schuBERT's cuts stand to distilled fewer layers on the average of several tasks; reads what cuts.py has run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from alternatives import numbers, place
from cutbert.files import read_json
from cutbert.fronts import paired
from cutbert.train.run_folder import RunFolder
from cuts import LAYERS, is_finished, network_of, run_folder
from family import Answers, Network, interval
from recording import make_parser, recorded


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", default="sst2,cola,mrpc", help="by commas")
    parser.add_argument("--work", default="runs/cuts-{task}-{seed}", help="folder of the runs")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], help="by commas")
    parser.add_argument("--budgets", default="params_encoder=0.5,params_encoder=0.35", help="by commas")
    parser.add_argument("--variants", default="fakv,all,h,uniform", help="by commas; those not finished are left out")
    args = parser.parse_args()
    record = recorded("cuts_mean", args, lambda: measure(args), seeds=args.seeds)
    for row in record["runs"]:
        by_task = ", ".join(f"{task} {100 * gap:+.2f}" for task, gap in row["differences"].items())
        print(f"{row['budget']} {row['variant']} minus {LAYERS}: {interval(row['minus_layers'])} ({by_task})")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Gather every variant that is finished on all tasks at a budget."""
    tasks, rows = args.tasks.split(","), []
    for budget in args.budgets.split(","):
        for variant in args.variants.split(","):
            sides = [both_sides(args, task, variant, budget) for task in tasks]
            if all(sides):
                found = mean_difference([side for side in sides if side])
                found["differences"] = dict(zip(tasks, found["differences"], strict=True))
                rows.append({"budget": budget, "variant": variant, **found})
    return {"tasks": tasks, "runs": rows}


def both_sides(
    args: argparse.Namespace, task: str, variant: str, budget: str
) -> tuple[paired.Metric, Network, Network, Answers] | None:
    """Return a task's metric, the cuts, the fewer layers and the true labels; None where a run is missing."""
    works = [place(args.work, task, seed) for seed in args.seeds]
    cuts, layers = ([run_folder(work, name, budget) for work in works] for name in (variant, LAYERS))
    if not all(is_finished(run) for run in (*cuts, *layers)):
        return None
    metric = (RunFolder.read(works[0] / "teacher").result or {})["metric"]
    labels = np.asarray(read_json(cuts[0] / "predictions" / "teacher.json")["labels"], dtype=np.float64)
    return paired.METRICS[metric], network_of(variant, cuts), network_of(LAYERS, layers), labels


def mean_difference(sides: Sequence[tuple[paired.Metric, Network, Network, Answers]]) -> dict[str, Any]:
    """Return the differences, the mean over seeds of each task, and the mean over tasks with its interval.

    Rows of every task's dev are drawn anew, for both networks and all seeds of a task together.
    """

    def statistic(*drawn_RN: NDArray[np.intp], axis: int) -> Answers:
        gaps = [gap(*side, rows) for side, rows in zip(sides, drawn_RN, strict=True)]
        return np.asarray(np.mean(gaps, axis=0))

    rows = [np.arange(len(labels)) for _, _, _, labels in sides]
    found = stats.bootstrap(
        rows,
        statistic,
        n_resamples=paired.RESAMPLES,
        batch=max(1, paired.ELEMENTS_AT_ONCE // max(map(len, rows))),
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    by_task = [float(gap(*side, each)) for side, each in zip(sides, rows, strict=True)]
    mean = {"difference": float(np.mean(by_task)), "low": float(found.low), "high": float(found.high)}
    return {"differences": by_task, "minus_layers": mean}


def gap(
    score: paired.Metric, one: Network, other: Network, labels: Answers, rows: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return one's score minus the other's on some rows, the mean over seeds."""
    truth = labels[rows]
    pairs = zip(one.answers, other.answers, strict=True)
    return np.asarray(np.mean([score(a[rows], truth) - score(b[rows], truth) for a, b in pairs], axis=0))


if __name__ == "__main__":
    main()
