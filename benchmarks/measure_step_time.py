"""Seconds per training step on SST-2: the release's recipe and ours, interleaved, and the matrix rate they reach.

Each round takes one step of the release's recipe and a whole pass of ours over batches that stand for an epoch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from cutbert.train.progress import progress_bar
from matrix_rate import SQUARE, MatrixRates
from recording import clock_name, clock_of, make_parser, parse, recorded, spread
from workload import (
    BATCH_SIZE,
    CountedStep,
    DynabertSettings,
    Trainer,
    add_inputs,
    distillation,
    prepare_task,
    spread_rows,
)

RELEASE = "release_12"
VARIANTS = {
    RELEASE: DynabertSettings(recipe="release"),
    "ours_12": DynabertSettings(stock=False, subnets_per_step=0),
    "ours_default": DynabertSettings(),
}
TOP_OPERATORS = 15


@dataclass
class Variant:
    """One way of training and what was seen of it.

    Args:
        trainer: stepped by hand.
        counted: its step, with the multiply-adds of each.
        steps_per_round: how many it takes in a round.
        clock: seconds.
        seconds: per round, of the mean step.
        macs: per round, of the mean step.
    """

    trainer: Trainer
    counted: CountedStep
    steps_per_round: int
    clock: Callable[[], float]
    seconds: list[float] = field(default_factory=list)
    macs: list[float] = field(default_factory=list)

    def take_turn(self) -> None:
        """Train one round's steps and note their mean."""
        first = len(self.counted.macs)
        begun = self.clock()
        for _ in range(self.steps_per_round):
            self.trainer.step()
        self.seconds.append((self.clock() - begun) / self.steps_per_round)
        self.macs.append(float(np.mean(self.counted.macs[first:])))


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    add_inputs(parser)
    parser.add_argument("--rounds", type=int, default=6, help="how often each variant takes its turn")
    parser.add_argument("--batches", type=int, default=24, help="steps of ours per round, over as many batches")
    parser.add_argument("--square", type=int, default=SQUARE, help="size of the largest matrix product")
    parser.add_argument("--seed", type=int, default=0, help="of batches and of the subnets drawn")
    args = parse(parser, argv)
    record = recorded("step_time", args, lambda: measure(args), seeds=[args.seed])
    for name, seen in record["variants"].items():
        share = seen["share_of_matrix_rate"]["median_share"]
        print(f"{name}: {seen['step']['median_s']:.4f} s per step, {share:.1%} of the {seen['dtype']} matrix rate")
    for name, ratio in record["times_faster_than_release"].items():
        print(f"{name}: {ratio['median_ratio']:.1f} times faster than {RELEASE}")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Take turns, then profile each variant."""
    with tempfile.TemporaryDirectory() as work:
        task = prepare_task(args, Path(work))
        chosen = spread_rows(task.train_tokens.lengths, args.batches, args.seed)
        tokens = task.train_tokens.take(chosen)
        variants, clock = {}, clock_of(torch.get_num_threads())
        for name, settings in VARIANTS.items():
            made = distillation(task, tokens, settings, args.seed, args.threads, Path(work))
            variants[name] = Variant(*made, 1 if name == RELEASE else args.batches, clock)
        rates = MatrixRates(task.loaded.model.shape, int(tokens.lengths.mean() * BATCH_SIZE), args.square, clock)
        rounds = take_turns(variants, rates, args.rounds)
        profiles = {name: profiled(variant) for name, variant in variants.items()}
    return {
        "batch_size": BATCH_SIZE,
        "rounds": args.rounds,
        "threads_used": torch.get_num_threads(),
        "clock": clock_name(torch.get_num_threads()),
        "mean_length_tokens": float(tokens.lengths.mean()),
        "epoch_mean_length_tokens": float(task.train_tokens.lengths.mean()),
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
    return {
        "dtype": dtype,
        "subnets_per_step": variant.counted.subnets_per_step,
        "family_size": len(variant.counted.point_names),
        "pad_to_tokens": variant.trainer.plan.pad_to,
        "steps": len(variant.seconds) * variant.steps_per_round,
        "step": spread(variant.seconds, "s"),
        "real_macs_per_step": float(np.mean(variant.macs)),
        "real_macs_per_s": spread(reached, "macs_per_s"),
        "share_of_matrix_rate": spread(reached / rates.best(dtype), "share"),
        "share_of_own_sizes_rate": spread(reached / rates.best(dtype, own_sizes_only=True), "share"),
    }


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
