"""The plan of a run of `fit`: its clock, and every decision that hangs on time, kept so that it can be taken again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cutbert.checks import (
    NUMBER,
    OBJECT,
    Check,
    are,
    check_values,
    has,
    is_count,
    is_number,
    is_positive,
    list_of,
)
from cutbert.data.tokens import Tokens
from cutbert.errors import DivergedError, Mistakes, RunError
from cutbert.files import read_json, write_json
from cutbert.model.task_model import TaskModel
from cutbert.options import CEILINGS
from cutbert.train.engine import Engine
from cutbert.train.loop import Stage, Trainer, TrainingStep
from cutbert.train.pace import DeadlinePace, FixedPace, Pace
from cutbert.train.run_folder import RunFolder
from cutbert.train.run_record import read_record
from cutbert.train.settings import StagePlan, TrainSettings

PLAN = "plan.json"
LAST = "-last"  # ends the name of a winner's last training
TAKING_PART = "-candidates"  # ends the name of their number under a limit
REPAIRED = "-repaired"  # ends the name of the number that there was time to repair
LOOK_ROWS = "look-rows"  # the number of rows that parts of the model are looked at on
FEWEST_SERVED = 2  # of a limit: where there is no time for rounds, the best and the plain alternative
WARM_STEPS, TIMED_STEPS = 2, 5
ENOUGH_S = 4.0  # of timed steps: of slow ones fewer are timed, since they are training time lost
MOST_SECONDS, MOST_STEPS = CEILINGS["seconds"], CEILINGS["steps"]  # as of options: with more a run would never end
# Options on which the decisions of a plan depend, by group: what is proposed, under which limits, and what was timed.
BOUND = (
    *(("fit", name) for name in (
        "backend", "kinds", "student", "candidates", "trim_vocab", "max_latency_ms", "max_latency_share", "max_params",
        "max_macs", "max_bytes", "max_drop",
    )),
    ("data", "max_length"),
    ("train", "threads"),
)  # fmt: skip
ABOVE_0: Check = (lambda value: is_count(value) and value > 0, "a whole number of at least 1")
SECONDS: Check = (lambda value: is_number(value) and value <= MOST_SECONDS, f"a number of at most {MOST_SECONDS:,}")
STEPS: Check = (lambda value: is_count(value) and value <= MOST_STEPS, f"a whole number in 0..{MOST_STEPS:,}")
# What decisions must be, by the pattern of their names.
CHECKS: dict[str, Check] = {
    "look": has(
        {
            "table": OBJECT,
            "tokenizer_ms": NUMBER,
            "build_s": NUMBER,
            "row_ms": NUMBER,
            "bytes_per_param": NUMBER,
            "step_s": NUMBER,
        }
    ),
    "time_limit_s": (lambda value: SECONDS[0](value) and value > 0, f"{SECONDS[1]}, above 0"),
    "at_once|teacher-1": ABOVE_0,
    rf"teacher-\d+|.+-steps|.+{TAKING_PART}|.+-round-\d+": STEPS,
    rf".+{REPAIRED}|{LOOK_ROWS}": ABOVE_0,
    "teacher": (list_of(lambda value: isinstance(value, dict)), "a list of JSON objects"),
    ".+-until": SECONDS,
    ".+-ms": (are(is_positive), "a JSON object of numbers above 0"),
    f".+{LAST}": (lambda value: are_changes(value), "changes from step 0 on"),
}
# What the end takes, in times of exporting, scoring and timing the uncut model: itself; in float32 too, which takes
# over twice as long, or of a float32 backend in int8, which is exported longer but runs faster; and timed afresh. Then
# any smaller network, most of whose file may be its token table; and what one adds for its share of the uncut latency.
END_OF_UNCUT, END_OF_LEAST, END_OF_SHARE = 4.0, 0.4, 0.6
TIMED_ROWS = 150  # that a network runs to be timed for its latency alone
CHANGED_STEPS = 0.03  # share of the last steps planned, from which on it is said that others were made


def are_changes(value: Any) -> bool:
    """Return whether a value is what `train.pace.Changes` holds, as JSON."""
    return bool(value) and list_of(list_of(STEPS[0], 2))(value) and value[0][0] == 0 < min(count for _, count in value)


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
            RunError: the other run has no plan, or one for another model, other data or other limits.
        """
        own = run.path / PLAN
        taken = {} if other is None else read_plan(Path(other))
        if other is not None:
            check_planned(Path(other), run)
        return cls(run, taken, read_plan(run.path) if own.is_file() else {})

    def known(self, name: str) -> Any:
        """Return a decision that was taken before, here or in the other run; None for none."""
        return self.decisions.get(name, self.other.get(name))

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

    def changes(self) -> dict[str, tuple[int, int]]:
        """Return by a limit's key, where they differ, the last steps as planned and as made."""
        steps = {name.removesuffix(LAST): each for name, each in self.decisions.items() if name.endswith(LAST)}
        both = {key: (each[0][1], each[-1][1]) for key, each in steps.items()}
        return {key: (first, last) for key, (first, last) in both.items() if abs(last / first - 1) > CHANGED_STEPS}

    def save(self) -> None:
        """Write the decisions, and how much time was spent by now."""
        write_json(self.run.path / PLAN, self.decisions)
        self.run.record()


def read_plan(run: Path) -> dict[str, Any]:
    """Return the decisions of another run.

    Raises:
        RunError: there is no run of fit, or none that has decided anything, or a decision is none that fit takes.
    """
    path = run / PLAN
    if not path.is_file():
        raise RunError(f"--plan must be a run of fit, got {run}, which has no {PLAN}")
    data = read_json(path, RunError)
    if not isinstance(data, dict):
        raise RunError(f"{path}: must be a JSON object, got {type(data).__name__}")
    patterns = {name: next((each for each in CHECKS if re.fullmatch(each, name)), None) for name in data}
    mistakes = Mistakes()
    checks = {name: CHECKS[each] for name, each in patterns.items() if each is not None}
    known = {name: data[name] for name in checks}
    check_values(mistakes, str(path), known, required=checks, optional={})
    mistakes.check(RunError)
    return data


def check_planned(other: Path, run: RunFolder) -> None:
    """Raise unless another run is of the same weights, data and limits: its times and steps are of these alone.

    Raises:
        RunError: says what differs.
    """
    mistakes = Mistakes()
    theirs, ours = read_record(other), run.data
    for name, words in (("weights", "the same model: its weights"), ("data", "the same data: its files")):
        if sorted(theirs.get("facts", {}).get(name, {}).values()) != sorted(ours["facts"][name].values()):
            mistakes.add(f"--plan {other} must be a run of {words} differ")
    for group, name in BOUND:
        wanted, got = (each["settings"].get(group, {}).get(name) for each in (ours, theirs))
        if got != wanted:
            option, words = f"--{name.replace('_', '-')}", f"{given_text(wanted)} here, {given_text(got)} there"
            mistakes.add(f"--plan {other} must be a run with the same {option}: {words}")
    mistakes.check(RunError)


def given_text(value: Any) -> str:
    """Return a stored option's value for a message.

    >>> given_text([0.5, 0.25]), given_text(None), given_text([])
    ('0.5, 0.25', 'none', 'none')
    """
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else "none" if value is None else str(value)


@dataclass(frozen=True)
class Clock:
    """The time of a run, over all its resumed parts.

    Args:
        plan: of the run; knows how many candidates take part under the limits that were raced for.
        limit_s: time for everything.
        uncut_s: what exporting, loading, scoring and timing the uncut model takes.
        candidates: that may take part under each limit.
        shares: of the uncut model's latency that they take, at most, by the limit's key.
        layers_share: of the model's parameters, that are not its token table: those of files that are only timed.
    """

    plan: FitPlan
    limit_s: float
    uncut_s: float
    candidates: int
    shares: Mapping[str, float]
    layers_share: float = 1.0

    @property
    def left_s(self) -> float:
        """Seconds until the end must begin, in which all is exported, scored and timed; at least 0."""
        return self.left_with(self.candidates)

    def left_with(self, candidates: int) -> float:
        """Return the seconds left if this many candidates take part under each limit that has not been raced for."""
        ends = []
        for key, share in self.shares.items():
            count = self.plan.decisions.get(f"{key}{TAKING_PART}", candidates)
            served = min(count, self.plan.decisions.get(f"{key}{REPAIRED}", count))
            ends += [share] * (max(FEWEST_SERVED, served) if served else 0)
        return max(0.0, self.limit_s - self.plan.run.seconds - self.uncut_s * end_of(ends))

    @property
    def time_for_limit_s(self) -> float:
        """The seconds for everything that each limit has a share in."""
        return self.limit_s / len(self.shares)

    def timing_s(self, key: str) -> float:
        """Return about what it takes to make, load and time the file of a candidate under a limit."""
        look = self.plan.decisions["look"]
        uncut_s = self.layers_share * look["build_s"] + TIMED_ROWS * look["row_ms"] / 1000
        return float(uncut_s * self.shares[key])


def end_of(shares: Iterable[float]) -> float:
    """Return what the end takes, in times of exporting, scoring and timing the uncut model.

    Args:
        shares: of its latency, that each candidate under all limits takes.
    """
    return END_OF_UNCUT + sum(END_OF_LEAST + END_OF_SHARE * share for share in shares)


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
    taken: list[float] = []
    for number in range(WARM_STEPS + TIMED_STEPS):
        begun = time.monotonic()
        with suppress(DivergedError):  # such a step takes as long, and the training itself will tell
            trainer.step()
        took = time.monotonic() - begun
        if number >= WARM_STEPS or (number and took >= ENOUGH_S):
            taken.append(took)
        if sum(taken) >= ENOUGH_S:
            break
    trainer.view.close()
    return sum(taken) / len(taken)
