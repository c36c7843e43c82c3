"""Peak memory of training, each in a fresh process: 4, 12 and 24 subnets a step on SST-2's longest batches; a reader.

The reader is fine-tuned on SQuAD's questions and then cut to half of its encoder, by whole commands: batches of ever
new sizes, scores and timing of the result are in their peaks, as their runs note them at the end of each stage.
"""

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
from cutbert.files import read_json
from cutbert.train.machine import own_peak_bytes
from cutbert.train.progress import say
from recording import make_parser, numbers, parse, recorded, spread
from workload import (
    BATCH_SIZE,
    DynabertSettings,
    add_inputs,
    cutbert_json,
    distillation,
    longest_rows,
    model_of,
    option,
    prepare_task,
)

WIDTHS_OF_24 = tuple(float(mult) for mult in np.linspace(1.0, 0.25, 8).round(4))
FAMILIES = {
    4: DynabertSettings(stock=False, subnets_per_step=4),
    12: DynabertSettings(stock=False, subnets_per_step=0),
    24: DynabertSettings(stock=False, subnets_per_step=0, width_mult=WIDTHS_OF_24),
}
CUT = ("--budget", "params_encoder=0.5", "--dims", "f,a,k,v")


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    add_inputs(parser)
    parser.add_argument("--steps", type=int, default=4, help="training steps of each process")
    parser.add_argument("--repeats", type=int, default=3, help="processes for each number of subnets")
    parser.add_argument("--subnets", type=numbers, default=list(FAMILIES), help="a step, by commas")
    parser.add_argument("--questions", type=int, default=800, help="that a reader is trained on; 0 for no reader")
    parser.add_argument("--eval-questions", type=int, default=1000, help="that it is scored on")
    parser.add_argument("--gate-steps", type=int, default=10, help="of the reader's cut")
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
    for verb, stages in record["reader"].get("peak_bytes", {}).items():
        print(f"reader, {verb}: {', '.join(f'{name} {peak / 2**20:.0f}' for name, peak in stages.items())} MiB")


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
        "reader": train_reader(args) if args.questions else {},
    }


def train_reader(args: argparse.Namespace) -> dict[str, Any]:
    """Fine-tune a reader and cut it, a process each, and return what each held at most by the end of every stage."""
    data = ["--task", "squad", *option("--data-dir", args.data_dir), *option("--threads", args.threads)]
    data += [*option("--max-train-samples", args.questions), *option("--max-eval-samples", args.eval_questions)]
    with tempfile.TemporaryDirectory() as work:
        teacher, cut = Path(work) / "teacher", Path(work) / "cut"
        cutbert_json("finetune", model_of(args), *data, "--epochs", "1", "--out", str(teacher))
        steps = ("--gate-steps", str(args.gate_steps), "--epochs", "0.6")
        cutbert_json("schubert", str(teacher), *data, *CUT, *steps, "--out", str(cut))
        runs = {"finetune": teacher, "schubert": cut}
        peaks = {verb: read_json(run / "run.json")["peak_bytes"] for verb, run in runs.items()}
    asked = {name: getattr(args, name) for name in ("questions", "eval_questions", "gate_steps")}
    return {"task": "squad", **asked, "peak_bytes": peaks}


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
