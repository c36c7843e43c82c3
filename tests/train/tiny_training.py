"""A short training of a tiny network: its plan, a step that is watched or dies, and the weights that must come out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from cutbert.data.batches import Batch
from cutbert.model.task_model import TaskModel
from cutbert.train.checkpoint import Position
from cutbert.train.engine import Engine
from cutbert.train.loop import ModelView, Stage, StepInfo, train_stage
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import StagePlan, TrainSettings
from cutbert.work.distill import LabelStep
from cutbert.work.losses import TaskLosses

PLAN = StagePlan(
    name="first",
    epochs=2.0,
    batch_size=8,
    learning_rate=0.01,
    warmup_ratio=0.1,
    weight_decay=0.1,
    schedule="linear",
    dropout=0.2,
    token_table="rows",
)
NUM_STEPS = 10  # of PLAN on 33 to 40 rows
SETTINGS = TrainSettings(seed=3, checkpoint_seconds=0.0)
RARELY = replace(SETTINGS, checkpoint_seconds=1e6)  # saves only where it must
OnStep = Callable[[str, int], None]


class Killed(BaseException):
    """Stands for a process that dies in the middle of a step."""


def tiny_engine(dtype: torch.dtype = torch.float32) -> Engine:
    return Engine(Accelerator(cpu=True), dtype)


def open_tiny(out: Path) -> RunFolder:
    """Open a run folder, new or begun by a test before."""
    return RunFolder.open(out, "finetune", {"train": {"seed": 3}})


def train_stages(
    out: Path,
    model: TaskModel,
    stages: Sequence[Stage],
    *,
    settings: TrainSettings = SETTINGS,
    dtype: torch.dtype = torch.float32,
) -> list[Position]:
    """Train a network through stages in a run folder, or go on there."""
    engine, run = tiny_engine(dtype), open_tiny(out)
    with run.start():
        return [train_stage(model, stage, engine, settings, run) for stage in stages]


def label_step(model: TaskModel) -> LabelStep:
    return LabelStep(partial(TaskLosses, model.head_spec))


def watched(stage: Stage, on_step: OnStep) -> Stage:
    """Return a stage that tells its name and the number of its calls so far before each call of its step."""
    calls = 0

    def step(work: ModelView, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        nonlocal calls
        on_step(stage.plan.name, calls)
        calls += 1
        return stage.step(work, batch, info)

    return replace(stage, step=step)


def kill_at(stage: str, number: int) -> OnStep:
    def on_step(name: str, calls: int) -> None:
        if (name, calls) == (stage, number):
            raise Killed

    return on_step


def assert_equal(model: TaskModel, other: TaskModel) -> None:
    for (name, weight), wanted in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(weight, wanted), name


def assert_close(model: TaskModel, other: TaskModel) -> None:
    for (name, weight), wanted in zip(model.named_parameters(), other.parameters(), strict=True):
        if not name.endswith("key.bias"):  # its gradient is rounding only, which Adam blows up
            torch.testing.assert_close(weight, wanted, atol=1e-5, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
