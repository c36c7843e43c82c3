"""Cutting a subnet out of a supernet as a network of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from cutbert.errors import ShapeError
from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import LayerShape
from cutbert.shape.subnet import Subnet

LAYERS = "encoder.layers."
# The dimension of an attention weight that runs over heads, and the size of one head along it.
HEAD_AXES = {"query": (0, "key_dim"), "key": (0, "key_dim"), "value": (0, "value_dim"), "output": (1, "value_dim")}


def extract(model: TaskModel, subnet: Subnet) -> TaskModel:
    """Return a small model that computes what `model(..., subnet=subnet)` computes.

    Its weights are copies. Of each attention the first heads are kept, and of each of them the first
    key and value dimensions; the head of the model is cut with the hidden units. Where key_dim shrinks,
    query weight and bias are multiplied by sqrt(new / old), since in place the scores keep the uncut
    layer's 1 / sqrt(key_dim) and the small model uses its own.

    Raises:
        ShapeError: the subnet is no part of the model.
    """
    check_projection(model, subnet)
    shape = subnet.shape_in(model.shape)
    with torch.device("meta"):
        small = TaskModel(shape, model.style, model.head_spec)
    sizes = {name: tensor.shape for name, tensor in small.state_dict().items()}
    small.load_state_dict(subnet_state(model, subnet, sizes), assign=True)
    return small.train(model.training)


def check_projection(model: TaskModel, subnet: Subnet) -> None:
    """Raise where a shape would say that the tables need no projection, though the supernet has one."""
    table_size = model.shape.embedding_size
    if table_size is not None and subnet.hidden_size == table_size:
        raise ShapeError(
            f"hidden_size of the subnet must differ from the supernet's embedding_size, got {table_size} for both"
        )


@torch.no_grad()
def subnet_state(model: TaskModel, subnet: Subnet, sizes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Return the weights of the small model, by its names."""
    state = model.state_dict()
    cut = {}
    for name, size in sizes.items():
        if name.startswith(LAYERS):
            place, rest = name.removeprefix(LAYERS).split(".", 1)
            kept = subnet.layers[int(place)]
            weight = state[f"{LAYERS}{kept.index}.{rest}"]
            weight = head_prefixes(rest, weight, model.shape.layers[kept.index], kept.shape)
        else:
            weight = state[name]
        cut[name] = weight[tuple(slice(length) for length in size)].clone(memory_format=torch.contiguous_format)
    return cut


def head_prefixes(name: str, weight: Tensor, whole: LayerShape, kept: LayerShape) -> Tensor:
    """Return a layer's weight with its heads cut, whatever is no attention projection untouched.

    Args:
        name: within the layer, such as attention.query.weight.
        weight: of the supernet.
        whole: sizes of the supernet's layer.
        kept: sizes that stay.
    """
    part = name.removeprefix("attention.").split(".")[0]
    if not name.startswith("attention.") or part not in HEAD_AXES or name == "attention.output.bias":
        return weight
    axis, dim_name = HEAD_AXES[part]
    dim = getattr(kept, dim_name)
    by_head = weight.unflatten(axis, (whole.num_heads, getattr(whole, dim_name)))
    cut = by_head.narrow(axis, 0, kept.num_heads).narrow(axis + 1, 0, dim).flatten(axis, axis + 1)
    if part == "query" and kept.key_dim != whole.key_dim:
        return cut * (kept.key_dim / whole.key_dim) ** 0.5
    return cut
