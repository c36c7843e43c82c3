"""The table of a task's family: teacher, subnets, stock points and plain alternatives, with paired intervals on dev.

Reads finished runs only: one `cutbert dynabert` a seed, its teacher, and what benchmarks/alternatives.py made. Rows
of dev are resampled together for both sides of a difference, and for all seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alternatives import WAYS, numbers, place, scores_of
from cutbert.files import read_json
from cutbert.fronts import paired
from cutbert.fronts.front import Entry, Front
from cutbert.fronts.outputs import answers_of
from cutbert.train.run_folder import RunFolder
from recording import make_parser, recorded

Answers = NDArray[np.float64]
SINGLE = "w1.0-d1.0"


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--family", required=True, help="run folder of cutbert dynabert; {seed} stands for the seed")
    parser.add_argument("--teacher", required=True, help="run folder of the teacher; {seed} likewise")
    parser.add_argument("--work", default="runs/alternatives-{task}-{seed}", help="as of benchmarks/alternatives.py")
    parser.add_argument("--layers", type=numbers, default=[1, 2, 3, 4, 5], help="alternatives; those made count")
    parser.add_argument("--seeds", type=numbers, default=[0], help="by commas")
    args = parser.parse_args()
    record = recorded(f"family_{args.task}", args, lambda: measure(args), seeds=args.seeds)
    print(markdown(record))


@dataclass(frozen=True)
class Network:
    """One network of a task over all seeds.

    Args:
        name: in the table.
        kind: teacher, subnet, stock or alternative.
        macs, params: cost with its head.
        scores, select_scores: primary metric, one per seed.
        latencies_ms: medians, one per seed; None where not measured beside the teacher.
        answers: classes or numbers given to the rows of dev, [seeds, N].
    """

    name: str
    kind: str
    macs: int
    params: int
    scores: tuple[float, ...]
    select_scores: tuple[float, ...]
    latencies_ms: tuple[float, ...] | None
    answers: Answers


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Read the runs, and put intervals to the differences."""
    families = [place(args.family, args.task, seed) for seed in args.seeds]
    works = [place(args.work, args.task, seed) for seed in args.seeds]
    fronts = [Front.load(run) for run in families]
    metric, labels = fronts[0].metric, labels_of(families)
    networks = family_networks(families, fronts)
    others = [each for k in args.layers for way in WAYS if (each := alternative(works, k, way)) is not None]
    teacher = networks[0]
    rows = []
    for network in [*networks, *others]:
        row = describe(network)
        if network is not teacher:
            row["minus_teacher"] = difference(network, teacher, labels, metric)
        if network.kind in ("subnet", "stock"):
            row["minus_alternatives"] = {
                way: {"name": rival.name, **difference(network, rival, labels, metric)}
                for way in WAYS
                if (rival := nearest(network, [each for each in others if each.name.endswith(way)])) is not None
            }
        rows.append(row)
    return {
        "task": args.task,
        "metric": metric,
        "dev_rows": len(labels),
        "interval": f"95 % percentile bootstrap, paired, {paired.RESAMPLES} resamples of dev's rows",
        "latency_measured": fronts[0].measured,
        "networks": rows,
        "subnets_in_short": in_short(networks),
        "runs": [
            timings_of(run, place(args.teacher, args.task, seed))
            for run, seed in zip(families, args.seeds, strict=True)
        ],
    }


def family_networks(runs: Sequence[Path], fronts: Sequence[Front]) -> list[Network]:
    """Return the teacher and every subnet of the families, which are the same in all seeds."""
    networks = []
    for entry in (fronts[0].teacher, *fronts[0]):
        entries = [front.teacher if entry.name == "teacher" else front[entry.name] for front in fronts]
        stored = [read_json(run / "predictions" / f"{entry.name}.json") for run in runs]
        networks.append(network_of(entry.name, kind_of(entry), entries, stored))
    return networks


def kind_of(entry: Entry) -> str:
    if entry.name == "teacher":
        return "teacher"
    return "stock" if entry.width_mult is None else "subnet"


def network_of(name: str, kind: str, entries: Sequence[Entry], stored: Sequence[Mapping[str, Any]]) -> Network:
    """Return one network out of what each seed's front and predictions say."""
    latencies = [entry.latency_ms for entry in entries if entry.latency_ms is not None]
    return Network(
        name=name,
        kind=kind,
        macs=entries[0].macs,
        params=entries[0].params,
        scores=tuple(entry.score for entry in entries),
        select_scores=tuple(entry.select_score for entry in entries),
        latencies_ms=tuple(latencies) if len(latencies) == len(entries) else None,
        answers=np.stack([answers_or_f1(each) for each in stored]),
    )


def alternative(works: Sequence[Path], layers: int, way: str) -> Network | None:
    """Return the first layers trained in one way, or None where some seed lacks that run."""
    runs = [work / f"{way}-{layers}" for work in works]
    if not all((run / "run.json").is_file() and RunFolder.read(run).result is not None for run in runs):
        return None
    found = [scores_of(RunFolder.read(run).result or {}, run) for run in runs]
    files = [run / "predictions" / f"{'teacher' if way == 'finetuned' else SINGLE}.json" for run in runs]
    return Network(
        name=f"first {layers}, {way}",
        kind="alternative",
        macs=found[0]["macs"],
        params=found[0]["params"],
        scores=tuple(each["score"] for each in found),
        select_scores=tuple(each["select_score"] for each in found),
        latencies_ms=None,
        answers=np.stack([answers_or_f1(read_json(path)) for path in files]),
    )


def answers_or_f1(stored: Mapping[str, Any]) -> Answers:
    """Return a network's answers, or the F1 of each question of a reader."""
    return answers_of(stored) if "logits" in stored else np.asarray(stored["f1"], dtype=np.float64)


def metric_of(name: str, labels: Answers) -> paired.Metric:
    """Return a metric of answers and labels; of a reader, whose answers are its questions' F1, their mean."""
    is_of_questions = name == "f1" and labels.ndim == 1
    return (lambda answers, truth: answers.mean(axis=-1)) if is_of_questions else paired.METRICS[name]


def labels_of(runs: Sequence[Path]) -> Answers:
    """Return dev's labels, which must be the same in all seeds."""
    found = [np.asarray(read_json(run / "predictions" / "teacher.json")["labels"], dtype=np.float64) for run in runs]
    if any(not np.array_equal(found[0], other) for other in found):
        raise SystemExit("the families must be scored on the same dev rows, but their labels differ")
    return found[0]


def nearest(network: Network, others: Sequence[Network]) -> Network | None:
    """Return the cheapest alternative that has at least the network's MACs."""
    return min((each for each in others if each.macs >= network.macs), key=lambda each: each.macs, default=None)


def difference(one: Network, other: Network, labels: Answers, metric: str) -> dict[str, float]:
    """Return the difference of two networks' scores, mean over seeds, with its paired interval over dev's rows."""
    score = metric_of(metric, labels)
    gaps = [score(a, labels) - score(b, labels) for a, b in zip(one.answers, other.answers, strict=True)]
    low, high = paired.interval(score, one.answers, other.answers, labels)
    return {"difference": float(np.mean(gaps)), "low": low, "high": high}


def describe(network: Network) -> dict[str, Any]:
    """Return what a record says of one network; over several seeds mean and standard deviation."""
    data: dict[str, Any] = {"name": network.name, "kind": network.kind, "macs": network.macs, "params": network.params}
    data |= {"score": mean(network.scores), "select_score": mean(network.select_scores)}
    if len(network.scores) > 1:
        data |= {"score_sd": stdev(network.scores), "scores": list(network.scores)}
    if network.latencies_ms is not None:
        data["latency_ms"] = mean(network.latencies_ms)
    return data


def in_short(networks: Sequence[Network]) -> dict[str, Any]:
    """Return how the subnets of equal head and neuron shares stand to the teacher, in points of the metric."""
    teacher = mean(networks[0].scores)
    far = {each.name: 100 * (mean(each.scores) - teacher) for each in networks if each.kind == "subnet"}
    smallest = min((each for each in networks if each.kind == "subnet"), key=lambda each: each.macs)
    worst = min(far, key=lambda name: far[name])
    return {
        "count": len(far),
        "whole_points": 100 * teacher,
        "mean_minus_whole_points": mean(far.values()),
        "smallest": smallest.name,
        "smallest_minus_whole_points": far[smallest.name],
        "worst": worst,
        "worst_minus_whole_points": far[worst],
    }


def timings_of(family: Path, teacher: Path) -> dict[str, Any]:
    """Return the wall times of one family and its teacher, and the two in multiples of one fine-tuning."""
    made, tuned = RunFolder.read(family), RunFolder.read(teacher)
    whole = made.seconds + tuned.seconds
    return {
        "family_line": made.line,
        "teacher_line": tuned.line,
        "family_timings_s": made.data["timings"],
        "teacher_timings_s": tuned.data["timings"],
        "teacher_and_family_s": whole,
        "in_finetunings": whole / tuned.seconds,
    }


def markdown(record: Mapping[str, Any]) -> str:
    """Return the record's table."""
    titles = [
        record["task"],
        "MACs (M)",
        "params (M)",
        f"dev {record['metric']}",
        "minus teacher",
        *(f"minus first k, {way}" for way in WAYS),
        "latency (ms)",
    ]
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    for row in record["networks"]:
        sd = f" ± {100 * row['score_sd']:.2f}" if "score_sd" in row else ""
        rivals = row.get("minus_alternatives", {})
        cells = [
            row["name"],
            f"{row['macs'] / 1e6:.1f}",
            f"{row['params'] / 1e6:.2f}",
            f"{100 * row['score']:.2f}{sd}",
            interval(row.get("minus_teacher")),
            *(interval(rivals.get(way)) for way in WAYS),
            f"{row['latency_ms']:.2f}" if "latency_ms" in row else "-",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def interval(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    low, high = 100 * found["low"], 100 * found["high"]
    return f"{100 * found['difference']:+.2f} [{low:+.2f}, {high:+.2f}]"


if __name__ == "__main__":
    main()
