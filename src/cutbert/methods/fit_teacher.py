"""The teacher of `fit`: the model fine-tuned, at the best of a few rates and numbers of passes that the time allows."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cutbert.data.tokens import Tokens
from cutbert.fronts.score import label_scores
from cutbert.methods.fit_plan import Clock, FitPlan, seconds_per_step
from cutbert.shape.subnet import Subnet
from cutbert.train.checkpoint import load_weights, save_weights
from cutbert.train.loop import Stage, TrainingStep, train_stage
from cutbert.train.progress import say
from cutbert.train.settings import StagePlan, TrainSettings
from cutbert.work.distill import DistillStep, LabelStep, LossWeights
from cutbert.work.finetune import TEACHER
from cutbert.work.objective import TaskObjective
from cutbert.work.plans import FINETUNE

# Rate and passes, the most promising first. At 5e-5 and 3 passes, the usual ones, MRPC's teacher stays 4 points below.
TRIES = ((1e-4, 4.0), (5e-5, 4.0), (2e-4, 4.0), (1e-4, 8.0))
TEACHER_SHARE = 0.3  # of the time for training
LEAST_PASSES = 0.5


@dataclass(frozen=True)
class Try:
    """One fine-tuning: its peak learning rate, passes over the rows, steps, score on select, seconds."""

    learning_rate: float
    passes: float
    steps: int
    select_score: float
    seconds: float

    @property
    def text(self) -> str:
        return f"{100 * self.select_score:.2f} on select at {self.learning_rate:g}, {self.passes:.1f} passes"


def make_teacher(objective: TaskObjective, train: TrainSettings, plan: FitPlan, clock: Clock) -> None:
    """Fine-tune the model in place where its head is new, and keep it in `teacher/`: the best on select of some tries.

    A model whose head fits the labels is the teacher as it is. With --teacher the model imitates that one instead, in
    the first way alone.
    """
    loaded, run = objective.loaded, plan.run
    if not loaded.has_new_head:
        return
    step, tokens, ways = what_is_learned(objective)
    until = plan.decide("teacher-until", lambda: run.seconds + TEACHER_SHARE * clock.left_s(ends=1))
    epoch_steps = math.ceil(len(tokens) / FINETUNE.batch_size)
    start, best = copy.deepcopy(loaded.model), run.path / "checkpoint" / f"{TEACHER}.safetensors"
    tried: list[Try] = []
    for rate, passes in ways:
        name = f"{TEACHER}-{len(tried) + 1}"
        stage_plan = replace(FINETUNE, name=name, learning_rate=rate, epochs=passes)
        if tried:
            seconds = tried[-1].seconds / tried[-1].steps
        elif not plan.knows(name):
            scratch = copy.deepcopy(start)
            seconds = seconds_per_step(scratch, stage_plan, tokens, step, objective.engine, train)
        steps = plan.decide(
            name,
            lambda: planned_steps(stage_plan, epoch_steps, (until - run.seconds) / seconds, is_first=not tried),  # noqa: B023
        )
        if not steps:
            break
        say(f"teacher: training at {rate:g} for {steps:,} steps ({steps / epoch_steps:.1f} passes)")
        loaded.model.load_state_dict(start.state_dict())
        stage = Stage(replace(stage_plan, exact_steps=steps), tokens, step)
        position = train_stage(loaded.model, stage, objective.engine, train, run)
        whole = Subnet.full(loaded.model.shape)
        select = label_scores(loaded.model, whole, objective.select, objective.metric).score
        if select > max((each.select_score for each in tried), default=-math.inf):
            save_weights(best, loaded.model)
        tried.append(Try(rate, steps / epoch_steps, steps, select, position.seconds))
    load_weights(best, loaded.model)
    tell(tried)
    if not (run.path / TEACHER).exists():
        objective.save(run, loaded.model, None, TEACHER)
    plan.decide("teacher", lambda: [asdict(each) for each in tried])


def what_is_learned(objective: TaskObjective) -> tuple[TrainingStep, Tokens, Sequence[tuple[float, float]]]:
    """Return the training step, its rows, and the rates and passes to try."""
    if objective.inputs.models.teacher is None:
        return LabelStep(objective.losses), objective.train_tokens, TRIES
    teacher, tokens = objective.teacher_and_tokens()
    return DistillStep(objective.losses, teacher, LossWeights()), tokens, TRIES[:1]


def planned_steps(plan: StagePlan, epoch_steps: int, possible: float, *, is_first: bool) -> int:
    """Return the steps of a try, 0 for none: all its passes if there is time; of the first try as many as there is.

    Args:
        plan: of the try.
        epoch_steps: of one pass.
        possible: steps that there is time for.
        is_first: whether nothing was tried yet: at least half a pass is made then.
    """
    wanted = round(plan.epochs * epoch_steps)
    if not is_first:
        return wanted if wanted <= possible else 0
    return min(wanted, max(math.ceil(LEAST_PASSES * epoch_steps), int(possible)))


def tell(tried: Sequence[Try]) -> None:
    """Say what was tried, and which was taken."""
    best: Any = max(tried, key=lambda each: each.select_score)
    for each in tried:
        say(f"teacher: {each.text}{', taken' if each is best else ''}")
