"""Fine-tunes a full-size model on a task: the teacher of everything else."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from cutbert.data.settings import DataSettings
from cutbert.errors import ModelError
from cutbert.folders.load import output_rows
from cutbert.folders.tokenizer import tokenizer_of
from cutbert.fronts.outputs import chance_fact
from cutbert.fronts.score import whole_point
from cutbert.model.task_model import TaskModel
from cutbert.shape.source import Models
from cutbert.train.checkpoint import Position
from cutbert.train.loop import Stage, train_stage
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import StagePlan, TrainSettings
from cutbert.work.distill import LabelStep
from cutbert.work.finetune_settings import FinetuneSettings
from cutbert.work.inputs import Inputs, check_inputs
from cutbert.work.objective import Objective, have_like_states
from cutbert.work.plans import FINETUNE
from cutbert.work.run import carry_out

TEACHER = "teacher"


def finetune(
    models: Models, data: DataSettings, train: TrainSettings, settings: FinetuneSettings, run: RunFolder
) -> dict[str, Any]:
    """Fine-tune a model on a task and store it in the run's `model/`.

    Args:
        models: the model.
        data: the task.
        train: training flags.
        settings: of the method.
        run: opened run folder.

    Returns:
        The result with the keys out, score, select_score, metric, metrics, params, macs, seconds, and near_chance where
        the score is.

    Raises:
        InputError: mistakes in settings, model or data, all together, before anything is made.
    """
    inputs = check_inputs(models, data, settings, train=train)
    return carry_out(inputs, train, run, partial(finetune_and_store, train=train, run=run))


def finetune_and_store(objective: Objective, train: TrainSettings, run: RunFolder) -> None:
    """Fine-tune the model of a run, score it and store it with the result."""
    model = objective.loaded.model
    with run.timing("finetune"):
        train_on_labels(objective, objective.loaded.model, FINETUNE.overridden(train), train, run)
    if not objective.engine.is_main:
        return
    with run.timing("score"):
        entry = objective.score(run, model, [whole_point(model.shape)])[0]
    objective.save(run, model, entry, "model")
    scores = {"score": entry.score, "select_score": entry.select_score, "metric": objective.metric}
    costs = {"metrics": entry.metrics, "params": entry.params, "macs": entry.macs}
    fact = chance_fact(run.path, entry.name, objective.metric)
    for note in fact.values():
        say(note)
    run.finish({"out": str(run.path), **scores, **costs, **fact, "seconds": run.seconds})


def train_on_labels(
    objective: Objective, model: TaskModel, plan: StagePlan, train: TrainSettings, run: RunFolder
) -> Position:
    """Train a network on the objective's own labels, in place: those of the rows, or the tokens that are masked."""
    stage = Stage(plan, objective.train_tokens, LabelStep(objective.losses))
    return train_stage(model, stage, objective.engine, train, run)


def ensure_finetuned(objective: Objective, train: TrainSettings, run: RunFolder) -> None:
    """Fine-tune the model first where its head for a task is new, and keep it in `teacher/`."""
    loaded = objective.loaded
    if not loaded.has_new_head or not objective.inputs.has_labels:
        return
    kept = run.path / TEACHER
    say(
        f"{loaded.source} has no head that fits the labels: fine-tuning it on the task first, "
        f"{FINETUNE.epochs:g} passes, kept in {kept}",
        shown=objective.engine.is_main,
    )
    defaults = TrainSettings(
        seed=train.seed,
        precision=train.precision,
        batch_size=train.batch_size,
        accumulation=train.accumulation,
        max_grad_norm=train.max_grad_norm,
        checkpoint_seconds=train.checkpoint_seconds,
    )
    with run.timing("teacher"):
        plan = replace(FINETUNE, name=TEACHER).overridden(defaults)
        train_on_labels(objective, loaded.model, plan, defaults, run)
        if objective.engine.is_main and not kept.exists():
            objective.save(run, loaded.model, None, TEACHER)


def check_teacher(inputs: Inputs, logit_weight: float) -> None:
    """Raise a ModelError unless --teacher has the task's head and, for outputs per token, the model's tokens.

    Where its logits do not count (weight 0), it must have hidden states that can be compared with the model's.
    """
    teacher, model, head = inputs.models.teacher, inputs.model, inputs.head
    if teacher is None:
        return
    if output_rows(teacher.head, head)[0] is None:
        wanted = f"with the labels {head.label_words}" if head.labels else f"of kind {head.kind}"
        raise ModelError(f"--teacher {teacher} must have a head {wanted}")
    if head.is_sequence and logit_weight:
        return
    same_tokens = tokenizer_of(teacher).get_vocab() == tokenizer_of(model).get_vocab()
    if not head.is_sequence and not same_tokens:
        raise ModelError(f"--teacher {teacher} must have the tokenizer of {model}: its outputs are learned per token")
    if not logit_weight and not (same_tokens and have_like_states(teacher.shape, model.shape)):
        raise ModelError(
            f"--logit-weight must be above 0 with --teacher {teacher}, whose hidden states do not match those of "
            f"{model}: it gives nothing but logits"
        )
