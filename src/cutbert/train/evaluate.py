"""Predicts logits and computes metrics.

Axes: S sequence, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cutbert.data.batches import MAX_TOKENS
from cutbert.data.metrics import ScoredOutputs, metrics_for
from cutbert.data.tokens import Tokens
from cutbert.errors import DataError, ModelError
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.subnet import Subnet
from cutbert.train.losses import logit_loss, similarity_loss
from cutbert.train.runner import TorchRunner, products_for, run_rows

FACTORS = tuple(2.0 ** (i / 4) for i in range(-8, 9))  # of logits


@dataclass(frozen=True)
class Scores:
    """How good predictions are, as fractions of 1.

    Args:
        score: the primary metric's value.
        metrics: all metrics by name.
        outputs: what is kept of the predictions, by name, one item per row.
    """

    score: float
    metrics: dict[str, float]
    outputs: dict[str, Any]


def predict_logits(
    model: TaskModel,
    tokens: Tokens,
    *,
    subnet: Subnet | None = None,
    max_tokens: int = MAX_TOKENS,
    on_batch: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Return the logits of every row, in the rows' own order.

    Runs without dropout and gradients, in the model's own dtype, rows of similar length together; the model's
    training mode is left as it was.

    Args:
        model: supernet or model with a task head, on any device.
        tokens: the rows.
        subnet: the part of the model to run; None for all of it.
        max_tokens: tokens per batch at most, padding included (a longer row runs alone).
        on_batch: called after each batch with its number of rows.

    Returns:
        [N, C]; for token and span heads [N, S, C], 0 after a row's own tokens.

    Raises:
        ModelError: the model has no head that gives logits.
    """
    if model.head_spec.kind in ("none", "pooler"):
        raise ModelError(f"a model with a head that gives logits is needed, got head kind {model.head_spec.kind!r}")
    was_training = model.training
    model.eval()
    try:
        with products_for(model):
            return run_rows(TorchRunner(model, subnet), model, tokens, max_tokens=max_tokens, on_batch=on_batch)
    finally:
        model.train(was_training)


def teacher_kl(head: HeadSpec, student_logits: NDArray[np.float32], teacher_logits: NDArray[np.float32]) -> float:
    """Return the mean of a student's `logit_loss` against a teacher: KL(teacher || student), 0 where both agree.

    The mean is over rows; over rows and labels for several labels, over tokens for a token head or masked LM. Squared
    error for regression. Positions behind a row's own tokens are those where `predict_logits` left all logits 0.

    Args:
        head: kind of head.
        student_logits, teacher_logits: of the same rows, as `predict_logits` returns them.

    Raises:
        DataError: other rows or outputs, or no rows.
    """
    if student_logits.shape != teacher_logits.shape or not student_logits.size:
        raise DataError(
            f"logits of both networks must have one shape, for at least one row, "
            f"got {student_logits.shape} and {teacher_logits.shape}"
        )
    is_real = torch.from_numpy(teacher_logits.any(-1)).long() if teacher_logits.ndim == 3 else None
    count = student_logits.shape[0]
    if head.kind == "multi_label":
        count = student_logits.size
    elif is_real is not None and head.kind != "span":
        count = int(is_real.sum())
    student, teacher = torch.from_numpy(student_logits).double(), torch.from_numpy(teacher_logits).double()
    return max(0.0, float(logit_loss(head, student, teacher, attention_mask=is_real))) / count


def least_teacher_kl(head: HeadSpec, student_logits: NDArray[np.float32], teacher_logits: NDArray[np.float32]) -> float:
    """Return `teacher_kl` of a student whose logits are multiplied by what makes it least, of FACTORS.

    What it answers does not depend on such a factor, and divergence does: a network that is trained for long on the
    rows that its teacher learned from becomes as sure of others too. For regression, where it would, it is 1.

    Args:
        head, student_logits, teacher_logits: as in `teacher_kl`, and its errors.
    """
    factors = (1.0,) if head.kind == "regression" else FACTORS
    return min(teacher_kl(head, np.float32(factor) * student_logits, teacher_logits) for factor in factors)


def similarity_error(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Return the mean of a student's `similarity_loss` against a teacher, over texts; vectors may have any widths."""
    student, teacher = torch.from_numpy(ours).double(), torch.from_numpy(theirs).double()
    return float(similarity_loss(student, teacher)) / len(ours)


def score(head: HeadSpec, metric: str, logits: NDArray[np.float32], tokens: Tokens) -> Scores:
    """Return how good logits are for labelled rows, and what is kept of them.

    Kept are logits and labels for a sequence head, and the outputs of the rows' own scorer, where they have one.

    Raises:
        DataError: the rows have no labels.
    """
    if not tokens.is_labelled:
        raise DataError("rows must have labels to be scored against, got none")
    outputs: dict[str, Any] = {}
    if head.is_sequence:
        labels = np.asarray(tokens.labels)
        outputs = {
            "classes": list(head.labels),
            "labels": (labels.astype(np.int64) if labels.dtype == np.bool_ else labels).tolist(),
            "logits": short_floats(logits),
        }
    if tokens.scorer is not None:
        scored = tokens.scorer(logits)
    else:
        assert tokens.labels is not None
        scored = ScoredOutputs(metrics_for(head, logits, tokens.labels), {})
    return Scores(scored.metrics[scored.metric or metric], scored.metrics, {**outputs, **scored.outputs})


def short_floats(values: NDArray[np.float32]) -> list[Any]:
    """Return nested lists of the shortest decimals that read back as the same float32."""
    if values.ndim > 1:
        return [short_floats(row) for row in values]
    return [float(str(value)) for value in values]
