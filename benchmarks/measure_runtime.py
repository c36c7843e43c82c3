"""Processor time of `cutbert.runtime`: one text beside the bare session, and many texts together beside one by one.

Processor time of the process, on one thread unless asked otherwise, since other work on a machine does not count in it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cutbert.data.dataset import load_dataset
from cutbert.data.rows import Rows
from cutbert.data.settings import DataSettings
from cutbert.runtime import Labeller, load
from cutbert.train.machine import package_version
from recording import make_parser, parse, recorded, spread


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--model", type=Path, required=True, help="exported folder of a classifier; only read")
    parser.add_argument("--backend", default="auto", help="onnx, onnx-int8 or auto")
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--data-dir", help="the data root")
    parser.add_argument("--texts", type=int, default=5_000, help="that are labelled together, and one by one")
    parser.add_argument("--singles", type=int, default=300, help="texts timed one at a time")
    parser.add_argument("--repeats", type=int, default=3)
    args = parse(parser, argv)
    record = recorded("runtime", args, lambda: measure(args), seeds=[0])
    print(f"one text: {record['single_over_session']:.2f} times the bare session")
    print(f"{record['texts']:,} texts: {record['one_by_one_over_together']:.1f} times as fast as one by one")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    rows = load_dataset(DataSettings(task=args.task, data_dir=args.data_dir)).train
    assert isinstance(rows, Rows)
    texts = rows.text[: args.texts]
    model = load(args.model, backend=args.backend, threads=args.threads or 1)
    if not isinstance(model, Labeller):
        raise SystemExit(f"{args.model} must classify texts, got a {type(model).__name__}")
    sessions: list[float] = []
    whole: list[float] = []
    for text in texts[: args.singles]:
        encodings = model.engine.encode_batch([text])
        sessions.append(seconds_of(lambda rows=encodings: model.session(rows, 0)))  # type: ignore[misc]
        whole.append(seconds_of(lambda one=text: model([one])))  # type: ignore[misc]
    together = [seconds_of(lambda: model(texts)) for _ in range(args.repeats)]
    alone = [seconds_of(lambda: [model([text]) for text in texts]) for _ in range(args.repeats)]
    session, single = spread(sessions, "s"), spread(whole, "s")
    batched, one_by_one = spread(together, "s"), spread(alone, "s")
    return {
        "onnxruntime": package_version("onnxruntime"),
        "texts": len(texts),
        "session": session,
        "single": single,
        "together": batched,
        "one_by_one": one_by_one,
        "single_over_session": single["median_s"] / session["median_s"],
        "one_by_one_over_together": one_by_one["median_s"] / batched["median_s"],
    }


def seconds_of(call: Callable[[], object]) -> float:
    """Return the processor time of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


if __name__ == "__main__":
    main()
