"""The loss of every kind of head against labels, beside the formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cutbert.errors import InputError
from cutbert.model.losses import task_loss
from cutbert.shape.blocks import Block, Blocks
from cutbert.shape.head import IGNORED, HeadSpec
from tiny_runs import tiny_model

ABC = ("a", "b", "c")
LOGITS = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
TOKEN_LOGITS = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))


def surprise(logits: Tensor, label: int) -> Tensor:
    """The negative log-probability of a label."""
    return logits.exp().sum().log() - logits[label]


def test_single_label() -> None:
    labels = torch.tensor([0, 2, 1, 2])
    wanted = torch.stack([surprise(row, int(label)) for row, label in zip(LOGITS, labels, strict=True)]).mean()
    torch.testing.assert_close(task_loss(HeadSpec("single_label", ABC), LOGITS, labels), wanted)


def test_multi_label() -> None:
    labels = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    chance = LOGITS.sigmoid()
    wanted = -(labels * chance.log() + (1 - labels) * (1 - chance).log()).mean()
    torch.testing.assert_close(task_loss(HeadSpec("multi_label", ABC), LOGITS, labels), wanted)


def test_regression() -> None:
    logits, labels = LOGITS[:, :1], torch.tensor([0.5, -1.0, 2.0, 0.0])
    wanted = (logits[:, 0] - labels).square().mean()
    torch.testing.assert_close(task_loss(HeadSpec("regression", ("score",)), logits, labels), wanted)


@pytest.mark.parametrize("spec", [HeadSpec("token", ABC), HeadSpec("masked_lm")])
def test_per_token_the_ignored_do_not_count(spec: HeadSpec) -> None:
    labels = torch.tensor([[0, 1, IGNORED, 2, IGNORED], [IGNORED, IGNORED, 1, IGNORED, IGNORED]])
    counted = [surprise(TOKEN_LOGITS[b, s], int(labels[b, s])) for b, s in ((0, 0), (0, 1), (0, 3), (1, 2))]
    torch.testing.assert_close(task_loss(spec, TOKEN_LOGITS, labels), torch.stack(counted).mean())
    in_blocks = task_loss(spec, TOKEN_LOGITS.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(in_blocks, torch.stack(counted).mean())


def test_span() -> None:
    logits, labels = TOKEN_LOGITS[..., :2], torch.tensor([[1, 3], [0, 0]])
    ends = [surprise(logits[b, :, e], int(labels[b, e])) for b in (0, 1) for e in (0, 1)]
    torch.testing.assert_close(task_loss(HeadSpec("span"), logits, labels), torch.stack(ends).mean())


def test_bf16_logits_give_a_float32_loss() -> None:
    loss = task_loss(HeadSpec("single_label", ABC), LOGITS.bfloat16(), torch.tensor([0, 2, 1, 2]))
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("kind", ["none", "pooler"])
def test_heads_without_output_are_refused(kind: str) -> None:
    with pytest.raises(InputError, match=f"a head of kind {kind} has no loss"):
        task_loss(HeadSpec(kind), LOGITS, torch.zeros(4))


@pytest.mark.parametrize(
    "spec, logits, pooled",
    [
        (HeadSpec("single_label", ABC), (2, 3), True),
        (HeadSpec("multi_label", ABC), (2, 3), True),
        (HeadSpec("regression", ("score",)), (2, 1), True),
        (HeadSpec("token", ABC), (2, 7, 3), False),
        (HeadSpec("span"), (2, 7, 2), False),
        (HeadSpec("masked_lm"), (2, 7, 20), False),
        (HeadSpec("pooler"), None, True),
        (HeadSpec("none"), None, False),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_outputs_of_every_head(spec: HeadSpec, logits: tuple[int, ...] | None, pooled: bool) -> None:
    output = tiny_model(spec)(torch.ones(2, 7, dtype=torch.long))
    assert (None if output.logits is None else output.logits.shape) == logits
    assert (output.pooled is not None) == pooled and len(output.hidden_states) == 4


def padded_and_in_blocks() -> tuple[Tensor, Tensor, Tensor, Tensor, Blocks]:
    """Logits of four texts of 5, 3, 4 and 2 tokens: [B, S, 2] and mask; the same in two blocks and a rest."""
    logits = torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(2))
    mask = (torch.arange(5) < torch.tensor([5, 3, 4, 2])[:, None]).long()
    blocks = (Block(2, 5, True), Block(2, 4, True))
    rest = torch.full((3, 2), 9.0)
    flat = torch.cat([logits[:2].flatten(0, 1), logits[2:, :4].flatten(0, 1), rest])
    flat_mask = torch.cat([mask[:2].flatten(), mask[2:, :4].flatten(), torch.zeros(3, dtype=torch.long)])
    return logits, mask, flat, flat_mask, blocks


def test_spans_are_looked_for_among_a_texts_own_tokens() -> None:
    logits, mask, flat, flat_mask, blocks = padded_and_in_blocks()
    labels = torch.tensor([[1, 4], [0, 0], [3, 3], [0, 1]])
    wanted = torch.stack(
        [surprise(logits[b, : mask[b].sum(), e], int(labels[b, e])) for b in range(4) for e in (0, 1)]
    ).mean()
    spec = HeadSpec("span")
    torch.testing.assert_close(task_loss(spec, logits, labels, attention_mask=mask), wanted)
    torch.testing.assert_close(task_loss(spec, flat, labels, attention_mask=flat_mask, blocks=blocks), wanted)
    whole = (Block(4, 5, False),)
    torch.testing.assert_close(
        task_loss(spec, logits.flatten(0, 1), labels, blocks=whole), task_loss(spec, logits, labels)
    )


def test_a_batch_without_counted_tokens_has_no_loss() -> None:
    logits = TOKEN_LOGITS.clone().requires_grad_()
    loss = task_loss(HeadSpec("token", ABC), logits, torch.full((2, 5), IGNORED))
    loss.backward()
    assert float(loss.detach()) == 0.0 and logits.grad is not None and not logits.grad.any()
