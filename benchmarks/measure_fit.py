"""How good what `fit` takes is, beside plain layers that the same code chose and trained in the same time.

For each task and seed a teacher is fine-tuned. Two runs of `fit` start from it, under limits that are shares of its
int8 latency, for the same time: one may try everything, the other whole layers alone, any choice of them. Choices are
made on select by both; here dev is compared, on the same rows, and the files that were taken are timed once more, in
turn with the uncut one: each run saw it by itself, and at another time. Runs are resumed, and the record is written
again after each cell.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

import cutbert
from cutbert.files import read_json
from cutbert.fronts.leaderboard import Leaderboard, LeaderboardEntry
from cutbert.fronts.outputs import answers_of
from cutbert.fronts.paired import compare
from cutbert.train.progress import say
from fit_beside_layers import RIVALS, facts_of, model_name, run_both
from recording import make_parser, names, numbers, parse, record_so_far, shares, write_part
from workload import model_of

ROWS = {"sst2": 10_000, "qnli": 10_000, "qqp": 10_000, "mnli": 10_000}  # of training; all of the other tasks
PASSES, RATE = {"sst2": 2.0, "qnli": 2.0, "qqp": 2.0, "mnli": 2.0}, 1e-4  # of the teachers
UNCUT, BACKEND, TIMED_ROWS = ("uncut", 0), "onnx-int8", 200
SHOWN = (
    "name",
    "kind",
    "backend",
    "score",
    "select_score",
    "latency_ms",
    "steps",
    "train_seconds",
    "kl",
    "chosen",
    "limit",
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--model", help="what is fitted; None for MiniLM of the installed package")
    parser.add_argument("--data-dir", help="folder of the GLUE tasks; None for the hub's")
    parser.add_argument("--tasks", type=names, default=["sst2", "cola", "mrpc"], help="tasks by commas")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], help="by commas")
    parser.add_argument("--passes", type=float, help="of the teachers; None for those that MiniLM needs")
    parser.add_argument("--rate", type=float, default=RATE, help="peak learning rate of the teachers")
    parser.add_argument("--student", type=names, default=[], help="other models that fit may cut, by commas")
    parser.add_argument("--shares", type=shares, default=[1 / 2, 1 / 3], help="of the uncut int8 latency, by commas")
    parser.add_argument("--time", type=float, default=240.0, help="seconds of a run of fit")
    parser.add_argument("--work", type=Path, default=Path("runs/fit"), help="folder of the runs")
    parser.add_argument(
        "--rival-shares",
        type=shares,
        help="of plain layers, for each or the loosest of --shares; looser ones where whole layers just miss these",
    )
    parser.add_argument("--name", default="fit", help="of the record")
    args = parse(parser, argv)
    own = {"rival_shares": args.rival_shares} if args.rival_shares else {}
    about = {"time_s": args.time, "shares": args.shares, **own, "cells": []}
    record = record_so_far(args.name, args, args.seeds, lambda: about)
    done = {(cell["task"], cell["seed"]) for cell in record["cells"]}
    for seed in args.seeds:
        for task in args.tasks:
            if (task, seed) not in done:
                record["cells"].append(measure(task, seed, args))
                record["summary"] = summary(record["cells"], args.work)
                write_part(record, args)
                say(json.dumps(record["cells"][-1]["compared"]))
    for row in record.get("summary", ()):
        print(json.dumps(row))


def measure(task: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Run fit and its rival on one task with one seed."""
    data = {"task": task, "data_dir": args.data_dir, "max_train_samples": ROWS.get(task)}
    common = {**data, "threads": args.threads, "seed": seed}
    folder = args.work / f"{task}-{seed}"
    passes = args.passes or PASSES.get(task, 4.0)
    teacher = cutbert.finetune(model_of(args), out=folder / "teacher", learning_rate=args.rate, epochs=passes, **common)
    folders = {name: folder / name for name in RIVALS}
    model = folder / "teacher" / "model"
    own: dict[str, dict[str, Any]] = {"fit": {"student": args.student} if args.student else {}}
    if args.rival_shares:  # for each as long as fit has
        time = args.time * len(args.rival_shares) / len(args.shares)
        own["layers"] = {"max_latency_share": args.rival_shares, "time": time}
    limits = {"fit": len(args.shares), "layers": len(args.rival_shares or args.shares)}
    boards = run_both(model, folders, own, max_latency_share=args.shares, time=args.time, **common)
    return {
        "task": task,
        "seed": seed,
        "teacher": {key: teacher[key] for key in ("score", "select_score", "metrics")},
        **facts_of(folders, boards, SHOWN),
        "compared": compared(folder, boards, limits, timed_together(task, folder, limits, args)),
    }


def timed_together(
    task: str, folder: Path, limits: Mapping[str, int], args: argparse.Namespace
) -> dict[tuple[str, int], float]:
    """Return the milliseconds of all files that were taken, by run and limit, and of the uncut one, timed in turn."""
    places = {
        (name, number): folder / name / model_name(number) for name in RIVALS for number in numbers_of(limits[name])
    }
    models = {UNCUT: folder / "teacher" / "model", **places}
    few = {"task": task, "data_dir": args.data_dir, "max_eval_samples": TIMED_ROWS}
    rows = cutbert.measure(*map(str, models.values()), backend=[BACKEND], threads=args.threads, **few)["models"]
    return {key: row["latency_ms"] for key, row in zip(models, rows, strict=True)}


def numbers_of(limits: int) -> range:
    """Return the limits of a run as `fit` counts them, the loosest first."""
    return range(1, limits + 1)


def compared(
    folder: Path,
    boards: dict[str, Leaderboard],
    limits: Mapping[str, int],
    together: Mapping[tuple[str, int], float],
) -> list[dict[str, Any]]:
    """Return for each limit what both took, and the teacher in int8.

    Args:
        folder: of the runs.
        boards: of both, by name.
        limits: how many each had, the loosest first.
        together: milliseconds by run and limit, timed in turn.
    """
    rows = []
    for number in numbers_of(limits["fit"]):
        row: dict[str, Any] = {"metric": boards["fit"].metric}
        for name, board in boards.items():
            if number > limits[name]:
                continue
            entry = chosen_under(board, number, limits[name])
            uncut = board.uncut
            assert uncut is not None
            row[name] = {
                "name": entry.name,
                "score": entry.score,
                "select_score": entry.select_score,
                "latency_ms": together[name, number],
                "share": together[name, number] / together[UNCUT],
                "own_share": entry.latency_ms / uncut.latency_ms,
                "steps": entry.steps,
                "outputs": str(
                    (folder / name / "predictions" / outputs_name(entry, number)).relative_to(folder.parent)
                ),
            }
            row.setdefault("uncut", {"score": uncut.score, "select_score": uncut.select_score})
        uncut_outputs = folder / "fit" / "predictions" / f"uncut-{boards['fit'].backend}.json"
        row["uncut"]["outputs"] = str(uncut_outputs.relative_to(folder.parent))
        rows.append(row)
    return rows


def chosen_under(board: Leaderboard, number: int, limits: int) -> LeaderboardEntry:
    """Return what was chosen under one of the limits, the loosest first."""
    return board.chosen[number - 1] if limits > 1 else board.chosen[0]


def outputs_name(entry: LeaderboardEntry, number: int) -> str:
    """Return the file of an entry's outputs on dev."""
    prefix = "" if entry.kind == "teacher" else f"limit-{number}-"
    return f"{prefix}{entry.name}-{entry.backend}.json"


def summary(cells: Sequence[dict[str, Any]], work: Path) -> list[dict[str, Any]]:
    """Return for each task and limit the means over seeds, and paired differences with their intervals over rows."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        for number, row in enumerate(cell["compared"]):
            groups[cell["task"], number].append(row)
    rows = []
    for (task, number), found in groups.items():
        means: dict[str, Any] = {"task": task, "limit": number, "seeds": len(found)}
        names = [name for name in ("uncut", "fit", "layers") if all(name in each for each in found)]
        for name in names:
            scores = [each[name]["score"] for each in found]
            means[name] = {"mean": fmean(scores), "spread": stdev(scores) if len(scores) > 1 else None}
        for name in names[1:]:
            means[name]["share"] = fmean(each[name]["share"] for each in found)
        for other in (name for name in names if name != "fit"):
            means[f"fit - {other}"] = difference(found, "fit", other, work)
        rows.append(means)
    return rows


def difference(rows: Sequence[dict[str, Any]], one: str, other: str, work: Path) -> dict[str, Any]:
    """Return the mean difference over seeds with its interval over rows, and that of each seed."""
    ours, theirs = ([read_json(work / row[name]["outputs"]) for row in rows] for name in (one, other))
    truth = np.asarray(ours[0]["labels"], dtype=np.float64)
    paired = compare(
        rows[0]["metric"], [answers_of(each) for each in ours], [answers_of(each) for each in theirs], truth
    )
    return {"mean": paired.difference, "low": paired.low, "high": paired.high, "by_seed": list(paired.by_seed)}


if __name__ == "__main__":
    main()
