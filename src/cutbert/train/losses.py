"""Distillation losses of one batch, padding excluded: of logits, of hidden states, and of relations between tokens.

Axes: B texts of a block, S positions of each, H hidden, C outputs, A relation heads, D width of a projection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from cutbert.model.layout import blocks_of, logits_by_text, padding_biases
from cutbert.shape.blocks import Blocks, placed
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
    over a text's real positions, the mean of start and end. Embedding: squared error of the vectors divided by their
    norms, which is twice one less their cosine; of vectors of other widths `similarity_loss`.

    Args:
        spec: kind of head; one of the three sequence kinds, token, span or embedding.
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
    if spec.kind == "embedding" and student.shape[-1] != teacher.shape[-1]:
        return similarity_loss(student, teacher)
    if spec.kind == "embedding":
        return F.mse_loss(F.normalize(student, dim=-1), F.normalize(teacher, dim=-1), reduction="sum")
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


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared error of the cosines of each text to the others of the batch, their mean, summed over texts.

    Only how texts lie to each other is compared: a turn of all vectors changes nothing, and widths may differ.

    Args:
        student, teacher: vectors of the same texts, [B, H], each of any H.

    Returns:
        A scalar, 0 where all cosines agree, and for a single text; for the mean divide by the number of texts.

    Source:
        Tung and Mori 2019 (1907.09682), equations 1 to 4, of cosines as in Jasper and Stella, Zhang et al. 2024
        (2412.19048), equation 3. A text's cosine to itself, always 1, is left out: our choice.
    """
    ours, theirs = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
    return (ours @ ours.T - theirs @ theirs.T).fill_diagonal_(0.0).square().sum() / max(1, len(ours) - 1)


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


def relation_loss(
    student: Tensor,
    teacher: Tensor,
    num_heads: int,
    *,
    attention_mask: Tensor | None = None,
    blocks: Blocks | None = None,
) -> Tensor:
    """Return the KL of how a text's tokens relate to each other, summed over real tokens, mean over relation heads.

    The relation of a token to all tokens of its text is softmax(A A' / sqrt(d)), A being the queries (or the keys, or
    the values) of one head of width d. The heads are not those of attention: all are joined and split again, so student
    and teacher may differ in heads and in width.

    Args:
        student, teacher: queries, keys or values of all heads, [B, S, D] or [T, D]; their D may differ.
        num_heads: relation heads; divides both D.
        attention_mask, blocks: of the batch.

    Returns:
        A scalar, 0 where both agree; divide by the number of real tokens for the mean over tokens.

    Source:
        Wang et al. 2021, MiniLMv2 (2012.15828), equations 4 to 7, one of the three relations.
    """
    layout = blocks_of(student[..., 0], attention_mask, blocks)
    biases = padding_biases(attention_mask, layout, torch.float32)
    sums = []
    for (block, start), bias in zip(placed(layout), biases, strict=True):
        log_q, log_p = (
            relations(
                each.flatten(0, -2)[start : start + block.size].view(block.rows, block.length, -1), num_heads, bias
            )
            for each in (student, teacher)
        )
        kl_BAS = (log_p.exp() * (log_p - log_q)).sum(-1)
        if bias is not None:
            kl_BAS = kl_BAS * (bias[:, :, 0] == 0)
        sums.append(kl_BAS.sum())
    return torch.stack(sums).sum() / num_heads


def relations(x_BSD: Tensor, num_heads: int, bias: Tensor | None) -> Tensor:
    """Return log softmax(A A' / sqrt(d)) of each relation head, [B, A, S, S], in float32."""
    heads = x_BSD.float().unflatten(-1, (num_heads, -1)).transpose(1, 2)
    scores = heads @ heads.mT / math.sqrt(heads.shape[-1])
    return (scores if bias is None else scores + bias).log_softmax(-1)


def relation_heads(one: int, other: int, most: int) -> int:
    """Return the most relation heads, up to a number, that divide two widths."""
    common = math.gcd(one, other)
    return max(heads for heads in range(1, most + 1) if common % heads == 0)


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
