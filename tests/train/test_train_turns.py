"""Turns: networks trained side by side end as they do alone, stopped or not."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from cutbert.data.batches import Batch
from cutbert.errors import InterruptedRun
from cutbert.methods.finetune import LabelStep
from cutbert.model.task_model import TaskModel
from cutbert.train.engine import Engine
from cutbert.train.loop import Stage, StepInfo, Work, train_stage
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import StagePlan, TrainSettings
from cutbert.train.turns import train_in_turns
from tiny_runs import tiny_model, tiny_tokens

PLAN = StagePlan(
    name="one",
    epochs=2.0,
    batch_size=8,
    learning_rate=0.01,
    warmup_ratio=0.1,
    weight_decay=0.1,
    schedule="linear",
    dropout=0.3,
    token_table="rows",
)
NAMES = ("one", "two")
SETTINGS = TrainSettings(seed=3)


@dataclass(frozen=True)
class Watched:
    """A step that tells of itself first."""

    step: LabelStep
    name: str
    tell: Callable[[str], None]

    def __call__(self, work: Work, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        self.tell(self.name)
        return self.step(work, batch, info)


def pairs(tell: Callable[[str], None] = lambda name: None) -> list[tuple[TaskModel, Stage]]:
    found = []
    for seed, name in enumerate(NAMES):
        model = tiny_model(seed=seed)
        step = Watched(LabelStep(model), name, tell)
        found.append((model, Stage(replace(PLAN, name=name), tiny_tokens(), step)))
    return found


def in_turns(out: Path, tell: Callable[[str], None] = lambda name: None) -> list[TaskModel]:
    made = pairs(tell)
    run = RunFolder.open(out, "test", {"train": {"seed": 3}})
    with run.start():
        positions = train_in_turns(made, Engine(Accelerator(cpu=True), torch.float32), SETTINGS, run, block_steps=3)
    assert [position.step for position in positions] == [10, 10]
    return [model for model, _ in made]


def assert_alone(models: list[TaskModel], out: Path) -> None:
    """Assert that each model has the weights that training alone gives."""
    for (other, stage), model in zip(pairs(), models, strict=True):
        run = RunFolder.open(out / stage.plan.name, "test", {"train": {"seed": 3}})
        with run.start():
            train_stage(other, stage, Engine(Accelerator(cpu=True), torch.float32), SETTINGS, run)
        for (name, weight), wanted in zip(model.named_parameters(), other.parameters(), strict=True):
            assert torch.equal(weight, wanted), (stage.plan.name, name)


def test_in_turns_is_as_alone(tmp_path: Path) -> None:
    seen: list[str] = []
    models = in_turns(tmp_path / "run", seen.append)
    assert seen == 3 * [*3 * ["one"], *3 * ["two"]] + ["one", "two"]
    assert_alone(models, tmp_path / "alone")


@pytest.mark.parametrize("stop", [2, 5, 20])
def test_an_interrupt_saves_all(tmp_path: Path, stop: int) -> None:
    seen: list[str] = []

    def tell(name: str) -> None:
        seen.append(name)
        if len(seen) == stop:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedRun, match="stopped in stage"):
        in_turns(tmp_path / "run", tell)
    left: list[str] = []
    models = in_turns(tmp_path / "run", left.append)
    assert len(left) == 20 - stop
    assert_alone(models, tmp_path / "alone")
