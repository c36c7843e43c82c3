"""Training steps of one network: on labels, or by distillation from a teacher, which heals a cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cutbert.data.batches import Batch
from cutbert.shape.subnet import Subnet
from cutbert.train.loop import ModelView, StepInfo
from cutbert.train.losses import state_loss
from cutbert.work.losses import Losses, LossesOf, States, Teacher, encoder_states

SubnetAt = Callable[[float], Subnet | None]
"""The part of a network that is trained after a share of the steps; None for all of it."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the two distillation losses, and the temperature of the logit loss."""

    logits: float = 1.0
    hidden: float = 0.0
    temperature: float = 1.0

    @classmethod
    def of(cls, settings: Any) -> LossWeights:
        """Return the weights that a method's distillation settings give."""
        return cls(settings.logit_weight, settings.hidden_weight, settings.temperature)


@dataclass(frozen=True)
class LabelStep:
    """One step of ordinary training: the whole network against labels, or against the true tokens of plain text."""

    losses_of: LossesOf

    def __call__(self, view: ModelView, batch: Batch, info: StepInfo) -> Losses:
        batch_losses = self.losses_of(batch, info)
        return add_gradients(batch_losses.label_losses(view, encoder_states(view.model, batch_losses.batch)))


@dataclass(frozen=True, eq=False)
class DistillStep:
    """One step in which a network learns a teacher's logits and hidden states.

    Args:
        losses_of: the objective's losses.
        teacher: with the same number of layers as the student where hidden states are compared; None for none.
        weights: of the losses; the hidden one is the mean over states.
        hidden_units: the teacher's hidden units that the student kept, in its order; None for all.
        uses_labels: labels take the place of the teacher's logits, as in masked LM.
        subnet_at: what is trained, for a network that shrinks on the way; it keeps all layers.

    Source:
        The losses are those of DynaBERT, Hou et al. 2020 (2004.04037), equations 4 to 7. Comparing a network of fewer
        hidden units with the teacher's units that it was cut from is our choice, and so are true tokens in the place
        of logits.
    """

    losses_of: LossesOf
    teacher: Teacher | None
    weights: LossWeights
    hidden_units: Tensor | None = None
    uses_labels: bool = False
    subnet_at: SubnetAt | None = None

    def __call__(self, view: ModelView, batch: Batch, info: StepInfo) -> Losses:
        batch_losses = self.losses_of(batch, info)
        batch = batch_losses.batch
        subnet = None if self.subnet_at is None else self.subnet_at(info.progress)
        student = encoder_states(view.model, batch, subnet)
        teacher_states: States = ()
        if self.uses_labels:
            losses = batch_losses.label_losses(view, student)
            if self.teacher is not None:
                teacher_states = self.teacher.states(batch)
        else:
            assert self.teacher is not None
            target = batch_losses.target(self.teacher)
            logit_loss = batch_losses.logit_loss(view, student, target, self.weights.temperature)
            losses = {"logits": logit_loss * (self.weights.logits / batch_losses.num_targets)}
            teacher_states = target.states
        if self.weights.hidden and self.teacher is not None and self.teacher.has_states:
            if self.hidden_units is not None:
                teacher_states = tuple(states.index_select(-1, self.hidden_units) for states in teacher_states)
            hidden_loss = mean_state_loss(student, teacher_states, batch.attention_mask, info.num_tokens)
            losses["hidden"] = hidden_loss * self.weights.hidden
        return add_gradients(losses)


def mean_state_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], attention_mask: Tensor | None, num_tokens: int
) -> Tensor:
    """Return the squared error of a batch's hidden states, the mean over states and over the tokens of the step."""
    pairs = zip(student, teacher, strict=True)
    errors = torch.stack([state_loss(ours, theirs, attention_mask) for ours, theirs in pairs])
    return errors.sum() / (num_tokens * len(student))


def add_gradients(losses: Losses) -> Losses:
    """Run backwards from the sum of some losses, and return them without their graph, to be logged."""
    torch.stack(list(losses.values())).sum().backward()
    return {name: loss.detach() for name, loss in losses.items()}
