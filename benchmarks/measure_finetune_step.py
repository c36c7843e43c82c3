"""Processor time of a fine-tuning step: ours beside transformers' Trainer, a plain loop and the step's products alone.

MiniLM on CoLA's short texts, and a random network of BERT-base's shape on texts of 64 tokens. The Trainer sorts rows by
length, pads to the longest of a batch and takes bf16 where ours does; the plain loop is the same without what else the
Trainer does. Processor time, so that others may share the core.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState
from torch.nn import functional as F
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_pt_utils import get_length_grouped_indices

from cutbert.data.tokens import Tokens
from cutbert.folders.load import load_model
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.shape.source import find_model
from cutbert.train.collating import padded_batch
from cutbert.train.progress import progress_bar
from recording import make_parser, parse, recorded, spread
from workload import BATCH_SIZE, add_inputs, finetuning, model_of, prepare_task, spread_rows

HEAD = HeadSpec("single_label", ("0", "1"))
BASE = BertConfig()
BASE_LENGTH = 64


@dataclass
class Side:
    """One way to train, which runs some steps and returns the seconds they took; and its seconds a step, by round."""

    run: Callable[[int], float]
    seconds: list[float] = field(default_factory=list)

    def take_turn(self, steps: int) -> None:
        """Run some steps and note the mean."""
        self.seconds.append(self.run(steps) / steps)


def by_steps(step: Callable[[], object]) -> Side:
    """Return the side of what takes one step at a time."""

    def run(steps: int) -> float:
        begun = time.process_time()
        for _ in range(steps):
            step()
        return time.process_time() - begun

    return Side(run)


class OwnTrainer(TrainerCallback):
    """transformers' Trainer, begun anew each turn; its seconds run from its first step to its last.

    Args:
        folder: of the model.
        tokens: the rows.
        dtype: of the products.
        seed: of the rows' order.
        work: folder that it may write in.
    """

    def __init__(self, folder: str, tokens: Tokens, dtype: torch.dtype, seed: int, work: Path) -> None:
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
        self.tokenizer, self.dtype, self.seed, self.work = AutoTokenizer.from_pretrained(folder), dtype, seed, work
        assert tokens.labels is not None
        rows = zip(np.split(tokens.ids, tokens.offsets[1:-1]), tokens.labels, strict=True)
        self.rows = [{"input_ids": ids.tolist(), "labels": int(label)} for ids, label in rows]
        self.begun = self.seconds = 0.0

    def run(self, steps: int) -> float:
        """Train for some steps; return their seconds."""
        arguments = TrainingArguments(
            output_dir=str(self.work),
            per_device_train_batch_size=BATCH_SIZE,
            max_steps=steps,
            bf16=self.dtype == torch.bfloat16,
            train_sampling_strategy="group_by_length",
            use_cpu=True,
            seed=self.seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        collator = DataCollatorWithPadding(self.tokenizer)
        trainer = Trainer(self.model, arguments, collator, self.rows, callbacks=[self])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return self.seconds

    def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == 0:
            self.begun = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.seconds = time.process_time() - self.begun


class PlainLoop:
    """A loop over transformers' own class: autocast, dynamic padding, rows of like length, fused AdamW.

    Args:
        folder: of the model.
        ours: the same model, for padding and token types of a batch.
        tokens: the rows.
        dtype: of the products.
        seed: of their order.
    """

    def __init__(self, folder: str, ours: TaskModel, tokens: Tokens, dtype: torch.dtype, seed: int) -> None:
        self.dtype = dtype
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)
        self.ours, self.tokens, self.seed = ours, tokens, seed
        self.batches = self.endless()

    def endless(self) -> Iterator[np.ndarray]:
        """Yield the rows of each batch, in a new order each pass."""
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            order = get_length_grouped_indices(self.tokens.lengths.tolist(), BATCH_SIZE, generator=generator)
            yield from np.split(np.array(order), range(BATCH_SIZE, len(order), BATCH_SIZE))

    def step(self) -> None:
        """Train on the next batch."""
        batch = padded_batch(self.ours, self.tokens, next(self.batches))
        mask = torch.ones_like(batch.input_ids) if batch.attention_mask is None else batch.attention_mask
        with torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            loss = self.model(input_ids=batch.input_ids, attention_mask=mask, labels=batch.labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        float(loss.detach())


class Products:
    """The products of a step's layers and nothing else: forward, and backward to inputs and to weights.

    Each weight has a tensor of its own, so that no more of them lie in the cache than in a step.

    Args:
        shape: of the network.
        positions: of a batch, padding left out.
        read: positions of the last state that the head reads: what follows the last attention runs on these alone.
        dtype: of the products.
    """

    def __init__(self, shape: EncoderShape, positions: int, read: int, dtype: torch.dtype) -> None:
        hidden = shape.hidden_size
        sizes = []
        for layer in shape.layers:
            inner = layer.intermediate_size
            sizes += [(hidden, hidden)] * 4 + [(inner, hidden), (hidden, inner)]
        self.weights = [torch.randn(size).to(dtype) for size in sizes]
        self.gradients = [torch.zeros_like(weight) for weight in self.weights]
        self.rows = [positions] * (len(sizes) - 3) + [read] * 3
        self.states = {width: torch.randn(positions, width).to(dtype) for size in sizes for width in size}

    def step(self) -> None:
        """Run all products once."""
        for weight, rows in zip(self.weights, self.rows, strict=True):
            F.linear(self.states[weight.shape[1]][:rows], weight)
        for i in reversed(range(len(self.weights))):
            weight, rows = self.weights[i], self.rows[i]
            dy, x = self.states[weight.shape[0]][:rows], self.states[weight.shape[1]][:rows]
            torch.mm(dy.T, x, out=self.gradients[i])
            torch.mm(dy, weight)


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    add_inputs(parser)
    parser.set_defaults(task="cola")
    parser.add_argument("--rounds", type=int, default=5, help="how often each side takes its turn")
    parser.add_argument("--batches", type=int, default=24, help="steps of a turn on short texts")
    parser.add_argument("--base-batches", type=int, default=1, help="steps of a turn at 12 x 768; 0 leaves it out")
    parser.add_argument("--seed", type=int, default=0, help="of the batches")
    parser.add_argument("--name", default="finetune_step", help="of the record")
    args = parse(parser, argv)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    record = recorded(args.name, args, lambda: measure(args), seeds=[args.seed])
    for name, seen in record["networks"].items():
        share = seen["share_of_time_in_products"]
        loop, theirs = (seen[f"times_faster_than_{each}"]["median_ratio"] for each in ("plain", "trainer"))
        print(
            f"{name}: {seen['ours']['median_s']:.4f} s a step, {loop:.2f} times faster than a plain loop, {theirs:.2f} "
            f"times faster than the Trainer; its products alone take {share['median_share']:.0%} of it"
        )


@contextmanager
def own_precision() -> Iterator[None]:
    """Take back at the end what the Trainer sets for the whole process: accelerate's precision, which ours is not."""
    try:
        yield
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        os.environ.pop("ACCELERATE_MIXED_PRECISION", None)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure one network after the other."""
    with tempfile.TemporaryDirectory() as work, own_precision():
        task = prepare_task(args, Path(work) / "task")
        rows = spread_rows(task.train_tokens.lengths, args.batches, args.seed)
        networks = {"short_texts": compared(model_of(args), task.train_tokens.take(rows), args.batches, args, work)}
        if args.base_batches:
            folder = Path(work) / "base"
            BertForSequenceClassification(BASE).save_pretrained(folder)
            task.loaded.tokenizer.save_pretrained(folder)
            tokens = base_tokens(args.base_batches * BATCH_SIZE, args.seed)
            networks["12x768"] = compared(str(folder), tokens, args.base_batches, args, work)
    return {"batch_size": BATCH_SIZE, "rounds": args.rounds, "clock": "process_time", "networks": networks}


def base_tokens(num_rows: int, seed: int) -> Tokens:
    """Return random rows of one length."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1000, BASE.vocab_size, num_rows * BASE_LENGTH).astype(np.int32)
    return Tokens(ids, np.arange(num_rows + 1) * BASE_LENGTH, labels=rng.integers(0, 2, num_rows))


def compared(folder: str, tokens: Tokens, steps: int, args: argparse.Namespace, work: str) -> dict[str, Any]:
    """Let ours, the plain loop and the products take turns on one network."""
    model = load_model(find_model(folder), HEAD).model
    positions, shape = int(tokens.lengths.sum()) // steps, model.shape
    with tempfile.TemporaryDirectory(dir=work) as own:
        trainer = finetuning(model, tokens, batch_size=BATCH_SIZE, seed=args.seed, threads=args.threads, work=Path(own))
        read = BATCH_SIZE if model.read_at(torch.zeros(1, 1), None) is not None else positions
        dtype = trainer.engine.dtype
        products = Products(shape, positions, read, dtype)
        plain = PlainLoop(folder, model, tokens, dtype, args.seed)
        theirs = OwnTrainer(folder, tokens, dtype, args.seed, Path(own) / "theirs")
        sides = {
            "ours": by_steps(trainer.step),
            "plain": by_steps(plain.step),
            "trainer": Side(theirs.run),
            "products": by_steps(products.step),
        }
        with progress_bar(Path(folder).name, args.rounds + 1) as bar:
            for done in range(args.rounds + 1):
                for side in sides.values():
                    side.take_turn(steps)
                bar(done + 1)
    seconds = {name: np.array(side.seconds[1:]) for name, side in sides.items()}  # kernels are made in the first
    return {
        "layers": shape.num_layers,
        "hidden_size": shape.hidden_size,
        "mean_length_tokens": float(tokens.lengths.mean()),
        "steps_per_turn": steps,
        "dtype": str(dtype).removeprefix("torch."),
        **{name: spread(each, "s") for name, each in seconds.items()},
        "times_faster_than_plain": spread(seconds["plain"] / seconds["ours"], "ratio"),
        "times_faster_than_trainer": spread(seconds["trainer"] / seconds["ours"], "ratio"),
        "times_faster_if_products_were_all": spread(seconds["plain"] / seconds["products"], "ratio"),
        "share_of_time_in_products": spread(seconds["products"] / seconds["ours"], "share"),
    }


if __name__ == "__main__":
    main()
