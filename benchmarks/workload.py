"""What the measured scripts run: a model on a task, chosen rows, trainers to step by hand.

Every import of cutbert's methods, training loop and stages by a benchmark is here: a change of theirs ends here.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cutbert.data.batches import Batch, plan_batches
from cutbert.data.masking import Masking
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import Tokens
from cutbert.demo_data.weights import checked_weights
from cutbert.methods.dynabert import family
from cutbert.methods.dynabert_recipes import resolve_recipe
from cutbert.methods.dynabert_settings import DynabertSettings
from cutbert.methods.dynabert_steps import FamilyStep, choose_points
from cutbert.methods.fit_candidates import Candidate
from cutbert.methods.fit_cuts import in_multiples
from cutbert.methods.fit_parts import TaughtSource
from cutbert.model.task_model import TaskModel
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.shape.source import Models, find_model
from cutbert.shape.subnet import KeptLayer, Subnet
from cutbert.surgery.extract import with_layers
from cutbert.train.engine import make_engine
from cutbert.train.loop import ModelView, Stage, StepInfo, Trainer, train_stage
from cutbert.train.losses import state_loss
from cutbert.train.masked_lm import StepMasks
from cutbert.train.optimizer import Casts, Optimizer, StageOptimizer
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings
from cutbert.train.working_copy import frozen_copy
from cutbert.work.distill import DistillStep, LabelStep, LayerMap, LossWeights, layer_map
from cutbert.work.inputs import check_inputs
from cutbert.work.losses import States, TaskLosses, Teacher, TextLosses, encoder_states
from cutbert.work.objective import TaskObjective
from cutbert.work.plans import FINETUNE, MASKED_LM
from cutbert.work.student import SMALL, StudentRecipe, chosen_layers, student_step

__all__ = [  # what is imported from here and not defined here
    "SMALL",
    "Candidate",
    "Casts",
    "DataSettings",
    "DistillStep",
    "DynabertSettings",
    "KeptLayer",
    "LabelStep",
    "LayerMap",
    "LossWeights",
    "ModelView",
    "Optimizer",
    "RunFolder",
    "Stage",
    "StageOptimizer",
    "States",
    "StepInfo",
    "StudentRecipe",
    "Subnet",
    "TaskObjective",
    "TaughtSource",
    "Teacher",
    "TrainSettings",
    "Trainer",
    "chosen_layers",
    "encoder_states",
    "frozen_copy",
    "in_multiples",
    "layer_map",
    "state_loss",
    "student_step",
    "train_stage",
    "with_layers",
]
BATCH_SIZE = 32
MAX_LENGTH = 128
SUBNET_PASSES = 3  # forward, and backward to inputs and to weights


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add where model and data are."""
    parser.add_argument("--model", help="model or run folder; None for MiniLM of the installed package")
    parser.add_argument("--task", default="sst2")
    parser.add_argument(
        "--data-dir", default=os.environ.get("CUTBERT_DATA"), help="folder of the GLUE tasks; None for the hub's"
    )
    parser.add_argument("--max-train-samples", type=int, help="read only this many rows")


def model_of(args: argparse.Namespace) -> str:
    """Return the model, checked by hash where it is the installed package's."""
    return str(args.model or checked_weights())


def option(name: str, value: object) -> list[str]:
    """Return an option as words of a command line, none where it has no value."""
    return [] if value is None else [name, str(value)]


def cutbert_json(*words: str) -> dict[str, Any]:
    """Return the --json object of a command in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "cutbert", *words, "--json"], stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def prepare_task(args: argparse.Namespace, work: Path, *, eval_rows: int | None = 32) -> TaskObjective:
    """Return the task: the model with a head for it, and its tokens."""
    data = DataSettings(
        task=args.task,
        data_dir=args.data_dir,
        max_length=MAX_LENGTH,
        max_train_samples=args.max_train_samples,
        max_eval_samples=eval_rows,
    )
    run = RunFolder.open(work / "prepared", "benchmark", {})
    return objective_of(model_of(args), data, TrainSettings(threads=args.threads), run)


def objective_of(model: str, data: DataSettings, train: TrainSettings, run: RunFolder) -> TaskObjective:
    """Return a task of a model, read and in tokens."""
    return TaskObjective.prepare(check_inputs(Models(find_model(model)), data, None, train=train), train, run)


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

    step: FamilyStep
    lengths: NDArray[np.int64]
    macs: list[float] = field(default_factory=list)

    def __call__(self, view: ModelView, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        chosen = choose_points(self.step.points, self.step.recipe.subnets_per_step, copy.deepcopy(info.random))
        shapes = [point.subnet.shape_in(self.step.supernet.shape) for point in chosen]
        head, counts = self.step.supernet.head_spec, Counter(self.lengths[info.rows].tolist())
        widths = {(point.head_mult, point.ffn_mult) for point in chosen}
        teacher_runs = len(widths) if self.step.recipe.reruns_teacher else 1
        total = teacher_runs * batch_macs(self.step.teacher.model.shape, head, counts)
        self.macs.append(total + SUBNET_PASSES * sum(batch_macs(shape, head, counts) for shape in shapes))
        return self.step(view, batch, info)

    @property
    def point_names(self) -> list[str]:
        """The subnets of the family."""
        return [point.name for point in self.step.points]

    @property
    def subnets_per_step(self) -> int:
        return self.step.recipe.subnets_per_step or len(self.step.points)


def batch_macs(shape: EncoderShape, head: HeadSpec, counts: Counter[int]) -> float:
    """Return the multiply-adds of one forward over texts of the given lengths."""
    return float(sum(number * text_macs(shape, head, length) for length, number in counts.items()))


@cache
def text_macs(shape: EncoderShape, head: HeadSpec, length: int) -> int:
    return cost_of(shape, head, length).macs


def distillation(
    task: TaskObjective, tokens: Tokens, settings: DynabertSettings, seed: int, threads: int | None, work: Path
) -> tuple[Trainer, CountedStep]:
    """Return a trainer of the recipe's last stage, to be stepped by hand for ever.

    The supernet starts from the task's model, unrewired, and the rate is tiny and constant: both leave the
    time and the memory of a step as they are.
    """
    train = TrainSettings(
        seed=seed, threads=threads, batch_size=BATCH_SIZE, schedule="constant", warmup_ratio=0.0, learning_rate=1e-6
    )
    recipe = resolve_recipe(settings, train, MAX_LENGTH)
    engine = make_engine(replace(train, precision=recipe.precision))
    model = task.loaded.model
    supernet, stage = copy.deepcopy(model), recipe.stages[-1]
    teacher = Teacher(frozen_copy(model, engine.dtype))
    step = FamilyStep(task.losses, supernet, teacher, family(model.shape, settings, recipe), stage, recipe)
    counted = CountedStep(step, tokens.lengths)
    run = RunFolder.open(work / "trainer", "benchmark", {})
    return Trainer(supernet, Stage(stage.plan, tokens, counted), engine, train, run), counted


def finetuning(
    model: TaskModel, tokens: Tokens, *, batch_size: int, seed: int, threads: int | None, work: Path
) -> Trainer:
    """Return a trainer of the default fine-tuning, to be stepped by hand for ever."""
    train = TrainSettings(seed=seed, threads=threads)
    engine, step = make_engine(train), LabelStep(partial(TaskLosses, model.head_spec))
    stage = Stage(replace(FINETUNE, batch_size=batch_size), tokens, step)
    return Trainer(model.to(engine.device), stage, engine, train, RunFolder.open(work / "trainer", "benchmark", {}))


def masked_lm(
    model: TaskModel, tokens: Tokens, masking: Masking, *, batch_size: int, seed: int, threads: int | None, work: Path
) -> Trainer:
    """Return a trainer of masked LM, to be stepped by hand for ever."""
    train = TrainSettings(seed=seed, threads=threads)
    engine = make_engine(train)
    step = LabelStep(TextLosses(StepMasks(tokens, masking)))
    stage = Stage(replace(MASKED_LM, batch_size=batch_size), tokens, step)
    return Trainer(model.to(engine.device), stage, engine, train, RunFolder.open(work / "trainer", "benchmark", {}))
