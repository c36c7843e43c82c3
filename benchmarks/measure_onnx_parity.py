"""How near ONNX Runtime's answers come to torch's on real rows, and whether an exported folder runs without torch.

Rows are those of dev and, beyond them, of training; each runs alone, as it is served, and in padded batches. The
example beside the exported model runs in a new environment with onnxruntime, tokenizers, numpy and what these
ask for.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cutbert
from cutbert.bench.backends import BACKENDS
from cutbert.data.dataset import Dataset, load_dataset
from cutbert.data.rows import Rows
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import Tokens, tokenize_rows
from cutbert.folders.load import Loaded, load_model
from cutbert.train.machine import num_threads, package_version
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cutbert.train.runner import Runner, TorchRunner, run_rows
from recording import make_parser, parse, recorded, spread

SEED = 0  # of the training rows that are taken
LIMIT = 1e-4
BATCH_TOKENS = 4096
PACKAGES = ("onnxruntime", "tokenizers", "numpy")
FORBIDDEN = ("torch", "transformers", "cutbert")
LOADED_TEXTS = 8


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--run", type=Path, required=True, help="finished run folder, texts with labels; only read")
    parser.add_argument("--rows", type=int, default=1000, help="of dev, then of training")
    parser.add_argument(
        "--load-test",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also answer texts in a new environment, whose packages come from the package index",
    )
    args = parse(parser, argv)
    record = recorded("onnx_parity", args, lambda: measure(args), seeds=[SEED])
    for name in ("alone", "in_batches"):
        print(f"{name}: at most {record[name]['max_abs_diff']:.1e} apart on {record[name]['count']} rows")
    if test := record.get("load_test"):
        print(f"in the clean environment: at most {test['max_abs_diff']:.1e} apart on {test['texts']} texts")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return the differences on the rows, and what the clean environment answered."""
    run, loaded = RunFolder.read(args.run), load_model(str(args.run))
    data = DataSettings(**run.settings["data"])
    dataset = load_dataset(data)
    rows = real_rows(dataset, loaded, data.length_limit, args.rows)
    with num_threads(args.threads) as threads:
        ours = answers(TorchRunner(loaded.model), loaded, rows, 1)
        runner = BACKENDS["onnx"].load(loaded.model, threads)
        alone = np.abs(answers(runner, loaded, rows, 1) - ours).max(axis=1)
        in_batches = np.abs(answers(runner, loaded, rows, BATCH_TOKENS) - ours).max(axis=1)
    return {
        "run": str(args.run),
        "onnxruntime": package_version("onnxruntime"),
        "shape": loaded.model.shape.to_json(),
        "limit": LIMIT,
        "rows": {name: len(tokens) for name, tokens in rows.items()},
        "tokens": int(sum(tokens.lengths.sum() for tokens in rows.values())),
        "largest_answer": float(np.abs(ours).max()),
        "alone": spread(alone, "abs_diff"),
        "in_batches": spread(in_batches, "abs_diff"),
        **({"load_test": load_test(args.run, loaded, texts_of(dataset))} if args.load_test else {}),
    }


def real_rows(dataset: Dataset, loaded: Loaded, limit: int, count: int) -> dict[str, Tokens]:
    """Return `count` rows as tokens, by split: dev's first ones, then training rows at random."""
    limit = min(limit, loaded.tokenizer.model_max_length)
    of_dev = np.arange(min(count, len(dataset.dev)))
    of_train = np.random.default_rng(SEED).permutation(len(dataset.train))[: count - len(of_dev)]
    taken = {"dev": dataset.dev.take(of_dev), "train": dataset.train.take(np.sort(of_train))}
    return {
        name: tokenize_rows(rows, loaded.tokenizer, loaded.source, limit) for name, rows in taken.items() if len(rows)
    }


def answers(runner: Runner, loaded: Loaded, rows: dict[str, Tokens], max_tokens: int) -> NDArray[np.float32]:
    """Return the logits of all rows."""
    return np.concatenate([run_rows(runner, loaded.model, each, max_tokens=max_tokens) for each in rows.values()])


def texts_of(dataset: Dataset) -> list[str]:
    assert isinstance(dataset.dev, Rows)
    return list(dataset.dev.text[:LOADED_TEXTS])


def load_test(run: Path, loaded: Loaded, texts: list[str]) -> dict[str, Any]:
    """Export the run's model and answer texts by the example beside it, in a clean environment."""
    with tempfile.TemporaryDirectory() as work:
        model = Path(work) / "model"
        cutbert.export(str(run), onnx=True, out=str(model))
        python = clean_environment(Path(work) / "environment")
        search = f"import json, importlib.util as u; print(json.dumps([n for n in {FORBIDDEN} if u.find_spec(n)]))"
        found = json.loads(output_of(python, "-I", "-c", search))
        begun = time.perf_counter()
        lines = output_of(python, "-I", str(model / "onnx" / "example.py"), *texts).splitlines()
        seconds = time.perf_counter() - begun
        packages = json.loads(output_of(python, "-m", "pip", "list", "--format", "json"))
    theirs = np.array([json.loads(line[line.rindex("[") :]) for line in lines])
    feeds = loaded.tokenizer(texts, padding=True, return_tensors="np")
    ours = TorchRunner(loaded.model)(**{name: feeds[name] for name in feeds})
    return {
        "asked_for": list(PACKAGES),
        "installed": {each["name"]: each["version"] for each in packages},
        "found_of_what_must_be_absent": found,
        "texts": len(texts),
        "seconds": seconds,
        "max_abs_diff": float(np.abs(theirs - ours).max()),
        "output": lines,
    }


def clean_environment(folder: Path) -> str:
    """Make a virtual environment with what an exported folder needs, and return its Python."""
    say(f"making an environment with {', '.join(PACKAGES)}")
    output_of(sys.executable, "-m", "venv", str(folder))
    python = str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    output_of(python, "-m", "pip", "install", "--quiet", *PACKAGES)
    return python


def output_of(*command: str) -> str:
    """Return what a command prints; its errors are shown."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
