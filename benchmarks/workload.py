"""What the benchmarks of training steps share: SST-2 in tokens, chosen batches, and a trainer to step by hand."""

from __future__ import annotations

import argparse
import copy
import os
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cutbert.data.batches import Batch, plan_batches
from cutbert.data.dataset import load_dataset
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import Tokens
from cutbert.demo_data.weights import checked_weights
from cutbert.methods.distil import DistillStep, Teacher, choose_points
from cutbert.methods.dynabert import family
from cutbert.methods.prepare import Prepared, prepare
from cutbert.methods.recipes import resolve_recipe
from cutbert.methods.settings import DynabertSettings
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.train.engine import make_engine
from cutbert.train.loop import Stage, StepInfo, Trainer
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings
from cutbert.train.working import WorkingCopy, frozen_copy

BATCH_SIZE = 32
MAX_LENGTH = 128
SUBNET_PASSES = 3  # forward, and backward to inputs and to weights


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add where weights and data are."""
    parser.add_argument("--weights", type=Path, help="MiniLM folder; None for the installed package's")
    parser.add_argument(
        "--data-dir", default=os.environ.get("CUTBERT_DATA"), help="folder of the GLUE tasks; None for the hub's"
    )
    parser.add_argument("--max-train-samples", type=int, help="read only so many rows, to try the script out")


def weights_of(args: argparse.Namespace) -> str:
    """Return the model folder, checked by hash where it is the installed package's."""
    return str(args.weights or checked_weights())


def prepare_task(args: argparse.Namespace, work: Path, task: str = "sst2", eval_rows: int = 32) -> Prepared:
    """Return the pre-trained model with a head for a task, and the task's tokens."""
    data = DataSettings(
        task=task,
        data_dir=args.data_dir,
        max_length=MAX_LENGTH,
        max_train_samples=args.max_train_samples,
        max_eval_samples=eval_rows,
    )
    run = RunFolder.open(work / "prepared", "benchmark", {})
    return prepare(weights_of(args), load_dataset(data), MAX_LENGTH, TrainSettings(threads=args.threads), run)


def spread_rows(lengths: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Return the rows of `count` whole batches that stand for an epoch's.

    The batches of one epoch are sorted by their tokens, and those at the midpoints of equal shares are
    taken. Batches planned of these rows alone have the same tokens in all.
    """
    whole = [rows for rows in plan_batches(lengths, BATCH_SIZE, seed, 0) if len(rows) == BATCH_SIZE]
    ordered = sorted(whole, key=lambda rows: int(lengths[rows].sum()))
    places = (2 * np.arange(count) + 1) * len(ordered) // (2 * count)
    return np.concatenate([ordered[place] for place in places])


def longest_rows(lengths: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the longest rows."""
    return np.argsort(-lengths, kind="stable")[:count]


@dataclass
class CountedStep:
    """A distillation step that adds up the multiply-adds of its real tokens; padding is not counted."""

    step: DistillStep
    lengths: NDArray[np.int64]
    macs: list[float] = field(default_factory=list)

    def __call__(self, work: WorkingCopy, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        chosen = choose_points(self.step.points, self.step.recipe.subnets_per_step, copy.deepcopy(info.random))
        shapes = [point.subnet.shape_in(self.step.supernet.shape) for point in chosen]
        head, counts = self.step.supernet.head_spec, Counter(self.lengths[info.rows].tolist())
        widths = {(point.head_mult, point.ffn_mult) for point in chosen}
        teacher_runs = len(widths) if self.step.recipe.reruns_teacher else 1
        total = teacher_runs * batch_macs(self.step.teacher.model.shape, head, counts)
        self.macs.append(total + SUBNET_PASSES * sum(batch_macs(shape, head, counts) for shape in shapes))
        return self.step(work, batch, info)


def batch_macs(shape: EncoderShape, head: HeadSpec, counts: Counter[int]) -> float:
    """Return the multiply-adds of one forward over texts of the given lengths."""
    return float(sum(number * text_macs(shape, head, length) for length, number in counts.items()))


@cache
def text_macs(shape: EncoderShape, head: HeadSpec, length: int) -> int:
    return cost_of(shape, head, length).macs


def make_trainer(
    prepared: Prepared, tokens: Tokens, settings: DynabertSettings, seed: int, threads: int | None, work: Path
) -> tuple[Trainer, CountedStep]:
    """Return a trainer of the recipe's last stage, to be stepped by hand for ever.

    The supernet starts from the prepared model, unrewired, and the rate is tiny and constant: both leave the
    time and the memory of a step as they are.
    """
    train = TrainSettings(
        seed=seed, threads=threads, batch_size=BATCH_SIZE, schedule="constant", warmup_ratio=0.0, learning_rate=1e-6
    )
    recipe = resolve_recipe(settings, train, MAX_LENGTH)
    engine = make_engine(replace(train, precision=recipe.precision))
    supernet = copy.deepcopy(prepared.loaded.model)
    stage = recipe.stages[-1]
    teacher = Teacher(frozen_copy(prepared.loaded.model, engine.dtype), None, True)
    step = DistillStep(supernet, teacher, family(supernet.shape, settings, recipe), stage, recipe)
    counted = CountedStep(step, tokens.lengths)
    run = RunFolder.open(work / "trainer", "benchmark", {})
    return Trainer(supernet, Stage(stage.plan, tokens, counted), engine, train, run), counted
