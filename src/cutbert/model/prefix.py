"""Linear maps and LayerNorms that run on a prefix of their units, with gradients that touch only that prefix."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IN_PLACE = "accumulates_in_place"  # of a marked weight: its hook, or None
IS_OLD = "has_old_gradient"


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
    if torch.is_grad_enabled() and hasattr(weight, IN_PLACE):
        return _PrefixLinear.apply(x, weight, bias, rows, cols)
    if rows == weight.shape[0] and cols == weight.shape[1]:
        return F.linear(x, weight, bias)
    return F.linear(x, weight[:rows, :cols], None if bias is None else bias[:rows])


def accumulate_in_place(module: torch.nn.Module) -> None:
    """Mark a module's weights for in-place gradients and give each a zeroed `.grad`.

    Only for loops that own the gradients: autograd hooks on these weights (DistributedDataParallel's) never fire.
    """
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
        is_trained = parameter.requires_grad
        hook = parameter.register_hook(partial(_clear_before_sum, weakref.ref(parameter))) if is_trained else None
        setattr(parameter, IN_PLACE, hook)


@torch.no_grad()
def forget_gradients(parameters: Sequence[Tensor]) -> None:
    """Let gradients in place begin again from 0: a matrix's whole gradient is then written, not added to zeros.

    Until `settle_gradients` the `.grad` of a matrix that no backward reached is that of before.
    """
    for parameter in parameters:
        if parameter.ndim > 1 and hasattr(parameter, IN_PLACE):  # another has no hook that clears it before a sum
            setattr(parameter, IS_OLD, True)
        elif parameter.grad is not None:
            parameter.grad.zero_()


@torch.no_grad()
def settle_gradients(parameters: Sequence[Tensor]) -> None:
    """Set to 0 the gradients of matrices that no backward reached since `forget_gradients`."""
    for parameter in parameters:
        _clear(parameter)


def _clear(parameter: Tensor) -> None:
    if getattr(parameter, IS_OLD, False):
        setattr(parameter, IS_OLD, False)
        if parameter.grad is not None:
            parameter.grad.zero_()


def _clear_before_sum(parameter: weakref.ref[Tensor], gradient: Tensor | None) -> None:
    """Clear an old gradient before autograd adds its own to it: that of a weight which is used in another way too."""
    owner = parameter()
    if owner is not None and gradient is not None:
        with torch.no_grad():
            _clear(owner)


def accumulate_by_autograd(module: torch.nn.Module) -> None:
    """Undo `accumulate_in_place` and drop the gradients."""
    for parameter in module.parameters():
        if hasattr(parameter, IN_PLACE):
            hook = getattr(parameter, IN_PLACE)
            if hook is not None:
                hook.remove()
            delattr(parameter, IN_PLACE)
        if hasattr(parameter, IS_OLD):
            delattr(parameter, IS_OLD)
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
            is_whole = (rows, cols) == weight.shape
            if is_whole and getattr(weight, IS_OLD, False):
                setattr(weight, IS_OLD, False)
                torch.mm(dy.T, x.reshape(-1, cols), out=weight.grad)
            else:
                _clear(weight)
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
