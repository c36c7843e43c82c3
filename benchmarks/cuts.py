"""schuBERT's cuts of one teacher at equal budgets, beside fewer layers distilled for as many steps, several seeds.

Every run has a folder of its own under --work, so a stopped script goes on where it was; variants that are not run yet
are left out of the record, which --again gathers anew. All runs of a task take the same number of optimizer steps,
steps on gates counted.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alternatives import numbers, option, place
from cutbert.data.dataset import load_dataset
from cutbert.data.settings import DataSettings
from cutbert.files import read_json
from cutbert.fronts.front import Entry, Front
from cutbert.shape.cost import cost_of
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from family import Answers, Network, answers_or_f1, difference, family_networks, interval
from recording import make_parser, recorded
from workload import BATCH_SIZE, add_inputs, weights_of

ROUNDS = 1
SAME = 1.01  # costs this near count as equal
CUTS = {
    "all": [],
    "fakv": ["--dims", "f,a,k,v"],
    "h": ["--dims", "h"],
    "f": ["--dims", "f"],
    "uniform": ["--uniform"],
    "uniform-fakv": ["--uniform", "--dims", "f,a,k,v"],
}
LAYERS = "layers"
VARIANTS = (*CUTS, LAYERS)


def main() -> None:
    parser = make_parser(__doc__)
    add_inputs(parser)
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--work", default="runs/cuts-{task}-{seed}", help="folder of the runs")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], help="by commas")
    parser.add_argument("--budgets", default="params_encoder=0.5,params_encoder=0.35", help="by commas")
    parser.add_argument("--layers", type=numbers, default=[3, 2], help="layers kept beside each budget")
    parser.add_argument("--variants", default="fakv,layers,all,h,uniform", help=f"by commas, of {', '.join(VARIANTS)}")
    parser.add_argument("--steps", type=int, default=800, help="optimizer steps of every run")
    parser.add_argument("--gate-steps", type=int, default=100, help="of these, steps on gates")
    parser.add_argument("--teacher-epochs", type=float, default=3.0)
    parser.add_argument("--max-eval-samples", type=int, help="score on so many rows of each split only")
    parser.add_argument("--family", help="dynabert runs of the same teachers to compare with, by {task} and {seed}")
    parser.add_argument("--only-gather", action="store_true", help="run nothing; record what is finished")
    args = parser.parse_args()
    record = recorded(f"cuts_{args.task}", args, lambda: measure(args), seeds=args.seeds)
    print(markdown(record))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Make every run that is not there yet, seed by seed, and gather their numbers."""
    budgets, variants = args.budgets.split(","), args.variants.split(",")
    for variant in variants:
        for seed in args.seeds:
            for budget, layers in zip(budgets, args.layers, strict=True):
                if not args.only_gather:
                    say(f"{args.task} seed {seed}: {variant} at {budget}")
                    run_one(args, seed, variant, budget, layers)
    return gather(args, budgets, variants)


def run_one(args: argparse.Namespace, seed: int, variant: str, budget: str, layers: int) -> None:
    """Train one variant, and the teacher first where it is not there."""
    work = place(args.work, args.task, seed)
    teacher = ensure_teacher(args, work, seed)
    if variant == LAYERS:
        words = layers_words(args, teacher, layers)
    else:
        words = schubert_words(args, teacher, budget, CUTS[variant])
    train(args, seed, run_folder(work, variant, budget), words)


def ensure_teacher(args: argparse.Namespace, work: Path, seed: int) -> Path:
    """Return the run folder of a seed's teacher, trained where it is not there."""
    teacher = work / "teacher"
    train(args, seed, teacher, ["finetune", weights_of(args), "--epochs", str(args.teacher_epochs)])
    return teacher


def train(args: argparse.Namespace, seed: int, out: Path, words: Sequence[str]) -> None:
    """Run one command on the task, or go on with it, unless it is finished."""
    if is_finished(out):
        return
    common = ["--task", args.task, "--seed", str(seed), *option("--data-dir", args.data_dir)]
    common += [*option("--threads", args.threads), *option("--max-train-samples", args.max_train_samples)]
    common += option("--max-eval-samples", args.max_eval_samples)
    cutbert(*words, "--out", str(out), *common)


def layers_words(args: argparse.Namespace, teacher: Path, layers: int) -> list[str]:
    """Return the command that distils a network of fewer layers."""
    words = ["dynabert", str(teacher), "--width-mult", "1", "--depths", str(layers), "--no-stock"]
    return [*words, "--subnets-per-step", "0", "--epochs", epochs_of(args, args.steps)]


def schubert_words(args: argparse.Namespace, teacher: Path, budget: str, options: Sequence[str]) -> list[str]:
    """Return the command that cuts by gates; their steps are counted in."""
    words = ["schubert", str(teacher), "--budget", budget, *options]
    words += ["--rounds", str(ROUNDS), "--gate-steps", str(args.gate_steps)]
    return [*words, "--epochs", epochs_of(args, args.steps - ROUNDS * args.gate_steps)]


def epochs_of(args: argparse.Namespace, steps: int) -> str:
    """Return the passes over the training rows that take so many steps."""
    data = DataSettings(task=args.task, data_dir=args.data_dir, max_train_samples=args.max_train_samples)
    return str(steps / math.ceil(len(load_dataset(data).train) / BATCH_SIZE))


def cutbert(*words: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", "cutbert", *words, "--json"], stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run_folder(work: Path, variant: str, budget: str) -> Path:
    return work / f"{variant}-{budget.replace('=', '-')}"


def is_finished(run: Path) -> bool:
    return (run / "run.json").is_file() and RunFolder.read(run).result is not None


def gather(args: argparse.Namespace, budgets: Sequence[str], variants: Sequence[str]) -> dict[str, Any]:
    """Return scores, sizes, times and the differences to fewer layers, of what is finished in all seeds."""
    works = [place(args.work, args.task, seed) for seed in args.seeds]
    teachers = [RunFolder.read(work / "teacher").result or {} for work in works]
    rows: list[dict[str, Any]] = []
    labels: Any = None
    for budget in budgets:
        found: dict[str, Network] = {}
        for variant in variants:
            runs = [run_folder(work, variant, budget) for work in works]
            if all(is_finished(run) for run in runs):
                found[variant] = network_of(variant, runs)
                labels = labels_of(runs)
                rows.append({"budget": budget, **facts_of(found[variant], runs)})
        for row in rows:
            if row["budget"] == budget and row["variant"] in found and row["variant"] != LAYERS:
                own, metric = found[row["variant"]], teachers[0]["metric"]
                if LAYERS in found:
                    row["minus_layers"] = difference(own, found[LAYERS], labels, metric)
                row |= minus_family(args, row, own, labels, metric)
    return {
        "task": args.task,
        "steps": args.steps,
        "max_train_samples": args.max_train_samples,
        "metric": teachers[0]["metric"],
        "teacher": {"scores": [float(each["score"]) for each in teachers]},
        "runs": rows,
    }


def minus_family(
    args: argparse.Namespace, row: Mapping[str, Any], own: Network, labels: Answers, metric: str
) -> dict[str, Any]:
    """Return how a network differs from the families' best at equal cost."""
    return {
        f"minus_family_at_equal_{name}": {
            "name": rival.name,
            "score": float(np.mean(rival.scores)),
            **difference(own, rival, labels, metric),
        }
        for name, rival in family_rivals(args.family, args.task, args.seeds, row).items()
    }


def family_rivals(family: str | None, task: str, seeds: Sequence[int], row: Mapping[str, Any]) -> dict[str, Network]:
    """Return the subnets of the families that are best on select at no more MACs, and no more latency, than a row's.

    Latency is the share of the teacher's, each timed beside its own.
    """
    if family is None:
        return {}
    runs = [place(family, task, seed) for seed in seeds]
    fronts = [Front.load(run) for run in runs]
    teacher, *subnets = family_networks(runs, fronts)
    limits = {"macs": float(np.mean(row["macs"])) * SAME, "latency": float(np.mean(row["latency_shares"])) * SAME}
    costs = {
        "macs": lambda each: each.macs,
        "latency": lambda each: np.mean(each.latencies_ms) / np.mean(teacher.latencies_ms),
    }
    fitting = {name: [each for each in subnets if costs[name](each) <= limit] for name, limit in limits.items()}
    return {name: max(each, key=lambda net: np.mean(net.select_scores)) for name, each in fitting.items() if each}


def labels_of(runs: Sequence[Path]) -> Answers:
    """Return dev's labels; of questions, whose answers are their F1, anything of as many rows."""
    stored = read_json(runs[0] / "predictions" / "teacher.json")
    return np.asarray(stored.get("labels", stored.get("f1")), dtype=np.float64)


def network_of(variant: str, runs: Sequence[Path]) -> Network:
    """Return a variant's result over all seeds."""
    entries = [result_of(run) for run in runs]
    latencies = [entry.latency_ms for entry in entries if entry.latency_ms is not None]
    return Network(
        name=variant,
        kind="cut",
        macs=entries[0].macs,
        params=entries[0].params,
        scores=tuple(entry.score for entry in entries),
        select_scores=tuple(entry.select_score for entry in entries),
        latencies_ms=tuple(latencies),
        answers=np.stack(
            [
                answers_or_f1(read_json(run / "predictions" / f"{e.name}.json"))
                for run, e in zip(runs, entries, strict=True)
            ]
        ),
    )


def stored(run: Path) -> Path:
    """Return the file of the result's dev outputs."""
    return run / "predictions" / f"{result_of(run).name}.json"


def result_of(run: Path) -> Entry:
    return tuple(Front.load(run))[-1]


def facts_of(network: Network, runs: Sequence[Path]) -> dict[str, Any]:
    """Return what the record says of a variant at a budget."""
    fronts, entries = [Front.load(run) for run in runs], [result_of(run) for run in runs]
    uncut = cost_of(fronts[0].teacher.shape).params_encoder
    return {
        "variant": network.name,
        "scores": list(network.scores),
        "score": float(np.mean(network.scores)),
        "score_sd": float(np.std(network.scores, ddof=1)) if len(runs) > 1 else None,
        "select_scores": list(network.select_scores),
        "encoder_shares": [cost_of(entry.shape).params_encoder / uncut for entry in entries],
        "params": [entry.params for entry in entries],
        "macs": [entry.macs for entry in entries],
        "latency_shares": [
            entry.latency_ms / front.teacher.latency_ms
            for entry, front in zip(entries, fronts, strict=True)
            if entry.latency_ms and front.teacher.latency_ms
        ],
        "shapes": [entry.shape.to_json() for entry in entries],
        "timings_s": [RunFolder.read(run).data["timings"] for run in runs],
        "peak_bytes": [RunFolder.read(run).data.get("peak_bytes") for run in runs],
        "lines": [RunFolder.read(run).line for run in runs],
    }


def markdown(record: dict[str, Any]) -> str:
    """Return the record's table."""
    teacher = 100 * float(np.mean(record["teacher"]["scores"]))
    lines = [
        f"{record['task']}: teacher {teacher:.2f}",
        f"| budget | variant | dev {record['metric']} | encoder | MACs (M) | latency | minus layers |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in record["runs"]:
        sd = f" ± {100 * row['score_sd']:.2f}" if row["score_sd"] is not None else ""
        cells = [
            row["budget"],
            row["variant"],
            f"{100 * row['score']:.2f}{sd}",
            f"{np.mean(row['encoder_shares']):.3f}",
            f"{np.mean(row['macs']) / 1e6:.0f}",
            f"{np.mean(row['latency_shares']):.2f}",
            interval(row.get("minus_layers")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
