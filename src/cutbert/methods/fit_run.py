"""What the parts of one run of `fit` share."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from cutbert.data.rows import Examples
from cutbert.methods.fit_candidates import Candidate
from cutbert.methods.fit_limits import Costs
from cutbert.methods.fit_parts import TaughtSource
from cutbert.methods.fit_plan import LOOK_ROWS, Clock, FitPlan, seconds_per_step
from cutbert.methods.fit_settings import FitSettings
from cutbert.shape.subnet import Subnet
from cutbert.train.progress import say
from cutbert.train.settings import TrainSettings
from cutbert.work.distill import DistillStep
from cutbert.work.objective import TaskObjective

HELD_OUT = 500  # of --unlabeled at most, for ranking
# Of the time, that looking at parts may take; it takes as long as this many runs of the whole model, of each layer and
# for each limit.
LOOK_SHARE, LOOKS_OF_LAYER, LOOKS_FOR_LIMIT = 0.08, 2, 15


@dataclass(frozen=True, eq=False)
class Fitting:
    """What the parts of one run share.

    Args:
        objective: the task and the fine-tuned model.
        settings, train: as given.
        plan, clock, costs: of the run.
        parts: what candidates are cut from, by the student's name; None for the model itself.
        at_once: candidates that can be trained at the same time.
    """

    objective: TaskObjective
    settings: FitSettings
    train: TrainSettings
    plan: FitPlan
    clock: Clock
    costs: Costs
    parts: dict[str | None, TaughtSource]
    at_once: int

    @classmethod
    def of(
        cls,
        objective: TaskObjective,
        settings: FitSettings,
        train: TrainSettings,
        plan: FitPlan,
        clock: Clock,
        costs: Costs,
        at_once: int,
    ) -> Fitting:
        with plan.run.timing("propose"):
            say("looking at what each part of the model is worth")
            objective, held_out = without_held_out(objective, train.seed)
            folder = plan.run.path / "checkpoint"
            own = TaughtSource.of_model(objective, held_out, train.seed, folder)
            look_s = LOOK_SHARE * clock.limit_s / looks(own.source.shape.num_layers, len(clock.shares))
            own = replace(own, look_rows=plan.decide(LOOK_ROWS, lambda: own.rows_looked_at_in(look_s)))
            parts: dict[str | None, TaughtSource] = {None: own}
            for name in settings.student if "student" in settings.kinds else ():
                student = objective.inputs.models.others[f"student {name}"]
                part = TaughtSource.of_student(own, student, held_out, train.seed, folder)
                parts[name] = replace(part, look_rows=own.look_rows)
        return cls(objective, settings, train, plan, clock, costs, parts, at_once)

    def forget_looks(self) -> None:
        """Free the states that candidates were proposed and repaired by: those of all limits are there."""
        for part in self.parts.values():
            part.forget_looks()

    @property
    def whole_step(self) -> DistillStep:
        """The training step of the uncut model."""
        shape = self.own.source.shape
        return self.own.step(Candidate("whole", "gates", Subnet.full(shape)), shape)

    @cached_property
    def whole_step_s(self) -> float:
        """The seconds it takes."""
        part, plan = self.own, self.own.recipe.plan
        scratch = copy.deepcopy(part.source.model)
        return seconds_per_step(scratch, plan, part.tokens, self.whole_step, part.objective.engine, self.train)

    @property
    def folder(self) -> Path:
        """Where unfinished work is kept."""
        return self.plan.run.path / "checkpoint"

    @property
    def own(self) -> TaughtSource:
        """The model itself."""
        return self.parts[None]

    def part_of(self, candidate: Candidate) -> TaughtSource:
        """Return what a candidate is cut from."""
        return self.parts[candidate.student]


def looks(num_layers: int, limits: int) -> int:
    """Return how many runs of the whole model looking at its parts takes as long as."""
    return LOOKS_OF_LAYER * num_layers + LOOKS_FOR_LIMIT * limits


def without_held_out(objective: TaskObjective, seed: int) -> tuple[TaskObjective, list[Examples]]:
    """Hold some of the rows without labels out of training; return the others' objective and these rows."""
    rows = objective.data.unlabeled
    if rows is None or len(rows) < 2:
        return objective, []
    order = np.random.default_rng(seed).permutation(len(rows))
    held_out, others = np.split(order, [min(HELD_OUT, len(rows) // 2)])
    data = replace(objective.data, unlabeled=rows.take(np.sort(others)))
    return replace(objective, data=data), [rows.take(np.sort(held_out))]
