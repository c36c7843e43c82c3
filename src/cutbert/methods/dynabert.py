"""DynaBERT: one supernet of adaptive width and depth, rewired by importance, trained by distillation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from cutbert.bench.settings import LatencySettings
from cutbert.data.dataset import Examples, Rows
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import Tokens
from cutbert.errors import InputError, Mistakes
from cutbert.fronts.front import Front
from cutbert.fronts.measure import measure_front, num_rounds
from cutbert.fronts.score import whole_point
from cutbert.hub.source import find_source
from cutbert.methods.augment import augmented_rows, check_source
from cutbert.methods.distil import DistillStep, FinalStep, Teacher
from cutbert.methods.dynabert_settings import DynabertSettings
from cutbert.methods.objectives import Objective, TaskObjective
from cutbert.methods.prepare import Prepared, check_inputs, prepare, weight_hashes
from cutbert.methods.recipes import Recipe, resolve_recipe
from cutbert.methods.teacher import check_teacher, ensure_finetuned, imitated_teacher, rows_to_imitate
from cutbert.model.task_model import TaskModel
from cutbert.shape.folder import read_folder_shape
from cutbert.shape.head import HeadSpec
from cutbert.shape.space import GridPoint, Rule, grid
from cutbert.surgery.importance import measure_importance
from cutbert.surgery.rewire import rewire
from cutbert.train.checkpoint import load_weights, save_weights
from cutbert.train.counting import counter
from cutbert.train.engine import Engine
from cutbert.train.loop import Stage, TrainingStep, train_stage
from cutbert.train.progress import progress_bar
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings
from cutbert.train.working import frozen_copy


def dynabert(
    model: str, data: DataSettings, train: TrainSettings, settings: DynabertSettings, run: RunFolder
) -> dict[str, Any]:
    """Make a family of subnets of a model for a task, and score and time every one.

    Args:
        model: hub id, model folder or run folder; fine-tuned first where its head does not fit the task.
        data: the task.
        train: training flags; None leaves the choice to the recipe.
        settings: the family and how it is made.
        run: opened run folder; receives model/ (the supernet), front.json, predictions/.

    Returns:
        The result with the keys out, metric, teacher, subnets, seconds.

    Raises:
        InputError: mistakes in settings, models or data, all together, before anything is made.

    Source:
        Hou et al. 2020 (2004.04037); recipes and their departures in `methods.recipes`.
    """
    models = [name for name in (settings.teacher, settings.augment_model) if name]
    recipe = resolve_recipe(settings, train, data.length_limit)
    dataset = check_inputs(
        data,
        train,
        settings,
        models=(model, *models),
        choices=lambda rows: check_choices(model, settings, recipe, rows.head),
    )
    points = family(model, settings, recipe)
    train = replace(train, precision=recipe.precision)
    with run.start():
        prepared = prepare(model, dataset, data.length_limit, train, run)
        run.record(other_weights=weight_hashes(*models))
        with run.timing("teacher"):
            ensure_finetuned(prepared, train, run)
        objective = TaskObjective(prepared)
        with run.timing("rewire"):
            supernet = rewired(objective, settings, recipe.layer_rule, train.seed, run)
        rows, tokens = distillation_tokens(prepared, settings, data.length_limit, train.seed, run)
        teacher = imitated_teacher(prepared, settings.teacher, rows, data.length_limit)
        with run.timing("train"):
            steps = train_family(supernet, teacher, points, recipe, tokens, prepared.engine, train, run)
            if recipe.final_plan.epochs:
                plan = replace(recipe.final_plan, first_step=steps)
                final = Stage(plan, prepared.train, FinalStep(supernet, points, recipe))
                train_stage(supernet, final, prepared.engine, train, run)
        if prepared.engine.is_main:
            finish(supernet, objective, points, train, run)
        prepared.engine.accelerator.wait_for_everyone()
    return RunFolder.read(run.path).result or {}


def check_choices(model: str, settings: DynabertSettings, recipe: Recipe, head: HeadSpec) -> None:
    """Raise unless family, recipe, teacher, source of words and task go together; all mistakes together."""
    mistakes = Mistakes()
    with mistakes.collect():
        family(model, settings, recipe)
    with mistakes.collect():
        check_source(settings)
    if settings.augment != "none" and not head.is_sequence:
        mistakes.add(f"--augment must be none where labels are of words in a text, got {settings.augment}")
    if settings.teacher is not None:
        with mistakes.collect():
            check_teacher(settings.teacher, model, head, min(stage.logit_weight for stage in recipe.stages))
    with mistakes.collect():
        check_teacher_width(settings, recipe)
    needs_states = head.kind == "regression" and recipe.skips_regression_logits
    if needs_states and (settings.teacher is not None or not all(stage.hidden_weight for stage in recipe.stages)):
        mistakes.add("--recipe release imitates hidden states alone in regression, and there are none to imitate")
    mistakes.check(InputError)


def check_teacher_width(settings: DynabertSettings, recipe: Recipe) -> None:
    """Raise an InputError where a teacher's width is given and no stage imitates one."""
    if settings.teacher_width and all(stage.imitates != "width" for stage in recipe.stages):
        raise InputError(f"--teacher-width is for recipes of two stages, got --recipe {settings.recipe}")


def family(model: str, settings: DynabertSettings, recipe: Recipe) -> tuple[GridPoint, ...]:
    """Return the subnets of a model's family, largest first.

    Raises:
        ShapeError: multipliers or depths out of range.
    """
    return grid(
        read_folder_shape(find_source(model).folder).shape,
        width_mults=settings.width_mult,
        head_mults=settings.head_mult or None,
        ffn_mults=settings.ffn_mult or None,
        depth_mults=() if settings.depths else settings.depth_mult,
        depths=settings.depths or None,
        rule=recipe.layer_rule,
        stock=recipe.stock,
    )


def rewired(objective: Objective, settings: DynabertSettings, rule: Rule, seed: int, run: RunFolder) -> TaskModel:
    """Return the supernet: the trained model with heads and neurons in order of importance."""
    done = run.path / "checkpoint" / "rewired.safetensors"
    model = objective.loaded.model
    if done.exists():
        supernet = copy.deepcopy(model)
        load_weights(done, supernet)
        return supernet
    batches = objective.sample(model, settings.importance_samples, seed)
    supernet = rewire(model, measure_importance(model, batches, rule=rule))
    if objective.engine.is_main:
        save_weights(done, supernet)
    return supernet


def distillation_tokens(
    prepared: Prepared, settings: DynabertSettings, max_length: int, seed: int, run: RunFolder
) -> tuple[Examples, Tokens]:
    """Return the rows to imitate on, and their tokens: training rows, unlabelled rows, variants of both."""
    data = prepared.data
    rows = rows_to_imitate(data)
    if isinstance(rows, Rows):
        rows = augmented_rows(rows, data, settings, seed, run.path / "checkpoint" / "augmented.json")
    return rows, prepared.train if rows is data.train else prepared.tokenize(rows, max_length)


def train_family(
    supernet: TaskModel,
    teacher: Teacher,
    points: Sequence[GridPoint],
    recipe: Recipe,
    tokens: Tokens,
    engine: Engine,
    train: TrainSettings,
    run: RunFolder,
    *,
    make_step: Callable[[DistillStep], TrainingStep] = lambda step: step,
) -> int:
    """Run the recipe's distillation stages on the supernet, in place; return the steps of all.

    Args:
        supernet: rewired.
        teacher: who is imitated in the first stage.
        points: the family.
        recipe: with its stages.
        tokens: the rows to imitate on.
        engine, train, run: as of `train_stage`.
        make_step: turns a stage's step into the one that is trained with.
    """
    imitated, steps = replace(teacher, model=frozen_copy(teacher.model, engine.dtype)), 0
    for stage in recipe.stages:
        if stage.imitates == "width":
            imitated = Teacher(frozen_copy(supernet, engine.dtype), None, True)
        chosen = [point for point in points if stage.all_depths or point.depth_mult == 1.0]
        step = make_step(DistillStep(supernet, imitated, chosen or points, stage, recipe))
        plan = replace(stage.plan, first_step=steps)
        steps += train_stage(supernet, Stage(plan, tokens, step), engine, train, run).step
    return steps


def finish(
    supernet: TaskModel, objective: Objective, points: Sequence[GridPoint], train: TrainSettings, run: RunFolder
) -> None:
    """Score and time the family beside the uncut model, and store front, supernet and result."""
    teacher = objective.loaded.model
    with run.timing("score"), progress_bar("score", 1 + len(points)) as bar:
        advance = counter(bar)
        whole = objective.score(run, teacher, [whole_point(teacher.shape)], lambda entry: advance())[0]
        scored = objective.score(run, supernet, points, lambda entry: advance())
    front = Front(objective.metric, whole, tuple(scored), objective.select_is_dev)
    latency = LatencySettings(threads=train.threads, device=train.device, seed=train.seed)
    with run.timing("latency"), progress_bar("latency", num_rounds(latency)) as bar:
        front = measure_front(front, {None: supernet}, teacher, objective.lengths, latency, on_round=counter(bar))
    front.save(run.path)
    objective.save(run, supernet, None, "model")
    run.finish({"out": str(run.path), **front.to_json(), "seconds": run.seconds})
