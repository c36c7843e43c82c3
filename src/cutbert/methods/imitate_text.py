"""One network learns the masked tokens of plain text, and the hidden states that the uncut one has on them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cutbert.data.batches import Batch
from cutbert.data.masking import MaskedBatch
from cutbert.methods.imitate import SubnetAt, mean_state_loss
from cutbert.model.task_model import TaskModel
from cutbert.train.loop import StepInfo, Work
from cutbert.train.masked_lm import StepMasks, hidden_loss, transformed


@dataclass(frozen=True, eq=False)
class MaskedImitateStep:
    """Trains one network on masked text: the true tokens, and a teacher's hidden states.

    Args:
        masks: of every step.
        teacher: the uncut model, which stands still; as many layers and hidden units as the student.
        hidden_weight: of the hidden loss, the mean over states; 0 leaves the teacher out.
        subnet_at: what is trained, for a network that shrinks on the way; it keeps all layers.

    Source:
        The hidden loss is that of Hou et al. 2020 (2004.04037), equations 5 and 6; that true tokens take the place
        of the teacher's logits is our choice.
    """

    masks: StepMasks
    teacher: TaskModel
    hidden_weight: float
    subnet_at: SubnetAt

    def __call__(self, work: Work, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        masks = self.masks(info)
        masked = masks.apply(batch, info.rows)
        batch, subnet = masked.batch, self.subnet_at(info.progress)
        states = work.model.encoder(
            batch.input_ids, batch.attention_mask, batch.token_type_ids, subnet=subnet, blocks=batch.blocks
        )
        x_ME = transformed(work.model, states, masked.positions)
        losses = {"masked_lm": hidden_loss(work, x_ME, masked.targets) / max(1, masks.num_hidden)}
        if self.hidden_weight:
            far = mean_state_loss(states, self._target(masked), batch.attention_mask, info.num_tokens)
            losses["hidden"] = far * self.hidden_weight
        torch.stack(list(losses.values())).sum().backward()
        return {name: loss.detach() for name, loss in losses.items()}

    @torch.no_grad()
    def _target(self, masked: MaskedBatch) -> tuple[Tensor, ...]:
        batch = masked.batch
        return self.teacher.encoder(batch.input_ids, batch.attention_mask, batch.token_type_ids, blocks=batch.blocks)
