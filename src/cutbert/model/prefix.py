"""Linear maps and LayerNorms that run on a prefix of their units, with gradients that touch only that prefix."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutbert.model.dropout import Dropout

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
            bias.grad[:rows] += dy.sum(0)
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


NormPlace = Literal["before", "after", "none"]


class SubLayer(nn.Module):
    """What attention and feed-forward share: a LayerNorm before or after them, or none, and the residual."""

    norm: PrefixNorm | None
    dropout: Dropout
    norm_place: NormPlace

    def add_norm(
        self, hidden_size: int, norm_place: NormPlace, layer_norm_eps: float, dropout: float, has_norm_bias: bool
    ) -> None:
        """Add LayerNorm and dropout, behind the sub-layer's own matrices.

        Args:
            hidden_size: width of the residual stream.
            norm_place: before: the sub-layer reads its norm's output; after: the norm reads the sum.
            layer_norm_eps, dropout, has_norm_bias: of the family.
        """
        self.norm_place = norm_place
        self.norm = None
        if norm_place != "none":
            self.norm = PrefixNorm(hidden_size, eps=layer_norm_eps, bias=has_norm_bias)
        self.dropout = Dropout(dropout)

    def read(self, x: Tensor) -> Tensor:
        """Return what the sub-layer's matrices read of the stream x."""
        return self.norm(x) if self.norm is not None and self.norm_place == "before" else x

    def settle(self, total: Tensor) -> Tensor:
        """Return the stream after the sum of stream and output."""
        return self.norm(total) if self.norm is not None and self.norm_place == "after" else total

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the stream after the sub-layer: x before it, y its output."""
        return self.settle(x + self.dropout(y))
