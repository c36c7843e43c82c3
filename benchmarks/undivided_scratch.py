"""New masked LMs with a feed-forward in every layer, in fewer, and in fewer with more attention layers; equal tokens.

All take the same tokens of wikitext-2 in the same order; then each is fine-tuned on a task in the same way. Every run
has a folder of its own under --work and is not made twice.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pyarrow.json

from alternatives import numbers, option
from cutbert.files import write_json
from cutbert.shape.cost import cost_of
from cutbert.shape.folder import read_folder_shape
from cutbert.shape.pattern import pattern_of
from cutbert.shape.shape import EncoderShape
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cuts import cutbert, is_finished
from recording import make_parser, recorded
from text_cuts import text_settings
from workload import add_inputs, weights_of

HEAD_SIZE = 32
EQUAL = "equal"


def main() -> None:
    parser = make_parser(__doc__)
    add_inputs(parser)
    parser.add_argument("--task", default="sst2", help="what every network is fine-tuned on")
    parser.add_argument("--work", default="runs/scratch", help="folder of the runs")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--kept", type=numbers, default=[12, 6, 3], help="feed-forwards, by commas")
    parser.add_argument("--equal", type=numbers, default=[6], help="likewise, with attention layers up to equal size")
    parser.add_argument("--epochs", type=float, default=2.0, help="passes over the text")
    parser.add_argument("--batch-size", type=int, default=16, help="sequences of 128 tokens in a step")
    parser.add_argument("--learning-rate", type=float, help="None for the default of training from scratch")
    parser.add_argument("--task-epochs", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only-gather", action="store_true", help="run nothing; record what is finished")
    args = parser.parse_args()
    record = recorded("undivided_scratch", args, lambda: measure(args), seeds=[args.seed])
    for row in record["networks"]:
        print(
            f"{row['name']}: {row['pattern']}, encoder {row['params_encoder'] / 1e6:.2f} M parameters, "
            f"loss {row['loss']:.3f}, {row['tokens_per_s']:.0f} tokens a second; {args.task} {row['task_score']}"
        )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Make every run that is not there yet, and gather their numbers; what is unfinished is left out."""
    work = Path(args.work)
    shape = work / "shape.json"
    if not shape.exists():
        work.mkdir(parents=True, exist_ok=True)
        write_json(shape, whole_shape(args).to_json())
    variants = {f"ffn{kept}": ["--num-ffn", str(kept)] for kept in args.kept}
    variants |= {f"ffn{kept}-{EQUAL}": ["--num-ffn", str(kept), "--equal-params"] for kept in args.equal}
    if not args.only_gather:
        for name, words in variants.items():
            run_one(args, work, name, ["--from-scratch", str(shape), *words])
    networks = [describe(work, name, args.task) for name in variants if is_finished(work / name)]
    return {"text": "wikitext-2", "task": args.task, "networks": networks}


def whole_shape(args: argparse.Namespace) -> EncoderShape:
    """Return BERT's proportions at a smaller hidden size, with the tokenizer's vocabulary."""
    vocabulary = read_folder_shape(Path(weights_of(args))).shape.vocab_size
    return EncoderShape.uniform(
        hidden_size=args.hidden_size,
        num_layers=args.layers,
        num_heads=args.hidden_size // HEAD_SIZE,
        intermediate_size=4 * args.hidden_size,
        vocab_size=vocabulary,
        num_positions=512,
    )


def run_one(args: argparse.Namespace, work: Path, name: str, words: list[str]) -> None:
    """Train one network on text, then on the task, unless that is done."""
    common = ["--seed", str(args.seed), *option("--threads", args.threads)]
    if not is_finished(work / name):
        say(f"{name}: masked LM")
        text = text_settings(args)
        files = ["--train", *text.train, "--dev", *text.dev, "--epochs", str(args.epochs)]
        files += ["--batch-size", str(args.batch_size), *option("--learning-rate", args.learning_rate)]
        cutbert("undivided", weights_of(args), "--out", str(work / name), *words, *files, *common)
    out = work / f"{args.task}-{name}"
    if not is_finished(out):
        say(f"{name}: {args.task}")
        rows = option("--max-train-samples", args.max_train_samples)
        task = ["--task", args.task, "--epochs", str(args.task_epochs), *option("--data-dir", args.data_dir), *rows]
        cutbert("finetune", str(work / name), "--out", str(out), *task, *common)


def describe(work: Path, name: str, task: str) -> dict[str, Any]:
    """Return what the record says of a network: size, held-out loss, the course of its training loss, the task."""
    run, facts = RunFolder.read(work / name), read_folder_shape(work / name)
    found = run.result or {}
    cost, seconds = cost_of(facts.shape), run.data["timings"]["train"]
    course = pyarrow.json.read_json(work / name / "log.jsonl").to_pydict()
    last = course["step"][-1]
    tuned = work / f"{task}-{name}"
    return {
        "name": name,
        "pattern": pattern_of(facts.shape),
        "params_encoder": cost.params_encoder,
        "macs": cost.macs,
        **{key: found[key] for key in ("loss", "perplexity", "tokens", "tokens_per_s")},
        "masked_accuracy": found["subnets"][0]["score"],
        "train_seconds": seconds,
        "course": {
            "tokens": [round(found["tokens"] * step / last) for step in course["step"]],
            "seconds": [round(seconds * step / last, 1) for step in course["step"]],
            "loss": course["masked_lm"],
        },
        "task_score": (RunFolder.read(tuned).result or {}).get("score") if is_finished(tuned) else None,
        "line": run.line,
    }


if __name__ == "__main__":
    main()
