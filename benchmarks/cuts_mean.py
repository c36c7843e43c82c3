"""How schuBERT's cuts stand to distilled fewer layers, and to dynabert's families, on the average of several tasks.

Reads what cuts.py has run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alternatives import numbers, place
from cutbert.fronts import paired
from cutbert.train.run_folder import RunFolder
from cuts import LAYERS, facts_of, family_rivals, is_finished, labels_of, network_of, run_folder
from family import Answers, Network, interval, metric_of
from recording import make_parser, recorded


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", default="sst2,cola,mrpc", help="by commas")
    parser.add_argument("--work", default="runs/cuts-{task}-{seed}", help="folder of the runs")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], help="by commas")
    parser.add_argument("--budgets", default="params_encoder=0.5,params_encoder=0.35", help="by commas")
    parser.add_argument("--variants", default="fakv,all,h,uniform", help="by commas; those not finished are left out")
    parser.add_argument("--family", help="dynabert runs of the same teachers to compare with, by {task} and {seed}")
    parser.add_argument("--name", default="cuts_mean", help="of the record")
    args = parser.parse_args()
    record = recorded(args.name, args, lambda: measure(args), seeds=args.seeds)
    for row in record["runs"]:
        by_task = ", ".join(f"{task} {100 * gap:+.2f}" for task, gap in row["differences"].items())
        print(f"{row['budget']} {row['variant']} minus {row['rival']}: {interval(row['mean'])} ({by_task})")


@dataclass(frozen=True)
class Side:
    """A task's cuts, with what else was trained there."""

    metric: paired.Metric
    cuts: Network
    rivals: dict[str, Network]
    labels: Answers


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Gather every variant that is finished on all tasks at a budget."""
    tasks, rows = args.tasks.split(","), []
    for budget in args.budgets.split(","):
        for variant in args.variants.split(","):
            sides = [side for task in tasks if (side := side_of(args, task, variant, budget)) is not None]
            if len(sides) < len(tasks):
                continue
            for rival in sides[0].rivals:
                if all(rival in side.rivals for side in sides):
                    pairs = [(side.metric, side.cuts, side.rivals[rival], side.labels) for side in sides]
                    by_task, mean = mean_difference(pairs)
                    found = {"differences": dict(zip(tasks, by_task, strict=True)), "mean": mean}
                    rows.append({"budget": budget, "variant": variant, "rival": rival, **found})
    return {"tasks": tasks, "runs": rows}


def side_of(args: argparse.Namespace, task: str, variant: str, budget: str) -> Side | None:
    """Return a task's networks, None where a run of the cuts is missing."""
    works = [place(args.work, task, seed) for seed in args.seeds]
    cuts, layers = ([run_folder(work, name, budget) for work in works] for name in (variant, LAYERS))
    if not all(is_finished(run) for run in cuts):
        return None
    labels, own = labels_of(cuts), network_of(variant, cuts)
    rivals = {LAYERS: network_of(LAYERS, layers)} if all(is_finished(run) for run in layers) else {}
    for name, rival in family_rivals(args.family, task, args.seeds, facts_of(own, cuts)).items():
        rivals[f"family_at_equal_{name}"] = rival
    metric = (RunFolder.read(works[0] / "teacher").result or {})["metric"]
    return Side(metric_of(metric, labels), own, rivals, labels)


Pair = tuple[paired.Metric, Network, Network, Answers]


def mean_difference(pairs: Sequence[Pair]) -> tuple[list[float], dict[str, float]]:
    """Return each task's difference, the mean over seeds, and their mean over tasks with its interval.

    Rows of every task's dev are drawn anew, for both networks and all seeds of a task together.
    """

    def statistic(*rows_RN: NDArray[np.intp]) -> Answers:
        gaps = [gap_of(pair, rows) for pair, rows in zip(pairs, rows_RN, strict=True)]
        return np.asarray(np.mean(gaps, axis=0))

    by_task = [float(gap_of(pair, np.arange(len(pair[-1])))) for pair in pairs]
    low, high = paired.percentiles(statistic, *(labels.shape for *_, labels in pairs))
    return by_task, {"difference": float(np.mean(by_task)), "low": low, "high": high}


def gap_of(pair: Pair, rows: NDArray[np.intp]) -> Answers:
    """Return the first network's score minus the other's on some rows of a task."""
    score, one, other, labels = pair
    return paired.gap(score, one.answers, other.answers, labels, rows)


if __name__ == "__main__":
    main()
