"""DynaBERT's training steps (Hou et al. 2020, 2004.04037, sections 2.2 and 2.3): several subnets, and their losses.

`FamilyStep` is a step of distillation, `FinalStep` one of the optional last fine-tuning on labels; `train_points` runs
the subnets of either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cutbert.data.batches import Batch
from cutbert.methods.dynabert_recipes import DistillStage, DynabertRecipe
from cutbert.model.layout import blocks_of
from cutbert.model.task_model import TaskModel
from cutbert.shape.space import GridPoint, grid_point
from cutbert.shape.subnet import Subnet
from cutbert.train.loop import ModelView, StepInfo
from cutbert.train.losses import matched_states, state_loss
from cutbert.work.distill import add_gradients
from cutbert.work.losses import BatchLosses, Losses, LossesOf, States, Teacher, TeacherOutputs


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
    recipe: DynabertRecipe

    def __call__(self, view: ModelView, batch: Batch, info: StepInfo) -> Losses:
        # Subnets are drawn before masks: both draw from the step's generator, and only a step's first part draws masks.
        points = choose_points(self.points, self.recipe.subnets_per_step, info.random)
        batch_losses = self.losses_of(batch, info)
        targets: dict[object, TeacherOutputs] = {}  # the teacher runs once where it is the same for all

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
        target: TeacherOutputs,
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
    recipe: DynabertRecipe,
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
        places = batch_losses.read_at(view.model)

        def losses_at(states: States, point: GridPoint) -> Losses:
            return batch_losses.label_losses(view, states, is_read=places is not None)

        return train_points(view.model, batch_losses.batch, points, losses_at, places)


def train_points(
    net: TaskModel,
    batch: Batch,
    points: Sequence[GridPoint],
    losses_at: Callable[[States, GridPoint], Losses],
    last_at: Tensor | None = None,
) -> Losses:
    """Add the gradients of several subnets, one after the other, from one set of embeddings.

    Args:
        net: the supernet in the training dtype.
        batch: of one step.
        points: the subnets to train.
        losses_at: the losses of a subnet by name, given its hidden states.
        last_at: places of the last state that they read; None for all.

    Returns:
        Each loss, summed over subnets.
    """
    embedded = net.encoder.embed(batch.input_ids, batch.attention_mask, batch.token_type_ids, blocks=batch.blocks)
    blocks = blocks_of(batch.input_ids, batch.attention_mask, batch.blocks)
    leaf = embedded.detach().requires_grad_()
    totals: Losses = {}
    for point in points:
        states = net.encoder.run_layers(leaf, batch.attention_mask, point.subnet, blocks, last_at)
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
