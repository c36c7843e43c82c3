"""Processor time of `cutbert.runtime`: beside its session alone, many texts beside one by one, and beside torch.

Processor time of the process, on one thread unless asked otherwise, since other work on a machine does not count in it.
The sides are timed in turns: in every repeat each side labels the same texts once.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.data.dataset import load_dataset
from cutbert.data.rows import Rows
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import tokenize_rows
from cutbert.folders.load import load_model
from cutbert.runtime import Labeller, load
from cutbert.runtime.runner import Session, packed
from cutbert.train.evaluate import predict_logits
from cutbert.train.machine import num_threads, package_version
from recording import make_parser, parse, recorded, spread

SEED = 0
Feeds = dict[str, NDArray[np.int64]]
Calls = list[Callable[[], object]]


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("models", type=Path, nargs="+", help="exported folders of classifiers; only read")
    parser.add_argument("--backend", default="auto", help="onnx, onnx-int8 or auto")
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--data-dir", help="the data root")
    parser.add_argument("--texts", type=int, default=1_000, help="that every side labels")
    parser.add_argument("--repeats", type=int, default=3)
    args = parse(parser, argv)
    record = recorded("runtime", args, lambda: measure(args), seeds=[SEED])
    for row in record["models"]:
        print(f"{row['model']}: one text {row['p50_over_session']:.2f} times the bare session, median of texts")
        print(f"together {row['one_by_one_over_together']:.2f} times as fast as one by one, at most ", end="")
        print(f"{row['one_by_one_over_session_together']:.2f} if only the session took time")
        print(", ".join(f"{name} {each['median_ms']:.2f} ms" for name, each in row["per_text"].items()))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    rows = load_dataset(DataSettings(task=args.task, data_dir=args.data_dir)).train
    assert isinstance(rows, Rows)
    texts = rows.text[: args.texts]
    with num_threads(args.threads or 1) as threads:
        found = [measured_model(model, texts, args, threads) for model in args.models]
    return {
        "onnxruntime": package_version("onnxruntime"),
        "backend": args.backend,
        "texts": len(texts),
        "models": found,
    }


def measured_model(folder: Path, texts: list[str], args: argparse.Namespace, threads: int) -> dict[str, Any]:
    """Return the times of every side of a model, and how they compare."""
    model = load(folder, backend=args.backend, threads=threads)
    if not isinstance(model, Labeller):
        raise SystemExit(f"{folder} must classify texts, got a {type(model).__name__}")
    sides, order = sides_of(folder, model, texts), random.Random(SEED)
    times: dict[str, list[list[float]]] = {name: [] for name in sides}
    for calls in sides.values():
        seconds_of(calls)
    for _ in range(args.repeats):
        for name in order.sample(list(sides), len(sides)):
            times[name].append(seconds_of(sides[name]))
    per_text = {name: spread(1000 * np.sum(each, axis=1) / len(texts), "ms") for name, each in times.items()}
    median = {name: each["median_ms"] for name, each in per_text.items()}
    p50 = {name: 1000 * float(np.median(times[name])) for name in ("one by one", "session one by one")}
    return {
        "model": str(folder),
        "tokens_per_text": float(np.mean([len(each.ids) for (each,) in model.encode(texts)])),
        "per_text": per_text,
        "p50_ms": p50,
        "p50_over_session": p50["one by one"] / p50["session one by one"],
        "one_by_one_over_together": median["one by one"] / median["together"],
        "bare_one_by_one_over_together": median["session one by one"] / median["session together"],
        "one_by_one_over_session_together": median["one by one"] / median["session together"],
        "shares_of_together": {
            name: median[side] / median["together"]
            for name, side in (("session", "session together"), ("tokenizer", "tokens together"))
        },
        "torch_together_over_together": median["torch together"] / median["together"],
    }


def sides_of(folder: Path, model: Labeller, texts: list[str]) -> dict[str, Calls]:
    """Return what is timed, by name: the calls that label all texts; sessions alone are given padded arrays."""
    encodings = [encoding for group in model.encode(texts) for encoding in group]
    batches = packed([len(each.ids) for each in encodings], model.batch_size, model.batch_tokens)
    run = session_of(model).session.run
    singles = [feeds_of(model, [each]) for each in encodings]
    batched = [feeds_of(model, [encodings[i] for i in batch]) for batch in batches]
    loaded = load_model(str(folder))

    def by_torch() -> None:
        predict_logits(loaded.model, tokenize_rows(Rows(texts), loaded.tokenizer, "", model.max_length, cache=False))

    return {
        "tokens together": [partial(model.encode, texts)],
        "session one by one": [partial(run, None, feeds) for feeds in singles],
        "session together": [partial(run, None, feeds) for feeds in batched],
        "one by one": [partial(model, [text]) for text in texts],
        "together": [partial(model, texts)],
        "torch together": [by_torch],
    }


def feeds_of(model: Labeller, encodings: Sequence[Any]) -> Feeds:
    """Return the padded arrays of a batch, as a session wants them."""
    size = max(len(each.ids) for each in encodings)
    ids = np.full((len(encodings), size), model.folder.pad_id, dtype=np.int64)
    feeds = {"input_ids": ids, "attention_mask": np.zeros_like(ids), "token_type_ids": np.zeros_like(ids)}
    for row, each in enumerate(encodings):
        ids[row, : len(each.ids)], feeds["attention_mask"][row, : len(each.ids)] = each.ids, 1
    return {name: feeds[name] for name in session_of(model).inputs}


def session_of(model: Labeller) -> Session:
    """Return the ONNX session of a model that was loaded from a file."""
    assert isinstance(model.session, Session)
    return model.session


def seconds_of(calls: Calls) -> list[float]:
    """Return the processor time of each call."""
    times = []
    for call in calls:
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return times


if __name__ == "__main__":
    main()
