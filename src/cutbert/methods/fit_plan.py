"""The plan of a run of `fit`: its clock, and every decision that hangs on time, kept so that it can be taken again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cutbert.data.tokens import Tokens
from cutbert.errors import RunError
from cutbert.files import read_json, write_json
from cutbert.model.task_model import TaskModel
from cutbert.train.engine import Engine
from cutbert.train.loop import Stage, Trainer, TrainingStep
from cutbert.train.pace import DeadlinePace, FixedPace, Pace
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import StagePlan, TrainSettings

PLAN = "plan.json"
WARM_STEPS, TIMED_STEPS = 2, 5
# What the end takes, in times of exporting and scoring the uncut model: itself, on two backends; a smaller network.
END_OF_UNCUT, END_OF_CANDIDATE = 2.0, 0.6


@dataclass
class FitPlan:
    """Decisions by name, in the order they were taken.

    A decision that hangs on time (a latency, a number of steps) is taken once, from what the machine does then, and
    kept in plan.json. A run that goes on, or that is given another run's plan, takes the same one: with the same seed
    and data it then makes the same weights.

    Args:
        run: the run's folder.
        other: decisions of another run that are taken over; empty for none.
    """

    run: RunFolder
    other: dict[str, Any] = field(default_factory=dict)
    decisions: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, run: RunFolder, other: str | None) -> FitPlan:
        """Return the plan of a run, as far as it has one.

        Raises:
            RunError: the other run has no plan.
        """
        own = run.path / PLAN
        return cls(run, {} if other is None else read_plan(Path(other)), read_json(own) if own.is_file() else {})

    def knows(self, name: str) -> bool:
        """Whether a decision was taken before, here or in the other run."""
        return name in self.decisions or name in self.other

    def decide(self, name: str, decide: Callable[[], Any]) -> Any:
        """Return a decision, which is JSON: as it was taken before, as the other run took it, or as it is taken now."""
        if name not in self.decisions:
            self.decisions[name] = self.other[name] if name in self.other else decide()
            self.save()
        return self.decisions[name]

    def pace(self, name: str, planned: int, seconds_left: Callable[[], float]) -> Pace:
        """Return what decides a stage's number of steps: the time that is left, or what the other run did."""
        if name in self.other:
            return FixedPace([(step, count) for step, count in self.other[name]])
        return DeadlinePace(self.run.path / "checkpoint" / f"{name}-pace.json", planned, seconds_left)

    def keep_pace(self, name: str, pace: Pace) -> None:
        """Keep the steps that a finished stage took, as a decision."""
        assert isinstance(pace, FixedPace | DeadlinePace)
        self.decide(name, lambda: [list(change) for change in pace.changes])

    def changes(self) -> list[tuple[str, int, int]]:
        """Return the stages whose steps were changed on the way: their names, the steps at first and in the end."""
        steps = {name: each for name, each in self.decisions.items() if name.endswith("-last")}
        return [(name, each[0][1], each[-1][1]) for name, each in steps.items() if len(each) > 1]

    def save(self) -> None:
        write_json(self.run.path / PLAN, self.decisions)


def read_plan(run: Path) -> dict[str, Any]:
    """Return the decisions of another run.

    Raises:
        RunError: there is no run of fit, or none that has decided anything.
    """
    path = run / PLAN
    if not path.is_file():
        raise RunError(f"--plan must be a run of fit, got {run}, which has no {PLAN}")
    data = read_json(path, RunError)
    if not isinstance(data, dict):
        raise RunError(f"{path}: must be a JSON object, got {type(data).__name__}")
    return data


@dataclass(frozen=True)
class Clock:
    """The time of a run, over all its resumed parts.

    Args:
        run: the run's folder.
        limit_s: time for everything.
        uncut_s: what exporting, loading and scoring the uncut model takes.
        candidates: trained at first under each limit.
    """

    run: RunFolder
    limit_s: float
    uncut_s: float
    candidates: int

    def left_s(self, ends: int) -> float:
        """Return the seconds until the end must begin.

        Args:
            ends: limits, each of which ends with networks to be exported, scored and timed.
        """
        end_s = self.uncut_s * (END_OF_UNCUT + ends * self.candidates * END_OF_CANDIDATE)
        return self.limit_s - self.run.seconds - end_s


def seconds_per_step(
    model: TaskModel, plan: StagePlan, tokens: Tokens, step: TrainingStep, engine: Engine, train: TrainSettings
) -> float:
    """Return the seconds of one training step on the first rows of the data, on a model that is thrown away.

    Args:
        model: is trained for a few steps.
        plan, tokens, step: of the stage that is asked about.
        engine, train: of the run.
    """
    scratch = RunFolder(Path("unused"), {"settings": {}, "timings": {}}, is_writer=False)
    trainer = Trainer(model, Stage(plan, tokens, step), engine, train, scratch)
    for _ in range(WARM_STEPS):
        trainer.step()
    begun = time.monotonic()
    for _ in range(TIMED_STEPS):
        trainer.step()
    trainer.view.close()
    return (time.monotonic() - begun) / TIMED_STEPS
