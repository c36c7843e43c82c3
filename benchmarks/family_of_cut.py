"""A family whose full net is a cut of schuBERT's, beside the family of the uncut teacher, at equal multiply-adds.

Reads finished runs of `cutbert dynabert`, a seed each: one of the teacher, one of the cut. Of each family it takes, by
its score on select, the best subnet at no more than a share of the teacher's multiply-adds.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np

from alternatives import numbers, place
from cutbert.fronts import paired
from cutbert.fronts.front import Front
from cuts import SAME
from cuts_mean import mean_difference
from family import Answers, Network, difference, family_networks, interval, labels_of, metric_of
from recording import make_parser, recorded

SHARES = (0.5, 0.375, 0.25, 0.125)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", default="sst2,cola,mrpc", help="by commas")
    parser.add_argument("--work", default="runs/cuts-{task}-{seed}", help="holds family/ and family-of-cut/")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], help="by commas")
    args = parser.parse_args()
    record = recorded("family_of_cut", args, lambda: measure(args), seeds=args.seeds)
    for row in record["shares"]:
        by_task = ", ".join(
            f"{task} {100 * each['score']:.2f} for {100 * each['teacher_family_score']:.2f}"
            for task, each in row["tasks"].items()
        )
        print(f"{row['macs_share']} of the multiply-adds: {interval(row['mean'])} ({by_task})")


@dataclass(frozen=True)
class Families:
    """A task's two families, the uncut teacher first in the first."""

    metric: str
    of_teacher: list[Network]
    of_cut: list[Network]
    labels: Answers


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Compare the two families at every share of the multiply-adds that both reach."""
    tasks = args.tasks.split(",")
    families = {task: families_of(args, task) for task in tasks}
    rows = []
    for share in SHARES:
        found: dict[str, Any] = {}
        pairs = []
        for task, both in families.items():
            limit = share * both.of_teacher[0].macs * SAME
            one, other = best(both.of_cut, limit), best(both.of_teacher[1:], limit)
            if one is None or other is None:
                continue
            pairs.append((metric_of(both.metric, both.labels), one, other, both.labels))
            found[task] = describe(one, other) | difference(one, other, both.labels, both.metric)
        if len(found) == len(tasks):
            rows.append({"macs_share": share, "tasks": found, "mean": mean_difference(pairs)[1]})
    return {
        "tasks": tasks,
        "metrics": {task: both.metric for task, both in families.items()},
        "interval": f"95 % percentile bootstrap, paired, {paired.RESAMPLES} resamples of dev's rows",
        "shares": rows,
    }


def families_of(args: argparse.Namespace, task: str) -> Families:
    """Read both families of a task in all seeds."""
    works = [place(args.work, task, seed) for seed in args.seeds]
    runs, cut_runs = ([work / name for work in works] for name in ("family", "family-of-cut"))
    fronts, cut_fronts = [Front.load(run) for run in runs], [Front.load(run) for run in cut_runs]
    of_cut = family_networks(cut_runs, cut_fronts)[1:]  # its teacher is the cut, as is its full net
    return Families(fronts[0].metric, family_networks(runs, fronts), of_cut, labels_of([*runs, *cut_runs]))


def best(networks: list[Network], limit: float) -> Network | None:
    """Return the network that is best on select at no more MACs than a limit, None where none has so few."""
    fitting = [each for each in networks if each.macs <= limit]
    return max(fitting, key=lambda each: np.mean(each.select_scores), default=None)


def describe(one: Network, other: Network) -> dict[str, Any]:
    """Return what the record says of the best of the cut's family, and of the teacher's."""
    return {
        f"{prefix}{key}": value
        for prefix, each in (("", one), ("teacher_family_", other))
        for key, value in (
            ("name", each.name),
            ("macs", each.macs),
            ("score", float(np.mean(each.scores))),
            ("scores", list(each.scores)),
            ("select_score", float(np.mean(each.select_scores))),
        )
    }


if __name__ == "__main__":
    main()
