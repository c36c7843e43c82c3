"""Removes feed-forwards from a trained network and heals what is left, all at once or one after the other."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

from cutbert.data.tokens import Tokens
from cutbert.methods.choose import Removal, without
from cutbert.methods.imitate import SubnetAt
from cutbert.methods.objectives import Objective
from cutbert.methods.results import Found, scored
from cutbert.methods.undivided_settings import UndividedSettings
from cutbert.model.task_model import TaskModel
from cutbert.shape.pattern import feed_forward_layers
from cutbert.shape.shape import EncoderShape
from cutbert.shape.subnet import Subnet
from cutbert.surgery.extract import extract
from cutbert.train.loop import Stage, TrainingStep, train_stage
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import StagePlan, TrainSettings


@dataclass(frozen=True, eq=False)
class Job:
    """One removal and its healing.

    Args:
        objective: what the network is for; holds the uncut model.
        removal: what goes.
        make_step: the training step of a network that shrinks as it is told.
        tokens: the rows that steps are made on.
        plan: of the healing; of no epochs for none.
        final: a last training after it, if any.
        settings, train: as given.
        run: the run's folder.
    """

    objective: Objective
    removal: Removal
    make_step: Callable[[SubnetAt], TrainingStep]
    tokens: Tokens
    plan: StagePlan
    final: Callable[[TaskModel], Stage] | None
    settings: UndividedSettings
    train: TrainSettings
    run: RunFolder

    @property
    def uncut(self) -> TaskModel:
        return self.objective.loaded.model


def remove_and_heal(job: Job) -> list[Found]:
    """Return the networks of a removal with their scores: as it left the network, healed, trained on; the result last.

    Where nothing goes and something is trained, the first of these is the uncut model and is left out.
    """
    heals, name = job.plan.epochs > 0, f"ffn{len(feed_forward_layers(job.uncut.shape)) - len(job.removal.order)}"
    model, found = extract(job.uncut, without(job.uncut.shape, job.removal.order)), []
    trains, steps = heals or job.final is not None, 0
    if job.removal.order or not trains:
        found.append(scored(job.run, job.objective, model, f"{name}-unhealed", is_last=not trains))
    if heals:
        with job.run.timing("heal"):
            model, steps = healed(job)
        found.append(scored(job.run, job.objective, model, name, is_last=job.final is None))
    if job.final is not None:
        model = copy.deepcopy(model)
        with job.run.timing("final"):
            stage = job.final(model)
            stage = replace(stage, plan=replace(stage.plan, first_step=steps))
            train_stage(model, stage, job.objective.engine, job.train, job.run)
        found.append(scored(job.run, job.objective, model, f"{name}-final", is_last=True))
    return found


def healed(job: Job) -> tuple[TaskModel, int]:
    """Return the network after the removal and its healing, which share one stage and one course of learning rates,
    and the steps they took.

    What goes first is cut out; what goes later is run without from its moment on, and cut out at the end.
    """
    rounds = rounds_of(job.removal.order, job.settings)
    model = extract(job.uncut, without(job.uncut.shape, rounds[0] if rounds else ()))
    course = Course.of(model.shape, rounds, job.settings.removal_share)
    stage = Stage(job.plan, job.tokens, job.make_step(course))
    steps = train_stage(model, stage, job.objective.engine, job.train, job.run).step
    last = course.subnets[-1]
    return model if last is None else extract(model, last), steps


def rounds_of(order: tuple[int, ...], settings: UndividedSettings) -> list[tuple[int, ...]]:
    """Return the feed-forwards that go together, in order; the earlier rounds have one more where they differ."""
    count = 1 if settings.removal == "sudden" else min(settings.removal_rounds or len(order), len(order))
    if not order:
        return []
    size, more = divmod(len(order), count)
    ends = [(i + 1) * size + min(i + 1, more) for i in range(count)]
    return [order[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@dataclass(frozen=True)
class Course:
    """What is trained as a removal goes on: a subnet from each moment on.

    Args:
        moments: shares of the steps at which the subnets begin, rising from 0.
        subnets: what is trained from each moment on; None for all.

    Source:
        Our choice: the rounds come at even distances within the first part of the steps. Healings of their own with
        a learning rate that starts anew would undo each other, as we found for schuBERT's rounds.
    """

    moments: tuple[float, ...]
    subnets: tuple[Subnet | None, ...]

    @classmethod
    def of(cls, shape: EncoderShape, rounds: list[tuple[int, ...]], share: float) -> Course:
        """Return the course of a network that has its first round behind it.

        Args:
            shape: of that network.
            rounds: all of them.
            share: of the steps, in which the rounds come.
        """
        moments: list[float] = [0.0]
        subnets: list[Subnet | None] = [None]
        gone: list[int] = []
        for number, layers in enumerate(rounds[1:], start=1):
            gone += layers
            moments.append(share * number / len(rounds))
            subnets.append(without(shape, gone))
        return cls(tuple(moments), tuple(subnets))

    def __call__(self, progress: float) -> Subnet | None:
        """Return what is trained after a share of the steps."""
        begun = sum(moment <= progress for moment in self.moments)
        return self.subnets[begun - 1]
