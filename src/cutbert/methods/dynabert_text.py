"""DynaBERT on plain text: one task-agnostic supernet, of which every cut fine-tunes like any model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cutbert.data.batches import Batch
from cutbert.data.text_settings import TextSettings
from cutbert.errors import Mistakes
from cutbert.methods.distil import (
    DistillStep,
    Losses,
    States,
    Teacher,
    TeacherOutputs,
    choose_points,
    train_points,
)
from cutbert.methods.dynabert import check_teacher_width, family, finish, rewired, train_family
from cutbert.methods.dynabert_settings import DynabertSettings
from cutbert.methods.objectives import TextObjective, check_halves, check_text, options_of_tasks
from cutbert.methods.prepare_text import prepare_text
from cutbert.methods.recipes import resolve_recipe
from cutbert.model.task_model import TaskOutput
from cutbert.model.vocabulary import LogitLoss, vocabulary_loss
from cutbert.shape.shape import EncoderShape
from cutbert.shape.space import GridPoint
from cutbert.shape.subnet import Subnet
from cutbert.train.loop import StepInfo, Work
from cutbert.train.losses import kl_sum
from cutbert.train.masked_lm import StepMasks, head_of, transformed
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings

TASK_OPTIONS = (
    "teacher", "augment", "augment_model", "augment_words", "augment_candidates", "augment_probability",
    "augment_rounds", "final_epochs",
)  # fmt: skip


def dynabert_text(
    model: str, data: TextSettings, train: TrainSettings, settings: DynabertSettings, run: RunFolder
) -> dict[str, Any]:
    """Make a family of subnets of a masked LM on plain text, and score and time every one.

    Args:
        model: hub id, model folder or run folder with a masked-LM head.
        data: the text.
        train: training flags; None leaves the choice to the recipe.
        settings: the family and how it is made.
        run: opened run folder; receives model/ (the supernet), front.json, predictions/.

    Returns:
        As `dynabert`; the metric is the share of masked tokens that are found.

    Raises:
        InputError: mistakes in settings, model or text, all together, before anything is made.

    Source:
        Hou et al. 2020 (2004.04037), equations 4 to 7, with the vocabulary's logits at masked positions in the
        place of a task's: our choice.
    """
    recipe = resolve_recipe(settings, train, data.sequence_length)
    mistakes = Mistakes()
    with mistakes.collect():
        check_teacher_width(settings, recipe)
    mistakes.extend(options_of_tasks(settings, TASK_OPTIONS))
    sources = check_text(model, data, train, settings, mistakes, partial(family, model, settings, recipe))
    points = family(model, settings, recipe)
    train = replace(train, precision=recipe.precision)
    with run.start():
        prepared = prepare_text(model, sources, data, train, run)
        check_halves(prepared)
        objective, tokens = TextObjective(prepared), prepared.text.train
        with run.timing("rewire"):
            if cuts_units(points, prepared.loaded.model.shape):
                supernet = rewired(objective, settings, recipe.layer_rule, train.seed, run)
            else:  # only a search cuts further than the family, and searches are of tasks
                say("every member has full width: no importance is measured", shown=prepared.engine.is_main)
                supernet = copy.deepcopy(prepared.loaded.model)
        teacher = Teacher(prepared.loaded.model, None, True)
        with run.timing("train"):
            make_step = partial(MaskedDistillStep, masks=StepMasks(tokens, prepared.masking))
            train_family(supernet, teacher, points, recipe, tokens, prepared.engine, train, run, make_step=make_step)
        if prepared.engine.is_main:
            finish(supernet, objective, points, train, run)
        prepared.engine.accelerator.wait_for_everyone()
    return RunFolder.read(run.path).result or {}


def cuts_units(points: Sequence[GridPoint], shape: EncoderShape) -> bool:
    """Return whether any member has fewer heads or neurons than the supernet in a layer that it keeps."""
    return any(kept.shape != shape.layers[kept.index] for point in points for kept in point.subnet.layers)


@dataclass(frozen=True)
class MaskedTeacher(Teacher):
    """A teacher that is run up to its head's transform at masked positions, [M, E], which stands for its logits.

    The vocabulary's logits themselves are made in parts, where they are needed.
    """

    positions: Tensor

    @torch.no_grad()
    def __call__(self, batch: Batch, rows: Any, subnet: Subnet | None) -> TaskOutput:
        states = self.model.encoder(
            batch.input_ids, batch.attention_mask, batch.token_type_ids, subnet=subnet, blocks=batch.blocks
        )
        return TaskOutput(transformed(self.model, states, self.positions), states, None)


@dataclass(frozen=True)
class MaskedDistillStep:
    """A distillation step on masked text: hidden states, and the vocabulary's logits at masked positions.

    Args:
        step: subnets, teacher, stage and recipe.
        masks: of every step.
    """

    step: DistillStep
    masks: StepMasks

    @cached_property
    def teacher_table(self) -> Tensor:
        """The teacher's token table in the number type of its layers."""
        teacher = self.step.teacher.model
        return teacher.encoder.embeddings.token.weight.detach().to(teacher.encoder.layers_dtype)

    def __call__(self, work: Work, batch: Batch, info: StepInfo) -> Losses:
        points = choose_points(self.step.points, self.step.recipe.subnets_per_step, info.random)
        masks = self.masks(info)  # after the choice: only a step's first part draws masks
        masked = masks.apply(batch, info.rows)
        teacher = MaskedTeacher(self.step.teacher.model, None, True, masked.positions)
        outputs = TeacherOutputs(teacher, masked.batch, info.rows)
        weight = self.step.stage.logit_weight / max(1, masks.num_hidden)

        def losses_of(states: States, point: GridPoint) -> Losses:
            target = self.step.target(point, outputs)
            own = TaskOutput(transformed(work.model, states, masked.positions), states, None)
            return {
                "logits": self._logit_loss(work, own, target) * weight,
                "hidden": self.step.hidden_loss(own, target, point, masked.batch, info),
            }

        return train_points(work.model, masked.batch, points, losses_of)

    def _logit_loss(self, work: Work, own: TaskOutput, target: TaskOutput) -> Tensor:
        """Return the KL to the teacher's logits at masked positions, times temperature squared, summed."""
        assert own.logits is not None and target.logits is not None
        table, bias = work.model.encoder.embeddings.token.weight, head_of(work.model).bias
        return vocabulary_loss(own.logits, table, work.token_table(), bias, self._imitated(target.logits))

    def _imitated(self, x_ME: Tensor) -> LogitLoss:
        bias, table = head_of(self.step.teacher.model).bias, self.teacher_table[:, : x_ME.shape[1]]
        temperature = self.step.recipe.temperature

        def far(logits: Tensor, part: slice) -> Tensor:
            with torch.no_grad():
                target = F.linear(x_ME[part], table, bias).float()
            sides = ((each / temperature).log_softmax(-1) for each in (logits, target))
            return kl_sum(*sides) * temperature**2

        return far
