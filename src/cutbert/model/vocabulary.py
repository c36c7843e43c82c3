"""Losses of masked-LM logits over the whole vocabulary, computed for a few positions at a time to save memory.

Axes: M positions, E table width, V vocabulary; m positions held at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

LOGITS_AT_ONCE = 1 << 23  # 34 MB in float32; a few copies exist at once

LogitLoss = Callable[[Tensor, slice], Tensor]


def vocabulary_loss(x: Tensor, table: Tensor, cast_table: Tensor, bias: Tensor, loss_of: LogitLoss) -> Tensor:
    """Return a loss of the logits `x @ cast_table.T + bias`, a sum over positions.

    The gradient of each part of the logits is computed at once, in the forward pass, and the logits are freed: memory
    does not grow with the number of positions. The product is in the dtype of x, the loss and the table's gradient in
    float32. The gradient goes to `table` itself, where that of its use as the input embedding is added.

    Args:
        x: [M, width], width at most E: it is multiplied by the first columns of the table.
        table: [V, E] float32, the token table.
        cast_table: [V, E], the table in the dtype of x; in float32 the table itself.
        bias: [V].
        loss_of: takes float32 logits [m, V] and which of the M positions they are; returns the sum of their losses,
            a scalar.

    Returns:
        A float32 scalar; 0 where M is 0.
    """
    return _VocabularyLoss.apply(x, table, bias, cast_table, loss_of)


def cross_entropy_of(targets: Tensor) -> LogitLoss:
    """Return the summed cross-entropy with targets, [M], as a function for `vocabulary_loss`."""
    return lambda logits, part: F.cross_entropy(logits, targets[part], reduction="sum")


class _VocabularyLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, bias: Tensor, cast_table: Tensor, loss_of: LogitLoss) -> Tensor:
        width = x.shape[1]
        weight = cast_table[:, :width]
        wants_table = ctx.needs_input_grad[1]
        dx, dbias = torch.empty_like(x), torch.zeros_like(bias, dtype=torch.float32)
        dtable = torch.zeros_like(table) if wants_table else None
        total = torch.zeros((), device=x.device)
        size = max(1, LOGITS_AT_ONCE // len(table))
        for start in range(0, len(x), size):
            part = slice(start, min(start + size, len(x)))
            loss, dlogits = graded(F.linear(x[part], weight, bias).float(), part, loss_of)
            total += loss
            dbias += dlogits.sum(0)
            dlogits = dlogits.to(x.dtype)
            dx[part] = dlogits @ weight
            if dtable is not None:
                dtable[:, :width] += dlogits.T @ x[part]
        ctx.save_for_backward(dx, dbias.to(bias.dtype), *([dtable] if wants_table else []))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dx, dbias, *dtable = ctx.saved_tensors
        return dx * grad, dtable[0] * grad if dtable else None, dbias * grad, None, None


def graded(logits: Tensor, part: slice, loss_of: LogitLoss) -> tuple[Tensor, Tensor]:
    """Return a loss of logits, detached, and its gradient."""
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        loss = loss_of(leaf, part)
        return loss.detach(), torch.autograd.grad(loss, leaf)[0]
