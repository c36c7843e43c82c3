"""How good a small embedding model is once it learned from a large one by `fit --student`, beside itself untaught.

A student whose vectors have another width learns which texts are alike to the teacher. Texts to learn from are those of
the data folder's training files, without labels; choices are made on held-out ones. The limit is the untaught student's
own int8 latency, with room for noise. Compared are the int8 files of both, on STS-B's dev pairs and on SQuAD's
dev questions over its paragraphs. A run is resumed, and the record is written again after each seed.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cutbert
from cutbert.bench.backends import BACKENDS
from cutbert.data.dataset import load_dataset
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import tokenize_rows
from cutbert.data.vectors import MRR, NDCG, SPEARMAN
from cutbert.demo_data.weights import checked_weights
from cutbert.folders.load import load_model
from cutbert.fronts.outputs import stored_difference
from cutbert.shape.head import HeadSpec
from cutbert.shape.source import find_model
from cutbert.train.evaluate import score
from cutbert.train.machine import num_threads
from cutbert.train.runner import run_rows
from measure_embedding import MAX_LENGTH, SHOWN, write_data
from recording import make_parser, measure_seeds, numbers, parse, record_so_far

BACKEND = "onnx-int8"
ROOM = 1.2  # of the untaught student's latency: the limit, which networks of its very sizes keep however long texts are
LENGTH = 32  # tokens that both are timed at
METRICS = (SPEARMAN, NDCG, MRR)


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--model", required=True, help="the large one, which teaches")
    parser.add_argument("--student", help="the small one; None for MiniLM of the installed package")
    parser.add_argument(
        "--data-dir", type=Path, default=os.environ.get("CUTBERT_DATA"), help="folder of GLUE, SQuAD and wikitext-2"
    )
    parser.add_argument("--seeds", type=numbers, default=[0], help="by commas")
    parser.add_argument("--time", type=float, default=1800.0, help="seconds of a run of fit")
    parser.add_argument("--texts", type=int, default=16_000, help="learn from a random part of the texts, at most this")
    parser.add_argument("--held-out", type=int, default=400, help="texts that choices are made on, and as many of dev")
    parser.add_argument("--queries", type=int, default=2_000, help="dev questions; None for all")
    parser.add_argument("--work", type=Path, default=Path("runs/embedding-student"), help="folder of the runs")
    parser.add_argument("--name", default="embedding_student", help="of the record")
    args = parse(parser, argv)
    args.student = args.student or str(checked_weights())
    about = {"time_s": args.time, "texts": args.texts, "queries": args.queries, "cells": []}
    record = record_so_far(args.name, args, args.seeds, lambda: about)
    measure_seeds(record, args, measure)
    for cell in record["cells"]:
        print(json.dumps({"taught": cell["taught"], "untaught": cell["untaught"], "differences": cell["differences"]}))


def measure(seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Teach the student with one seed, and compare it with itself as it was."""
    data = write_data(args.data_dir, args.work / "data")
    run = cutbert.fit(
        args.model,
        out=args.work / f"fit-{seed}",
        objective="embedding",
        train=data["train"],
        student=args.student,
        kinds=["student"],
        max_train_samples=args.texts,
        max_eval_samples=args.held_out,
        max_length=MAX_LENGTH,
        max_latency_share=share_of_student(args),
        time=args.time,
        threads=args.threads,
        seed=seed,
    )
    settings = DataSettings(
        objective="embedding",
        task="stsb",
        data_dir=str(args.data_dir),
        queries=data["queries"],
        corpus=data["corpus"],
        relevant=data["relevant"],
        max_eval_samples=args.queries,
        max_length=MAX_LENGTH,
    )
    folders = {"taught": str(run.path / "model"), "untaught": args.student}
    outputs = {name: outputs_of(folder, settings, args.threads) for name, folder in folders.items()}
    times = cutbert.measure(*folders.values(), backend=BACKEND, length=LENGTH, threads=args.threads)["models"]
    latencies = {name: each["latency_ms"] for name, each in zip(folders, times, strict=True)}
    board = run.leaderboard
    return {
        "seed": seed,
        **{
            name: {"latency_ms": latencies[name], **{metric: each["metrics"][metric] for metric in METRICS}}
            for name, each in outputs.items()
        },
        "differences": {name: stored_difference(outputs["taught"], outputs["untaught"], name) for name in METRICS},
        "length": LENGTH,
        "chosen": board.chosen[0].name,
        "seconds": run["seconds"],
        "leaderboard": [{key: value for key, value in each.to_json().items() if key in SHOWN} for each in board],
    }


def share_of_student(args: argparse.Namespace) -> float:
    """Return the student's int8 latency as a share of the model's, timed in turn, with ROOM, at most 1; as kept."""
    kept = args.work / "share.json"
    if not kept.is_file():
        both = cutbert.measure(args.model, args.student, backend=BACKEND, length=LENGTH, threads=args.threads)["models"]
        share = ROOM * both[1]["latency_ms"] / both[0]["latency_ms"]
        kept.write_text(json.dumps(min(round(share, 4), 1.0)))
    return float(json.loads(kept.read_text()))


def outputs_of(folder: str, settings: DataSettings, threads: int | None) -> Mapping[str, Any]:
    """Return the scores of a model's int8 file, and what they are computed from, one text at a time."""
    loaded = load_model(find_model(folder), HeadSpec("embedding"))
    dev = load_dataset(settings).dev
    tokens = tokenize_rows(dev, loaded.tokenizer, loaded.source, settings.length_limit)
    with num_threads(threads) as count:
        runner = BACKENDS[BACKEND].load(loaded.model.eval(), count)
        scored = score(loaded.model.head_spec, NDCG, run_rows(runner, loaded.model, tokens, max_tokens=1), tokens)
    return {"score": scored.score, "metrics": scored.metrics, **scored.outputs}


if __name__ == "__main__":
    main()
