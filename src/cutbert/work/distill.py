"""Training steps of one network: on labels, or by distillation from a teacher, which heals a cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import torch
from torch import Tensor

from cutbert.data.batches import Batch
from cutbert.model.encoder import EncoderLayer, attention_sizes
from cutbert.model.task_model import TaskModel
from cutbert.shape.subnet import Subnet
from cutbert.train.loop import ModelView, StepInfo
from cutbert.train.losses import matched_states, relation_heads, relation_loss, state_loss
from cutbert.work.losses import Losses, LossesOf, StatePairs, States, Teacher, encoder_states

SubnetAt = Callable[[float], Subnet | None]
"""The part of a network that is trained after a share of the steps; None for all of it."""
LayerMap = Literal["uniform", "last", "own", "own_and_last"]
RELATION_HEADS = 12  # at most; 12 heads of 32 for 384 units


@dataclass(frozen=True)
class LossWeights:
    """Weights of the distillation losses, and the temperature of the logit loss."""

    logits: float = 1.0
    hidden: float = 0.0
    temperature: float = 1.0
    relations: float = 0.0

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
        places = batch_losses.read_at(view.model)
        states = encoder_states(view.model, batch_losses.batch, last_at=places)
        return add_gradients(batch_losses.label_losses(view, states, is_read=places is not None))


@dataclass(frozen=True, eq=False)
class DistillStep:
    """One step in which a network learns a teacher's logits, hidden states and relations between tokens.

    Args:
        losses_of: the objective's losses.
        teacher: None for none. For relations it needs the student's tokenizer and nothing else; whether its hidden
            states can be compared it says itself.
        weights: of the losses; the hidden one is the mean over pairs of states, that of relations the sum over
            queries, keys and values.
        hidden_units: the teacher's hidden units that the student kept, in its order; None for all.
        uses_labels: labels take the place of the teacher's logits, as in masked LM.
        subnet_at: what is trained, for a network that shrinks on the way; it keeps all layers.
        state_pairs: which of the student's states is compared with which of the teacher's, as `layer_map` returns
            them; empty for none, None for those of the model that the teacher's states belong to (`Teacher.match`):
            the same number, one to one, or by the teacher's own pairs.
        relation_layer: the teacher's layer whose relations the student's last layer learns; None for its last.

    Source:
        Logits and states are those of DynaBERT, Hou et al. 2020 (2004.04037), equations 4 to 7; relations those of
        MiniLMv2, Wang et al. 2021 (2012.15828). Comparing a network of fewer hidden units with the teacher's units
        that it was cut from is our choice, and so are true tokens in the place of logits, and the number of relation
        heads: the largest up to 12 that divides both widths.
    """

    losses_of: LossesOf
    teacher: Teacher | None
    weights: LossWeights
    hidden_units: Tensor | None = None
    uses_labels: bool = False
    subnet_at: SubnetAt | None = None
    state_pairs: StatePairs | None = None
    relation_layer: int | None = None

    def __call__(self, view: ModelView, batch: Batch, info: StepInfo) -> Losses:
        batch_losses = self.losses_of(batch, info)
        batch = batch_losses.batch
        subnet = None if self.subnet_at is None else self.subnet_at(info.progress)
        learns_states = bool(self.weights.hidden) and self.teacher is not None and self.teacher.has_states
        places = None if learns_states else batch_losses.read_at(view.model)
        is_read = places is not None
        student = encoder_states(view.model, batch, subnet, last_at=places)
        teacher_states: States = ()
        if self.uses_labels:
            losses = batch_losses.label_losses(view, student, is_read=is_read)
            if self.teacher is not None:
                teacher_states = self.teacher.states(batch)
        else:
            assert self.teacher is not None
            target = batch_losses.target(self.teacher)
            logit_loss = batch_losses.logit_loss(view, student, target, self.weights.temperature, is_read=is_read)
            losses = {"logits": logit_loss * (self.weights.logits / batch_losses.num_targets)}
            teacher_states = target.states
        if self.teacher is None:
            return add_gradients(losses)
        if learns_states:
            losses |= self.state_losses(student, teacher_states, batch, info)
        if self.weights.relations:
            assert self.teacher.tokens is None
            ours = queries_keys_values(view.model, student, None, subnet)
            theirs = queries_keys_values(self.teacher.model, teacher_states, self.relation_layer)
            losses["relations"] = sum_of_relations(ours, theirs, batch) * (self.weights.relations / info.num_tokens)
        return add_gradients(losses)

    def state_losses(self, student: States, teacher: States, batch: Batch, info: StepInfo) -> Losses:
        """Return the loss of hidden states, or nothing where no pairs are compared."""
        assert self.teacher is not None
        pairs = self.state_pairs
        if pairs is None:
            assert self.teacher.state_pairs is not None or len(student) == len(teacher)
            pairs = self.teacher.match([(i, i) for i in range(len(student))])
        if not pairs:
            return {}
        ours = [student[i] for i, _ in pairs]
        theirs = [teacher[j] for _, j in pairs]
        if self.hidden_units is not None:
            theirs = [states.index_select(-1, self.hidden_units) for states in theirs]
        return {"hidden": mean_state_loss(ours, theirs, batch.attention_mask, info.num_tokens) * self.weights.hidden}


def layer_map(
    num_student: int, num_teacher: int, rule: LayerMap, kept: Sequence[int] | None = None
) -> list[tuple[int, int]]:
    """Return which hidden state of a student is compared with which of its teacher; state 0 is the embeddings' output.

    Args:
        num_student, num_teacher: numbers of layers.
        rule: "uniform" spreads the student's layers evenly over the teacher's, the last with the last; "own" compares
            each layer with the one it was cut from; both with the embeddings beside them. "own_and_last" is "own" with
            the last states compared with each other, "last" compares these alone.
        kept: under "own" and "own_and_last" the teacher's layers that the student keeps, rising; None for the first.

    Source:
        Uniform: TinyBERT, Jiao et al. 2020 (1909.10351), section 4.1, g(m) = m L / l. Where that is no whole number
        the nearest is taken, at least 1: our choice.

    >>> layer_map(3, 6, "uniform")
    [(0, 0), (1, 2), (2, 4), (3, 6)]
    >>> layer_map(2, 6, "own", kept=[0, 5])
    [(0, 0), (1, 1), (2, 6)]
    >>> layer_map(3, 6, "own_and_last", kept=[0, 1, 2])
    [(0, 0), (1, 1), (2, 2), (3, 6)]
    """
    if rule == "last":
        return [(num_student, num_teacher)]
    if rule == "own_and_last":
        return [*layer_map(num_student, num_teacher, "own", kept)[:-1], (num_student, num_teacher)]
    if rule == "own":
        return [(0, 0), *matched_states(range(num_student) if kept is None else kept, num_teacher, "paper")]
    if rule == "uniform":
        return [(0, 0)] + [
            (i, max(1, (2 * i * num_teacher + num_student) // (2 * num_student))) for i in range(1, num_student + 1)
        ]
    assert_never(rule)


def mean_state_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], attention_mask: Tensor | None, num_tokens: int
) -> Tensor:
    """Return the squared error of a batch's hidden states, the mean over states and over the tokens of the step."""
    pairs = zip(student, teacher, strict=True)
    errors = torch.stack([state_loss(ours, theirs, attention_mask) for ours, theirs in pairs])
    return errors.sum() / (num_tokens * len(student))


def queries_keys_values(
    net: TaskModel, states: States, layer: int | None = None, subnet: Subnet | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values of one layer, computed again from its input.

    Args:
        net: the network.
        states: its hidden states.
        layer: index among those that ran; None for the last that has attention.
        subnet: the part that ran; None for all.
    """
    kept = (subnet or Subnet.full(net.shape)).layers
    if layer is None:
        layer = max(i for i, each in enumerate(kept) if each.shape.has_attention)
    module = net.encoder.layers[kept[layer].index]
    assert isinstance(module, EncoderLayer) and module.attention is not None
    return module.attention.projections(states[layer], **attention_sizes(kept[layer].shape))


def sum_of_relations(student: Sequence[Tensor], teacher: Sequence[Tensor], batch: Batch) -> Tensor:
    """Return the relation losses of queries, keys and values, summed over them and over real tokens."""
    losses = [
        relation_loss(
            ours,
            theirs,
            relation_heads(ours.shape[-1], theirs.shape[-1], RELATION_HEADS),
            attention_mask=batch.attention_mask,
            blocks=batch.blocks,
        )
        for ours, theirs in zip(student, teacher, strict=True)
    ]
    return torch.stack(losses).sum()


def add_gradients(losses: Losses) -> Losses:
    """Run backwards from the sum of some losses, and return them without their graph, to be logged."""
    torch.stack(list(losses.values())).sum().backward()
    return {name: loss.detach() for name, loss in losses.items()}
