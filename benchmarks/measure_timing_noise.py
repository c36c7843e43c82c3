"""What the signs of a noisy machine are in quiet and beside a busy loop on the same core, and what `pick` makes of it.

A front of whole-layer networks is timed by the machinery of `cutbert front --measure`; beside it, from the start or
only later, runs a loop that does nothing on the same core.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cutbert.bench import latency
from cutbert.bench.settings import LatencySettings
from cutbert.folders.load import load_model
from cutbert.fronts.view import noise_warning
from recording import make_parser, names, numbers, parse, recorded
from workload import add_inputs, model_of, with_layers

LOADS = ("quiet", "beside a busy loop", "a busy loop from the middle on")


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    add_inputs(parser)
    parser.add_argument("--backends", type=names, default=["torch", "onnx", "onnx-int8"])
    parser.add_argument("--lengths", type=numbers, default=[4, 6, 7, 8, 9, 11, 13, 16, 18, 21, 25, 30])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2, help="times of each load")
    args = parse(parser, argv)
    record = recorded("timing_noise", args, lambda: measure(args), seeds=[0])
    for row in record["timings"]:
        print(f"{row['backend']}, {row['load']}: {row['quality']['problems'] or 'quiet'}; picked {row['picked']}")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Time everything on one core, each time as it is, never again."""
    cores, repeats = os.sched_getaffinity(0), latency.REPEATS
    os.sched_setaffinity(0, {max(cores)})
    latency.REPEATS = 0
    try:
        return {"timings": time_all(args)}
    finally:
        os.sched_setaffinity(0, cores)
        latency.REPEATS = repeats


def time_all(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time the whole model and its first layers under each load; half of the first latency in quiet is the limit."""
    model = load_model(model_of(args)).model.eval()
    depths = range(1, model.shape.num_layers)
    networks = {"uncut": model, **{f"layers {depth}": with_layers(model, range(depth)) for depth in depths}}
    timings: list[dict[str, Any]] = []
    for backend in args.backends:
        settings = LatencySettings(backend=backend, rounds=args.rounds, threads=1, throughput_batch_size=1)
        limit = None
        for load in LOADS * args.repeats:
            with busy(load, args.rounds) as on_round:
                timed = latency.time_networks(networks, args.lengths, settings, on_round=on_round)
            ms = {name: each.latency_ms for name, each in timed.items()}
            limit = limit or ms["uncut"] / 2
            fitting = [name for name in networks if ms[name] <= limit]
            quality = timed.quality.to_json()
            timings.append(
                {
                    "backend": backend,
                    "load": load,
                    "latencies": {f"{name}_ms": each for name, each in ms.items()},
                    "quality": quality,
                    "limit_ms": limit,
                    "picked": max(fitting, key=lambda name: networks[name].shape.num_layers, default=None),
                    "warning": noise_warning({"quality": quality}),
                }
            )
    return timings


@contextmanager
def busy(load: str, rounds: int) -> Iterator[Callable[[], None]]:
    """Let a loop run on this process's core, and yield what is to be called after each round."""
    loops: list[subprocess.Popen[bytes]] = []
    done = 0

    def start() -> None:
        loops.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))

    def on_round() -> None:
        nonlocal done
        done += 1
        if load == LOADS[2] and done == rounds // 2:
            start()

    try:
        if load == LOADS[1]:
            start()
        yield on_round
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    main()
