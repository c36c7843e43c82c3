"""The exported files beside other runtimes and recipes: the same classifier in all, in turn, in one run.

Texts are drawn tokens, all of a batch equally long. Times on one thread are the processor's, which other work on the
machine hardly changes, those on several the clock's, which are beside them in any case. `share_of_ours` is the time
over that of the exported int8 file, round by round; `max_abs_diff` is from torch's float32 logits. What is not
installed, or fails, is listed: pip install openvino nncf torchao onnxscript. The record is written after every size.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cutbert.exporters.int8 import instruction_set
from cutbert.files import scratch_folder
from cutbert.printable import reason_of
from cutbert.train.machine import num_threads, package_version
from cutbert.train.progress import progress_bar, say
from cutbert.train.runner import Runner
from recording import clock_name, make_parser, parse, record_so_far, spread, write_part
from rivals import EXACT, OURS, Feeds, Rivals
from workload import model_of

SEED = 0
VOCABULARY = 1000  # ids are drawn below it
TOKENS_TIMED = 300  # of a rival in one round, at least
PACKAGES = ("onnxruntime", "openvino", "nncf", "torchao", "transformers")


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--name", default="rivals", help="of the record; a run with other threads has one of its own")
    parser.add_argument("--model", help="folder of BERT's kind for transformers; None for MiniLM of the package")
    parser.add_argument("--sizes", type=sizes, default=sizes("1x16,1x24,1x40,32x32,32x128"), help="texts x tokens")
    parser.add_argument("--without", action="append", default=[], help="rival that is left out; repeat")
    parser.add_argument("--rounds", type=int, default=5)
    args = parse(parser, argv)
    record = record_so_far(args.name, args, [SEED], lambda: {"timings": []})
    if not record["timings"]:
        for measured in measure(args):
            record |= measured | {"timings": record["timings"] + measured["timings"]}
            write_part(record, args)
    for each in record["timings"]:
        share = each["share_of_ours"]["median_ratio"]
        print(
            f"{each['batch_size']} x {each['length']}: {each['name']}: {each['time']['median_ms']:.2f} ms, {share:.2f}"
        )


def sizes(text: str) -> list[tuple[int, int]]:
    """Return texts and tokens of a list by commas."""
    pairs = [part.split("x") for part in text.split(",")]
    return [(int(batch_size), int(length)) for batch_size, length in pairs]


def measure(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Make every rival there is and time them in turn: yields what the record gets of a size at a time."""
    with scratch_folder() as work, num_threads(args.threads) as threads:
        rivals = Rivals(model_of(args), work, threads, draw)
        runners, left_out = made(rivals, args.without)
        about = {
            "model": Path(model_of(args)).name,
            "packages": {name: package_version(name) for name in PACKAGES},
            "instructions": instruction_set(),
            "threads_used": threads,
            "clock": clock_name(threads),
            "left_out": left_out,
        }
        for size in args.sizes:
            yield {**about, "timings": timed(runners, size, args.rounds, threads)}


def made(rivals: Rivals, without: Sequence[str]) -> tuple[dict[str, Runner], dict[str, str]]:
    """Return the rivals that answer, and why each other one does not."""
    runners: dict[str, Runner] = {}
    left_out: dict[str, str] = {}
    for name in rivals.makers:
        missing = rivals.missing(name)
        if name in without:
            left_out[name] = "not asked for"
        elif missing is not None:
            left_out[name] = f"{missing} is not installed"
        else:
            try:
                runner = rivals.make(name)
                runner(**draw(1, 8))
            except Exception as error:  # a rival's failure is a result, and its errors have no common base class
                left_out[name] = reason_of(error)
            else:
                runners[name] = runner
        say(f"{name}: {left_out.get(name, 'made')}")
    return runners, left_out


def draw(batch_size: int, length: int) -> Feeds:
    """Return a batch of drawn tokens without padding."""
    ids = np.random.default_rng(SEED).integers(1, VOCABULARY, size=(batch_size, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def timed(runners: Mapping[str, Runner], size: tuple[int, int], rounds: int, threads: int) -> list[dict[str, Any]]:
    """Return every rival's times in a batch, and their share of ours."""
    feeds, passes = draw(*size), max(1, TOKENS_TIMED // (size[0] * size[1]))
    answers = {name: runner(**feeds) for name, runner in runners.items()}
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in runners}
    order = random.Random(SEED)
    with progress_bar(f"{size[0]} x {size[1]}", rounds) as bar:
        for done in range(rounds):
            for name in order.sample(list(runners), len(runners)):
                begun = time.process_time(), time.perf_counter()
                for _ in range(passes):
                    runners[name](**feeds)
                ended = time.process_time(), time.perf_counter()
                spent[name].append((1000 * (ended[0] - begun[0]) / passes, 1000 * (ended[1] - begun[1]) / passes))
            bar(done + 1)
    processor_ms, elapsed_ms = ({name: np.array(each)[:, i] for name, each in spent.items()} for i in (0, 1))
    counted = processor_ms if threads == 1 else elapsed_ms
    return [
        {
            "name": name,
            "batch_size": size[0],
            "length": size[1],
            "time": spread(counted[name], "ms"),
            "elapsed": spread(elapsed_ms[name], "ms"),
            "share_of_ours": spread(counted[name] / counted[OURS], "ratio"),
            "max_abs_diff": float(np.abs(answers[name] - answers[EXACT]).max()),
        }
        for name in runners
    ]


if __name__ == "__main__":
    main()
