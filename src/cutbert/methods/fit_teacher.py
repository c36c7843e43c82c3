"""The teacher of `fit`: the model fine-tuned, at the best of a few rates and numbers of passes that the time allows."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from cutbert.data.tokens import Tokens
from cutbert.errors import DivergedError
from cutbert.fronts.score import label_scores
from cutbert.methods.fit_plan import Clock, FitPlan, seconds_per_step
from cutbert.methods.fit_training import what_diverged
from cutbert.model.task_model import TaskModel
from cutbert.shape.subnet import Subnet
from cutbert.train.checkpoint import load_weights, save_weights
from cutbert.train.loop import Stage, TrainingStep, train_stage
from cutbert.train.progress import say
from cutbert.train.settings import TrainSettings
from cutbert.work.distill import DistillStep, LabelStep, LossWeights
from cutbert.work.finetune import TEACHER
from cutbert.work.objective import TaskObjective
from cutbert.work.plans import FINETUNE

# Rate and passes, the most promising first. At 5e-5 and 3 passes, the usual ones, MRPC's teacher stays 4 points below.
TRIES = ((1e-4, 4.0), (5e-5, 4.0), (2e-4, 4.0), (1e-4, 8.0))
# Of few rows the passes above are too few steps to learn a new head: then up to MORE_PASSES times as many are made.
# MiniLM on 500 questions of 44 topics, one seed, 300 of dev: accuracy 48 after 4 passes, 70 after 12.5.
FEW_STEPS, MORE_PASSES = 200, 5.0
TEACHER_SHARE = 0.3  # of the time for training
LEAST_STEPS = 20  # where it is fine-tuned
MIN_STEP_S = 1e-6


@dataclass(frozen=True)
class Try:
    """One fine-tuning: its number, peak learning rate, passes over the rows, steps, score on select, seconds."""

    number: int
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

    Raises:
        DivergedError: no try stayed finite.
    """
    loaded, run = objective.loaded, plan.run
    if not loaded.has_new_head:
        return
    learning = Learning.of(objective, train, plan)
    until = plan.decide("teacher-until", lambda: run.seconds + TEACHER_SHARE * clock.left_s)
    best = run.path / "checkpoint" / f"{TEACHER}.safetensors"
    tried: list[Try] = []
    for number, (rate, passes) in enumerate(learning.ways, 1):
        try:
            done = learning.attempt(number, rate, passes, until - run.seconds, tried[-1] if tried else None)
        except DivergedError as error:
            say(f"teacher: nothing is learned at {rate:g}: {what_diverged(error)}")
            continue
        if done is None:
            break
        if done.select_score > max((each.select_score for each in tried), default=-math.inf):
            save_weights(best, loaded.model)
        tried.append(done)
    if not tried:
        raise DivergedError(
            "the teacher's training must stay finite, and did at none of the rates that were tried: give "
            "--precision float32, or a model that is fine-tuned already"
        )
    load_weights(best, loaded.model)
    tell(tried)
    if not (run.path / TEACHER).exists():
        objective.save(run, loaded.model, None, TEACHER)
    plan.decide("teacher", lambda: [asdict(each) for each in tried])


def teacher_step_s(objective: TaskObjective, train: TrainSettings, plan: FitPlan) -> float:
    """Return the seconds of one of the teacher's steps, of which at least LEAST_STEPS are made; 0 where none are."""
    return Learning.of(objective, train, plan).step_s() if objective.loaded.has_new_head else 0.0


@dataclass(frozen=True, eq=False)
class Learning:
    """What all tries share.

    Args:
        objective: its model is trained in place.
        train, plan: of the run.
        start: the model as it came.
        step, tokens: what is learned, on which rows.
        ways: rates and passes to try.
    """

    objective: TaskObjective
    train: TrainSettings
    plan: FitPlan
    start: TaskModel
    step: TrainingStep
    tokens: Tokens
    ways: Sequence[tuple[float, float]]

    @classmethod
    def of(cls, objective: TaskObjective, train: TrainSettings, plan: FitPlan) -> Learning:
        start = copy.deepcopy(objective.loaded.model)
        if objective.inputs.models.teacher is None:
            return cls(
                objective,
                train,
                plan,
                start,
                LabelStep(objective.losses),
                objective.train_tokens,
                tries_for(len(objective.train_tokens)),
            )
        teacher, tokens = objective.teacher_and_tokens()
        step = DistillStep(objective.losses, teacher, LossWeights())
        return cls(objective, train, plan, start, step, tokens, tries_for(len(tokens))[:1])

    @property
    def epoch_steps(self) -> int:
        """Steps of one pass over the rows."""
        return math.ceil(len(self.tokens) / FINETUNE.batch_size)

    def step_s(self) -> float:
        """Return the seconds of one step, on a copy of the model that is thrown away."""
        scratch, engine = copy.deepcopy(self.start), self.objective.engine
        return seconds_per_step(scratch, FINETUNE, self.tokens, self.step, engine, self.train)

    def attempt(self, number: int, rate: float, passes: float, seconds: float, before: Try | None) -> Try | None:
        """Train the model from its start in one way, or return None where there is no time for it.

        Args:
            number, rate, passes: the way.
            seconds: that are left.
            before: the last try; of the first one as many passes are made as there is time for.

        Raises:
            DivergedError: the training did not stay finite.
        """
        objective = self.objective
        stage_plan = replace(FINETUNE, name=f"{TEACHER}-{number}", learning_rate=rate, epochs=passes)
        wanted = round(passes * self.epoch_steps)

        def planned() -> int:
            if before is not None:
                return wanted if wanted * before.seconds / before.steps <= seconds else 0
            step_s = max(MIN_STEP_S, self.plan.decisions["look"]["step_s"])
            return min(wanted, max(LEAST_STEPS, int(seconds / step_s)))

        steps = self.plan.decide(stage_plan.name, planned)
        if not steps:
            return None
        say(f"teacher: training at {rate:g} for {steps:,} steps ({steps / self.epoch_steps:.1f} passes)")
        model = objective.loaded.model
        model.load_state_dict(self.start.state_dict())
        stage = Stage(replace(stage_plan, exact_steps=steps), self.tokens, self.step)
        position = train_stage(model, stage, objective.engine, self.train, self.plan.run)
        select = label_scores(model, Subnet.full(model.shape), objective.select, objective.metric).score
        return Try(number, rate, steps / self.epoch_steps, steps, select, position.seconds)


def tries_for(num_rows: int) -> list[tuple[float, float]]:
    """Return the rates and passes to try on some rows: TRIES, of few rows with more passes."""
    steps = TRIES[0][1] * math.ceil(num_rows / FINETUNE.batch_size)
    more = min(MORE_PASSES, max(1.0, FEW_STEPS / steps))
    return [(rate, more * passes) for rate, passes in TRIES]


def tell(tried: Sequence[Try]) -> None:
    """Say what was tried, and which was taken."""
    best = max(tried, key=lambda each: each.select_score)
    for each in tried:
        say(f"teacher: {each.text}{', taken' if each is best else ''}")
