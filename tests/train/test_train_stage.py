"""The loop: the same weights from the same seed, stopped or not, in one micro-batch or several."""

from __future__ import annotations

import json
import math
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import (
    NUM_STEPS,
    PLAN,
    RARELY,
    SETTINGS,
    Killed,
    OnStep,
    assert_close,
    assert_equal,
    kill_at,
    label_step,
    tiny_engine,
    train_stages,
    watched,
)
from torch import Tensor

from cutbert.data.batches import Batch
from cutbert.errors import InterruptedRun, RunError
from cutbert.model.task_model import TaskModel
from cutbert.train.checkpoint import Position, latest_checkpoint, load_checkpoint, save_checkpoint
from cutbert.train.loop import ModelView, Stage, StepInfo
from cutbert.train.optimizer import Optimizer
from cutbert.train.settings import StagePlan, TrainSettings
from tiny_runs import tiny_model, tiny_tokens


def train(
    out: Path,
    *plans: StagePlan,
    settings: TrainSettings = SETTINGS,
    dtype: torch.dtype = torch.float32,
    on_step: OnStep = lambda stage, calls: None,
) -> tuple[TaskModel, list[Position]]:
    """Train a tiny model through stages; `on_step` is called before each step function's call."""
    model = tiny_model()
    stages = [watched(Stage(plan, tiny_tokens(), label_step(model)), on_step) for plan in plans or (PLAN,)]
    return model, train_stages(out, model, stages, settings=settings, dtype=dtype)


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    model, (position,) = train(tmp_path / "a")
    assert_equal(model, train(tmp_path / "b")[0])
    other, _ = train(tmp_path / "c", settings=replace(SETTINGS, seed=4))
    assert not torch.equal(model.head.out.weight, other.head.out.weight)
    assert not torch.equal(model.head.out.weight, tiny_model().head.out.weight)
    assert position.step == NUM_STEPS and position.tokens == 2 * int(tiny_tokens().lengths.sum())


@pytest.mark.parametrize("token_table", ["rows", "dense", "frozen"])
@pytest.mark.parametrize("number", [0, 4])
def test_killed_and_resumed_to_the_bit(token_table: str, number: int, tmp_path: Path) -> None:
    plan = replace(PLAN, token_table=token_table)
    whole, _ = train(tmp_path / "whole", plan)
    with pytest.raises(Killed):
        train(tmp_path / "run", plan, on_step=kill_at("first", number))
    seen: list[int] = []
    resumed, (position,) = train(tmp_path / "run", plan, on_step=lambda stage, calls: seen.append(calls))
    assert len(seen) == NUM_STEPS - number and position.step == NUM_STEPS
    assert_equal(resumed, whole)


def test_resumed_in_bf16_to_the_bit(tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole", dtype=torch.bfloat16)
    with pytest.raises(Killed):
        train(tmp_path / "run", dtype=torch.bfloat16, on_step=kill_at("first", 7))
    assert_equal(train(tmp_path / "run", dtype=torch.bfloat16)[0], whole)


@pytest.mark.parametrize("stage, number", [("first", 3), ("second", 0), ("second", 6)])
def test_several_stages_resume_in_the_right_one(stage: str, number: int, tmp_path: Path) -> None:
    plans = (PLAN, replace(PLAN, name="second", token_table="dense", learning_rate=0.003))
    whole, _ = train(tmp_path / "whole", *plans)
    with pytest.raises(Killed):
        train(tmp_path / "run", *plans, on_step=kill_at(stage, number))
    seen: list[str] = []
    resumed, _ = train(tmp_path / "run", *plans, on_step=lambda name, calls: seen.append(name))
    assert_equal(resumed, whole)
    left = NUM_STEPS - number
    assert (seen.count("first"), seen.count("second")) == ((left, NUM_STEPS) if stage == "first" else (0, left))


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_step_saves_and_says_how_to_go_on(sig: signal.Signals, tmp_path: Path) -> None:
    def interrupt(stage: str, calls: int) -> None:
        if calls == 4:
            os.kill(os.getpid(), sig)

    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    whole, _ = train(tmp_path / "whole", settings=RARELY)
    message = r"stopped in stage first at step 5 of 10; saved in .*run: the same command goes on from there"
    with pytest.raises(InterruptedRun, match=message):
        train(tmp_path / "run", settings=RARELY, on_step=interrupt)
    assert {each: signal.getsignal(each) for each in handlers} == handlers
    seen: list[int] = []
    resumed, _ = train(tmp_path / "run", settings=RARELY, on_step=lambda stage, calls: seen.append(calls))
    assert len(seen) == 5
    assert_equal(resumed, whole)


def test_a_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    def twice(stage: str, calls: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", on_step=twice)


@pytest.mark.parametrize("token_table", ["rows", "dense"])
def test_micro_batches_change_nothing(token_table: str, tmp_path: Path) -> None:
    plan = replace(PLAN, dropout=0.0, token_table=token_table, learning_rate=2e-4)
    one, _ = train(tmp_path / "one", plan)
    four, _ = train(tmp_path / "four", plan, settings=replace(SETTINGS, accumulation=4))
    assert_close(four, one)


def test_a_fixed_length_changes_nothing(tmp_path: Path) -> None:
    plan = replace(PLAN, dropout=0.0, learning_rate=2e-4)
    in_blocks, _ = train(tmp_path / "blocks", plan)
    padded, _ = train(tmp_path / "padded", replace(plan, pad_to=16))
    assert_close(padded, in_blocks)


def test_no_epochs_train_nothing(tmp_path: Path) -> None:
    model, (position,) = train(tmp_path / "run", replace(PLAN, epochs=0.0))
    assert_equal(model, tiny_model())
    assert position == Position()


def test_part_of_an_epoch_and_the_log(tmp_path: Path) -> None:
    _, (position,) = train(tmp_path / "run", replace(PLAN, epochs=0.4))
    assert position.step == 2
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert last.keys() >= {"stage", "step", "loss", "labels", "grad_norm", "learning_rate"}
    assert (last["stage"], last["step"]) == ("first", 2) and last["loss"] == last["labels"] > 0


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    engine, model = tiny_engine(), tiny_model()
    optimizer = Optimizer(model, PLAN, engine, 1.0)
    model(torch.tensor([[2, 5, 3]])).logits.square().sum().backward()
    optimizer.step(0.5, torch.tensor([0, 2, 3, 5]))
    torch.manual_seed(8)
    for step in (6, 7):
        save_checkpoint(tmp_path / "state", model, optimizer, Position(step, 99, 1.5))
    saved = latest_checkpoint(tmp_path / "state")
    assert saved is not None and [path.name for path in saved.parent.iterdir()] == [saved.name]
    (saved.parent / "000000008").mkdir()  # a newer one that is not whole
    assert latest_checkpoint(tmp_path / "state") == saved
    drawn = torch.rand(3)
    other = tiny_model(seed=1)
    again = Optimizer(other, PLAN, engine, 1.0)
    assert load_checkpoint(saved, other, again) == Position(7, 99, 1.5)
    assert torch.equal(torch.rand(3), drawn)
    assert_equal(other, model)
    state = optimizer.state()
    assert again.state().keys() == state.keys() and any(name.startswith("rows.") for name in state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state().items())


@pytest.mark.parametrize("poison", ["loss", "gradient", "weight"])
@pytest.mark.parametrize("checkpoint_seconds", [0.0, 1e6])
def test_what_is_not_finite_stops_and_the_last_good_checkpoint_stays(
    poison: str, checkpoint_seconds: float, tmp_path: Path
) -> None:
    number = 4
    with pytest.raises(Killed):
        train(tmp_path / "good", on_step=kill_at("first", number))
    model, settings = tiny_model(), replace(SETTINGS, checkpoint_seconds=checkpoint_seconds)
    stage = poisoned(Stage(PLAN, tiny_tokens(), label_step(model)), poison, number)
    with pytest.raises(RunError) as caught:
        train_stages(tmp_path / "bad", model, [stage], settings=settings)
    (message,) = caught.value.mistakes
    assert not model.training and not model.encoder.embeddings.token.sparse  # whoever goes on with it may
    place = r"training must stay finite, but in stage first at step [56] of 10 .* is (nan|inf|not finite); "
    advice = r"Try a lower --learning-rate \(the peak is 0\.01\), a larger --warmup-ratio or --precision float32"
    kept, good = (tmp_path / name / "checkpoint" / "first" for name in ("bad", "good"))
    if checkpoint_seconds:
        assert re.search(place + r"no checkpoint was saved\. " + advice, message) and not kept.exists()
        return
    assert re.search(place + rf"the weights of step {number} stay in .*{number:09d}\. " + advice, message)
    (saved,) = kept.iterdir()
    assert saved.name == f"{number:09d}"
    weights, wanted = (load_file(each / saved.name / "model.safetensors") for each in (kept, good))
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)


def poisoned(stage: Stage, what: str, number: int) -> Stage:
    """Return a stage in which a loss, a gradient or a weight is NaN after some calls of its step."""
    calls = 0

    def step(work: ModelView, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        nonlocal calls
        losses = stage.step(work, batch, info)
        if calls == number and what == "gradient":
            work.model.head.out.weight.grad.fill_(math.nan)
        if calls == number and what == "loss":
            losses = {name: loss * math.nan for name, loss in losses.items()}
        calls += 1
        return losses

    def optimizer(model: TaskModel, *args: Any) -> Optimizer:
        made = Optimizer(model, *args)
        take = made.step

        def with_overflow(*given: Any) -> float:
            norm = take(*given)
            if calls == number + 1 and what == "weight":
                with torch.no_grad():
                    model.head.out.bias.fill_(math.inf)
            return norm

        made.step = with_overflow
        return made

    return replace(stage, step=step, optimizer=optimizer)
