"""One network imitates a larger one on the same rows: the step that heals a cut network and trains gates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cutbert.data.batches import Batch
from cutbert.methods.distil import Teacher
from cutbert.model.task_model import TaskOutput
from cutbert.shape.head import HeadSpec
from cutbert.shape.subnet import Subnet
from cutbert.train.loop import StepInfo, Work
from cutbert.train.losses import logit_loss, state_loss

SubnetAt = Callable[[float], Subnet | None]
"""The part of a network that is trained after a share of the steps; None for all of it."""


class Imitation(Protocol):
    """How much each loss of an imitation weighs."""

    @property
    def logit_weight(self) -> float: ...

    @property
    def hidden_weight(self) -> float: ...

    @property
    def temperature(self) -> float: ...


@dataclass(frozen=True, eq=False)
class ImitateStep:
    """Trains one network to give a teacher's logits and hidden states.

    Args:
        head: kind of the logits.
        teacher: who is imitated; as many layers as the student.
        hidden_units: the teacher's hidden units that the student kept, in its order.
        logit_weight, hidden_weight: of the two losses; the hidden one is the mean over states.
        temperature: of the logit loss.
        subnet_at: what is trained, for a network that shrinks on the way; it keeps all layers.

    Source:
        The losses are DynaBERT's, Hou et al. 2020 (2004.04037), equations 4 to 7. That a network of fewer hidden
        units imitates the teacher's units it descends from is our choice.
    """

    head: HeadSpec
    teacher: Teacher
    hidden_units: Tensor
    logit_weight: float
    hidden_weight: float
    temperature: float
    subnet_at: SubnetAt | None = None

    def __call__(self, work: Work, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        subnet = None if self.subnet_at is None else self.subnet_at(info.progress)
        student = work.model(
            batch.input_ids, batch.attention_mask, batch.token_type_ids, subnet=subnet, blocks=batch.blocks
        )
        losses = self._losses(student, self.teacher(batch, info.rows, None), batch, info)
        torch.stack(list(losses.values())).sum().backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def _losses(self, student: TaskOutput, target: TaskOutput, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        assert student.logits is not None and target.logits is not None
        far = logit_loss(
            self.head,
            student.logits,
            target.logits,
            temperature=self.temperature,
            attention_mask=batch.attention_mask,
            blocks=batch.blocks,
        )
        counted = info.num_tokens if self.head.kind == "token" else info.num_examples
        losses = {"logits": far * (self.logit_weight / counted)}
        if self.hidden_weight and self.teacher.has_states:
            kept = [states.index_select(-1, self.hidden_units) for states in target.hidden_states]
            far = mean_state_loss(student.hidden_states, kept, batch.attention_mask, info.num_tokens)
            losses["hidden"] = far * self.hidden_weight
        return losses


def mean_state_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], attention_mask: Tensor | None, num_tokens: int
) -> Tensor:
    """Return the squared error of a batch's hidden states, the mean over states and over the tokens of the step."""
    pairs = zip(student, teacher, strict=True)
    far = torch.stack([state_loss(ours, theirs, attention_mask) for ours, theirs in pairs]).sum()
    return far / (num_tokens * len(student))


def imitate_step(
    head: HeadSpec,
    teacher: Teacher,
    settings: Imitation,
    hidden_units: Tensor,
    *,
    subnet_at: SubnetAt | None = None,
) -> ImitateStep:
    """Return the step that lets a network of some of the uncut model's hidden units imitate a teacher."""
    return ImitateStep(
        head=head,
        teacher=teacher,
        hidden_units=hidden_units,
        logit_weight=settings.logit_weight,
        hidden_weight=settings.hidden_weight,
        temperature=settings.temperature,
        subnet_at=subnet_at,
    )
