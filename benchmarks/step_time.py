"""Seconds per training step on SST-2: the release's recipe and ours, interleaved, and the matrix rate they reach.

Each round takes one step of the release's recipe and a whole pass of ours over batches that stand for an epoch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from cutbert.methods.samples import take_tokens
from cutbert.methods.settings import DynabertSettings
from cutbert.shape.shape import EncoderShape
from cutbert.train.loop import Trainer
from cutbert.train.progress import progress_bar
from recording import make_parser, recorded, spread
from workload import BATCH_SIZE, CountedStep, add_inputs, make_trainer, prepare_task, spread_rows

RELEASE = "release_12"
VARIANTS = {
    RELEASE: DynabertSettings(recipe="release"),
    "ours_12": DynabertSettings(stock=False, subnets_per_step=0),
    "ours_default": DynabertSettings(),
}
DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}
SQUARE = 2048
RATE_REPEATS = 3
TOP_OPERATORS = 15


@dataclass
class Variant:
    """One way of training and what was seen of it.

    Args:
        trainer: stepped by hand.
        counted: its step, with the multiply-adds of each.
        steps_per_round: how many it takes in a round.
        seconds: per round, of the mean step.
        macs: per round, of the mean step.
    """

    trainer: Trainer
    counted: CountedStep
    steps_per_round: int
    seconds: list[float] = field(default_factory=list)
    macs: list[float] = field(default_factory=list)

    def take_turn(self) -> None:
        """Train one round's steps and note their mean."""
        first = len(self.counted.macs)
        begun = time.perf_counter()
        for _ in range(self.steps_per_round):
            self.trainer.step()
        self.seconds.append((time.perf_counter() - begun) / self.steps_per_round)
        self.macs.append(float(np.mean(self.counted.macs[first:])))


def main() -> None:
    parser = make_parser(__doc__)
    add_inputs(parser)
    parser.add_argument("--rounds", type=int, default=6, help="how often each variant takes its turn")
    parser.add_argument("--batches", type=int, default=24, help="steps of ours per round, over as many batches")
    parser.add_argument("--seed", type=int, default=0, help="of batches and of the subnets drawn")
    args = parser.parse_args()
    record = recorded("step_time", args, lambda: measure(args), seeds=[args.seed])
    for name, seen in record["variants"].items():
        share = seen["share_of_matrix_rate"]["median_share"]
        print(f"{name}: {seen['step']['median_s']:.4f} s per step, {share:.1%} of the {seen['dtype']} matrix rate")
    for name, ratio in record["times_faster_than_release"].items():
        print(f"{name}: {ratio['median_ratio']:.1f} times faster than {RELEASE}")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Take turns, then profile each variant."""
    with tempfile.TemporaryDirectory() as work:
        prepared = prepare_task(args, Path(work))
        chosen = spread_rows(prepared.train.lengths, args.batches, args.seed)
        tokens = take_tokens(prepared.train, chosen)
        variants = {}
        for name, settings in VARIANTS.items():
            made = make_trainer(prepared, tokens, settings, args.seed, args.threads, Path(work))
            variants[name] = Variant(*made, 1 if name == RELEASE else args.batches)
        rates = MatrixRates(prepared.loaded.model.shape, int(tokens.lengths.mean() * BATCH_SIZE))
        rounds = take_turns(variants, rates, args.rounds)
        profiles = {name: profiled(variant) for name, variant in variants.items()}
    return {
        "batch_size": BATCH_SIZE,
        "rounds": args.rounds,
        "threads_used": torch.get_num_threads(),
        "mean_length_tokens": float(tokens.lengths.mean()),
        "epoch_mean_length_tokens": float(prepared.train.lengths.mean()),
        "matrix_rate": rates.to_json(),
        "variants": {
            name: {**summary(variant, rates), "profile": profiles[name]} for name, variant in variants.items()
        },
        "times_faster_than_release": {
            name: spread(np.divide(variants[RELEASE].seconds, variant.seconds), "ratio")
            for name, variant in variants.items()
            if name != RELEASE
        },
        "seconds_by_round": rounds,
    }


def take_turns(variants: dict[str, Variant], rates: MatrixRates, rounds: int) -> dict[str, list[float]]:
    """Warm up, then run the rounds; matrix products are timed at the start of each turn."""
    for variant in variants.values():
        variant.trainer.step()
    with progress_bar("rounds", rounds) as bar:
        for done in range(rounds):
            for variant in variants.values():
                rates.measure()
                variant.take_turn()
            bar(done + 1)
    return {name: variant.seconds for name, variant in variants.items()}


def summary(variant: Variant, rates: MatrixRates) -> dict[str, Any]:
    """Return seconds, work and the share of the matrix rate of one variant."""
    dtype = "bf16" if variant.trainer.engine.dtype == torch.bfloat16 else "float32"
    reached = np.divide(variant.macs, variant.seconds)
    recipe = variant.counted.step.recipe
    return {
        "dtype": dtype,
        "subnets_per_step": recipe.subnets_per_step or len(variant.counted.step.points),
        "family_size": len(variant.counted.step.points),
        "pad_to_tokens": variant.trainer.plan.pad_to,
        "steps": len(variant.seconds) * variant.steps_per_round,
        "step": spread(variant.seconds, "s"),
        "real_macs_per_step": float(np.mean(variant.macs)),
        "real_macs_per_s": spread(reached, "macs_per_s"),
        "share_of_matrix_rate": spread(reached / rates.best(dtype), "share"),
        "share_of_own_sizes_rate": spread(reached / rates.best(dtype, own_sizes_only=True), "share"),
    }


class MatrixRates:
    """The fastest matrix products of this machine, at a large square and at the model's own sizes.

    Args:
        shape: of the model.
        num_tokens: in a batch.
    """

    def __init__(self, shape: EncoderShape, num_tokens: int) -> None:
        hidden, inner = shape.hidden_size, max(layer.intermediate_size for layer in shape.layers)
        sizes = {
            "square": (SQUARE, SQUARE, SQUARE),
            "attention": (num_tokens, hidden, hidden),
            "up": (num_tokens, hidden, inner),
            "down": (num_tokens, inner, hidden),
        }
        self.products = {
            (dtype, name): product_of(*size, DTYPES[dtype]) for dtype in DTYPES for name, size in sizes.items()
        }
        self.sizes = sizes
        self.found: dict[tuple[str, str], list[float]] = {key: [] for key in self.products}

    def measure(self) -> None:
        """Time every product a few times and keep each one's best."""
        for key, product in self.products.items():
            rows, inner, columns = self.sizes[key[1]]
            product()
            best = min(timed(product) for _ in range(RATE_REPEATS))
            self.found[key].append(rows * inner * columns / best)

    def best(self, dtype: str, *, own_sizes_only: bool = False) -> float:
        """Return the highest rate seen in a number type, in multiply-adds per second."""
        kept = [key for key in self.found if key[0] == dtype and not (own_sizes_only and key[1] == "square")]
        return max(max(self.found[key]) for key in kept)

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for dtype in DTYPES:
            by_size = {
                name: {"rows_inner_columns": list(size), **spread(self.found[dtype, name], "macs_per_s")}
                for name, size in self.sizes.items()
            }
            data[dtype] = {"best_macs_per_s": self.best(dtype), **by_size}
        return data


def product_of(rows: int, inner: int, columns: int, dtype: torch.dtype) -> Callable[[], torch.Tensor]:
    """Return a linear layer's product, ready to run."""
    x, weight = torch.randn(rows, inner).to(dtype), torch.randn(columns, inner).to(dtype)
    return lambda: F.linear(x, weight)


def timed(product: Callable[[], torch.Tensor]) -> float:
    begun = time.perf_counter()
    product()
    return time.perf_counter() - begun


def profiled(variant: Variant) -> dict[str, Any]:
    """Return which operators take a round's time, as shares of its wall time; the rest is Python and waiting."""
    begun = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(variant.steps_per_round):
            variant.trainer.step()
    seconds = time.perf_counter() - begun
    operators = sorted(found.key_averages(), key=lambda each: -each.self_cpu_time_total)
    shares = [(each.key, each.self_cpu_time_total / 1e6 / seconds, each.count) for each in operators]
    return {
        "steps": variant.steps_per_round,
        "profiled_step_s": seconds / variant.steps_per_round,
        "operators": [
            {"name": name, "share": round(share, 4), "calls_per_step": count / variant.steps_per_round}
            for name, share, count in shares[:TOP_OPERATORS]
        ],
        "other_operators_share": round(sum(share for _, share, _ in shares[TOP_OPERATORS:]), 4),
        "outside_operators_share": round(1 - sum(share for _, share, _ in shares), 4),
    }


if __name__ == "__main__":
    main()
