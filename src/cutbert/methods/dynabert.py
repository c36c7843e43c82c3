"""DynaBERT (Hou et al. 2020, 2004.04037): one supernet of adaptive width and depth, rewired by importance, trained by
distillation.

First the whole method (`make_family`: the stages of sections 2.2 and 2.3), then its parts in the paper's order: the
family (section 2), importance and rewiring (2.1). The losses (equations 4 to 7) are in `dynabert_steps`, values in
`dynabert_recipes`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from cutbert.bench.settings import LatencySettings
from cutbert.data.settings import DataSettings
from cutbert.data.text_settings import TextSettings
from cutbert.errors import InputError, Mistakes
from cutbert.methods.dynabert_recipes import RECIPES, DynabertRecipe, resolve_recipe
from cutbert.methods.dynabert_settings import DynabertSettings
from cutbert.methods.dynabert_steps import FamilyStep, FinalStep, family_step
from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import EncoderShape
from cutbert.shape.source import Models
from cutbert.shape.space import GridPoint, Rule, grid
from cutbert.surgery.extract import extract
from cutbert.surgery.importance import measure_importance
from cutbert.surgery.rewire import rewire
from cutbert.train.checkpoint import load_weights, save_weights
from cutbert.train.loop import Stage, train_stage
from cutbert.train.progress import counter, progress_bar, say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings
from cutbert.train.working_copy import frozen_copy
from cutbert.work.augment import augmented_rows, check_augmentation
from cutbert.work.finetune import check_teacher, ensure_finetuned
from cutbert.work.inputs import Inputs, check_inputs
from cutbert.work.losses import Teacher
from cutbert.work.objective import Objective
from cutbert.work.run import carry_out, latency_settings, store_front
from cutbert.work.text_objective import check_halves


def dynabert(
    models: Models,
    data: DataSettings | TextSettings,
    train: TrainSettings,
    settings: DynabertSettings,
    run: RunFolder,
) -> dict[str, Any]:
    """Make a family of subnets of a model for a task or on plain text, and score and time every one.

    Args:
        models: the model, fine-tuned first where its head does not fit the task, and with a masked-LM head on plain
            text; a teacher, and a model that proposes words.
        data: the task or the text.
        train: training flags; None leaves the choice to the recipe.
        settings: the family and how it is made.
        run: opened run folder; receives model/ (the supernet), front.json, predictions/.

    Returns:
        The result with the keys out, metric, teacher, subnets, seconds.

    Raises:
        InputError: mistakes in settings, models or data, all together, before anything is made.

    Source:
        Hou et al. 2020 (2004.04037); recipes and their departures in `dynabert_recipes`. On plain text the vocabulary's
        logits at masked positions take the place of a task's: our choice.
    """
    inputs = check_inputs(models, data, settings, train=train, check_method=partial(check_family, settings, train))
    recipe = recipe_for(settings, train, inputs)
    train = replace(train, precision=recipe.precision)
    return carry_out(inputs, train, run, partial(make_family, settings=settings, recipe=recipe, train=train, run=run))


def make_family(
    objective: Objective, settings: DynabertSettings, recipe: DynabertRecipe, train: TrainSettings, run: RunFolder
) -> None:
    """Rewire the model, train its subnets together, score and store them: the whole method."""
    check_halves(objective)
    ensure_finetuned(objective, train, run)
    points = family(objective.loaded.model.shape, settings, recipe)
    with run.timing("rewire"):
        supernet = rewired(objective, points, settings, recipe.layer_rule, train.seed, run)
    more_rows = partial(augmented_rows, objective, settings, train.seed, run.path / "checkpoint")
    teacher, tokens = objective.teacher_and_tokens(more_rows)
    with run.timing("train"):
        steps = 0
        for stage in recipe.stages:
            if stage.teacher == "width":  # section 2.3: the supernet of adaptive width teaches the one of both
                teacher = Teacher(frozen_copy(supernet, objective.engine.dtype))
            plan, own = replace(stage.plan, first_step=steps), teacher
            if not recipe.reruns_teacher and stage.teacher_width == "full":
                own = teacher.for_training(tokens, plan, train, run.path / "checkpoint")
            step = family_step(objective.losses, supernet, own, points, stage, recipe)
            steps += train_stage(supernet, Stage(plan, tokens, step), objective.engine, train, run).step
        if recipe.final_plan.epochs:
            plan = replace(recipe.final_plan, first_step=steps)
            final = Stage(plan, objective.train_tokens, FinalStep(objective.losses, points, recipe.subnets_per_step))
            train_stage(supernet, final, objective.engine, train, run)
    if objective.engine.is_main:
        score_and_store(supernet, objective, points, latency_settings(train, settings.backend), run)


# The family


def family(shape: EncoderShape, settings: DynabertSettings, recipe: DynabertRecipe) -> tuple[GridPoint, ...]:
    """Return the subnets of a model's family, largest first.

    Raises:
        ShapeError: multipliers or depths out of range.

    Source:
        Section 2: every width times every depth; which layers a depth keeps is the rule of `shape.space`.
    """
    return grid(
        shape,
        width_mults=settings.width_mult,
        head_mults=settings.head_mult or None,
        ffn_mults=settings.ffn_mult or None,
        depth_mults=() if settings.depths else settings.depth_mult,
        depths=settings.depths or None,
        rule=recipe.layer_rule,
        stock=recipe.stock,
    )


def recipe_for(settings: DynabertSettings, train: TrainSettings, inputs: Inputs) -> DynabertRecipe:
    """Return the named recipe for inputs of the data's length."""
    data = inputs.data
    longest = data.sequence_length if isinstance(data, TextSettings) else data.length_limit
    return resolve_recipe(settings, train, longest)


def check_family(settings: DynabertSettings, train: TrainSettings, inputs: Inputs) -> None:
    """Raise unless family, recipe, teacher, source of words and task go together; all mistakes together."""
    mistakes, head, recipe = Mistakes(), inputs.head, recipe_for(settings, train, inputs)
    if settings.teacher_width and all(stage.teacher != "width" for stage in recipe.stages):
        mistakes.add(f"--teacher-width is for recipes of two stages, got --recipe {settings.recipe}")
    with mistakes.collect():
        family(inputs.model.shape, settings, recipe)
    with mistakes.collect():
        check_augmentation(inputs, settings)
    with mistakes.collect():
        check_teacher(inputs, min(stage.logit_weight for stage in recipe.stages))
    needs_states = head.kind == "regression" and recipe.skips_regression_logits
    if needs_states and (inputs.models.teacher is not None or not all(stage.hidden_weight for stage in recipe.stages)):
        mistakes.add("--recipe release imitates hidden states alone in regression, and there are none to imitate")
    mistakes.check(InputError)


# Section 2.1: importance and rewiring


def rewired(
    objective: Objective,
    points: Sequence[GridPoint],
    settings: DynabertSettings,
    rule: Rule,
    seed: int,
    run: RunFolder,
) -> TaskModel:
    """Return the supernet: a copy of the trained model with heads and neurons in order of importance.

    The most important come first, so that a subnet's prefix keeps them. The function that the whole network computes
    stays the same. A family on plain text whose members all have full width needs no order; on a task one is made all
    the same, since `search` cuts further than the family.
    """
    done = run.path / "checkpoint" / "rewired.safetensors"
    model = objective.loaded.model
    if not settings.rewire or (objective.inputs.is_text and not cuts_units(points, model.shape)):
        say("heads and neurons keep their order: no importance is measured", shown=objective.engine.is_main)
        return copy.deepcopy(model)

    def make() -> None:
        batches = objective.sample(model, settings.importance_samples, seed)
        save_weights(done, rewire(model, measure_importance(model, batches, rule=rule)))

    objective.engine.make_once(done, make)
    supernet = copy.deepcopy(model)
    load_weights(done, supernet)
    return supernet


def cuts_units(points: Sequence[GridPoint], shape: EncoderShape) -> bool:
    """Return whether any member has fewer heads or neurons than the supernet in a layer that it keeps."""
    return any(kept.shape != shape.layers[kept.index] for point in points for kept in point.subnet.layers)


# The result


def score_and_store(
    supernet: TaskModel, objective: Objective, points: Sequence[GridPoint], latency: LatencySettings, run: RunFolder
) -> None:
    """Score and time the family beside the uncut model, and store front, supernet and result."""
    with run.timing("score"), progress_bar("score", len(points)) as bar:
        advance = counter(bar)
        entries = objective.score(run, supernet, points, lambda entry: advance())
    objective.save(run, supernet, None, "model")
    store_front(run, objective, entries, {None: supernet}, latency, {})


# One subnet alone


def distill_subnet(
    objective: Objective, point: GridPoint, name: str, steps: int, train: TrainSettings, run: RunFolder
) -> TaskModel:
    """Return a subnet as its own network, after a distillation of some steps with the whole supernet as teacher.

    The step is that of the default recipe, with this subnet alone. Units outside the subnet get no gradient and are
    cut off at the end.

    Args:
        objective: the task; holds the supernet.
        point: the subnet.
        name: of the training stage.
        steps: optimizer steps.
        train: training flags.
        run: folder that receives checkpoints and the log.
    """
    recipe, engine, supernet = RECIPES["default"], objective.engine, objective.loaded.model
    plan = replace(recipe.stages[0].plan.overridden(train), name=name, exact_steps=steps)
    stage = replace(recipe.stages[0], plan=plan)
    student = copy.deepcopy(supernet)
    teacher = Teacher(frozen_copy(supernet, engine.dtype))
    teacher = teacher.for_training(objective.train_tokens, plan, train, run.path / "checkpoint")
    step = FamilyStep(objective.losses, student, teacher, [point], stage, recipe)
    train_stage(student, Stage(plan, objective.train_tokens, step), engine, train, run)
    return extract(student, point.subnet)
