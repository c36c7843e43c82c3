"""What distillation imitates: zero between equals, the paper's gradients, padding left out."""

from __future__ import annotations

import pytest
import torch

from cutbert.shape.head import HeadSpec
from cutbert.train.losses import logit_loss, matched_states, state_loss

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
