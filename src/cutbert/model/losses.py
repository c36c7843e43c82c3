"""The loss of each kind of head against true labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cutbert.errors import InputError
from cutbert.model.layout import logits_by_text
from cutbert.shape.blocks import Blocks
from cutbert.shape.head import IGNORED, HeadSpec


def task_loss(
    spec: HeadSpec,
    logits: Tensor | None,
    labels: Tensor | None,
    *,
    attention_mask: Tensor | None = None,
    blocks: Blocks | None = None,
) -> Tensor:
    """Return the mean loss of a batch, in float32.

    Args:
        spec: the head's kind.
        logits: of a `TaskOutput`.
        labels: ids [B]; float scores [B] or [B, C] for regression, or bool [B] (whether a pair is relevant); multi-hot
            [B, C]; ids [B, S] or [T] per token and for masked LM, -100 where ignored; [B, 2] start and end positions
            for spans.
        attention_mask: of the batch; a span cannot start or end at padding.
        blocks: the layout of [T]; None for [B, S].

    Returns:
        A scalar: cross-entropy, binary cross-entropy (multi_label, and bool labels of regression) or squared error
        (regression), mean over examples, labels or tokens that are not ignored (0 where all are); for spans the
        mean of start and end.

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
    if spec.kind == "regression" and labels.dtype == torch.bool:
        return F.binary_cross_entropy_with_logits(logits, labels.float().view_as(logits))
    if spec.kind == "regression":
        return F.mse_loss(logits, labels.float().view_as(logits))
    if spec.kind in ("token", "masked_lm"):
        total = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="sum")
        return total / (labels != IGNORED).sum().clamp(min=1)
    if spec.kind == "span":
        texts = logits_by_text(logits, attention_mask, blocks)
        parts = labels.split([part.shape[0] for part in texts])
        sums = [
            F.cross_entropy(part.flatten(0, 1), targets.flatten(), reduction="sum")
            for part, targets in zip(texts, parts, strict=True)
        ]
        return torch.stack(sums).sum() / labels.numel()
    raise InputError(f"a head of kind {spec.kind} has no loss; give the model a task head")
