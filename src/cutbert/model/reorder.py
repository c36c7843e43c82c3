"""Reordering the units of a sub-layer, in place; the function stays the same.

A task model with relative biases can so get back the order of heads that the family's own class has.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from cutbert.model.attention import Attention, own_columns
from cutbert.model.feed_forward import FeedForward
from cutbert.model.task_model import TaskModel


@torch.no_grad()
def permute_attention(attention: Attention, dim: str, order: Tensor) -> None:
    """Move heads ("a"), or within every head its key ("k") or value units ("v"), in place."""
    axis = 0 if dim == "a" else 1
    if dim != "v":
        rows_of = [attention.query, attention.key] + ([attention.value] if dim == "a" else [])
    else:
        rows_of = [attention.value]
    for linear in rows_of:
        for rows in (linear.weight, linear.bias):
            if rows is not None:
                by_head = rows.unflatten(0, (attention.num_heads, -1))
                rows.copy_(by_head.index_select(axis, order).flatten(0, 1))
    if dim != "k":
        columns = attention.output.weight
        by_head = columns.unflatten(1, (attention.num_heads, -1))
        columns.copy_(by_head.index_select(axis + 1, order).flatten(1))
    if dim == "a" and attention.bias_heads is not None:
        attention.bias_heads.copy_(attention.bias_heads.index_select(0, order))


@torch.no_grad()
def permute_neurons(feed_forward: FeedForward, order: Tensor) -> None:
    """Move the neurons of all maps, in place."""
    for linear in (feed_forward.up, feed_forward.gate):
        for rows in () if linear is None else (linear.weight, linear.bias):
            if rows is not None:
                rows.copy_(rows[order])
    feed_forward.down.weight.copy_(feed_forward.down.weight[:, order])


def has_own_columns(model: TaskModel) -> bool:
    """Whether every layer's heads can be put into the order of the columns of a shared table of relative biases."""
    columns = [each.bias_heads for each in attentions(model) if each.bias_heads is not None]
    return all(torch.equal(each.sort().values, own_columns(len(each), len(each)).to(each)) for each in columns)


def with_own_columns(model: TaskModel) -> TaskModel:
    """Return a network, itself or a copy, whose head j reads column j of the relative biases in every layer."""
    orders = [each.bias_heads.argsort() if each.bias_heads is not None else None for each in attentions(model)]
    if all(order is None or torch.equal(order.sort().values, order) for order in orders):
        return model
    twin = copy.deepcopy(model)
    for attention, order in zip(attentions(twin), orders, strict=True):
        if order is not None:
            permute_attention(attention, "a", order)
    return twin


def attentions(model: TaskModel) -> list[Attention]:
    """Return the attentions of a network, in order."""
    return [layer.attention for layer in model.encoder.layers if isinstance(layer.attention, Attention)]
