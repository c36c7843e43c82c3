"""Reordering heads and neurons by importance, without changing what the network computes."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from cutbert.errors import Mistakes, ShapeError
from cutbert.model.attention import Attention
from cutbert.model.feed_forward import FeedForward
from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import EncoderShape
from cutbert.surgery.importance import Importance


@dataclass(frozen=True, eq=False)
class Orders:
    """Which unit comes to each place.

    Args:
        heads: per layer a permutation of its heads; empty where attention is absent.
        neurons: per layer a permutation of its neurons; empty where the feed-forward is absent.
    """

    heads: list[Tensor]
    neurons: list[Tensor]


def rewire(model: TaskModel, importance: Importance) -> TaskModel:
    """Return a copy whose heads and neurons stand in descending importance, layer by layer.

    The copy computes the same function (up to the rounding of sums in another order), so a teacher need
    not be rewired with its student.

    Raises:
        ShapeError: importance that does not fit the model's shape, or is not finite; all together.

    Source:
        Hou et al. 2020 (2004.04037), network rewiring: once, before training with widths.
    """
    return permuted(model, plan_orders(model.shape, importance))


def plan_orders(shape: EncoderShape, importance: Importance) -> Orders:
    """Return the permutations that put the most important units first; ties keep their order."""
    mistakes = Mistakes()
    sizes = {
        "heads": (importance.heads, [layer.num_heads for layer in shape.layers]),
        "neurons": (importance.neurons, [layer.intermediate_size for layer in shape.layers]),
    }
    for name, (scores, wanted) in sizes.items():
        mistakes.extend(misfits(name, scores, wanted))
    mistakes.check(ShapeError)
    return Orders([descending(scores) for scores in importance.heads], [descending(s) for s in importance.neurons])


def misfits(name: str, scores: list[Tensor], sizes: list[int]) -> list[str]:
    """Return a message per layer whose scores cannot order its units."""
    if len(scores) != len(sizes):
        return [f"importance of {name} must have {len(sizes)} layers, got {len(scores)}"]
    found = []
    for i, (score, size) in enumerate(zip(scores, sizes, strict=True)):
        if score.shape != (size,):
            found.append(f"importance of {name} in layer {i} must have the shape ({size},), got {tuple(score.shape)}")
        elif not torch.isfinite(score).all():
            found.append(f"importance of {name} in layer {i} must be finite, got {score.tolist()}")
    return found


def descending(scores: Tensor) -> Tensor:
    return torch.argsort(scores, descending=True, stable=True)


def permuted(model: TaskModel, orders: Orders) -> TaskModel:
    """Return a copy with heads and neurons in the given orders."""
    twin = copy.deepcopy(model)
    for layer, heads, neurons in zip(twin.encoder.layers, orders.heads, orders.neurons, strict=True):
        if isinstance(layer.attention, Attention):
            permute_heads(layer.attention, heads)
        if isinstance(layer.feed_forward, FeedForward):
            permute_neurons(layer.feed_forward, neurons)
    return twin


@torch.no_grad()
def permute_heads(attention: Attention, order: Tensor) -> None:
    """Move the heads of all four projections, in place."""
    order = order.to(attention.output.weight.device)
    for linear in (attention.query, attention.key, attention.value):
        for rows in (linear.weight, linear.bias):
            by_head = rows.unflatten(0, (attention.num_heads, -1))
            rows.copy_(by_head[order].flatten(0, 1))
    columns = attention.output.weight
    columns.copy_(columns.unflatten(1, (attention.num_heads, -1))[:, order].flatten(1))


@torch.no_grad()
def permute_neurons(feed_forward: FeedForward, order: Tensor) -> None:
    """Move the neurons of both projections, in place."""
    order = order.to(feed_forward.up.weight.device)
    feed_forward.up.weight.copy_(feed_forward.up.weight[order])
    feed_forward.up.bias.copy_(feed_forward.up.bias[order])
    feed_forward.down.weight.copy_(feed_forward.down.weight[:, order])
