"""How far predicted latencies are off: random per-layer subnets of a run, measured after its table was made.

The error is given as it is, and with the drift of the machine between the two measurements taken out: both sides
divided by the uncut network's own. Times on one thread are the processor's, which other work hardly changes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cutbert.bench.latency import THROUGHPUT_ROUNDS, conditions, time_networks
from cutbert.bench.latency_table import LatencyTable
from cutbert.bench.measure_table import measure_table, timed_copy
from cutbert.bench.settings import BackendName, LatencySettings
from cutbert.folders.load import load_model
from cutbert.fronts.front import Front
from cutbert.model.task_model import TaskModel
from cutbert.shape.search_space import SearchSpace, search_space
from cutbert.shape.subnet import Subnet
from cutbert.surgery.extract import extract
from cutbert.train.engine import default_threads
from cutbert.train.machine import num_threads
from cutbert.train.progress import counter, progress_bar
from recording import clock_name, clock_of, make_parser, parse, recorded, spread

UNCUT = "uncut"


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--run", type=Path, required=True, help="run folder of cutbert dynabert; only read")
    parser.add_argument("--backends", default="torch,onnx,onnx-int8", help="by commas")
    parser.add_argument("--subnets", type=int, default=24, help="random subnets to measure")
    parser.add_argument("--rounds", type=int, default=8)
    args = parse(parser, argv)
    record = recorded("latency_prediction", args, lambda: measure(args), seeds=[0])
    for each in record["backends"]:
        print(each["backend"], each["error"], each["error_without_drift"])


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return the errors on each backend."""
    model = load_model(str(args.run)).model.eval()
    measured = Front.load(args.run).measured
    lengths = measured["lengths"] if measured else [128]
    subnets = random_subnets(search_space(model.shape), args.subnets)
    return {"backends": [on_backend(model, name, subnets, lengths, args) for name in args.backends.split(",")]}


def on_backend(
    model: TaskModel, backend: BackendName, subnets: list[Subnet], lengths: list[int], args: argparse.Namespace
) -> dict[str, Any]:
    """Make a backend's table, measure the subnets, and compare."""
    settings = LatencySettings(backend=backend, threads=args.threads, rounds=args.rounds)
    table = timed(f"{backend}: table", model, lengths, settings)
    networks = {str(i): timed_copy(extract(model, subnet)) for i, subnet in enumerate(subnets)}
    networks[UNCUT] = timed_copy(model)
    with (
        num_threads(args.threads) as threads,
        progress_bar(f"{backend}: subnets", args.rounds + THROUGHPUT_ROUNDS) as bar,
    ):
        few = replace(settings, throughput_batch_size=1)
        times = time_networks(networks, lengths, few, on_round=counter(bar), clock=clock_of(threads))
        said = conditions(settings, lengths, threads, "cpu", times.quality)
    shapes = [subnet.shape_in(model.shape) for subnet in subnets]
    predicted = np.array([table(shape) for shape in shapes])
    found = np.array([times[str(i)].latency_ms for i in range(len(shapes))])
    drift = times[UNCUT].latency_ms / table.uncut_ms
    return {
        "backend": backend,
        "measured": said,
        "clock": clock_name(threads),
        "error": errors(predicted, found),
        "error_without_drift": errors(predicted * drift, found),
        "drift": drift,
        "error_in_the_tables_own_run": table.error,
        "uncut_ms": times[UNCUT].latency_ms,
        "subnets": [
            {"shape": shape.to_json(), "predicted_ms": one, "latency_ms": other}
            for shape, one, other in zip(shapes, predicted.tolist(), found.tolist(), strict=True)
        ],
    }


def timed(title: str, model: TaskModel, lengths: list[int], settings: LatencySettings) -> LatencyTable:
    with progress_bar(title, settings.rounds + THROUGHPUT_ROUNDS) as bar:
        clock = clock_of(settings.threads or default_threads())
        return measure_table(model, ("a", "f"), lengths, settings, on_round=counter(bar), clock=clock)


def random_subnets(space: SearchSpace, count: int) -> list[Subnet]:
    """Return random subnets of all sizes: each has its own chance that a choice is cut."""
    draw = np.random.default_rng(0)
    found: list[Subnet] = []
    while len(found) < count:
        share = draw.uniform(0.2, 1.0)
        genes = tuple(int(share * draw.integers(len(choice.sizes))) for choice in space.choices)
        subnet = space.subnet(genes)
        found += [] if subnet is None else [subnet]
    return found


def errors(predicted: np.ndarray, found: np.ndarray) -> dict[str, Any]:
    return spread(100 * np.abs(predicted / found - 1), "percent")


if __name__ == "__main__":
    main()
