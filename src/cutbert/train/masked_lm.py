"""Masked LM: a step's masks, the loss, scores on held-out rows; only masked positions go through the vocabulary.

Axes: M masked tokens, E table width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cutbert.data.batches import MAX_TOKENS, ROUND_TO, plan_eval_batches
from cutbert.data.masking import Masking, Masks, draw_masks
from cutbert.data.tokens import Tokens
from cutbert.errors import InputError, ModelError
from cutbert.model.heads import MaskedLMHead
from cutbert.model.layout import at_places
from cutbert.model.task_model import TaskModel
from cutbert.model.vocabulary import cross_entropy_of, vocabulary_loss
from cutbert.shape.subnet import Subnet
from cutbert.train.collating import padded_batch
from cutbert.train.evaluate import Scores
from cutbert.train.loop import ModelView, StepInfo

EVAL_SEED = 20181011
MASKED_ACCURACY = "masked_accuracy"


class StepMasks:
    """The masks of a step: drawn once for the whole step, so that no split of it changes them.

    Args:
        tokens: the stage's rows.
        masking: how tokens are masked.
    """

    def __init__(self, tokens: Tokens, masking: Masking) -> None:
        self.tokens, self.masking = tokens, masking
        self._step = -1
        self._masks: Masks | None = None

    def __call__(self, info: StepInfo) -> Masks:
        """Return the masks of all rows of a step; draws from `info.random` at a step's first micro-batch."""
        rows = np.sort(info.step_rows)
        if self._masks is None or self._step != info.step or not np.array_equal(self._masks.rows, rows):
            self._step, self._masks = info.step, draw_masks(self.tokens, rows, self.masking, info.random)
        return self._masks


def check_token_table(choice: str | None) -> None:
    """Raise an InputError where only used rows of the token table are to be updated: the output is tied to it."""
    if choice == "rows":
        raise InputError(
            "--token-table must be dense or frozen for masked LM, whose output is the token table too, got rows"
        )


def transformed(net: TaskModel, states: Sequence[Tensor], positions: Tensor, *, is_read: bool = False) -> Tensor:
    """Return the outputs of the head's transform at some positions of the last hidden states, [M, E].

    Args:
        net: the network.
        states: its hidden states.
        positions: in the flattened batch, [M].
        is_read: whether the last state is of `rounded(positions)` only.
    """
    return head_of(net).transform(states[-1][: len(positions)] if is_read else at_places(states[-1], positions))


def rounded(positions: Tensor) -> Tensor:
    """Return positions and, behind them, the first of the batch again up to a multiple of ROUND_TO, as batches are."""
    size = max(1, -(-len(positions) // ROUND_TO)) * ROUND_TO
    return torch.cat([positions, positions.new_zeros(size - len(positions))])


def masked_loss(view: ModelView, x: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of masked tokens, summed, from the outputs of `transformed`.

    Gradients reach the float32 token table; the product with it is in the training dtype.
    """
    table = view.model.encoder.embeddings.token.weight
    return vocabulary_loss(x, table, view.token_table(), head_of(view.model).bias, cross_entropy_of(targets))


def head_of(net: TaskModel) -> MaskedLMHead:
    if not isinstance(net.head, MaskedLMHead):
        raise ModelError(f"a model with a masked-LM head is needed, got head kind {net.head_spec.kind!r}")
    return net.head


class Outcomes(NamedTuple):
    """How a network did at the masked tokens of each row.

    Args:
        losses: cross-entropy, summed over the row's masked tokens, [N].
        hits: masked tokens whose most likely token is the right one, [N].
        counts: masked tokens, [N].
    """

    losses: NDArray[np.float64]
    hits: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """Share of the masked tokens that are predicted right."""
        return int(self.hits.sum()) / max(1, int(self.counts.sum()))

    @property
    def loss(self) -> float:
        """Mean cross-entropy of the masked tokens."""
        return float(self.losses.sum()) / max(1, int(self.counts.sum()))

    @property
    def perplexity(self) -> float:
        """Exponential of the loss; capped where a float ends."""
        return math.exp(min(self.loss, 700.0))


def score_masked_lm(model: TaskModel, subnet: Subnet, tokens: Tokens, masking: Masking) -> Scores:
    """Return how good a network is at masked tokens: the share it gets right, beside loss and perplexity."""
    outcomes = masked_outcomes(model, tokens, masking, subnet=subnet)
    metrics = {MASKED_ACCURACY: outcomes.accuracy, "loss": outcomes.loss, "perplexity": outcomes.perplexity}
    return Scores(outcomes.accuracy, metrics, {name: values.tolist() for name, values in outcomes._asdict().items()})


def masked_outcomes(
    model: TaskModel,
    tokens: Tokens,
    masking: Masking,
    *,
    subnet: Subnet | None = None,
    max_tokens: int = MAX_TOKENS,
    on_batch: Callable[[int], None] | None = None,
) -> Outcomes:
    """Return how a network does at the masked tokens of rows.

    In float32, without dropout. The same tokens are masked at every call with the same rows and `max_tokens`, so
    that networks can be compared. The model's training mode is left as it was.

    Args:
        model: with a masked-LM head, on any device.
        tokens: held-out rows, at least one.
        masking: how tokens are masked.
        subnet: the part of the model to run; None for all of it.
        max_tokens: tokens per batch at most (a longer row runs alone).
        on_batch: called after each batch with its number of rows.

    Raises:
        ModelError: the model has no masked-LM head.
    """
    head_of(model)
    was_training = model.training
    model.eval()
    N = len(tokens)
    outcomes = Outcomes(np.zeros(N), np.zeros(N, np.int64), np.zeros(N, np.int64))
    try:
        for number, rows in enumerate(plan_eval_batches(tokens.lengths, max_tokens)):
            masks = draw_masks(tokens, rows, masking, np.random.default_rng([EVAL_SEED, number]))
            add_outcomes(outcomes, model, tokens, masks, subnet)
            if on_batch is not None:
                on_batch(len(rows))
    finally:
        model.train(was_training)
    return outcomes


@torch.inference_mode()
def add_outcomes(outcomes: Outcomes, model: TaskModel, tokens: Tokens, masks: Masks, subnet: Subnet | None) -> None:
    """Add the outcomes of one batch of rows."""
    batch = padded_batch(model, tokens, masks.rows).to(next(model.parameters()).device)
    masked = masks.apply(batch, masks.rows)
    batch = masked.batch
    states = model.encoder(batch.input_ids, batch.attention_mask, batch.token_type_ids, subnet=subnet)
    logits = model.apply_head(states, batch.attention_mask, positions=masked.positions).logits
    assert logits is not None
    losses = F.cross_entropy(logits.float(), masked.targets, reduction="none").double().cpu().numpy()
    hits = (logits.argmax(-1) == masked.targets).cpu().numpy()
    rows = masks.rows[masked.positions.cpu().numpy() // batch.input_ids.shape[1]]
    np.add.at(outcomes.losses, rows, losses)
    np.add.at(outcomes.hits, rows, hits)
    np.add.at(outcomes.counts, rows, 1)
