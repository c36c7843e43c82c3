"""Fewer feed-forwards on one teacher, healed in equal steps: how many, which, how removed; beside plain alternatives.

At each number kept stand two networks of as many multiply-adds, trained for as many steps: fewer whole layers, and all
layers with thinner feed-forwards. Every run has a folder of its own under --work, so a stopped script goes on where
it was; variants that are not run yet in all seeds are left out of the record, which --again gathers anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alternatives import numbers, place
from cutbert.files import read_json
from cutbert.fronts.front import Entry, Front
from cutbert.shape.cost import cost_of
from cutbert.shape.folder import FolderShape, read_folder_shape
from cutbert.shape.pattern import even_layers, feed_forward_layers, pattern_of, with_feed_forwards
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cuts import (
    ensure_teacher,
    epochs_of,
    facts_of,
    is_finished,
    labels_of,
    layers_words,
    minus_family,
    network_of,
    schubert_words,
    train,
)
from family import Network, answers_or_f1, difference, interval
from recording import make_parser, recorded
from workload import add_inputs

WAYS = {
    "even": ["--choose", "even"],
    "importance": [],
    "cka": ["--choose", "cka"],
    "gradual": ["--removal", "gradual"],
}
DEFAULT, LAYERS, THIN = "importance", "layers", "thin"
KINDS = (*WAYS, LAYERS, THIN)
RIVALS = ("teacher", DEFAULT, LAYERS, THIN, "family_at_equal_macs")
THINNER = ["--uniform", "--dims", "f"]
TRAINING = ("gates", "heal", "train")


def main() -> None:
    parser = make_parser(__doc__)
    add_inputs(parser)
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--work", default="runs/undivided-{task}-{seed}", help="folder of the runs")
    parser.add_argument("--teacher", help="run folder of a trained teacher; None to train one in --work")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], help="by commas")
    parser.add_argument("--kept", type=numbers, default=[6, 4, 3, 2, 0], help="feed-forwards kept, by commas")
    parser.add_argument("--compared", type=numbers, default=[3], help="numbers kept at which ways are compared")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"by commas, of {', '.join(KINDS)}")
    parser.add_argument("--steps", type=int, default=800, help="optimizer steps of every run, those on gates counted")
    parser.add_argument("--gate-steps", type=int, default=100, help="of these, steps on gates of the thinner network")
    parser.add_argument("--teacher-epochs", type=float, default=3.0)
    parser.add_argument("--family", help="dynabert runs of the same teachers to compare with, by {task} and {seed}")
    parser.add_argument("--max-eval-samples", type=int, help="score on so many rows of each split only")
    parser.add_argument("--only-gather", action="store_true", help="run nothing; record what is finished")
    args = parser.parse_args()
    record = recorded(f"undivided_{args.task}", args, lambda: measure(args), seeds=args.seeds)
    print(markdown(record))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Make every run that is not there yet, all seeds of a variant before the next, and gather their numbers."""
    if not args.only_gather:
        for kind in args.kinds.split(","):
            for kept in args.compared if kind in WAYS and kind != DEFAULT else args.kept:
                for seed in args.seeds:
                    run_one(args, seed, kind, kept)
    return gather(args)


def run_one(args: argparse.Namespace, seed: int, kind: str, kept: int) -> None:
    """Train one variant, and the teacher first where it is not there; nothing where the variant cannot be."""
    work = place(args.work, args.task, seed)
    given = args.teacher
    teacher = ensure_teacher(args, work, seed) if given is None else place(given, args.task, seed)
    words = words_of(args, teacher, kind, kept)
    if words is not None:
        say(f"{args.task} seed {seed}: {kind} at {kept} feed-forwards")
        train(args, seed, work / f"{kind}-{kept}", words)


def words_of(args: argparse.Namespace, teacher: Path, kind: str, kept: int) -> list[str] | None:
    """Return the command of a variant; None beside a network that keeps all, or none to be thinner."""
    uncut = read_folder_shape(teacher)
    if kind in WAYS:
        words = ["undivided", str(teacher), "--num-ffn", str(kept), *WAYS[kind]]
        return [*words, "--epochs", epochs_of(args, args.steps)]
    if kept == len(feed_forward_layers(uncut.shape)) or (kind == THIN and not kept):
        return None
    macs = macs_kept(uncut, kept)
    if kind == THIN:
        return schubert_words(args, teacher, f"macs={macs}", THINNER)
    return layers_words(args, teacher, nearest_depth(uncut, macs))


def macs_kept(uncut: FolderShape, kept: int) -> int:
    """Return the multiply-adds of a model that keeps so many feed-forwards."""
    return cost_of(with_feed_forwards(uncut.shape, even_layers(uncut.shape, kept)), uncut.head).macs


def nearest_depth(uncut: FolderShape, macs: int) -> int:
    """Return the number of layers, one less than all at most, whose multiply-adds are nearest."""
    whole = cost_of(uncut.shape, uncut.head).macs
    one = (whole - macs_of_head(uncut)) / uncut.shape.num_layers
    return max(1, min(uncut.shape.num_layers - 1, round((macs - macs_of_head(uncut)) / one)))


def macs_of_head(uncut: FolderShape) -> int:
    return cost_of(uncut.shape, uncut.head).macs - cost_of(uncut.shape).macs


def gather(args: argparse.Namespace) -> dict[str, Any]:
    """Return scores, sizes, times and paired differences, of what is finished in all seeds."""
    works = [place(args.work, args.task, seed) for seed in args.seeds]
    runs_of = {
        (kind, kept): [work / f"{kind}-{kept}" for work in works]
        for kind in KINDS
        for kept in sorted({*args.kept, *args.compared}, reverse=True)
    }
    there = {key: runs for key, runs in runs_of.items() if all(is_finished(run) for run in runs)}
    if not there:
        raise SystemExit("nothing is finished in all seeds yet")
    found = {key: network_of(f"{key[0]}-{key[1]}", runs) for key, runs in there.items()}
    some = next(iter(there.values()))
    teacher, labels, front = teacher_of(some), labels_of(some), Front.load(some[0])
    rows = []
    for (kind, kept), network in found.items():
        rivals = {"teacher": teacher}
        rivals |= {
            rival: found[rival, kept] for rival in (DEFAULT, LAYERS, THIN) if rival != kind and (rival, kept) in found
        }
        differences = {
            f"minus_{name}": difference(network, other, labels, front.metric) for name, other in rivals.items()
        }
        row = {"kind": kind, "kept": kept, **facts_of(network, there[kind, kept]), **removal_of(there[kind, kept])}
        row |= {"train_seconds": [seconds_of(run) for run in there[kind, kept]], **differences}
        rows.append(row | minus_family(args, row, network, labels, front.metric))
    return {
        "task": args.task,
        "steps": args.steps,
        "max_train_samples": args.max_train_samples,
        "metric": front.metric,
        "dev_rows": len(labels),
        "teacher": {"scores": list(teacher.scores), "params": teacher.params, "macs": teacher.macs},
        "runs": rows,
    }


def teacher_of(runs: Sequence[Path]) -> Network:
    """Return the uncut model over all seeds, as one variant's runs scored it."""
    entries = [Front.load(run).teacher for run in runs]
    return Network(
        name="teacher",
        kind="teacher",
        macs=entries[0].macs,
        params=entries[0].params,
        scores=tuple(entry.score for entry in entries),
        select_scores=tuple(entry.select_score for entry in entries),
        latencies_ms=None,
        answers=np.stack([answers_or_f1(read_json(run / "predictions" / "teacher.json")) for run in runs]),
    )


def removal_of(runs: Sequence[Path]) -> dict[str, Any]:
    """Return what was removed, and how good the network was right after it; nothing of the alternatives."""
    fronts = [Front.load(run) for run in runs]
    raw = [entry for front in fronts for entry in front if entry.name.endswith("-unhealed")]
    data: dict[str, Any] = {"patterns": [pattern_of(result_of(front).shape) for front in fronts]}
    return data | ({"unhealed_scores": [entry.score for entry in raw]} if raw else {})


def result_of(front: Front) -> Entry:
    return tuple(front)[-1]


def seconds_of(run: Path) -> float:
    """Return the wall time of a run's training, gates counted, teacher, scores and timing left out."""
    timings = RunFolder.read(run).data["timings"]
    return float(sum(timings.get(name, 0.0) for name in TRAINING))


def markdown(record: Mapping[str, Any]) -> str:
    """Return the record's table."""
    points = 100 * float(np.mean(record["teacher"]["scores"]))
    lines = [
        f"{record['task']}: teacher {points:.2f}",
        f"| kept | network | dev {record['metric']} | unhealed | params (M) | MACs (M) | latency | train (s) "
        f"| minus teacher | minus {DEFAULT} | minus layers | minus thin | minus family |",
        "|---:|---|" + "---:|" * 11,
    ]
    for row in sorted(record["runs"], key=lambda row: (-row["kept"], KINDS.index(row["kind"]))):
        sd = f" ± {100 * row['score_sd']:.2f}" if row["score_sd"] is not None else ""
        cells = [
            str(row["kept"]),
            row["kind"],
            f"{100 * row['score']:.2f}{sd}",
            f"{100 * np.mean(row['unhealed_scores']):.2f}" if "unhealed_scores" in row else "-",
            f"{np.mean(row['params']) / 1e6:.2f}",
            f"{np.mean(row['macs']) / 1e6:.0f}",
            f"{np.mean(row['latency_shares']):.2f}",
            f"{np.mean(row['train_seconds']):.0f}",
            *(interval(row.get(f"minus_{name}")) for name in RIVALS),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
