"""The teacher of `fit`: the model fine-tuned, at the best of a few rates and numbers of passes that the time allows."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

from cutbert.fronts.score import label_scores
from cutbert.methods.fit_plan import Clock, FitPlan, seconds_per_step
from cutbert.shape.subnet import Subnet
from cutbert.train.checkpoint import load_weights, save_weights
from cutbert.train.loop import Stage, train_stage
from cutbert.train.progress import say
from cutbert.train.settings import StagePlan, TrainSettings
from cutbert.work.distill import LabelStep
from cutbert.work.finetune import TEACHER
from cutbert.work.objective import TaskObjective
from cutbert.work.plans import FINETUNE

# Rate and passes, the most promising first. With the second, the usual one, MRPC's teacher stays four points below.
TRIES = ((1e-4, 4.0), (5e-5, 4.0), (2e-4, 4.0), (1e-4, 8.0))
TEACHER_SHARE = 0.3  # of the time for training
LEAST_PASSES = 0.5


def make_teacher(objective: TaskObjective, train: TrainSettings, plan: FitPlan, clock: Clock) -> list[dict[str, Any]]:
    """Fine-tune the model in place where its head is new; return what was tried: rate, passes, steps, select score.

    The best on select is kept, in `teacher/`. A model whose head fits the labels is the teacher as it is.
    """
    loaded, run = objective.loaded, plan.run
    if not loaded.has_new_head or objective.inputs.models.teacher is not None:
        return []
    begun = run.seconds
    until = plan.decide("teacher-until", lambda: begun + TEACHER_SHARE * clock.left_s(ends=1))
    start = copy.deepcopy(loaded.model)
    best = run.path / "checkpoint" / f"{TEACHER}.safetensors"
    tried: list[dict[str, Any]] = []
    for number, (rate, passes) in enumerate(TRIES):
        stage = replace(FINETUNE, name=f"{TEACHER}-{number + 1}", learning_rate=rate, epochs=passes)
        steps = plan.decide(
            stage.name,
            lambda: planned_steps(objective, stage, train, until - run.seconds, tried),  # noqa: B023
        )
        if not steps:
            break
        say(
            f"teacher: fine-tuning at {rate:g} for {steps:,} steps ({steps / epoch_steps(objective, stage):.1f} passes)"
        )
        loaded.model.load_state_dict(start.state_dict())
        step = LabelStep(objective.losses)
        position = train_stage(
            loaded.model,
            Stage(replace(stage, exact_steps=steps), objective.train_tokens, step),
            objective.engine,
            train,
            run,
        )
        whole = Subnet.full(loaded.model.shape)
        select = label_scores(loaded.model, whole, objective.select, objective.metric).score
        passes_done = steps / epoch_steps(objective, stage)
        tried.append(
            {
                "learning_rate": rate,
                "passes": passes_done,
                "steps": steps,
                "select_score": select,
                "seconds": position.seconds,
            }
        )
        if select > max((each["select_score"] for each in tried[:-1]), default=-math.inf):
            save_weights(best, loaded.model)
    load_weights(best, loaded.model)
    chosen = max(tried, key=lambda each: each["select_score"])
    for each in tried:
        mark, rate = ", taken" if each is chosen else "", each["learning_rate"]
        say(f"teacher: {100 * each['select_score']:.2f} on select at {rate:g}, {each['passes']:.1f} passes{mark}")
    if not (run.path / TEACHER).exists():
        objective.save(run, loaded.model, None, TEACHER)
    plan.decide("teacher", lambda: tried)
    return tried


def planned_steps(
    objective: TaskObjective, stage: StagePlan, train: TrainSettings, seconds: float, tried: list[dict[str, Any]]
) -> int:
    """Return the steps of one try, 0 for none: its passes if there is time; of the first one as many as fit."""
    wanted = round(stage.epochs * epoch_steps(objective, stage))
    if tried:
        speed = tried[-1]["seconds"] / tried[-1]["steps"]
        return wanted if wanted * speed <= seconds else 0
    scratch = copy.deepcopy(objective.loaded.model)
    speed = seconds_per_step(
        scratch, stage, objective.train_tokens, LabelStep(objective.losses), objective.engine, train
    )
    least = math.ceil(LEAST_PASSES * epoch_steps(objective, stage))
    return min(wanted, max(least, int(seconds / speed)))


def epoch_steps(objective: TaskObjective, stage: StagePlan) -> int:
    """Return the steps of one pass over the training rows."""
    return math.ceil(len(objective.train_tokens) / stage.batch_size)
