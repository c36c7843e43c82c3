"""The plain alternative at the same multiply-adds: the first k layers, fine-tuned, and distilled from the teacher.

Every run has a folder of its own under --work, so a stopped script goes on where it was. {seed} in --teacher and
in --work stands for the seed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cutbert.files import read_json
from cutbert.hub.load import load_model
from cutbert.hub.provenance import extend_provenance
from cutbert.hub.save import save_model
from cutbert.shape.cost import cost_of
from cutbert.shape.folder import read_folder_shape
from cutbert.shape.shape import EncoderShape
from cutbert.shape.subnet import Subnet
from cutbert.surgery.extract import extract
from cutbert.train.progress import say
from recording import make_parser, recorded
from workload import add_inputs, weights_of

WAYS = ("finetuned", "distilled")
KEPT = ("score", "select_score", "metrics", "macs", "params")


def main() -> None:
    parser = make_parser(__doc__)
    add_inputs(parser)
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--teacher", required=True, help="run folder of the fine-tuned teacher")
    parser.add_argument("--work", default="runs/alternatives-{task}-{seed}", help="folder of the runs")
    parser.add_argument("--layers", type=numbers, default=[1, 2, 3, 4, 5], help="numbers of layers kept, by commas")
    parser.add_argument("--seeds", type=numbers, default=[0], help="by commas")
    parser.add_argument("--epochs", type=float, default=2.0, help="as the family's, so that steps are as many")
    parser.add_argument("--finetune-rate", type=float, help="learning rate of fine-tuning; None for its default")
    parser.add_argument("--distil-rate", type=float, help="learning rate of distillation; None for its default")
    args = parser.parse_args()
    record = recorded(f"alternatives_{args.task}", args, lambda: {"task": args.task, **measure(args)}, seeds=args.seeds)
    for run in record["runs"]:
        print(f"seed {run['seed']}: first {run['layers']} layers {run['way']}: {100 * run['score']:.2f}")


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Make every alternative that is not there yet, and gather their numbers."""
    runs = []
    for seed in args.seeds:
        teacher, work = place(args.teacher, args.task, seed), place(args.work, args.task, seed)
        for layers in args.layers:
            for way in WAYS:
                say(f"seed {seed}: first {layers} layers, {way}")
                found = run_one(args, teacher, work, layers, way, seed)
                runs.append({"seed": seed, "layers": layers, "way": way, **found})
    return {"epochs": args.epochs, "runs": runs}


def place(template: str, task: str, seed: int) -> Path:
    """Return a folder with task and seed in their places."""
    return Path(template.replace("{task}", task).replace("{seed}", str(seed)))


def run_one(args: argparse.Namespace, teacher: Path, work: Path, layers: int, way: str, seed: int) -> dict[str, Any]:
    """Cut, train and score one alternative, or go on with it, or read what it found."""
    source = weights_of(args) if way == "finetuned" else str(teacher)
    start, out = work / f"{way}-{layers}-start", work / f"{way}-{layers}"
    shape = cut_first(source, layers, start)
    common = ["--task", args.task, "--epochs", str(args.epochs), "--seed", str(seed), "--out", str(out), "--json"]
    common += option("--data-dir", args.data_dir) + option("--threads", args.threads)
    common += option("--max-train-samples", args.max_train_samples)
    if way == "finetuned":
        words = ["finetune", str(start), *common, *option("--learning-rate", args.finetune_rate)]
    else:
        single = ["--teacher", str(teacher), "--width-mult", "1", "--depth-mult", "1", "--no-stock"]
        words = ["dynabert", str(start), *common, *single, *option("--learning-rate", args.distil_rate)]
    done = subprocess.run([sys.executable, "-m", "cutbert", *words], stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    return {**scores_of(result, out), "num_layers": shape.num_layers, "seconds": result["seconds"], "out": str(out)}


def option(name: str, value: object) -> list[str]:
    return [] if value is None else [name, str(value)]


def cut_first(source: str, layers: int, folder: Path) -> EncoderShape:
    """Write the first layers of a model, with the head it has, as a model folder of its own; return its shape."""
    if (folder / "shape.json").is_file():
        return EncoderShape.from_json(read_json(folder / "shape.json"))
    loaded = load_model(source)
    whole = Subnet.full(loaded.model.shape)
    small = extract(loaded.model, Subnet(whole.layers[:layers], whole.hidden_size))
    provenance = extend_provenance(loaded.provenance, f"benchmarks/alternatives.py: first {layers} layers", scores={})
    save_model(folder, small, loaded.tokenizer, provenance=provenance)
    return small.shape


def scores_of(result: dict[str, Any], out: Path) -> dict[str, Any]:
    """Return scores and costs of a finished run, of `finetune` or of a family of one."""
    if "subnets" in result:
        (only,) = result["subnets"]
        return {"metric": result["metric"], **{key: only[key] for key in KEPT}}
    facts = read_folder_shape(out / "model")
    cost = cost_of(facts.shape, facts.head)
    numbers_found = {"macs": cost.macs, "params": cost.params}
    return {key: (numbers_found | result)[key] for key in ("metric", *KEPT)}


if __name__ == "__main__":
    main()
