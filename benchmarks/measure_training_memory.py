"""Peak memory of training with 4, 12 and 24 subnets a step, each in a fresh process, on SST-2's longest batches."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cutbert.bench.memory import clear_peak
from cutbert.train.machine import own_peak_bytes
from cutbert.train.progress import say
from recording import make_parser, numbers, parse, recorded, spread
from workload import BATCH_SIZE, DynabertSettings, add_inputs, distillation, longest_rows, prepare_task

WIDTHS_OF_24 = tuple(float(mult) for mult in np.linspace(1.0, 0.25, 8).round(4))
FAMILIES = {
    4: DynabertSettings(stock=False, subnets_per_step=4),
    12: DynabertSettings(stock=False, subnets_per_step=0),
    24: DynabertSettings(stock=False, subnets_per_step=0, width_mult=WIDTHS_OF_24),
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    add_inputs(parser)
    parser.add_argument("--steps", type=int, default=4, help="training steps of each process")
    parser.add_argument("--repeats", type=int, default=3, help="processes for each number of subnets")
    parser.add_argument("--subnets", type=numbers, default=list(FAMILIES), help="a step, by commas")
    parser.add_argument("--only", type=int, choices=FAMILIES, help="measure this one here and print it, no record")
    args = parse(parser, argv)
    if args.only:
        print(json.dumps(train_here(args)))
        return
    words = sys.argv[1:] if argv is None else list(argv)
    record = recorded("training_memory", args, lambda: measure(args, words), seeds=[0])
    for count, seen in record["by_subnets_per_step"].items():
        peak = seen["training_peak"]
        print(f"{count} subnets a step: {peak['median_bytes'] / 2**20:.0f} MiB ({peak['count']} processes)")


def measure(args: argparse.Namespace, words: Sequence[str]) -> dict[str, Any]:
    """Run the processes in turn and gather what they print."""
    seen: dict[int, list[dict[str, Any]]] = {count: [] for count in args.subnets}
    for _ in range(args.repeats):
        for count in args.subnets:
            done = subprocess.run(
                [sys.executable, __file__, *words, "--only", str(count)], stdout=subprocess.PIPE, text=True, check=True
            )
            seen[count].append(json.loads(done.stdout.splitlines()[-1]))
            say(f"{count} subnets: {seen[count][-1]['training_peak_bytes'] / 2**20:.0f} MiB")
    return {
        "batch_size": BATCH_SIZE,
        "steps": args.steps,
        "by_subnets_per_step": {
            str(count): {
                "subnets": each[0]["subnets"],
                "longest_row_tokens": each[0]["longest_row_tokens"],
                "training_peak": spread([one["training_peak_bytes"] for one in each], "bytes"),
                "before_training": spread([one["before_training_bytes"] for one in each], "bytes"),
            }
            for count, each in seen.items()
        },
    }


def train_here(args: argparse.Namespace) -> dict[str, Any]:
    """Take a few steps on the longest batches and return this process's peak since they began."""
    settings = FAMILIES[args.only]
    with tempfile.TemporaryDirectory() as work:
        task = prepare_task(args, Path(work))
        tokens = task.train_tokens.take(longest_rows(task.train_tokens.lengths, args.steps * BATCH_SIZE))
        trainer, counted = distillation(task, tokens, settings, 0, args.threads, Path(work))
        before = clear_peak()
        for _ in range(args.steps):
            trainer.step()
    return {
        "subnets": counted.point_names,
        "longest_row_tokens": int(tokens.lengths.max()),
        "before_training_bytes": before,
        "training_peak_bytes": own_peak_bytes(),
    }


if __name__ == "__main__":
    main()
