"""Processor time of `cutbert.runtime`: beside its session alone, many texts beside one by one, and beside torch.

Processor time of the process, on one thread unless asked otherwise, since other work on a machine does not count in it.
The sides are timed in turns: in every repeat each side labels the same texts once.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.data.dataset import load_dataset
from cutbert.data.rows import Rows
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import tokenize_rows
from cutbert.hub.load import load_model
from cutbert.runtime import Labeller, load
from cutbert.runtime.runner import packed
from cutbert.train.evaluate import predict_logits
from cutbert.train.machine import num_threads, package_version
from recording import make_parser, parse, recorded, spread

SEED = 0
USUAL = {"torch together", "transformers one by one"}  # what people run today
Feeds = dict[str, NDArray[np.int64]]


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--model", type=Path, required=True, help="exported folder of a classifier; only read")
    parser.add_argument("--backend", default="auto", help="onnx, onnx-int8 or auto")
    parser.add_argument("--pipeline", help="the same model, of a size transformers holds, for its own pipeline")
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--data-dir", help="the data root")
    parser.add_argument("--texts", type=int, default=1_000, help="that every side labels")
    parser.add_argument("--repeats", type=int, default=3)
    args = parse(parser, argv)
    record = recorded("runtime", args, lambda: measure(args), seeds=[SEED])
    print(f"one text: {record['single_over_session']:.2f} times the bare session")
    print(f"together: {record['one_by_one_over_together']:.1f} times as fast as one by one")
    print(f"bare sessions: {record['bare_one_by_one_over_together']:.1f} times")
    for name, each in record["per_text"].items():
        print(f"{name}: {each['median_ms']:.2f} ms a text")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    rows = load_dataset(DataSettings(task=args.task, data_dir=args.data_dir)).train
    assert isinstance(rows, Rows)
    texts = rows.text[: args.texts]
    with num_threads(args.threads or 1) as threads:
        sides = sides_of(args, texts, threads)
        order = random.Random(SEED)
        times: dict[str, list[float]] = {name: [] for name in sides}
        for call in sides.values():
            call()
        for _ in range(args.repeats):
            for name in order.sample(list(sides), len(sides)):
                times[name].append(seconds_of(sides[name]))
    per_text = {name: spread(1000 * np.asarray(values) / len(texts), "ms") for name, values in times.items()}
    median = {name: each["median_ms"] for name, each in per_text.items()}
    return {
        "onnxruntime": package_version("onnxruntime"),
        "backend": args.backend,
        "texts": len(texts),
        "per_text": per_text,
        "single_over_session": median["one by one"] / median["session one by one"],
        "one_by_one_over_together": median["one by one"] / median["together"],
        "bare_one_by_one_over_together": median["session one by one"] / median["session together"],
        **{
            f"{name.replace(' ', '_')}_over_together": median[name] / median["together"] for name in USUAL & set(median)
        },
    }


def sides_of(args: argparse.Namespace, texts: list[str], threads: int) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name: each labels all texts; sessions alone are given padded arrays."""
    model = load(args.model, backend=args.backend, threads=threads)
    if not isinstance(model, Labeller):
        raise SystemExit(f"{args.model} must classify texts, got a {type(model).__name__}")
    encodings = [encoding for group in model.encode(texts) for encoding in group]
    batches = packed([len(each.ids) for each in encodings], model.batch_size, model.batch_tokens)
    run = model.session.session.run
    singles = [feeds_of(model, [each]) for each in encodings]
    batched = [feeds_of(model, [encodings[i] for i in batch]) for batch in batches]
    loaded = load_model(str(args.model))

    def by_torch() -> None:
        predict_logits(loaded.model, tokenize_rows(Rows(texts), loaded.tokenizer, "", model.max_length, cache=False))

    sides: dict[str, Callable[[], object]] = {
        "tokens together": lambda: model.encode(texts),
        "session one by one": lambda: [run(None, feeds) for feeds in singles],
        "session together": lambda: [run(None, feeds) for feeds in batched],
        "one by one": lambda: [model([text]) for text in texts],
        "together": lambda: model(texts),
        "torch together": by_torch,
    }
    if args.pipeline is not None:
        from transformers import pipeline

        usual = pipeline("text-classification", model=args.pipeline, device="cpu")
        sides["transformers one by one"] = lambda: [usual(text) for text in texts]
    return sides


def feeds_of(model: Labeller, encodings: Sequence[Any]) -> Feeds:
    """Return the padded arrays of a batch, as a session wants them."""
    size = max(len(each.ids) for each in encodings)
    ids = np.full((len(encodings), size), model.folder.pad_id, dtype=np.int64)
    feeds = {"input_ids": ids, "attention_mask": np.zeros_like(ids), "token_type_ids": np.zeros_like(ids)}
    for row, each in enumerate(encodings):
        ids[row, : len(each.ids)], feeds["attention_mask"][row, : len(each.ids)] = each.ids, 1
    return {name: feeds[name] for name in model.session.inputs}


def seconds_of(call: Callable[[], object]) -> float:
    """Return the processor time of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


if __name__ == "__main__":
    main()
