"""The losses that can be computed on one micro-batch, of a task with labels or of masked plain text; the teacher.

Axes: M masked tokens, E table width.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cutbert.data.batches import Batch, plan_batches
from cutbert.data.masking import MaskedBatch
from cutbert.data.tokens import Tokens
from cutbert.model.losses import task_loss
from cutbert.model.task_model import TaskModel, TaskOutput
from cutbert.model.vocabulary import LogitLoss, vocabulary_loss
from cutbert.shape.head import HeadSpec
from cutbert.shape.subnet import Subnet
from cutbert.train.collating import block_batch
from cutbert.train.loop import ModelView, StepInfo
from cutbert.train.losses import kl_sum, logit_loss
from cutbert.train.masked_lm import StepMasks, head_of, masked_loss, rounded, transformed
from cutbert.train.settings import StagePlan, TrainSettings
from cutbert.work.kept_outputs import KeptOutputs

States = tuple[Tensor, ...]
StatePairs = Sequence[tuple[int, int]]
"""A student's hidden states and those of its teacher that they are compared with; state 0 is the embeddings' output."""
Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Teacher:
    """The teacher network of a distillation.

    Args:
        model: in the training dtype, on the training device, never updated.
        tokens: the same rows in the teacher's own tokens; None where its tokenizer is the student's.
        has_states: whether its hidden states can be compared with the model's (same tokenizer and hidden size).
        state_pairs: which of the model's states belongs to which of its own, where it has another number of layers;
            None where they have the same.
        kept: its outputs for rows of training, where they are kept; None where they are computed every time.
    """

    model: TaskModel
    tokens: Tokens | None = None
    has_states: bool = True
    state_pairs: StatePairs | None = None
    kept: KeptOutputs | None = None

    def keeping(self, tokens: Tokens, batch_size: int, seed: int, folder: Path) -> Teacher:
        """Return the teacher with its outputs for the rows of a training kept: on the CPU, where they take longest.

        Outputs per token are not kept.

        Args:
            tokens: of the rows, in the student's tokens.
            batch_size, seed: of the training.
            folder: the files, which have no names, are made there.
        """
        if next(self.model.parameters()).device.type != "cpu" or not self.model.head_spec.reads_text:
            return self
        batches, own = plan_batches(tokens.lengths, batch_size, seed, 0), self.tokens
        kept = KeptOutputs(self.model, tokens if own is None else own, batches, folder, has_states=own is None)
        return replace(self, kept=kept)

    def for_training(self, tokens: Tokens, plan: StagePlan, train: TrainSettings, folder: Path) -> Teacher:
        """Return the teacher for one network's training, with its outputs kept where that saves time.

        So it is where passes repeat rows of whole texts, in one process and without micro-batches, and all outputs
        have room: most batches of a later pass have rows from nearly every batch of the first.

        Args:
            tokens: of the rows, in the student's tokens.
            plan, train: of the training.
            folder: the files, which have no names, are made there.
        """
        steps = -(-len(tokens) // plan.batch_size)
        is_whole = int(os.environ.get("WORLD_SIZE", "1")) == 1 and train.accumulation == 1 and plan.pad_to is None
        if plan.num_steps(steps) <= steps or not is_whole or not self.model.head_spec.is_sequence:
            return self
        kept = self.keeping(tokens, plan.batch_size, train.seed, folder)
        return kept if kept.kept is None or kept.kept.has_room else self

    def match(self, pairs: StatePairs) -> StatePairs:
        """Return pairs of a student's states and the model's with the teacher's own in the place of the model's."""
        if self.state_pairs is None:
            return pairs
        own = dict(self.state_pairs)
        return [(ours, own[theirs]) for ours, theirs in pairs]

    @torch.no_grad()
    def outputs(self, batch: Batch, rows: np.ndarray, subnet: Subnet | None = None) -> TaskOutput:
        """Return the teacher's outputs for a batch; where it has tokens of its own, for the same rows in them."""
        if self.kept is not None and subnet is None:
            return self.kept(batch, rows)
        if self.tokens is not None:
            batch = block_batch(self.model, self.tokens, rows).to(batch.input_ids.device)
        return self.model.apply_head(self.states(batch, subnet), batch.attention_mask, batch.blocks)

    @torch.no_grad()
    def states(self, batch: Batch, subnet: Subnet | None = None) -> States:
        """Return the teacher's hidden states for a batch."""
        return encoder_states(self.model, batch, subnet)

    @cached_property
    def token_table(self) -> Tensor:
        """The token table in the dtype of the layers."""
        encoder = self.model.encoder
        return encoder.embeddings.token.weight.detach().to(encoder.layers_dtype)


class TeacherOutputs(NamedTuple):
    """A teacher's outputs for one micro-batch.

    Args:
        teacher: the teacher.
        outputs: its logits; on plain text the outputs of its head's transform at masked positions, [M, E].
        states: its hidden states.
    """

    teacher: Teacher
    outputs: Tensor
    states: States


class BatchLosses(Protocol):
    """A micro-batch, and the losses of a network that can be computed on it."""

    @property
    def batch(self) -> Batch:
        """What networks read."""
        ...

    @property
    def num_targets(self) -> int:
        """The denominator of the logit loss: outputs of the whole step that it is a mean over."""
        ...

    def read_at(self, net: TaskModel) -> Tensor | None:
        """Return the places of a network's last hidden state that its losses read, as `Encoder.forward` takes them."""
        ...

    def label_losses(self, view: ModelView, states: States, *, is_read: bool = False) -> Losses:
        """Return this micro-batch's share of the loss against labels or true tokens, by its name in the log.

        Args:
            view: the network.
            states: its hidden states.
            is_read: whether the last of them is only of the places `read_at`.
        """
        ...

    def target(self, teacher: Teacher, subnet: Subnet | None = None) -> TeacherOutputs:
        """Return the outputs of a teacher, or of a subnet of it."""
        ...

    def logit_loss(
        self, view: ModelView, states: States, target: TeacherOutputs, temperature: float, *, is_read: bool = False
    ) -> Tensor:
        """Return the loss against the teacher's logits, summed over the micro-batch.

        Args:
            view: the student.
            states: the student's hidden states.
            target: the teacher's outputs.
            temperature: divides the logits of both.
            is_read: whether the student's last state is only of the places `read_at`.
        """
        ...


LossesOf = Callable[[Batch, StepInfo], BatchLosses]
"""Returns the losses of a step's micro-batch."""


@dataclass(frozen=True, eq=False)
class TaskLosses:
    """A micro-batch of a task with labels.

    Args:
        head: of the task.
        batch: rows.
        info: of the step.
        answers: gives the vectors of an embedding model, which take the place of labels; None where there are labels.
        label_variance: of numbers; squared errors are divided by it, so that their unit changes nothing.
    """

    head: HeadSpec
    batch: Batch
    info: StepInfo
    answers: Teacher | None = None
    label_variance: float = 1.0

    @property
    def num_targets(self) -> int:
        return self.info.num_tokens if self.head.kind == "token" else self.info.num_examples

    def read_at(self, net: TaskModel) -> Tensor | None:
        return net.read_at(self.batch.input_ids, self.batch.blocks)

    def label_losses(self, view: ModelView, states: States, *, is_read: bool = False) -> Losses:
        batch = self.batch
        if self.answers is not None:
            loss = self.logit_loss(view, states, self.target(self.answers), temperature=1.0, is_read=is_read)
            return {"labels": loss / self.num_targets}
        logits = view.model.apply_head(states, batch.attention_mask, batch.blocks, is_read=is_read).logits
        mean = task_loss(self.head, logits, batch.labels, attention_mask=batch.attention_mask, blocks=batch.blocks)
        return {"labels": mean * (self.info.label_share(batch) / self.label_variance)}

    def target(self, teacher: Teacher, subnet: Subnet | None = None) -> TeacherOutputs:
        outputs = teacher.outputs(self.batch, self.info.rows, subnet)
        assert outputs.logits is not None
        return TeacherOutputs(teacher, outputs.logits, outputs.hidden_states)

    def logit_loss(
        self, view: ModelView, states: States, target: TeacherOutputs, temperature: float, *, is_read: bool = False
    ) -> Tensor:
        student = view.model.apply_head(states, self.batch.attention_mask, self.batch.blocks, is_read=is_read).logits
        assert student is not None
        loss = logit_loss(
            self.head,
            student,
            target.outputs,
            temperature=temperature,
            attention_mask=self.batch.attention_mask,
            blocks=self.batch.blocks,
        )
        return loss / self.label_variance


@dataclass(frozen=True, eq=False)
class MaskedLosses:
    """A micro-batch of plain text with masked tokens.

    In the place of logits stand the outputs of the head's transform at masked positions, [M, E]: the vocabulary's
    logits are made in parts, where they are needed.

    Args:
        masked: rows with masked tokens.
        num_targets: masked tokens of the whole step, at least 1.
    """

    masked: MaskedBatch
    num_targets: int

    @property
    def batch(self) -> Batch:
        return self.masked.batch

    def read_at(self, net: TaskModel) -> Tensor | None:
        return rounded(self.masked.positions)

    def label_losses(self, view: ModelView, states: States, *, is_read: bool = False) -> Losses:
        x_ME = transformed(view.model, states, self.masked.positions, is_read=is_read)
        return {"masked_lm": masked_loss(view, x_ME, self.masked.targets) / self.num_targets}

    @torch.no_grad()
    def target(self, teacher: Teacher, subnet: Subnet | None = None) -> TeacherOutputs:
        states = teacher.states(self.batch, subnet)
        return TeacherOutputs(teacher, transformed(teacher.model, states, self.masked.positions), states)

    def logit_loss(
        self, view: ModelView, states: States, target: TeacherOutputs, temperature: float, *, is_read: bool = False
    ) -> Tensor:
        x_ME = transformed(view.model, states, self.masked.positions, is_read=is_read)
        table, bias = view.model.encoder.embeddings.token.weight, head_of(view.model).bias
        return vocabulary_loss(x_ME, table, view.token_table(), bias, vocabulary_kl(target, temperature))


def vocabulary_kl(target: TeacherOutputs, temperature: float) -> LogitLoss:
    """Return the KL to the teacher's logits over the vocabulary, times temperature squared, for `vocabulary_loss`."""
    x_ME = target.outputs
    bias, table = head_of(target.teacher.model).bias, target.teacher.token_table[:, : x_ME.shape[1]]

    def kl_loss(logits: Tensor, part: slice) -> Tensor:
        with torch.no_grad():
            teacher_logits = F.linear(x_ME[part], table, bias).float()
        student, teacher = ((each / temperature).log_softmax(-1) for each in (logits, teacher_logits))
        return kl_sum(student, teacher) * temperature**2

    return kl_loss


@dataclass(frozen=True, eq=False)
class TextLosses:
    """Makes the losses of plain text: masks a micro-batch's tokens first.

    Args:
        masks: of every step.
    """

    masks: StepMasks

    def __call__(self, batch: Batch, info: StepInfo) -> MaskedLosses:
        masks = self.masks(info)
        return MaskedLosses(masks.apply(batch, info.rows), max(1, masks.num_hidden))


def encoder_states(
    net: TaskModel, batch: Batch, subnet: Subnet | None = None, *, last_at: Tensor | None = None
) -> States:
    """Return the hidden states of a batch; of the last one only some places, if they are given."""
    states: States = net.encoder(
        batch.input_ids,
        batch.attention_mask,
        batch.token_type_ids,
        subnet=subnet,
        blocks=batch.blocks,
        last_at=last_at,
    )
    return states
