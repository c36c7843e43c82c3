"""What sizes cost: odd ones beside multiples of 8, and the jump when hidden units are cut that gates have closed."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutbert.bench.latency import time_networks
from cutbert.bench.measure_table import new_network
from cutbert.bench.settings import LatencySettings
from cutbert.data.batches import Batch
from cutbert.data.tokens import Tokens
from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import EncoderShape
from cutbert.shape.units import DIMS, Place, places_of, resized, size_at
from cutbert.surgery.cut import choose_by_sizes, cut
from cutbert.surgery.gates import fold
from cutbert.surgery.norms import recalibrate_norms
from cutbert.train.evaluate import predict_logits, score
from recording import make_parser, numbers, parse, recorded
from workload import add_inputs, prepare_task

SETTLING_ROWS = 512  # as in `cutbert schubert`
LESS = {"h": 3, "f": 3, "k": 1, "v": 1}  # than half of the model's own size, where MiniLM's are multiples of 8


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    add_inputs(parser)
    parser.add_argument("--kept", type=numbers, default=[383, 376, 352, 320, 256, 192], help="hidden units, by commas")
    parser.add_argument("--lengths", type=numbers, default=[16, 24, 32, 64, 128], help="tokens, by commas")
    parser.add_argument("--rounds", type=int, default=12)
    args = parse(parser, argv)
    record = recorded("cut_sizes", args, lambda: measure(args), seeds=[0])
    for row in record["sizes"]:
        print(f"{row['dim']}: odd instead of even takes {row['odd_by_even']:.2f} of the time", end="")
        print(f", in batches {row['odd_by_even_in_batches']:.2f}")
    for row in record["hidden"]:
        scores = (f"{name} {100 * row[f'{name}_score']:.2f}" for name in ("zeroed", "cut", "settled"))
        print(f"hidden {row['kept']}: {', '.join(scores)}")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        task = prepare_task(args, Path(folder), eval_rows=None)
    model = task.loaded.model
    batches = task.sample(model, SETTLING_ROWS, 0)
    return {
        "lengths": args.lengths,
        "sizes": odd_sizes(model, args),
        "hidden": hidden_jump(model, task.dev, batches, args.kept),
    }


def odd_sizes(model: TaskModel, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time each dimension at a multiple of 8 and a little below, side by side."""
    even = {place: size_at(model.shape, place) // 2 for place in places_of(model.shape, tuple(LESS))}
    odd = {place: size - LESS[place.dim] for place, size in even.items()}
    shapes: dict[str, EncoderShape] = {}
    for name, sizes in (("odd", odd), ("even", even)):
        for dim in LESS:
            shapes[f"{dim} {name}"] = resized(model.shape, {p: size for p, size in sizes.items() if p.dim == dim})
        shapes[f"all {name}"] = resized(model.shape, sizes)
    networks = {name: new_network(model, shape).eval() for name, shape in shapes.items()}
    times = time_networks(networks, args.lengths, LatencySettings(threads=args.threads, rounds=args.rounds))
    rows = []
    for dim in (*LESS, "all"):
        one, other = times[f"{dim} odd"], times[f"{dim} even"]
        rows.append(
            {
                "dim": dim,
                **(
                    {}
                    if dim == "all"
                    else {name: size_of(sizes, dim) for name, sizes in (("odd", odd), ("even", even))}
                ),
                "odd_ms": one.latency_ms,
                "even_ms": other.latency_ms,
                "odd_by_even": one.latency_ms / other.latency_ms,
                "odd_by_even_in_batches": other.throughput_per_s / one.throughput_per_s,
            }
        )
    return rows


def size_of(sizes: Mapping[Place, int], dim: str) -> int:
    """Return the size of a dimension in the first layer."""
    return next(size for place, size in sizes.items() if place.dim == dim)


def hidden_jump(
    model: TaskModel, dev: Tokens, batches: Sequence[Batch], kept_units: Sequence[int]
) -> list[dict[str, Any]]:
    """Score the network with its weakest hidden units closed, and cut away with norms as they are or settled."""
    strength = hidden_strength(model)
    plain = predict_logits(model, dev)
    rows = []
    for kept in kept_units:
        values = {place: torch.ones(size_at(model.shape, place)) for place in places_of(model.shape, tuple(DIMS))}
        values[Place("h")][strength.argsort()[: model.shape.hidden_size - kept]] = 0.0
        closed = copy.deepcopy(model)
        fold(closed, values)
        units = choose_by_sizes(model.shape, {**values, Place("h"): strength}, {Place("h"): kept})
        settled = copy.deepcopy(closed)
        recalibrate_norms(settled, units[Place("h")], batches)
        row: dict[str, Any] = {"kept": kept}
        for name, network in (("zeroed", closed), ("cut", cut(closed, units)), ("settled", cut(settled, units))):
            logits = predict_logits(network, dev)
            row[f"{name}_score"] = score(model.head_spec, "accuracy", logits, dev).score
            row[f"{name}_kl"] = divergence(plain, logits)
        rows.append(row)
    return rows


def hidden_strength(model: TaskModel) -> Tensor:
    """Return how much each hidden unit is written and read: the norms of its rows and columns, summed."""
    total = torch.zeros(model.shape.hidden_size)
    layer: Any
    with torch.no_grad():
        for layer in model.encoder.layers:
            for linear in (layer.attention.query, layer.attention.key, layer.attention.value, layer.feed_forward.up):
                total += linear.weight.norm(dim=0)
            for linear in (layer.attention.output, layer.feed_forward.down):
                total += linear.weight.norm(dim=1)
    return total


def divergence(teacher: Any, student: Any) -> float:
    """Return the mean KL(teacher || student) of two sets of logits."""
    t, s = (torch.from_numpy(np.asarray(each)).log_softmax(-1) for each in (teacher, student))
    return float(torch.nn.functional.kl_div(s, t, reduction="batchmean", log_target=True))


if __name__ == "__main__":
    main()
