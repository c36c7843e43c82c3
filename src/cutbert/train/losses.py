"""Distillation losses of one batch: of a student's logits and hidden states against a teacher's, padding excluded.

Axes: B batch, S sequence, H hidden, C outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from cutbert.model.layout import logits_by_text
from cutbert.shape.blocks import Blocks
from cutbert.shape.head import HeadSpec


def logit_loss(
    spec: HeadSpec,
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    attention_mask: Tensor | None = None,
    blocks: Blocks | None = None,
) -> Tensor:
    """Return the loss of a student's logits against the teacher's, summed over the batch.

    Single label: KL(teacher || student) of the softmax, whose gradient is the paper's soft
    cross-entropy's; times temperature squared. Multi-label: the same of each label's sigmoid, summed
    over labels. Regression: squared error. Token: KL of each real token's labels, summed over them. Span: KL
    over a text's real positions, the mean of start and end.

    Args:
        spec: kind of head; one of the three sequence kinds, token or span.
        student, teacher: [B, C]; for token and span heads as in TaskOutput.
        temperature: divides both logits; the paper's is 1.
        attention_mask, blocks: of the batch, for token and span heads.

    Returns:
        A scalar, 0 where both agree; for the mean divide by the number of examples, for a token head by that of
        real tokens.

    Source:
        Hou et al. 2020 (2004.04037), equation 4; squared error for regression, KL for several labels, per token
        and over positions are our choice (the release trains no logits in regression, and GLUE tasks alone).
    """
    student, teacher = student.float(), teacher.float()
    if spec.kind == "regression":
        return F.mse_loss(student, teacher, reduction="sum")
    student, teacher = student / temperature, teacher / temperature
    if spec.kind == "span":
        sides = (logits_by_text(logits, attention_mask, blocks) for logits in (student, teacher))
        kls = [kl_sum(ours.log_softmax(-1), theirs.log_softmax(-1)) for ours, theirs in zip(*sides, strict=True)]
        return torch.stack(kls).sum() / 2 * temperature**2
    if spec.kind == "multi_label":
        student = torch.stack((F.logsigmoid(student), F.logsigmoid(-student)))
        teacher = torch.stack((F.logsigmoid(teacher), F.logsigmoid(-teacher)))
    else:
        student, teacher = student.log_softmax(-1), teacher.log_softmax(-1)
    if spec.kind == "token" and attention_mask is not None:
        real = attention_mask[..., None] == 1
        student, teacher = student.masked_fill(~real, 0.0), teacher.masked_fill(~real, 0.0)
    return kl_sum(student, teacher) * temperature**2


def kl_sum(student: Tensor, teacher: Tensor) -> Tensor:
    """Return KL(teacher || student) of log probabilities, summed over everything."""
    return F.kl_div(student, teacher, reduction="sum", log_target=True)


def state_loss(student: Tensor, teacher: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Return the squared error of hidden states, summed over real tokens, mean over hidden units.

    Args:
        student, teacher: [..., H].
        attention_mask: [...], 1 = token; None where nothing is padded.

    Returns:
        A scalar; divide by the number of real tokens for the mean over tokens.

    Source:
        Hou et al. 2020 (2004.04037), equation 5, with padding left out (the release counts it).
    """
    difference = student - teacher
    if attention_mask is not None:
        difference = difference * attention_mask[..., None].to(difference.dtype)
    return difference.square().sum(dtype=torch.float32) / student.shape[-1]


def matched_states(kept: Sequence[int], num_layers: int, rule: str) -> list[tuple[int, int]]:
    """Return which hidden state of a student is compared with which of its teacher.

    State 0 is the embeddings' output; state i + 1 of a network is the output of its i-th layer.

    Args:
        kept: the teacher's layer indices that the student keeps, rising.
        num_layers: layers of the teacher.
        rule: "paper" matches each kept layer's output with the same layer's output; "release" matches
            kept layers' inputs, and the last output with the last.

    Returns:
        Pairs (student state, teacher state), without the embeddings'.

    Source:
        Hou et al. 2020 (2004.04037), section 2.3, and the released code.
    """
    if rule == "release":
        inputs = [(position, layer) for position, layer in enumerate(kept) if layer > 0]
        return [*inputs, (len(kept), num_layers)]
    return [(position + 1, layer + 1) for position, layer in enumerate(kept)]
