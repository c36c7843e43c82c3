"""Linear maps and LayerNorms that run on a prefix of their units, with gradients that touch only that prefix."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
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
    return prefix_linears(x, [(weight, bias, rows)], cols)[0]


def prefix_linears(x: Tensor, maps: Sequence[tuple[Tensor, Tensor | None, int]], cols: int) -> Sequence[Tensor]:
    """Return several linear maps of one input, as `prefix_linear` does; their gradients of it are summed in place.

    Args:
        x: [..., cols].
        maps: weight, bias and rows of each.
        cols: number of inputs kept.
    """
    marked = [torch.is_grad_enabled() and hasattr(weight, IN_PLACE) for weight, _, _ in maps]
    if all(marked):
        weights, biases, rows = zip(*maps, strict=True)
        outputs: tuple[Tensor, ...] = _PrefixLinears.apply(x, biases, rows, cols, *weights)
        return outputs
    if any(marked):
        return [prefix_linear(x, *each, cols) for each in maps]
    return [F.linear(x, corner(weight, rows, cols), head_of(bias, rows)) for weight, bias, rows in maps]


def corner(weight: Tensor, rows: int, cols: int) -> Tensor:
    """Return the first rows and columns of a matrix."""
    return weight if weight.shape == (rows, cols) else weight[:rows, :cols]


def head_of(bias: Tensor | None, rows: int) -> Tensor | None:
    """Return the first numbers of a vector, or None for none."""
    return bias if bias is None or len(bias) == rows else bias[:rows]


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
    """Let gradients in place begin again from 0: a weight's whole gradient is then written, not added to zeros.

    Until `settle_gradients` the `.grad` of a weight that no backward reached is that of before.
    """
    for parameter in parameters:
        if hasattr(parameter, IN_PLACE):  # another has no hook that clears it before a sum
            setattr(parameter, IS_OLD, True)
        elif parameter.grad is not None:
            parameter.grad.zero_()


@torch.no_grad()
def settle_gradients(parameters: Sequence[Tensor]) -> None:
    """Set to 0 the gradients of weights that no backward reached since `forget_gradients`."""
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


class _PrefixLinears(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, biases: Sequence[Tensor | None], rows: Sequence[int], cols: int, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, *weights)
        ctx.biases, ctx.rows, ctx.cols = biases, rows, cols
        maps = zip(weights, biases, rows, strict=True)
        return tuple(F.linear(x, corner(weight, kept, cols), head_of(bias, kept)) for weight, bias, kept in maps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        cols, x_TC, dx_TC = ctx.cols, x.reshape(-1, ctx.cols), None
        for dy, weight, bias, rows in zip(grads, weights, ctx.biases, ctx.rows, strict=True):
            dy_TR = dy.reshape(-1, rows)
            # Gradients are added here, not returned: returned ones would be as large as the whole weight.
            if weight.grad is not None:
                if begins_again(weight, (rows, cols)):
                    torch.mm(dy_TR.T, x_TC, out=weight.grad)
                else:
                    corner(weight.grad, rows, cols).addmm_(dy_TR.T, x_TC)
            if bias is not None and bias.grad is not None:
                if begins_again(bias, (rows,)):
                    torch.sum(dy_TR, 0, out=bias.grad)
                else:
                    bias.grad[:rows].add_(dy_TR.sum(0))
            if ctx.needs_input_grad[0]:
                kept = corner(weight, rows, cols)
                dx_TC = dy_TR @ kept if dx_TC is None else dx_TC.addmm_(dy_TR, kept)
        return None if dx_TC is None else dx_TC.view(x.shape), None, None, None, *(None for _ in weights)


def begins_again(parameter: Tensor, kept: tuple[int, ...]) -> bool:
    """Whether the gradient of a part is to be written, not added; drops what is old in `.grad`."""
    if kept == parameter.shape and getattr(parameter, IS_OLD, False):
        setattr(parameter, IS_OLD, False)
        return True
    _clear(parameter)
    return False


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
