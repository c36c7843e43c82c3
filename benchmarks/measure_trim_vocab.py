"""What `export --trim-vocab` saves and changes: tokens, bytes of the int8 file, scores on select and dev."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cutbert
from cutbert.exporters.folder import FOLDER
from recording import make_parser, parse, recorded

SCORES = ("score", "select_score")


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("models", type=Path, nargs="+", help="model folders with the task's head; only read")
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--data-dir", help="the data root")
    parser.add_argument("--max-train-samples", type=int, help="texts of train whose tokens stay; all without")
    args = parse(parser, argv)
    record = recorded("trim_vocab", args, lambda: measure(args), seeds=[0])
    for row in record["models"]:
        whole, trimmed = row["whole"], row["trimmed"]
        print(
            f"{row['model']}: {whole['tokens']:,} to {trimmed['tokens']:,} tokens, "
            f"{whole['file_bytes']:,} to {trimmed['file_bytes']:,} bytes, int8 {100 * whole['score']:.2f} to "
            f"{100 * trimmed['score']:.2f} on dev, {100 * whole['select_score']:.2f} to "
            f"{100 * trimmed['select_score']:.2f} on select"
        )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    return {"task": args.task, "models": [measured_model(model, args) for model in args.models]}


def measured_model(model: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Return what both int8 files of a model are and score, and what trimming changes in torch."""
    made = {}
    with TemporaryDirectory() as folder:
        for name in ("whole", "trimmed"):
            out = Path(folder) / name
            exported = cutbert.export(
                model,
                out=out,
                int8=True,
                gate=False,
                trim_vocab=name == "trimmed",
                task=args.task,
                data_dir=args.data_dir,
                max_train_samples=args.max_train_samples,
                threads=args.threads,
            )
            (file,) = (out / FOLDER).glob("*.onnx")
            made[name] = {**exported.to_json(), "file_bytes": file.stat().st_size}
    in_torch = made["trimmed"]["trimmed_vocabulary"]
    tokens = {"whole": in_torch["tokens_before"], "trimmed": in_torch["tokens"]}
    rows = {
        name: {
            "tokens": tokens[name],
            "file_bytes": each["file_bytes"],
            **{score: each[f"{score}_after"] for score in SCORES},
        }
        for name, each in made.items()
    }
    return {"model": str(model), "metric": in_torch["metric"], **rows, "in_torch": in_torch}


if __name__ == "__main__":
    main()
