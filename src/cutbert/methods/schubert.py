"""schuBERT: gates under a price choose the size of every dimension, then the network is cut and healed, in rounds."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from cutbert.bench.backends import check_backends
from cutbert.bench.settings import LatencySettings
from cutbert.data.settings import DataSettings
from cutbert.data.text_settings import TextSettings
from cutbert.errors import InputError, Mistakes
from cutbert.hub.source import find_source
from cutbert.methods.imitate import imitate_step
from cutbert.methods.meters import Meter, count_meter, latency_meter
from cutbert.methods.objectives import (
    Objective,
    TaskObjective,
    TextObjective,
    check_halves,
    check_text,
    options_of_tasks,
)
from cutbert.methods.prepare import check_inputs, prepare, weight_hashes
from cutbert.methods.prepare_text import MASKED_LM, prepare_text
from cutbert.methods.pretrain import PRETRAIN
from cutbert.methods.recipes import OURS
from cutbert.methods.results import finish, latency_settings
from cutbert.methods.rounds import Job, all_rounds, target_sizes
from cutbert.methods.schubert_settings import SchubertSettings
from cutbert.methods.teacher import check_teacher, ensure_finetuned, teacher_and_tokens
from cutbert.shape.folder import read_folder_shape
from cutbert.shape.head import HeadSpec
from cutbert.train.engine import uses_cuda
from cutbert.train.masked_lm import MaskedStep, StepMasks
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings

HEAL = replace(OURS, name="heal")
HEAL_TEXT = replace(PRETRAIN, name="heal")
TASK_OPTIONS = ("teacher", "logit_weight", "hidden_weight", "temperature")


def schubert(
    model: str, data: DataSettings, train: TrainSettings, settings: SchubertSettings, run: RunFolder
) -> dict[str, Any]:
    """Cut a model to a budget in every dimension, by gates learned on the task, and heal it by distillation.

    Args:
        model: hub id, model folder or run folder; fine-tuned first where its head does not fit the task.
        data: the task.
        train: training flags of the healing; `epochs` counts the passes of all rounds together.
        settings: budget and how it is reached.
        run: opened run folder; receives model/ (the result), rounds/ (the larger ones before it), front.json.

    Returns:
        The result with the keys out, metric, teacher, subnets (the rounds, the result last), seconds.

    Raises:
        InputError: mistakes in settings, models or data, or a budget that no cut reaches, before anything is made.

    Source:
        Khetan and Karnin 2020 (2005.06628), algorithm 1. Ours: the loss is how far the network is from the uncut,
        fine-tuned one on the task's rows, and one group of every unit always stays.
    """
    models = [settings.teacher] if settings.teacher else []
    dataset = check_inputs(
        data,
        train,
        settings,
        models=(model, *models),
        choices=lambda rows: check_choices(model, settings, train, rows.head),
    )
    with run.start():
        prepared = prepare(model, dataset, data.length_limit, train, run)
        run.record(other_weights=weight_hashes(*models))
        objective = TaskObjective(prepared)
        latency = timing_of(settings, train)
        meter = meter_of(objective, settings, latency, run)
        with run.timing("teacher"):
            ensure_finetuned(prepared, train, run)
        teacher, tokens = teacher_and_tokens(prepared, settings.teacher, data.length_limit)
        make_step = partial(imitate_step, dataset.head, teacher, settings)
        found = all_rounds(Job(objective, make_step, tokens, HEAL, meter, latency, settings, train, run))
        finish(run, objective, latency, found)
        prepared.engine.accelerator.wait_for_everyone()
    return RunFolder.read(run.path).result or {}


def schubert_text(
    model: str, data: TextSettings, train: TrainSettings, settings: SchubertSettings, run: RunFolder
) -> dict[str, Any]:
    """Cut a masked LM to a budget on plain text, as the paper does: gates and healing by the masked-LM loss.

    Args:
        model: hub id, model folder or run folder with a masked-LM head.
        data: the text.
        train, settings, run: as of `schubert`.

    Returns:
        As `schubert`; the metric is the share of masked tokens that are found.

    Raises:
        InputError: mistakes in settings, model or text, or a budget that no cut reaches, before anything is made.

    Source:
        Khetan and Karnin 2020 (2005.06628), algorithm 1, without next-sentence prediction.
    """
    mistakes = Mistakes()
    mistakes.extend(options_of_tasks(settings, TASK_OPTIONS))
    choices = partial(check_choices, model, settings, train, MASKED_LM)
    sources = check_text(model, data, train, settings, mistakes, choices)
    with run.start():
        prepared = prepare_text(model, sources, data, train, run)
        check_halves(prepared)
        objective = TextObjective(prepared)
        latency = timing_of(settings, train)
        meter = meter_of(objective, settings, latency, run)
        tokens = prepared.text.train
        step = MaskedStep(StepMasks(tokens, prepared.masking))
        found = all_rounds(Job(objective, lambda units: step, tokens, HEAL_TEXT, meter, latency, settings, train, run))
        finish(run, objective, latency, found)
        prepared.engine.accelerator.wait_for_everyone()
    return RunFolder.read(run.path).result or {}


def check_choices(model: str, settings: SchubertSettings, train: TrainSettings, head: HeadSpec) -> None:
    """Raise unless the budget or target can be reached and the teacher has the task's labels; all together."""
    shape = read_folder_shape(find_source(model).folder).shape
    mistakes = Mistakes()
    if settings.teacher is not None:
        with mistakes.collect():
            check_teacher(settings.teacher, model, head, settings.logit_weight)
    with mistakes.collect():
        if settings.from_paper is not None:
            target_sizes(settings, shape)
        elif settings.is_timed:
            check_timing(model, settings, train)
        else:
            count_meter(settings, shape, head)
    mistakes.check(InputError)


def check_timing(model: str, settings: SchubertSettings, train: TrainSettings) -> None:
    """Raise unless texts of the length, and the backend, can be timed where training runs.

    Raises:
        InputError: all mistakes together.
        MissingError: what the backend needs is not installed.
    """
    mistakes = Mistakes()
    latency, room = timing_of(settings, train), read_folder_shape(find_source(model).folder).max_tokens
    if settings.length is not None and settings.length > room:
        mistakes.add(f"--length must be at most {room} for {model}, got {settings.length}")
    if latency.is_on_cpu and uses_cuda(train.device):
        mistakes.add(f"--device must be cpu with --backend {settings.backend}, which runs there, got {train.device}")
    mistakes.check(InputError)
    check_backends(latency.backends)


def timing_of(settings: SchubertSettings, train: TrainSettings) -> LatencySettings:
    """Return how networks are timed."""
    return replace(latency_settings(train), backend=settings.backend, length=settings.length)


def meter_of(objective: Objective, settings: SchubertSettings, latency: LatencySettings, run: RunFolder) -> Meter:
    """Return what the budget is measured in."""
    model = objective.loaded.model
    if settings.is_timed:
        kept = run.path / "checkpoint" / "latency.json"
        return latency_meter(settings, model, objective.lengths, latency, objective.engine, kept)
    return count_meter(settings, model.shape, model.head_spec)
