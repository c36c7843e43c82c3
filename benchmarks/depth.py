"""Depth on eight binary tasks: the curve of every depth, the chosen beside the best and the full one, and regrets.

Each task is a run of `cutbert depth --all-depths` with the first seed; the chosen depth is then run with all seeds in
turns with the full model, the best one (on dev, so for study only) by itself. Every run has a folder of its own under
--work, so a stopped script goes on where it was. Choices are made anew from the stored scores, so a changed rule needs
no new curves. A task has a record of its own, and --gather puts those that are
there into one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from alternatives import numbers, option
from cutbert.analysis.depth_selectors import SELECTORS
from cutbert.files import read_json
from cutbert.methods.depth_choice import depth_by, depths_by_rule
from cutbert.methods.depth_result import compare_stored
from cutbert.methods.depth_settings import DepthSettings
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cuts import is_finished
from recording import make_parser, recorded
from workload import add_inputs, weights_of

TASKS = ("cola", "sst2", "mrpc", "qqp", "qnli", "rte", "wnli", "subj")
TWO_CLASSES = np.array([0, 0, 1, 1])  # labels that every task here has


def main() -> None:
    parser = make_parser(__doc__)
    add_inputs(parser)
    parser.add_argument("--tasks", default=",".join(TASKS), help="by commas")
    parser.add_argument("--work", default="runs/depth-{task}", help="folder of a task's runs")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], help="by commas; the first has every depth")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="the default's 5e-5 is for longer training")
    parser.add_argument("--max-eval-samples", type=int, help="score on so few rows, to try the script out")
    parser.add_argument("--selector", default="probe", help="whose choice is compared with the full model")
    parser.add_argument("--only-series", action="store_true", help="run every depth of the tasks; record nothing")
    parser.add_argument("--gather", action="store_true", help="put the records that are there into one; run nothing")
    parser.set_defaults(max_train_samples=4000)
    args = parser.parse_args()
    if args.gather:
        record = recorded("depth", args, lambda: gather(args), seeds=args.seeds)
        print(markdown(record))
        return
    for task in args.tasks.split(","):
        if args.only_series:
            every_depth(args, task)
            continue
        recorded(f"depth_{task}", args, lambda task=task: measure(args, task), seeds=args.seeds)


def measure(args: argparse.Namespace, task: str) -> dict[str, Any]:
    """Make a task's runs and return the series, the comparisons over all seeds, and where the time went."""
    work = Path(args.work.replace("{task}", task))
    series = every_depth(args, task)
    chosen, best, full = depths_by(series)[args.selector], series["oracle_depth"], series["num_layers"]
    found = {"series": series}
    seeds = [word for seed in args.seeds for word in ("--seeds", str(seed))]
    if chosen != full:
        say(f"{task}: the chosen depth, {chosen}, beside the full model, {len(args.seeds)} seeds")
        out = work / f"beside-{chosen}"
        found["chosen"] = depth_run(args, task, out, "--depth", str(chosen), "--against-full", *seeds)
    if best == chosen != full:
        found["oracle"] = found["chosen"]
    elif best != full:
        say(f"{task}: the best depth, {best}, {len(args.seeds)} seeds")
        words = [] if chosen != full else ["--against-full"]
        out = work / f"best-{best}"
        found["oracle"] = depth_run(args, task, out, "--depth", str(best), *words, *seeds)
        if chosen != full:
            full_run = work / f"beside-{chosen}"
            found["oracle"] |= beside(out, best, full_run, full, series["metric"], args.seeds)
    return {"task": task, "epochs": args.epochs, "max_train_samples": args.max_train_samples, **found}


def every_depth(args: argparse.Namespace, task: str) -> dict[str, Any]:
    """Return the curve of one task, one seed."""
    say(f"{task}: every depth")
    out = Path(args.work.replace("{task}", task)) / "series"
    return depth_run(args, task, out, "--all-depths", "--selector", args.selector)


def depths_by(series: Mapping[str, Any]) -> dict[str, int]:
    """Return what every selector and rule takes, by its defaults, from the stored scores; tasks are of two classes."""
    found, least = depths_by_rule(series["num_layers"]), DepthSettings().least_gain
    for name, each in series["selectors"].items():
        if "scores" in each:
            found[name] = depth_by(SELECTORS[name], each["scores"], TWO_CLASSES, None, least)
    return found


def beside(run: Path, depth: int, full_run: Path, full: int, metric: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Return how the best depth's answers on dev differ from the full model's, which stand beside the chosen one."""
    ours, theirs = (
        [where / "predictions" / f"depth-{layers}-seed-{seed}.json" for seed in seeds]
        for where, layers in ((run, depth), (full_run, full))
    )
    found = compare_stored(ours, theirs, metric)
    return {"difference": found.to_json(), "verdict": found.verdict(DepthSettings().margin)}


def depth_run(args: argparse.Namespace, task: str, out: Path, *words: str) -> dict[str, Any]:
    """Run `cutbert depth`, or read what it found; the networks themselves are not kept."""
    if is_finished(out):
        return dict(RunFolder.read(out).result or {})
    common = ["--task", task, "--epochs", str(args.epochs), "--out", str(out), "--json"]
    common += ["--learning-rate", str(args.learning_rate)]
    common += option("--data-dir", args.data_dir) + option("--threads", args.threads)
    common += option("--max-train-samples", args.max_train_samples)
    common += option("--max-eval-samples", args.max_eval_samples)
    common += ["--seed", str(args.seeds[0])]
    command = [sys.executable, "-m", "cutbert", "depth", weights_of(args), *words, *common]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    for name in ("model", "full", "truncated"):
        shutil.rmtree(out / name, ignore_errors=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def gather(args: argparse.Namespace) -> dict[str, Any]:
    """Return the tasks side by side, and the selectors by their mean regret."""
    tasks = {}
    for task in args.tasks.split(","):
        path = args.records / f"depth_{task}.json"
        if path.is_file():
            tasks[task] = row_of(read_json(path), args.selector)
    names = list(next(iter(tasks.values()))["regrets"]) if tasks else []
    regrets = {name: mean(row["regrets"][name] for row in tasks.values()) for name in names}
    return {"tasks": tasks, "mean_regret": dict(sorted(regrets.items(), key=lambda each: each[1]))}


def row_of(record: Mapping[str, Any], selector: str) -> dict[str, Any]:
    """Return what the table says of one task."""
    series, depths = record["series"], depths_by(record["series"])
    scores = [each["score"] for each in series["series"]]
    row = {
        "metric": series["metric"],
        "max_train_samples": record["max_train_samples"],
        "chosen_depth": depths[selector],
        "oracle_depth": series["oracle_depth"],
        "scores": scores,
        "select_scores": [each["select_score"] for each in series["series"]],
        "regrets": {name: max(scores) - scores[depth - 1] for name, depth in depths.items()},
        "depths": depths,
        "choosing_seconds": series["choosing_seconds"],
    }
    for name in ("chosen", "oracle"):
        found = record.get(name)
        if found is not None:
            row[name] = {key: found[key] for key in ("score", "scores", "difference", "verdict")}
        if found is not None and "full_score" in found:
            row[name] |= {
                "full_score": found["full_score"],
                "time_saved": saved(found["seconds"] + series["choosing_seconds"], found["full_seconds"]),
                "memory_saved": saved(found["peak_bytes"], found["full_peak_bytes"]),
                "model_memory_saved": saved(
                    found["peak_bytes"] - found["before_bytes"], found["full_peak_bytes"] - found["full_before_bytes"]
                ),
                "file_saved": saved(found["file_bytes"], found["full_file_bytes"]),
            }
    return row


def saved(small: float, full: float) -> float:
    """Return the share that the small one saves."""
    return 1 - small / full


def markdown(record: Mapping[str, Any]) -> str:
    """Return the tables: tasks, then selectors."""
    lines = [
        "| task | dev by depth | chosen | best | chosen minus full | verdict | time | memory | file |",
        "|---|---|---:|---:|---:|---|---:|---:|---:|",
    ]
    for task, row in record["tasks"].items():
        lines.append("| " + " | ".join(cells_of(task, row)) + " |")
    lines += ["", "| selector | mean regret (points) |", "|---|---:|"]
    lines += [f"| `{name}` | {100 * regret:.2f} |" for name, regret in record["mean_regret"].items()]
    return "\n".join(lines)


def cells_of(task: str, row: Mapping[str, Any]) -> Sequence[str]:
    curve = " ".join(f"{100 * score:.1f}" for score in row["scores"])
    first = [f"{task} ({row['metric']})", curve, str(row["chosen_depth"]), str(row["oracle_depth"])]
    found = row.get("chosen")
    if found is None:
        return [*first, "-", "the full model was chosen", "-", "-", "-"]
    gap = found["difference"]
    interval = f"{100 * gap['difference']:+.2f} [{100 * gap['low']:+.2f}, {100 * gap['high']:+.2f}]"
    shares = [f"{100 * found[name]:.0f} %" for name in ("time_saved", "memory_saved", "file_saved")]
    return [*first, interval, found["verdict"], *shares]


if __name__ == "__main__":
    main()
