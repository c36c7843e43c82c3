"""ONNX Runtime's session options on the exported int8 file: time to load and to answer, in turn, beside the default.

Times on one thread are the processor's, those on several the clock's. `speed` is how many times faster than with the
default options, round by round. Sizes that are larger than others say what batches of more tokens gain.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

from cutbert.exporters.graph import build_graph
from cutbert.exporters.int8 import instruction_set, quantize
from cutbert.files import scratch_folder
from cutbert.folders.load import load_model
from cutbert.train.machine import num_threads, package_version
from measure_rivals import draw, sizes
from recording import clock_name, clock_of, make_parser, parse, recorded, spread
from workload import model_of

SEED = 0
DEFAULT = "default"
TOKENS_TIMED = 400  # of a session in one round, at least


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--model", help="model folder; None for MiniLM of the package")
    parser.add_argument(
        "--sizes", type=sizes, default=sizes("1x16,1x40,32x32,128x32,8x128,32x128"), help="texts x tokens"
    )
    parser.add_argument("--rounds", type=int, default=5)
    args = parse(parser, argv)
    record = recorded("session_options", args, lambda: measure(args), seeds=[SEED])
    for name, found in record["loads"].items():
        print(f"load: {name}: {found['median_ms']:.1f} ms")
    for each in record["timings"]:
        speed, spent = each["speed"]["median_ratio"], each["time"]["median_ms"]
        print(f"{each['batch_size']} x {each['length']}: {each['options']}: {spent:.2f} ms, {speed:.3f} of {DEFAULT}")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Load the file with every set of options, and time the sessions in turn at each size."""
    with scratch_folder() as work, num_threads(args.threads) as threads:
        clock = clock_of(threads)
        path = work / "int8.onnx"
        onnx.save(quantize(build_graph(load_model(model_of(args)).model.eval()), instruction_set()), path)
        makers = sessions(path, threads)
        made: dict[str, InferenceSession] = {}
        loads: dict[str, list[float]] = {name: [] for name in makers}
        for _ in range(args.rounds):
            for name, make in makers.items():
                begun = clock()
                made[name] = make()
                loads[name].append(1000 * (clock() - begun))
        timings = [each for size in args.sizes for each in timed(made, size, args.rounds, clock)]
    return {
        "model": Path(model_of(args)).name,
        "onnxruntime": package_version("onnxruntime"),
        "instructions": instruction_set(),
        "threads_used": threads,
        "clock": clock_name(threads),
        "loads": {name: spread(values, "ms") for name, values in loads.items()},
        "timings": timings,
    }


def sessions(path: Path, threads: int) -> dict[str, Callable[[], InferenceSession]]:
    """Return what loads the file, by the options that differ from the default; several threads may spin or not."""
    kept = path.with_name("kept.onnx")

    def load(source: Path = path, spinning: str = "1", **changed: Any) -> InferenceSession:
        options = SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
        for name, value in changed.items():
            setattr(options, name, value)
        return InferenceSession(str(source), options, providers=["CPUExecutionProvider"])

    load(optimized_model_filepath=str(kept))
    none = GraphOptimizationLevel.ORT_DISABLE_ALL
    makers: dict[str, Callable[[], InferenceSession]] = {
        DEFAULT: load,
        "basic optimisation": lambda: load(graph_optimization_level=GraphOptimizationLevel.ORT_ENABLE_BASIC),
        "no optimisation": lambda: load(graph_optimization_level=none),
        "optimised file kept": lambda: load(kept, graph_optimization_level=none),
        "no arena": lambda: load(enable_cpu_mem_arena=False),
    }
    return makers | ({"no spinning": lambda: load(spinning="0")} if threads > 1 else {})


def timed(
    made: dict[str, InferenceSession], size: tuple[int, int], rounds: int, clock: Callable[[], float]
) -> list[dict[str, Any]]:
    """Return the times of every session in a batch, and how much faster than the default it is."""
    feeds, passes = draw(*size), max(1, TOKENS_TIMED // (size[0] * size[1]))
    named = {each.name for each in made[DEFAULT].get_inputs()}
    feeds = {name: array for name, array in feeds.items() if name in named}
    times: dict[str, list[float]] = {name: [] for name in made}
    order = random.Random(SEED)
    for _ in range(rounds):
        for name in order.sample(list(made), len(made)):
            made[name].run(None, feeds)
            begun = clock()
            for _ in range(passes):
                made[name].run(None, feeds)
            times[name].append(1000 * (clock() - begun) / passes)
    base = np.asarray(times[DEFAULT])
    return [
        {
            "options": name,
            "batch_size": size[0],
            "length": size[1],
            "time": spread(values, "ms"),
            "speed": spread(base / np.asarray(values), "ratio"),
        }
        for name, values in times.items()
    ]


if __name__ == "__main__":
    main()
