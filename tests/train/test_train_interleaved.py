"""Turns: networks trained side by side end as they do alone, stopped or not."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_training import (
    NUM_STEPS,
    PLAN,
    RARELY,
    OnStep,
    assert_equal,
    label_step,
    open_tiny,
    tiny_engine,
    train_stages,
    watched,
)

from cutbert.errors import InterruptedRun
from cutbert.model.task_model import TaskModel
from cutbert.train.interleaved import train_interleaved
from cutbert.train.loop import Stage
from tiny_runs import tiny_model, tiny_tokens

NAMES = ("one", "two")


def pairs(on_step: OnStep = lambda name, calls: None) -> list[tuple[TaskModel, Stage]]:
    found = []
    for seed, name in enumerate(NAMES):
        model = tiny_model(seed=seed)
        stage = Stage(replace(PLAN, name=name), tiny_tokens(), label_step(model))
        found.append((model, watched(stage, on_step)))
    return found


def in_turns(out: Path, on_step: OnStep) -> list[TaskModel]:
    made, run = pairs(on_step), open_tiny(out)
    with run.start():
        positions = train_interleaved(made, tiny_engine(), RARELY, run, block_steps=3)
    assert [position.step for position in positions] == [NUM_STEPS, NUM_STEPS]
    return [model for model, _ in made]


def assert_alone(models: list[TaskModel], out: Path) -> None:
    """Assert that each model has the weights that training alone gives."""
    for (other, stage), model in zip(pairs(), models, strict=True):
        train_stages(out / stage.plan.name, other, [stage], settings=RARELY)
        assert_equal(model, other)


def test_in_turns_is_as_alone(tmp_path: Path) -> None:
    seen: list[str] = []
    models = in_turns(tmp_path / "run", lambda name, calls: seen.append(name))
    assert seen == 3 * [*3 * ["one"], *3 * ["two"]] + ["one", "two"]
    assert_alone(models, tmp_path / "alone")


@pytest.mark.parametrize("stop", [2, 5, 20])
def test_an_interrupt_saves_all(tmp_path: Path, stop: int) -> None:
    seen: list[str] = []

    def tell(name: str, calls: int) -> None:
        seen.append(name)
        if len(seen) == stop:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedRun, match="stopped in stage"):
        in_turns(tmp_path / "run", tell)
    left: list[str] = []
    models = in_turns(tmp_path / "run", lambda name, calls: left.append(name))
    assert len(left) == 2 * NUM_STEPS - stop
    assert_alone(models, tmp_path / "alone")
