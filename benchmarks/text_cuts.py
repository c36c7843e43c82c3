"""Cuts made on plain text, without a task: schuBERT's, a task-agnostic supernet's, fewer layers, and a small net alone.

A masked-LM head is trained first; every cut starts there and takes as many tokens. The small network that is
pre-trained alone has the sizes of the supernet's half and as many tokens as head and supernet together. Then each is
fine-tuned on a task in the same way. Every run has a folder of its own under --work and is not made twice.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from alternatives import option
from cutbert.data.masking import masking_of
from cutbert.data.text import find_texts, load_texts
from cutbert.data.text_settings import TextSettings
from cutbert.files import read_json, write_json
from cutbert.fronts.front import Front
from cutbert.hub.load import load_model
from cutbert.shape.cost import cost_of
from cutbert.shape.folder import read_folder_shape
from cutbert.train.machine import num_threads
from cutbert.train.masked_lm import masked_outcomes
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cuts import LAYERS, cutbert, is_finished
from recording import make_parser, recorded
from workload import add_inputs, weights_of

TEXT = "wikitext-2"
HALF, ALONE = "w0.5-d1.0", "alone"
CUTS: dict[str, list[str]] = {"all": [], "fakv": ["--dims", "f,a,k,v"], "h": ["--dims", "h"], "uniform": ["--uniform"]}
NETWORKS = (*CUTS, LAYERS, HALF, ALONE)


def main() -> None:
    parser = make_parser(__doc__)
    add_inputs(parser)
    parser.add_argument("--task", default="sst2", help="what every network is fine-tuned on")
    parser.add_argument("--work", default="runs/text", help="folder of the runs")
    parser.add_argument("--head-epochs", type=float, default=0.35, help="passes over the text for the masked-LM head")
    parser.add_argument("--epochs", type=float, default=0.2, help="passes over the text after the cut")
    parser.add_argument("--task-epochs", type=float, default=2.0)
    parser.add_argument("--batch-size", type=int, default=8, help="sequences of 128 tokens in a step")
    parser.add_argument("--budget", default="params_encoder=0.5")
    parser.add_argument("--layers", type=int, default=3, help="layers kept beside the budget")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--networks", default=",".join(NETWORKS), help=f"by commas, of {', '.join(NETWORKS)}")
    parser.add_argument("--only-gather", action="store_true", help="run nothing; record what is finished")
    args = parser.parse_args()
    record = recorded("text_cuts", args, lambda: measure(args), seeds=[args.seed])
    for row in record["networks"]:
        text = f"perplexity {row['perplexity']:.1f}, masked accuracy {100 * row['masked_accuracy']:.2f}"
        task = "not tuned yet" if row["task_score"] is None else f"{100 * row['task_score']:.2f}"
        print(f"{row['name']}: encoder {row['encoder_share']:.3f}, {text}; {args.task} {task}")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Make every run that is not there yet, and gather their numbers; what is unfinished is left out."""
    work = Path(args.work)
    head = text_run(args, work / "mlm", "pretrain", weights_of(args), "--epochs", str(args.head_epochs))
    epochs, wanted = ["--epochs", str(args.epochs)], args.networks.split(",")
    runs = {"uncut": head}
    for name, dims in CUTS.items():
        if name in wanted:
            runs[name] = text_run(args, work / name, "schubert", str(head), *epochs, "--budget", args.budget, *dims)
    if LAYERS in wanted:
        single = ["--width-mult", "1", "--depths", str(args.layers), "--no-stock", "--subnets-per-step", "0"]
        runs[LAYERS] = text_run(args, work / LAYERS, "dynabert", str(head), *epochs, *single)
    if HALF in wanted or ALONE in wanted:
        grid = ["--width-mult", "1,0.5", "--depth-mult", "1,0.5", "--no-stock"]
        runs[HALF] = text_run(args, work / "supernet", "dynabert", str(head), *epochs, *grid)
    if ALONE in wanted and is_finished(runs[HALF]):
        shape = work / "half.json"
        write_json(shape, read_json(picked(runs[HALF], work / "supernet-half", HALF) / "shape.json"))
        passes = ["--epochs", str(args.head_epochs + args.epochs)]
        small = ["--from-scratch", str(shape), *passes]
        runs[ALONE] = text_run(args, work / ALONE, "pretrain", weights_of(args), *small)
    models = {
        name: picked(run, work / f"{name}-cut", HALF if name == HALF else None) if name in (HALF, LAYERS) else run
        for name, run in runs.items()
        if is_finished(run)
    }
    networks = [describe(args, name, runs[name], head, model) for name, model in models.items()]
    return {"text": TEXT, "task": args.task, "budget": args.budget, "networks": networks}


def text_run(args: argparse.Namespace, out: Path, verb: str, model: str, *words: str) -> Path:
    """Make one run on text unless it is finished, and return its folder."""
    if not is_finished(out) and not args.only_gather:
        say(f"{out}: {verb}")
        files = text_settings(args)
        text = ["--train", *files.train, "--dev", *files.dev]
        common = ["--batch-size", str(args.batch_size), "--seed", str(args.seed), *option("--threads", args.threads)]
        objective = [] if verb == "pretrain" else ["--objective", "mlm"]
        cutbert(verb, model, "--out", str(out), *objective, *text, *common, *words)
    return out


def picked(run: Path, out: Path, name: str | None = None) -> Path:
    """Cut the subnet of a name out of a run, the only one where none is given; return its folder."""
    entries = {entry.name: entry for entry in Front.load(run)}
    entry = entries[name] if name is not None else next(iter(entries.values()))
    if not out.exists():
        cutbert("pick", str(run), "--max-params", str(entry.params), "--out", str(out))
    return out


def describe(args: argparse.Namespace, name: str, run: Path, head: Path, model: Path) -> dict[str, Any]:
    """Return what the record says of a network: sizes, how it does on held-out text, and on the task once tuned."""
    facts, whole = read_folder_shape(model), read_folder_shape(head)
    stored, out = RunFolder.read(run), run.parent / f"{args.task}-{name}"
    if not is_finished(out) and not args.only_gather:
        common = ["--task", args.task, "--epochs", str(args.task_epochs), "--seed", str(args.seed)]
        common += [*option("--data-dir", args.data_dir), *option("--threads", args.threads)]
        common += option("--max-train-samples", args.max_train_samples)
        cutbert("finetune", str(model), "--out", str(out), *common)
    task = (RunFolder.read(out).result or {}) if is_finished(out) else {}
    return {
        "name": name,
        "shape": facts.shape.to_json(),
        "encoder_share": cost_of(facts.shape).params_encoder / cost_of(whole.shape).params_encoder,
        **held_out_scores(args, model),
        "task_score": task.get("score"),
        "task_select_score": task.get("select_score"),
        "timings_s": stored.data["timings"],
        "line": stored.line,
    }


def text_settings(args: argparse.Namespace) -> TextSettings:
    folder = Path(args.data_dir or os.environ.get("CUTBERT_DATA", "")) / TEXT
    return TextSettings(train=(str(folder / "train.txt"),), dev=(str(folder / "valid.txt"),))


def held_out_scores(args: argparse.Namespace, model: Path) -> dict[str, float]:
    """Return loss, perplexity and masked accuracy on all of the held-out text, the same masks for every network."""
    loaded, text = load_model(model), text_settings(args)
    network, tokenizer = loaded.model, loaded.tokenizer
    masking = masking_of(
        tokenizer, str(model), vocab_size=network.shape.vocab_size, probability=text.mask_probability, whole_word=False
    )
    rows = load_texts(find_texts(text), tokenizer, str(model), text.sequence_length).dev
    with num_threads(args.threads):
        found = masked_outcomes(network, rows, masking)
    return {"loss": found.loss, "perplexity": found.perplexity, "masked_accuracy": found.accuracy}


if __name__ == "__main__":
    main()
