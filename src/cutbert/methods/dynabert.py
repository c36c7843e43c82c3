"""DynaBERT (Hou et al. 2020, 2004.04037): one supernet of adaptive width and depth, rewired by importance, trained by
distillation.

First the whole method (`make_family`: the stages of sections 2.2 and 2.3), then its parts in the paper's order: the
family (section 2), importance and rewiring (2.1), the losses (equations 4 to 7). Values are in `dynabert_recipes`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutbert.bench.settings import LatencySettings
from cutbert.data.batches import Batch
from cutbert.data.settings import DataSettings
from cutbert.data.text_settings import TextSettings
from cutbert.errors import InputError, Mistakes
from cutbert.methods.dynabert_recipes import RECIPES, DistillStage, Recipe, resolve_recipe
from cutbert.methods.dynabert_settings import DynabertSettings
from cutbert.model.layout import blocks_of
from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import EncoderShape
from cutbert.shape.source import Models
from cutbert.shape.space import GridPoint, Rule, grid, grid_point
from cutbert.shape.subnet import Subnet
from cutbert.surgery.extract import extract
from cutbert.surgery.importance import measure_importance
from cutbert.surgery.rewire import rewire
from cutbert.train.checkpoint import load_weights, save_weights
from cutbert.train.loop import ModelView, Stage, StepInfo, train_stage
from cutbert.train.losses import matched_states, state_loss
from cutbert.train.progress import counter, progress_bar, say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings
from cutbert.train.working_copy import frozen_copy
from cutbert.work.augment import augmented_rows, check_augmentation
from cutbert.work.distill import add_gradients
from cutbert.work.finetune import check_teacher, ensure_finetuned
from cutbert.work.inputs import Inputs, check_inputs
from cutbert.work.losses import BatchLosses, Losses, LossesOf, States, Target, Teacher
from cutbert.work.objective import Objective, check_halves
from cutbert.work.run import carry_out, latency_settings, store_front


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
    longest = data.sequence_length if isinstance(data, TextSettings) else data.length_limit
    recipe = resolve_recipe(settings, train, longest)
    check_method = partial(check_family, settings, recipe)
    inputs = check_inputs(models, data, settings, train=train, check_method=check_method)
    train = replace(train, precision=recipe.precision)
    return carry_out(inputs, train, run, partial(make_family, settings=settings, recipe=recipe, train=train, run=run))


def make_family(
    objective: Objective, settings: DynabertSettings, recipe: Recipe, train: TrainSettings, run: RunFolder
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


def family(shape: EncoderShape, settings: DynabertSettings, recipe: Recipe) -> tuple[GridPoint, ...]:
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


def check_family(settings: DynabertSettings, recipe: Recipe, inputs: Inputs) -> None:
    """Raise unless family, recipe, teacher, source of words and task go together; all mistakes together."""
    mistakes, head = Mistakes(), inputs.head
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


# Sections 2.2 and 2.3: the losses


@dataclass(frozen=True)
class FamilyStep:
    """One training step: the chosen subnets run one after the other, so memory hardly grows with their number.

    The embeddings run once; every subnet adds its gradient at their output.

    Args:
        losses_of: the objective's losses.
        supernet: the float32 network, for its shape.
        teacher: of this stage.
        points: the subnets of this stage, largest first.
        stage: losses and teacher width.
        recipe: everything else.

    Source:
        Hou et al. 2020 (2004.04037), equations 4 to 7. Training the largest, the smallest and random others instead
        of all is the sandwich rule of Yu and Huang 2019 (1903.05134).
    """

    losses_of: LossesOf
    supernet: TaskModel
    teacher: Teacher
    points: Sequence[GridPoint]
    stage: DistillStage
    recipe: Recipe

    def __call__(self, view: ModelView, batch: Batch, info: StepInfo) -> Losses:
        # Subnets are drawn before masks: both draw from the step's generator, and only a step's first part draws masks.
        points = choose_points(self.points, self.recipe.subnets_per_step, info.random)
        batch_losses = self.losses_of(batch, info)
        targets: dict[object, Target] = {}  # the teacher runs once where it is the same for all

        def losses_at(states: States, point: GridPoint) -> Losses:
            width, subnet = self.teacher_subnet(point)
            if width not in targets:
                targets[width] = batch_losses.target(self.teacher, subnet)
            return self.losses(view, states, point, batch_losses, targets[width], info)

        return train_points(view.model, batch_losses.batch, points, losses_at)

    def losses(
        self,
        view: ModelView,
        states: States,
        point: GridPoint,
        batch_losses: BatchLosses,
        target: Target,
        info: StepInfo,
    ) -> Losses:
        """Return L = lambda1 * l_pred(y_m, y) + lambda2 * (l_emb(E_m, E) + l_hidn(H_m, H)), a subnet's share of it.

        Source:
            Equation 6 in the width stage, equation 7 in the stage of width and depth: the same sum with another
            teacher, other subnets and other weights lambda.
        """
        losses: Losses = {}
        if not (self.supernet.head_spec.kind == "regression" and self.recipe.skips_regression_logits):
            # Equation 4, l_pred: soft cross-entropy of the logits. The KL has the same gradient, and is 0 at its end.
            l_pred = batch_losses.logit_loss(view, states, target, self.recipe.temperature)
            losses["logits"] = l_pred * (self.stage.logit_weight / batch_losses.num_targets)
        if self.stage.hidden_weight and self.teacher.has_states:
            batch = batch_losses.batch
            mask, count = batch.attention_mask, info.num_tokens
            if self.recipe.counts_padding:
                mask, count = None, info.num_examples * batch.input_ids.numel() // batch.num_rows
            kept = [layer.index for layer in point.subnet.layers]
            matched = matched_states(kept, self.supernet.shape.num_layers, self.recipe.layer_rule)
            if self.supernet.head_spec.kind == "embedding":  # vectors are read straight off the last states
                matched[-1] = (len(kept), self.supernet.shape.num_layers)
            pairs = self.teacher.match([(0, 0), *matched])
            l_states = hidden_loss(states, target.states, pairs, mask) * (self.stage.hidden_weight / count)
            losses["hidden"] = l_states / len(pairs) if self.recipe.mean_over_layers else l_states
        return losses

    def teacher_subnet(self, point: GridPoint) -> tuple[object, Subnet | None]:
        """Return a key of the teacher's outputs that a subnet learns, and the teacher's subnet that gives them.

        In the paper the teacher of the second stage has the subnet's own width at full depth; elsewhere it is whole.
        """
        width = (point.head_mult, point.ffn_mult)
        if self.stage.teacher_width == "full":
            return (width if self.recipe.reruns_teacher else None), None
        return width, grid_point(self.supernet.shape, *width, 1.0, self.recipe.layer_rule).subnet


def hidden_loss(
    student: States, teacher: States, pairs: Sequence[tuple[int, int]], attention_mask: Tensor | None
) -> Tensor:
    """Return l_emb + l_hidn = MSE(E_m, E) + sum over kept layers l of MSE(H_m_l, H_l), up to the mean over tokens.

    Args:
        student, teacher: hidden states.
        pairs: which of the student's is compared with which of the teacher's; (0, 0) are the embeddings.
        attention_mask: leaves padding out; None where it counts, or there is none.

    Returns:
        A scalar, summed over pairs and tokens; divided by the tokens of the step it is the paper's MSE.

    Source:
        Hou et al. 2020 (2004.04037), equation 5. The paper sums over layers. The default recipe takes their mean, so
        that one weight suits all depths, and padding is left out (the release counts it): our choice.
    """
    return torch.stack([state_loss(student[ours], teacher[theirs], attention_mask) for ours, theirs in pairs]).sum()


def family_step(
    losses_of: LossesOf,
    supernet: TaskModel,
    teacher: Teacher,
    points: Sequence[GridPoint],
    stage: DistillStage,
    recipe: Recipe,
) -> FamilyStep:
    """Return the step of a stage: subnets of full depth alone in the first of the paper, all in the second."""
    chosen = [point for point in points if stage.all_depths or point.depth_mult == 1.0]
    return FamilyStep(losses_of, supernet, teacher, chosen or points, stage, recipe)


@dataclass(frozen=True)
class FinalStep:
    """Trains the chosen subnets of one step on true labels: the optional last fine-tuning of section 2.3.

    Args:
        losses_of: the objective's losses.
        points: all subnets.
        subnets_per_step: as in `choose_points`.
    """

    losses_of: LossesOf
    points: Sequence[GridPoint]
    subnets_per_step: int

    def __call__(self, view: ModelView, batch: Batch, info: StepInfo) -> Losses:
        points = choose_points(self.points, self.subnets_per_step, info.random)
        batch_losses = self.losses_of(batch, info)
        return train_points(
            view.model, batch_losses.batch, points, lambda states, point: batch_losses.label_losses(view, states)
        )


def train_points(
    net: TaskModel, batch: Batch, points: Sequence[GridPoint], losses_at: Callable[[States, GridPoint], Losses]
) -> Losses:
    """Add the gradients of several subnets, one after the other, from one set of embeddings.

    Args:
        net: the supernet in the training dtype.
        batch: of one step.
        points: the subnets to train.
        losses_at: the losses of a subnet by name, given its hidden states.

    Returns:
        Each loss, summed over subnets.
    """
    embedded = net.encoder.embed(batch.input_ids, batch.attention_mask, batch.token_type_ids, blocks=batch.blocks)
    blocks = blocks_of(batch.input_ids, batch.attention_mask, batch.blocks)
    leaf = embedded.detach().requires_grad_()
    totals: Losses = {}
    for point in points:
        states = net.encoder.run_layers(leaf, batch.attention_mask, point.subnet, blocks)
        for name, loss in add_gradients(losses_at(states, point)).items():
            totals[name] = totals[name] + loss if name in totals else loss
    if embedded.requires_grad:
        assert leaf.grad is not None
        embedded.backward(leaf.grad)
    return totals


def choose_points(points: Sequence[GridPoint], count: int, random: np.random.Generator) -> list[GridPoint]:
    """Return the subnets of one step: all, or the largest, the smallest and random others.

    Args:
        points: largest first.
        count: how many; 0 for all; 1 is one at random.
        random: the step's own generator.
    """
    if count == 0 or count >= len(points):
        return list(points)
    if count == 1:
        return [points[int(random.integers(len(points)))]]
    middle = random.choice(np.arange(1, len(points) - 1), size=count - 2, replace=False)
    return [points[0], *(points[i] for i in sorted(middle)), points[-1]]


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
