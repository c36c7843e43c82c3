"""What distillation imitates: zero between equals, the paper's gradients, padding left out."""

from __future__ import annotations

import pytest
import torch

from cutbert.shape.blocks import Block
from cutbert.shape.head import HeadSpec
from cutbert.train.losses import logit_loss, matched_states, relation_heads, relation_loss, state_loss

CLASSES = HeadSpec("single_label", ("a", "b", "c"))
SEVERAL = HeadSpec("multi_label", ("a", "b", "c"))
SCORE = HeadSpec("regression", ("score",))


def random_logits(columns: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(5, columns, requires_grad=True), torch.randn(5, columns)


@pytest.mark.parametrize("spec", [CLASSES, SEVERAL, SCORE], ids=lambda spec: spec.kind)
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_equals_are_at_no_distance(spec: HeadSpec, temperature: float) -> None:
    logits = 4 * random_logits()[1]
    same = logits.clone().requires_grad_()
    loss = logit_loss(spec, same, logits, temperature=temperature)
    loss.backward()
    assert loss.detach().abs() < 1e-5 and same.grad is not None and same.grad.abs().max() < 1e-5
    assert logit_loss(spec, logits + torch.randn(3), logits, temperature=temperature) > 0.01


def test_gradient_is_the_papers_soft_cross_entropy() -> None:
    student, teacher = random_logits()
    twin = student.detach().clone().requires_grad_()
    (logit_loss(CLASSES, student, teacher) / 5).backward()
    (-(teacher.softmax(-1) * twin.log_softmax(-1)).sum(-1)).mean().backward()
    torch.testing.assert_close(student.grad, twin.grad)


def test_temperature_keeps_the_size_of_gradients() -> None:
    student, teacher = random_logits()
    logit_loss(CLASSES, student, teacher, temperature=4.0).backward()
    wanted = 4.0 * ((student / 4).softmax(-1) - (teacher / 4).softmax(-1))
    torch.testing.assert_close(student.grad, wanted)


def test_multi_label_is_binary_cross_entropy_per_label() -> None:
    student, teacher = random_logits()
    twin = student.detach().clone().requires_grad_()
    logit_loss(SEVERAL, student, teacher).backward()
    torch.nn.functional.binary_cross_entropy_with_logits(twin, teacher.sigmoid(), reduction="sum").backward()
    torch.testing.assert_close(student.grad, twin.grad)


def test_regression_is_squared_error() -> None:
    student, teacher = random_logits(1)
    torch.testing.assert_close(logit_loss(SCORE, student, teacher), (student - teacher).square().sum())


LENGTHS = (5, 3, 4, 2)
BLOCKS = (Block(2, 5, True), Block(2, 4, True))


def per_token(outputs: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return logits of student and teacher and the mask, [B, S, outputs] and [B, S]."""
    torch.manual_seed(0)
    mask = (torch.arange(5) < torch.tensor(LENGTHS)[:, None]).long()
    return torch.randn(4, 5, outputs, requires_grad=True), torch.randn(4, 5, outputs), mask


def in_blocks(padded: torch.Tensor, filler: float) -> torch.Tensor:
    rest = torch.full((3, *padded.shape[2:]), filler, dtype=padded.dtype)
    return torch.cat([padded[:2].flatten(0, 1), padded[2:, :4].flatten(0, 1), rest])


def kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL(teacher || student) along the first axis, by the formula."""
    p, q = teacher.softmax(0), student.softmax(0)
    return (p * (p / q).log()).sum()


@pytest.mark.parametrize("spec", [HeadSpec("token", ("a", "b", "c")), HeadSpec("span")], ids=lambda spec: spec.kind)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_tokens_and_spans_count_real_tokens_only(spec: HeadSpec, temperature: float) -> None:
    student, teacher, mask = per_token(spec.num_outputs)
    twin = student.detach().clone().requires_grad_()
    wanted = torch.zeros(())
    for b, length in enumerate(LENGTHS):
        ours, theirs = twin[b, :length] / temperature, teacher[b, :length] / temperature
        if spec.kind == "span":
            wanted = wanted + sum(kl(ours[:, end], theirs[:, end]) for end in (0, 1)) / 2 * temperature**2
        else:
            wanted = wanted + sum(kl(ours[s], theirs[s]) for s in range(length)) * temperature**2
    wanted.backward()
    loss = logit_loss(spec, student, teacher, temperature=temperature, attention_mask=mask)
    loss.backward()
    torch.testing.assert_close(loss, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(student.grad, twin.grad, atol=1e-5, rtol=1e-5)
    flat, flat_teacher, flat_mask = in_blocks(student.detach(), 7.0), in_blocks(teacher, -3.0), in_blocks(mask, 0)
    found = logit_loss(
        spec, flat, flat_teacher, temperature=temperature, attention_mask=flat_mask.long(), blocks=BLOCKS
    )
    torch.testing.assert_close(found, wanted.detach(), atol=1e-5, rtol=1e-5)
    assert logit_loss(spec, teacher, teacher, temperature=temperature, attention_mask=mask).abs() < 1e-5


def test_bf16_logits_are_compared_in_float32() -> None:
    student, teacher = random_logits()
    assert logit_loss(CLASSES, student.bfloat16(), teacher.bfloat16()).dtype == torch.float32


def test_states_of_padding_do_not_count() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4, 6, requires_grad=True), torch.randn(2, 4, 6)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    loss = state_loss(student, teacher, mask)
    loss.backward()
    real = mask.bool()
    torch.testing.assert_close(loss / 6, (student - teacher)[real].square().mean())
    assert student.grad is not None and not student.grad[~real].any() and student.grad[real].all()
    torch.testing.assert_close(state_loss(student, teacher, None) / 8, (student - teacher).square().mean())


def plain_relations(x_SD: torch.Tensor, head: int, num_heads: int) -> torch.Tensor:
    """Return one head's relations of a text without padding, [S, S], by the formula."""
    d = x_SD.shape[1] // num_heads
    a = x_SD[:, head * d : (head + 1) * d]
    return (a @ a.T / d**0.5).softmax(-1)


def test_relations_are_the_formulas_and_count_real_tokens_only() -> None:
    student, _, mask = per_token(12)
    teacher = torch.randn(4, 5, 20)
    twin, wanted = student.detach().clone().requires_grad_(), torch.zeros(())
    for b, length in enumerate(LENGTHS):
        for head in range(4):
            p, q = (plain_relations(each[b, :length], head, 4) for each in (teacher, twin))
            wanted = wanted + (p * (p / q).log()).sum() / 4
    wanted.backward()
    loss = relation_loss(student, teacher, 4, attention_mask=mask)
    loss.backward()
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(student.grad, twin.grad)
    flat, flat_teacher, flat_mask = in_blocks(student.detach(), 7.0), in_blocks(teacher, -3.0), in_blocks(mask, 0)
    found = relation_loss(flat, flat_teacher, 4, attention_mask=flat_mask.long(), blocks=BLOCKS)
    torch.testing.assert_close(found, wanted.detach())
    assert relation_loss(teacher, teacher, 4, attention_mask=mask) == 0
    rotated = teacher[..., [3, 4, 0, 1, 2, *range(5, 20)]]  # within a head: relations are products of whole heads
    assert relation_loss(rotated, teacher, 4, attention_mask=mask).abs() < 1e-5


@pytest.mark.parametrize("widths, most, heads", [((384, 384), 12, 12), ((384, 768), 12, 12), ((35, 384), 12, 1)])
def test_relation_heads_divide_both_widths(widths: tuple[int, int], most: int, heads: int) -> None:
    assert relation_heads(*widths, most) == heads


@pytest.mark.parametrize(
    "kept, rule, pairs",
    [
        ([0, 1, 2], "paper", [(1, 1), (2, 2), (3, 3)]),
        ([0, 1, 2], "release", [(1, 1), (2, 2), (3, 3)]),
        ([1, 3, 5], "paper", [(1, 2), (2, 4), (3, 6)]),
        ([0, 2, 4], "release", [(1, 2), (2, 4), (3, 6)]),
        ([2], "paper", [(1, 3)]),
        ([2], "release", [(0, 2), (1, 3)]),
    ],
)
def test_matched_states(kept: list[int], rule: str, pairs: list[tuple[int, int]]) -> None:
    num_layers = 6 if len(kept) == 3 and kept[-1] > 2 else 3
    assert matched_states(kept, num_layers, rule) == pairs
