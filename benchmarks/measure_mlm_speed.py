"""Tokens per second of masked-LM training of MiniLM's shape, and the share of the machine's matrix rate it reaches.

Weights are new and tokens random: neither changes the time of a step. Matrix products are timed before each round.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cutbert.data.masking import Masking
from cutbert.data.tokens import Tokens
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.train.progress import progress_bar
from matrix_rate import SQUARE, MatrixRates
from recording import clock_name, clock_of, make_parser, parse, recorded, spread
from workload import BATCH_SIZE, Trainer, masked_lm

FIRST_ORDINARY = 1000  # BERT's vocabulary begins with special and unused tokens
MASK_PROBABILITY = 0.15
PASSES = 3  # forward, and backward to inputs and to weights


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--rounds", type=int, default=6, help="how often steps are timed")
    parser.add_argument("--steps", type=int, default=8, help="steps per round")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help="sequences per step")
    parser.add_argument("--sequence-length", type=int, default=128, help="tokens per sequence")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden-size", type=int, default=384)
    parser.add_argument("--square", type=int, default=SQUARE, help="size of the largest matrix product")
    parser.add_argument("--seed", type=int, default=0, help="of weights, tokens and masks")
    args = parse(parser, argv)
    record = recorded("mlm_speed", args, lambda: measure(args), seeds=[args.seed])
    share = record["share_of_matrix_rate"]["median_share"]
    print(f"{record['speed']['median_tokens_per_s']:,.0f} tokens a second in {record['dtype']}")
    print(f"{share:.1%} of the matrix rate; {record['positions_per_step']} masked positions a step")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Time rounds of steps beside matrix products."""
    with tempfile.TemporaryDirectory() as work:
        trainer = make_trainer(args, Path(work))
        num_tokens, clock = args.batch_size * args.sequence_length, clock_of(torch.get_num_threads())
        rates = MatrixRates(shape_of(args), num_tokens, args.square, clock)
        seconds: list[float] = []
        trainer.step()
        with progress_bar("rounds", args.rounds) as bar:
            for done in range(args.rounds):
                rates.measure()
                begun = clock()
                for _ in range(args.steps):
                    trainer.step()
                seconds.append((clock() - begun) / args.steps)
                bar(done + 1)
    dtype = "bf16" if trainer.engine.dtype == torch.bfloat16 else "float32"
    positions = args.batch_size * round(MASK_PROBABILITY * (args.sequence_length - 2))
    shape = shape_of(args)
    macs = step_macs(shape, args.batch_size, args.sequence_length, positions)
    reached = macs / np.array(seconds)
    return {
        "dtype": dtype,
        "shape": shape.to_json(),
        "batch_size": args.batch_size,
        "sequence_length_tokens": args.sequence_length,
        "positions_per_step": positions,
        "rounds": args.rounds,
        "steps_per_round": args.steps,
        "threads_used": torch.get_num_threads(),
        "clock": clock_name(torch.get_num_threads()),
        "step": spread(seconds, "s"),
        "speed": spread(num_tokens / np.array(seconds), "tokens_per_s"),
        "macs_per_step": macs,
        "macs_per_s": spread(reached, "macs_per_s"),
        "share_of_matrix_rate": spread(reached / rates.best(dtype), "share"),
        "share_of_own_sizes_rate": spread(reached / rates.best(dtype, own_sizes_only=True), "share"),
        "matrix_rate": rates.to_json(),
    }


def shape_of(args: argparse.Namespace) -> EncoderShape:
    """Return MiniLM's shape, of another number of layers or hidden size where it is asked for."""
    return EncoderShape.uniform(
        hidden_size=args.hidden_size,
        num_layers=args.layers,
        num_heads=12,
        intermediate_size=4 * args.hidden_size,
        vocab_size=30522,
        num_positions=512,
    )


def step_macs(shape: EncoderShape, batch_size: int, length: int, positions: int) -> int:
    """Return the multiply-adds of one step: the encoder on all tokens, the head on the masked ones alone."""
    encoder = batch_size * cost_of(shape, None, length).macs
    head = positions * (shape.hidden_size * shape.hidden_size + shape.hidden_size * shape.vocab_size)
    return PASSES * (encoder + head)


def make_trainer(args: argparse.Namespace, work: Path) -> Trainer:
    """Return a trainer on random tokens, to be stepped by hand for ever."""
    shape = shape_of(args)
    torch.manual_seed(args.seed)
    model = TaskModel(shape, EncoderStyle(family="bert"), HeadSpec("masked_lm"))
    rows = args.batch_size * (args.rounds * args.steps + 1)
    ids = np.random.default_rng(args.seed).integers(FIRST_ORDINARY, shape.vocab_size, (rows, args.sequence_length))
    ids[:, 0], ids[:, -1] = 101, 102
    tokens = Tokens(ids.astype(np.int32).flatten(), np.arange(0, ids.size + 1, args.sequence_length))
    is_ordinary = np.arange(shape.vocab_size) >= FIRST_ORDINARY
    masking = Masking(
        mask_id=103,
        pad_id=0,
        ordinary_ids=np.flatnonzero(is_ordinary),
        is_ordinary=is_ordinary,
        continues_word=None,
        probability=MASK_PROBABILITY,
    )
    return masked_lm(
        model, tokens, masking, batch_size=args.batch_size, seed=args.seed, threads=args.threads, work=work
    )


if __name__ == "__main__":
    main()
