"""The loss of each kind of head against true labels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from cutbert.errors import InputError
from cutbert.shape.head import HeadSpec

IGNORED = -100


def task_loss(spec: HeadSpec, logits: Tensor | None, labels: Tensor | None) -> Tensor:
    """Return the mean loss of a batch, in float32.

    Args:
        spec: the head's kind.
        logits: as in TaskOutput.
        labels: ids [B]; float scores [B] or [B, C] for regression; multi-hot [B, C]; ids [B, S] or [T] per token and
            for masked LM, -100 where ignored; [B, 2] start and end positions for spans.

    Returns:
        A scalar: cross-entropy, binary cross-entropy (multi_label) or squared error (regression), mean over
        examples, labels or counted tokens.

    Raises:
        InputError: the head has no outputs, or the batch no labels.
    """
    if logits is None:
        raise InputError(f"a head of kind {spec.kind} has no loss; give the model a task head")
    if labels is None:
        raise InputError("a loss against labels must have labels, got rows without")
    logits = logits.float()
    if spec.kind == "single_label":
        return F.cross_entropy(logits, labels)
    if spec.kind == "multi_label":
        return F.binary_cross_entropy_with_logits(logits, labels.float())
    if spec.kind == "regression":
        return F.mse_loss(logits, labels.float().view_as(logits))
    if spec.kind in ("token", "masked_lm"):
        return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED)
    if spec.kind == "span":
        start, end = logits.unbind(-1)
        return (F.cross_entropy(start, labels[:, 0]) + F.cross_entropy(end, labels[:, 1])) / 2
    raise InputError(f"a head of kind {spec.kind} has no loss; give the model a task head")
