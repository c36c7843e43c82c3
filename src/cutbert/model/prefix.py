"""Linear maps and LayerNorms that run on a prefix of their units, with gradients that touch only that prefix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IN_PLACE = "accumulates_in_place"


def prefix_linear(x: Tensor, weight: Tensor, bias: Tensor | None, rows: int, cols: int) -> Tensor:
    """Return `x @ weight[:rows, :cols].T + bias[:rows]`.

    Where the weight was marked by `accumulate_in_place`, the backward adds straight into the prefix of `weight.grad`.
    Autograd's gradient of a slice is a zero-filled tensor as large as the whole weight, for each use, which costs
    more than the product itself in narrow subnets.

    Args:
        x: [..., cols].
        weight: [at least rows, at least cols].
        bias: [at least rows] or None.
        rows: number of outputs kept.
        cols: number of inputs kept.

    Returns:
        [..., rows].
    """
    if torch.is_grad_enabled() and getattr(weight, IN_PLACE, False):
        return _PrefixLinear.apply(x, weight, bias, rows, cols)
    if rows == weight.shape[0] and cols == weight.shape[1]:
        return F.linear(x, weight, bias)
    return F.linear(x, weight[:rows, :cols], None if bias is None else bias[:rows])


def accumulate_in_place(module: torch.nn.Module) -> None:
    """Mark a module's weights for in-place gradients and give each a zeroed `.grad`.

    Only for loops that own the gradients: autograd hooks on these weights (DistributedDataParallel's) never fire.
    """
    for parameter in module.parameters():
        setattr(parameter, IN_PLACE, True)
        parameter.grad = torch.zeros_like(parameter)


def accumulate_by_autograd(module: torch.nn.Module) -> None:
    """Undo `accumulate_in_place` and drop the gradients."""
    for parameter in module.parameters():
        setattr(parameter, IN_PLACE, False)
        parameter.grad = None


class _PrefixLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, rows: int, cols: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bias, ctx.rows, ctx.cols = bias, rows, cols
        return F.linear(x, weight[:rows, :cols], None if bias is None else bias[:rows])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows, cols, bias = ctx.rows, ctx.cols, ctx.bias
        dy = grads[0].reshape(-1, rows)
        # Gradients are added here, not returned: returned ones would be as large as the whole weight.
        if weight.grad is not None:
            weight.grad[:rows, :cols].addmm_(dy.T, x.reshape(-1, cols))
        if bias is not None and bias.grad is not None:
            bias.grad[:rows].add_(dy.sum(0))
        dx = (dy @ weight[:rows, :cols]).view(x.shape) if ctx.needs_input_grad[0] else None
        return dx, None, None, None, None


class PrefixNorm(nn.LayerNorm):
    """LayerNorm over the units that its input has, with the first of its weights.

    Over fewer units, mean and variance are those of the prefix alone: the same as in the extracted network, but neither
    those of the full network nor those of a network with zeroed units.
    """

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-1]
        if size == self.weight.shape[0]:
            return F.layer_norm(x, (size,), self.weight, self.bias, self.eps)
        bias = None if self.bias is None else self.bias[:size]
        return F.layer_norm(x, (size,), self.weight[:size], bias, self.eps)
