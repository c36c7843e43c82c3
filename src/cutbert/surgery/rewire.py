"""Rewiring: reordering heads, neurons and other units by importance without changing what the network computes.

Source:
    Hou et al. 2020 (2004.04037), section 2.1. Attention is a sum over heads and the feed-forward a sum over neurons,

        MHA(X) = sum_h Att_h(X)        FFN(X) = sum_j act(X W1[:, j] + b1[j]) W2[j, :] + b2

    and a sum does not depend on the order of its terms: with the most important first, every prefix keeps the best.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from cutbert.errors import Mistakes, ShapeError
from cutbert.model.attention import Attention
from cutbert.model.feed_forward import FeedForward
from cutbert.model.reorder import permute_attention, permute_neurons
from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import EncoderShape
from cutbert.shape.units import Place
from cutbert.surgery.importance import Importance

Orders = Mapping[Place, Tensor]
"""For each place a permutation of its units: the old index of each new unit. Other places keep their order."""


def rewire(model: TaskModel, importance: Importance) -> TaskModel:
    """Return a copy whose heads and neurons are sorted by descending importance in each layer.

    The copy computes the same function (up to the rounding of sums in another order), so a teacher need
    not be rewired with its student.

    Raises:
        ShapeError: importance that does not fit the model's shape, or is not finite; all mistakes together.

    Source:
        Hou et al. 2020 (2004.04037), network rewiring: once, before width-adaptive training.
    """
    return permuted(model, plan_orders(model.shape, importance))


def plan_orders(shape: EncoderShape, importance: Importance) -> Orders:
    """Return the permutations that put the most important units first; ties keep their order."""
    mistakes = Mistakes()
    sizes = {
        "heads": (importance.heads, [layer.num_heads for layer in shape.layers]),
        "neurons": (importance.neurons, [layer.intermediate_size for layer in shape.layers]),
    }
    for name, (scores, sizes_by_layer) in sizes.items():
        mistakes.extend(misfits(name, scores, sizes_by_layer))
    mistakes.check(ShapeError)
    return {
        Place(dim, i): descending(scores)
        for dim, by_layer in (("a", importance.heads), ("f", importance.neurons))
        for i, scores in enumerate(by_layer)
        if len(scores)
    }


def misfits(name: str, scores: list[Tensor], sizes: list[int]) -> list[str]:
    """Return a message per layer whose scores cannot order its units."""
    if len(scores) != len(sizes):
        return [f"importance of {name} must have {len(sizes)} layers, got {len(scores)}"]
    messages = []
    for i, (score, size) in enumerate(zip(scores, sizes, strict=True)):
        if score.shape != (size,):
            messages.append(
                f"importance of {name} in layer {i} must have the shape ({size},), got {tuple(score.shape)}"
            )
        elif not torch.isfinite(score).all():
            messages.append(f"importance of {name} in layer {i} must be finite, got {score.tolist()}")
    return messages


def descending(scores: Tensor) -> Tensor:
    return torch.argsort(scores, descending=True, stable=True)


def permuted(model: TaskModel, orders: Orders) -> TaskModel:
    """Return a copy with the units of these places in the given orders; hidden states come out in the new order too."""
    twin = copy.deepcopy(model)
    for place, order in orders.items():
        order = order.to(next(twin.parameters()).device)
        if place.layer is None:
            permute_hidden(twin, order)
            continue
        layer = twin.encoder.layers[place.layer]
        if place.dim == "f" and isinstance(layer.feed_forward, FeedForward):
            permute_neurons(layer.feed_forward, order)
        elif isinstance(layer.attention, Attention):
            permute_attention(layer.attention, place.dim, order)
    return twin


@torch.no_grad()
def permute_hidden(model: TaskModel, order: Tensor) -> None:
    """Move the hidden units of every table, matrix and norm, in place."""
    for name, parameter in model.named_parameters():
        for axis in hidden_axes(model, name):
            parameter.copy_(parameter.index_select(axis, order))


def hidden_axes(model: TaskModel, name: str) -> tuple[int, ...]:
    """Return the axes of a parameter that run over hidden units."""
    part, _, leaf = name.rpartition(".")
    owner = part.rpartition(".")[2]
    is_projected = model.shape.embedding_size is not None
    if name.startswith("encoder.embeddings."):
        if owner == "projection":
            return (0,)
        if owner in ("distance", "distance_norm"):
            return (1,) if owner == "distance" else (0,)
        return () if is_projected or owner == "relative" else ((0,) if owner == "norm" else (1,))
    if owner == "norm":
        return () if name.startswith("head.") and is_projected else (0,)
    if owner == "dense":
        keeps_rows = model.head_spec.kind == "masked_lm" and is_projected
        rows = () if keeps_rows else (0,)
        return (*rows, 1) if leaf == "weight" else rows
    if owner in ("output", "down"):
        return (0,)
    return (1,) if leaf == "weight" else ()
