"""How schuBERT's cuts stand to distilled fewer layers on the average of several tasks; reads what cuts.py has run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alternatives import numbers, place
from cutbert.fronts import paired
from cutbert.train.run_folder import RunFolder
from cuts import LAYERS, is_finished, labels_of, network_of, run_folder
from family import Answers, Network, interval, metric_of
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
    labels = labels_of(cuts)
    return metric_of(metric, labels), network_of(variant, cuts), network_of(LAYERS, layers), labels


def mean_difference(sides: Sequence[tuple[paired.Metric, Network, Network, Answers]]) -> dict[str, Any]:
    """Return the differences, the mean over seeds of each task, and the mean over tasks with its interval.

    Rows of every task's dev are drawn anew, for both networks and all seeds of a task together.
    """

    def statistic(*rows_RN: NDArray[np.intp]) -> Answers:
        gaps = [gap_of(side, rows) for side, rows in zip(sides, rows_RN, strict=True)]
        return np.asarray(np.mean(gaps, axis=0))

    by_task = [float(gap_of(side, np.arange(len(side[-1])))) for side in sides]
    low, high = paired.percentiles(statistic, *(labels.shape for *_, labels in sides))
    return {"differences": by_task, "minus_layers": {"difference": float(np.mean(by_task)), "low": low, "high": high}}


def gap_of(side: tuple[paired.Metric, Network, Network, Answers], rows: NDArray[np.intp]) -> Answers:
    """Return the cuts' score minus the fewer layers' on some rows of a task."""
    score, one, other, labels = side
    return paired.gap(score, one.answers, other.answers, labels, rows)


if __name__ == "__main__":
    main()
