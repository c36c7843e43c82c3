"""Dropout with masks that are cheap to draw on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LEVELS = 1 << 15  # of the random number that decides on an element
ONE_IN_BF16 = 0x3F80  # its bits


class Dropout(nn.Dropout):
    """torch's dropout; on CPU with the masks of `draw_kept`, which are several times cheaper than torch's."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the input with some elements 0 and the others divided by the share kept; unchanged in evaluation."""
        if not self._draws(input):
            return super().forward(input)
        return input * draw_kept(input.shape, self.p, input.dtype) * (1 / kept_share(self.p))

    def added(self, x: Tensor, y: Tensor) -> Tensor:
        """Return x + dropout(y), of two tensors of one shape and dtype."""
        if not self._draws(y):
            return x + self(y)
        total: Tensor = _AddKept.apply(x, y, draw_kept(y.shape, self.p, y.dtype), 1 / kept_share(self.p))
        return total

    def _draws(self, input: Tensor) -> bool:
        return self.training and 0 < self.p < 1 and input.device.type == "cpu"


class _AddKept(torch.autograd.Function):
    """x + y * mask * scale in one pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return torch.addcmul(x, y, mask, value=scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (mask,) = ctx.saved_tensors
        dtotal = gradients[0]
        return dtotal, (dtotal * mask).mul_(ctx.scale), None, None


def draw_kept(shape: torch.Size, dropout: float, dtype: torch.dtype) -> Tensor:
    """Return a mask, 1 where dropout keeps an element and else 0, drawn by torch's CPU generator, on CPU.

    Four elements share 64 random bits, and are compared as integers: torch draws a random number for each element, and
    turns a bool into a number one by one, which takes longer than the rest of attention's work on it.

    Args:
        shape: of the mask.
        dropout: probability that an element is dropped, above 0 and below 1; rounded to the nearest of
            1/32,768 to 32,767/32,768.
        dtype: of the mask.
    """
    draws = torch.empty(-(-shape.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    draws &= LEVELS - 1
    draws -= num_kept(dropout)
    draws >>= 15  # all bits are now 1 where the draw was less, else 0
    if dtype == torch.int8:
        return draws[: shape.numel()].neg_().to(torch.int8).view(shape)
    draws &= ONE_IN_BF16
    return draws.view(torch.bfloat16)[: shape.numel()].to(dtype).view(shape)


def kept_share(dropout: float) -> float:
    """Return the probability with which `draw_kept` keeps an element."""
    return num_kept(dropout) / LEVELS


def num_kept(dropout: float) -> int:
    """Return how many of LEVELS equally likely draws keep an element."""
    return min(max(round((1 - dropout) * LEVELS), 1), LEVELS - 1)
