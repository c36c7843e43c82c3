"""A linear map by a prefix: its in-place gradients equal autograd's, prefix by prefix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutbert.model.prefix import (
    accumulate_by_autograd,
    accumulate_in_place,
    forget_gradients,
    prefix_linear,
    settle_gradients,
)


def plain(x: Tensor, linear: nn.Linear, rows: int, cols: int) -> Tensor:
    return F.linear(x, linear.weight[:rows, :cols], linear.bias[:rows])


@pytest.mark.parametrize("rows, cols", [(7, 5), (3, 5), (7, 2), (1, 1), (4, 3)])
@pytest.mark.parametrize("shape", [(4,), (2, 3)])
def test_gradients_in_place_equal_autograd(rows: int, cols: int, shape: tuple[int, ...]) -> None:
    torch.manual_seed(rows + 10 * cols)
    linear, twin = nn.Linear(5, 7), nn.Linear(5, 7)
    twin.load_state_dict(linear.state_dict())
    accumulate_in_place(linear)
    for _ in range(2):
        x = torch.randn(*shape, cols, requires_grad=True)
        x_twin = x.detach().clone().requires_grad_()
        weights = torch.randn(*shape, rows)
        got, wanted = prefix_linear(x, linear.weight, linear.bias, rows, cols), plain(x_twin, twin, rows, cols)
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)
        (got * weights).sum().backward()
        (wanted * weights).sum().backward()
        torch.testing.assert_close(x.grad, x_twin.grad)
    torch.testing.assert_close(linear.weight.grad, twin.weight.grad)
    torch.testing.assert_close(linear.bias.grad, twin.bias.grad)


def test_prefixes_of_several_widths_add_up() -> None:
    torch.manual_seed(0)
    linear, twin = nn.Linear(6, 6), nn.Linear(6, 6)
    twin.load_state_dict(linear.state_dict())
    accumulate_in_place(linear)
    x = torch.randn(3, 6)
    for rows, cols in ((6, 6), (3, 2), (2, 6)):
        prefix_linear(x[:, :cols], linear.weight, linear.bias, rows, cols).square().sum().backward()
        plain(x[:, :cols], twin, rows, cols).square().sum().backward()
    torch.testing.assert_close(linear.weight.grad, twin.weight.grad)
    torch.testing.assert_close(linear.bias.grad, twin.bias.grad)


@pytest.mark.parametrize("sizes", [((6, 6), (3, 2)), ((3, 2), (6, 6)), ((3, 2),), ()])
@pytest.mark.parametrize("is_used_otherwise", [False, True])
def test_forgotten_gradients_begin_at_zero(sizes: tuple[tuple[int, int], ...], is_used_otherwise: bool) -> None:
    torch.manual_seed(0)
    linear, twin = nn.Linear(6, 6), nn.Linear(6, 6)
    twin.load_state_dict(linear.state_dict())
    accumulate_in_place(linear)
    x = torch.randn(3, 6)
    prefix_linear(x, linear.weight, linear.bias, 6, 6).sum().backward()  # of a step before
    forget_gradients([linear.weight, linear.bias])
    for net, of in ((linear, prefix_linear), (twin, lambda x, w, b, rows, cols: plain(x, twin, rows, cols))):
        loss = (net.weight[:, 0].square().sum() + net.bias.sum()) if is_used_otherwise else torch.zeros(())
        for rows, cols in sizes:
            loss = loss + of(x[:, :cols], net.weight, net.bias, rows, cols).square().sum()
        if loss.requires_grad:
            loss.backward()
    settle_gradients([linear.weight, linear.bias])
    for got, wanted in zip(linear.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(got.grad, torch.zeros_like(got) if wanted.grad is None else wanted.grad)


def test_a_map_without_bias() -> None:
    linear = nn.Linear(4, 4, bias=False)
    accumulate_in_place(linear)
    x = torch.randn(2, 3)
    prefix_linear(x, linear.weight, None, 2, 3).sum().backward()
    wanted = torch.zeros(4, 4)
    wanted[:2, :3] = x.sum(0)
    torch.testing.assert_close(linear.weight.grad, wanted)


def test_no_gradient_where_none_is_wanted() -> None:
    linear = nn.Linear(4, 4)
    accumulate_in_place(linear)
    with torch.no_grad():
        assert not prefix_linear(torch.randn(2, 4), linear.weight, linear.bias, 4, 4).requires_grad
    assert not linear.weight.grad.any()


def test_undone_in_place_gradients_are_autograds_again() -> None:
    linear = nn.Linear(4, 4)
    accumulate_in_place(linear)
    accumulate_by_autograd(linear)
    assert linear.weight.grad is None and linear.bias.grad is None
    x = torch.ones(1, 4)
    prefix_linear(x, linear.weight, linear.bias, 2, 4).sum().backward()
    torch.testing.assert_close(linear.weight.grad, torch.tensor([1.0, 1.0, 0.0, 0.0])[:, None].expand(4, 4))
