"""Peak memory and time of `cutbert analyze` on 10,000 texts and a model of BERT-base's shape, weights random."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cutbert.folders.load import Loaded, load_model
from cutbert.folders.save import save_model
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from recording import make_parser, parse, recorded
from workload import add_inputs, cutbert_json, model_of, option


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    add_inputs(parser)
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--hidden-size", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    args = parse(parser, argv)
    record = recorded("analysis_memory", args, lambda: measure(args), seeds=[0])
    print(f"{record['peak_bytes'] / 2**30:.2f} GiB, {record['seconds']:.0f} s")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Analyse in a process of its own, whose run says what it held."""
    with tempfile.TemporaryDirectory() as work:
        model, out = Path(work) / "model", Path(work) / "look"
        given = load_model(model_of(args))
        save_model(model, random_model(args, given), given.tokenizer, provenance=given.provenance)
        words = ["analyze", str(model), "--out", str(out), "--task", args.task, "--num-examples", str(args.texts)]
        words += option("--max-train-samples", args.max_train_samples)
        cutbert_json(*words, *option("--data-dir", args.data_dir), *option("--threads", args.threads))
        run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return {
        "texts": args.texts,
        "hidden_size": args.hidden_size,
        "layers": args.layers,
        "peak_bytes": run["peak_bytes"]["total"],
        "seconds": run["timings"]["total"],
    }


def random_model(args: argparse.Namespace, given: Loaded) -> TaskModel:
    """Return a model of new weights for two classes that reads the given one's tokens."""
    shape = EncoderShape.uniform(
        hidden_size=args.hidden_size,
        num_layers=args.layers,
        num_heads=max(1, args.hidden_size // 64),
        intermediate_size=4 * args.hidden_size,
        vocab_size=given.model.shape.vocab_size,
        num_positions=given.model.shape.num_positions,
    )
    return TaskModel(shape, given.model.style, HeadSpec("single_label", ("0", "1")))


if __name__ == "__main__":
    main()
