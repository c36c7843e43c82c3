"""Undivided Attention: attention layers without their own feed-forward, cut from a model and healed, or new."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cutbert.data.settings import DataSettings
from cutbert.data.text_settings import TextSettings
from cutbert.errors import InputError, Mistakes
from cutbert.files import file_sha256
from cutbert.hub.source import find_source
from cutbert.methods.choose import check_removal, choose_removal, kept_layers, without
from cutbert.methods.finetune import LabelStep
from cutbert.methods.imitate import SubnetAt, imitate_step
from cutbert.methods.imitate_text import MaskedImitateStep
from cutbert.methods.objectives import TaskObjective, TextObjective, check_halves, check_text, options_of_tasks
from cutbert.methods.prepare import Prepared, check_inputs, prepare, weight_hashes
from cutbert.methods.prepare_text import MASKED_LM, NewShape, check_text_inputs, prepare_text
from cutbert.methods.pretrain import FROM_SCRATCH, PRETRAIN, held_out, train_masked_lm
from cutbert.methods.recipes import OURS, override_plan
from cutbert.methods.removal import Job, remove_and_heal
from cutbert.methods.results import finish, latency_settings, score_whole
from cutbert.methods.teacher import check_teacher, ensure_finetuned, teacher_and_tokens
from cutbert.methods.undivided_settings import UndividedSettings
from cutbert.model.task_model import TaskModel
from cutbert.shape.folder import read_folder_shape, read_shape_file
from cutbert.shape.head import HeadSpec
from cutbert.shape.pattern import pattern_of, shape_of_pattern, with_equal_params, with_feed_forwards
from cutbert.train.loop import Stage, TrainingStep
from cutbert.train.masked_lm import StepMasks
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import StagePlan, TrainSettings
from cutbert.train.working import frozen_copy

HEAL = replace(OURS, name="heal")
HEAL_TEXT = replace(PRETRAIN, name="heal")
FINAL = replace(OURS, name="final", learning_rate=2e-5, min_steps=0)
TASK_OPTIONS = ("teacher", "logit_weight", "temperature", "final_epochs")


def undivided(
    model: str, data: DataSettings, train: TrainSettings, settings: UndividedSettings, run: RunFolder
) -> dict[str, Any]:
    """Remove feed-forwards from a model, and heal it by distillation from the uncut one on a task.

    Args:
        model: hub id, model folder or run folder; fine-tuned first where its head does not fit the task.
        data: the task.
        train: training flags of the healing.
        settings: which feed-forwards stay, and how the others go.
        run: opened run folder; receives model/ (the result), rounds/ (the networks before it), front.json.

    Returns:
        The result with the keys out, pattern, removed, metric, teacher, subnets (the network as the removal left it,
        healed, the result last), seconds; where the choice was measured, chosen_by and choice_scores.

    Raises:
        InputError: mistakes in settings, models or data, all together, before anything is made.

    Source:
        Sridhar and Sarah 2020 (2012.11881) train such networks from scratch. Cutting them from a trained model,
        healing, and everything about both is our choice.
    """
    models = [settings.teacher] if settings.teacher else []
    plan = heal_plan(HEAL, settings, train)
    dataset = check_inputs(
        data,
        train,
        settings,
        models=(model, *models),
        choices=lambda rows: check_choices(model, settings, plan, rows.head),
    )
    with run.start():
        prepared = prepare(model, dataset, data.length_limit, train, run)
        run.record(other_weights=weight_hashes(*models))
        objective = TaskObjective(prepared)
        with run.timing("teacher"):
            ensure_finetuned(prepared, train, run)
        with run.timing("choose"):
            removal = choose_removal(objective, settings, train.seed, run)
        teacher, tokens = teacher_and_tokens(prepared, settings.teacher, data.length_limit)
        units = torch.arange(prepared.loaded.model.shape.hidden_size, device=prepared.engine.device)

        def make_step(subnet_at: SubnetAt) -> TrainingStep:
            return imitate_step(dataset.head, teacher, settings, units, subnet_at=subnet_at)

        final = partial(final_stage, prepared, settings, train) if settings.final_epochs else None
        conclude(Job(objective, removal, make_step, tokens, plan, final, settings, train, run))
    return RunFolder.read(run.path).result or {}


def undivided_text(
    model: str, data: TextSettings, train: TrainSettings, settings: UndividedSettings, run: RunFolder
) -> dict[str, Any]:
    """Remove feed-forwards from a masked LM, and heal it on plain text: true tokens and the uncut one's hidden states.

    Args:
        model: hub id, model folder or run folder with a masked-LM head; from scratch only its tokenizer and style.
        data: the text.
        train, settings, run: as of `undivided`.

    Returns:
        As `undivided`; the metric is the share of masked tokens that are found. From scratch as `undivided_new`.

    Raises:
        InputError: mistakes in settings, model or text, all together, before anything is made.
    """
    if settings.from_scratch is not None:
        return undivided_new(model, data, train, settings, run)
    mistakes = Mistakes()
    mistakes.extend(options_of_tasks(settings, TASK_OPTIONS))
    plan = heal_plan(HEAL_TEXT, settings, train)
    choices = partial(check_choices, model, settings, plan, MASKED_LM)
    sources = check_text(model, data, train, settings, mistakes, choices)
    with run.start():
        prepared = prepare_text(model, sources, data, train, run)
        check_halves(prepared)
        objective, tokens = TextObjective(prepared), prepared.text.train
        with run.timing("choose"):
            removal = choose_removal(objective, settings, train.seed, run)
        teacher, masks = frozen_copy(prepared.loaded.model, prepared.engine.dtype), StepMasks(tokens, prepared.masking)
        make_step = partial(MaskedImitateStep, masks, teacher, settings.hidden_weight)
        conclude(Job(objective, removal, make_step, tokens, plan, None, settings, train, run))
    return RunFolder.read(run.path).result or {}


def undivided_new(
    model: str, data: TextSettings, train: TrainSettings, settings: UndividedSettings, run: RunFolder
) -> dict[str, Any]:
    """Train a masked LM of new weights, with fewer feed-forwards than a given shape, as `pretrain` does.

    Args:
        model: hub id, model folder or run folder that gives tokenizer and style.
        data, train, run: as of `pretrain`.
        settings: the shape, and which feed-forwards it keeps.

    Returns:
        The result with the keys out, pattern, metric, subnets (the one network), loss, perplexity, tokens, seconds,
        tokens_per_s.

    Raises:
        InputError: mistakes in settings, model, shape or text, all together, before anything is made.

    Source:
        Sridhar and Sarah 2020 (2012.11881); the same text and steps for every pattern are the user's to give.
    """
    mistakes, new = Mistakes(), None
    with mistakes.collect():
        settings.check()
        new = new_shape(settings)
    with mistakes.collect():
        sources = check_text_inputs(model, data, train, new=new)
    mistakes.check(InputError)
    assert new is not None
    with run.start():
        prepared = prepare_text(model, sources, data, train, run, new=new)
        check_halves(prepared)
        pattern = pattern_of(new.shape)
        say(f"sub-layers: {pattern}", shown=prepared.engine.is_main)
        position = train_masked_lm(prepared, override_plan(FROM_SCRATCH, train), train, run)
        objective = TextObjective(prepared)
        entry = score_whole(run, objective, prepared.loaded.model, f"ffn{pattern.count('F')}")
        if prepared.engine.is_main:
            found = {"pattern": pattern, "metric": objective.metric, "subnets": [entry.to_json()]}
            run.finish({"out": str(run.path), **found, **held_out(prepared, position, run), "seconds": run.seconds})
        prepared.engine.accelerator.wait_for_everyone()
    return RunFolder.read(run.path).result or {}


def new_shape(settings: UndividedSettings) -> NewShape:
    """Return the shape file's sizes with feed-forwards only where they are kept: where nothing says it, all of them.

    Raises:
        InputError: no such file, a file without a shape, or a shape that the pattern does not fit.
    """
    path = str(settings.from_scratch)
    whole = read_shape_file(Path(path)).shape
    if settings.pattern is not None:
        shape = shape_of_pattern(whole, settings.pattern)
    elif not settings.ways:
        shape = whole
    else:
        shape = with_feed_forwards(whole, kept_layers(settings, whole))
    if settings.equal_params:
        shape = with_equal_params(whole, pattern_of(shape))
    return NewShape(path, shape, {path: file_sha256(Path(path))})


def heal_plan(plan: StagePlan, settings: UndividedSettings, train: TrainSettings) -> StagePlan:
    """Return the plan of the healing, of no epochs where there is none."""
    return override_plan(plan, train if settings.heal else replace(train, epochs=0.0))


def final_stage(prepared: Prepared, settings: UndividedSettings, train: TrainSettings, model: TaskModel) -> Stage:
    """Return the last training of a network, on labels."""
    plan = replace(override_plan(FINAL, train), epochs=settings.final_epochs)
    return Stage(plan, prepared.train, LabelStep(model))


def check_choices(model: str, settings: UndividedSettings, plan: StagePlan, head: HeadSpec) -> None:
    """Raise unless the model has the feed-forwards that stay and the teacher the task's labels; all together."""
    mistakes = Mistakes()
    if settings.teacher is not None:
        with mistakes.collect():
            check_teacher(settings.teacher, model, head, settings.logit_weight)
    with mistakes.collect():
        check_removal(settings, read_folder_shape(find_source(model).folder).shape)
    if settings.removal == "gradual" and not plan.epochs:
        mistakes.add("--removal gradual must come with healing, got --epochs 0")
    mistakes.check(InputError)


def conclude(job: Job) -> None:
    """Say what goes, remove and heal, and store the result."""
    engine, run = job.objective.engine, job.run
    shape, order = job.uncut.shape, job.removal.order
    pattern = pattern_of(without(shape, order).shape_in(shape))
    say(f"sub-layers: {pattern_of(shape)} becomes {pattern}", shown=engine.is_main)
    if not order:
        say("no feed-forward is removed", shown=engine.is_main)
    elif not job.plan.epochs:
        say("the network is not healed: what the removal broke stays broken", shown=engine.is_main)
    measured = {"chosen_by": job.settings.chosen_by, "choice_scores": job.removal.scores}
    chosen = measured if job.removal.scores else {}
    latency = latency_settings(job.train)
    finish(run, job.objective, latency, remove_and_heal(job), pattern=pattern, removed=order, **chosen)
    engine.accelerator.wait_for_everyone()
