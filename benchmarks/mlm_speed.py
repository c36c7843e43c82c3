"""Tokens per second of masked-LM training of MiniLM's shape, and the share of the machine's matrix rate it reaches.

Weights are new and tokens random: neither changes the time of a step. Matrix products are timed before each round.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cutbert.data.masking import Masking
from cutbert.data.tokens import Tokens
from cutbert.methods.pretrain import PRETRAIN
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.train.engine import make_engine
from cutbert.train.loop import Trainer
from cutbert.train.masked_lm import masked_lm_stage
from cutbert.train.progress import progress_bar
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings
from recording import make_parser, recorded, spread
from step_time import MatrixRates

SHAPE = EncoderShape.uniform(
    hidden_size=384, num_layers=6, num_heads=12, intermediate_size=1536, vocab_size=30522, num_positions=512
)
FIRST_ORDINARY = 1000  # BERT's vocabulary begins with special and unused tokens
MASK_PROBABILITY = 0.15
PASSES = 3  # forward, and backward to inputs and to weights


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="how often steps are timed")
    parser.add_argument("--steps", type=int, default=8, help="steps per round")
    parser.add_argument("--batch-size", type=int, default=PRETRAIN.batch_size, help="sequences per step")
    parser.add_argument("--sequence-length", type=int, default=128, help="tokens per sequence")
    parser.add_argument("--seed", type=int, default=0, help="of weights, tokens and masks")
    args = parser.parse_args()
    record = recorded("mlm_speed", args, lambda: measure(args), seeds=[args.seed])
    share = record["share_of_matrix_rate"]["median_share"]
    print(f"{record['speed']['median_tokens_per_s']:,.0f} tokens a second in {record['dtype']}")
    print(f"{share:.1%} of the matrix rate; {record['positions_per_step']} masked positions a step")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Time rounds of steps beside matrix products."""
    with tempfile.TemporaryDirectory() as work:
        trainer = make_trainer(args, Path(work))
        num_tokens = args.batch_size * args.sequence_length
        rates = MatrixRates(SHAPE, num_tokens)
        seconds: list[float] = []
        trainer.step()
        with progress_bar("rounds", args.rounds) as bar:
            for done in range(args.rounds):
                rates.measure()
                begun = time.perf_counter()
                for _ in range(args.steps):
                    trainer.step()
                seconds.append((time.perf_counter() - begun) / args.steps)
                bar(done + 1)
    dtype = "bf16" if trainer.engine.dtype == torch.bfloat16 else "float32"
    positions = args.batch_size * round(MASK_PROBABILITY * (args.sequence_length - 2))
    macs = step_macs(args.batch_size, args.sequence_length, positions)
    reached = macs / np.array(seconds)
    return {
        "dtype": dtype,
        "shape": SHAPE.to_json(),
        "batch_size": args.batch_size,
        "sequence_length_tokens": args.sequence_length,
        "positions_per_step": positions,
        "rounds": args.rounds,
        "steps_per_round": args.steps,
        "threads_used": torch.get_num_threads(),
        "step": spread(seconds, "s"),
        "speed": spread(num_tokens / np.array(seconds), "tokens_per_s"),
        "macs_per_step": macs,
        "macs_per_s": spread(reached, "macs_per_s"),
        "share_of_matrix_rate": spread(reached / rates.best(dtype), "share"),
        "share_of_own_sizes_rate": spread(reached / rates.best(dtype, own_sizes_only=True), "share"),
        "matrix_rate": rates.to_json(),
    }


def step_macs(batch_size: int, length: int, positions: int) -> int:
    """Return the multiply-adds of one step: the encoder on all tokens, the head on the masked ones alone."""
    encoder = batch_size * cost_of(SHAPE, None, length).macs
    head = positions * (SHAPE.hidden_size * SHAPE.hidden_size + SHAPE.hidden_size * SHAPE.vocab_size)
    return PASSES * (encoder + head)


def make_trainer(args: argparse.Namespace, work: Path) -> Trainer:
    """Return a trainer to be stepped by hand for ever."""
    train = TrainSettings(seed=args.seed, threads=args.threads)
    engine = make_engine(train)
    torch.manual_seed(args.seed)
    model = TaskModel(SHAPE, EncoderStyle(family="bert"), HeadSpec("masked_lm")).to(engine.device)
    rows = args.batch_size * (args.rounds * args.steps + 1)
    ids = np.random.default_rng(args.seed).integers(FIRST_ORDINARY, SHAPE.vocab_size, (rows, args.sequence_length))
    ids[:, 0], ids[:, -1] = 101, 102
    tokens = Tokens(ids.astype(np.int32).flatten(), np.arange(0, ids.size + 1, args.sequence_length))
    is_ordinary = np.arange(SHAPE.vocab_size) >= FIRST_ORDINARY
    masking = Masking(
        mask_id=103,
        pad_id=0,
        ordinary_ids=np.flatnonzero(is_ordinary),
        is_ordinary=is_ordinary,
        continues_word=None,
        probability=MASK_PROBABILITY,
    )
    plan = replace(PRETRAIN, batch_size=args.batch_size)
    run = RunFolder.open(work / "trainer", "benchmark", {})
    return Trainer(model, masked_lm_stage(plan, tokens, masking), engine, train, run)


if __name__ == "__main__":
    main()
