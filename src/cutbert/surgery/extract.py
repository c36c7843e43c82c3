"""Cutting a subnet out of a supernet as a separate network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import LayerShape
from cutbert.shape.subnet import Subnet

LAYERS = "encoder.layers."
# Of each attention weight the axis that runs over heads, and the size of one head along it.
HEAD_AXES = {"query": (0, "key_dim"), "key": (0, "key_dim"), "value": (0, "value_dim"), "output": (1, "value_dim")}


def extract(model: TaskModel, subnet: Subnet) -> TaskModel:
    """Return a small model that computes the same as `model(..., subnet=subnet)`.

    Its weights are copies. Of each attention the first heads are kept, and of each head the first
    key and value dimensions; the task head is cut with the hidden units. Where key_dim shrinks,
    query weight and bias are multiplied by sqrt(new / old): when run inside the supernet, the scores keep the uncut
    layer's scale 1 / sqrt(key_dim), and the small model has its own.

    Raises:
        ShapeError: the subnet is not a part of the model.
    """
    shape = subnet.shape_in(model.shape)
    with torch.device("meta"):
        small = TaskModel(shape, model.style, model.head_spec)
    sizes = {name: tensor.shape for name, tensor in small.state_dict().items()}
    small.load_state_dict(subnet_state(model, subnet, sizes), assign=True)
    return small.train(model.training)


def with_layers(model: TaskModel, layers: Sequence[int]) -> TaskModel:
    """Return some layers of a network, rising, as one of their own, with its head."""
    whole = Subnet.full(model.shape)
    return extract(model, Subnet(tuple(whole.layers[i] for i in layers), whole.hidden_size))


@torch.no_grad()
def subnet_state(model: TaskModel, subnet: Subnet, sizes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Return the weights of the small model, by its names."""
    state = model.state_dict()
    cut = {}
    for name, size in sizes.items():
        if name.startswith(LAYERS):
            index, leaf = name.removeprefix(LAYERS).split(".", 1)
            kept = subnet.layers[int(index)]
            weight = state[f"{LAYERS}{kept.index}.{leaf}"]
            weight = head_prefixes(leaf, weight, model.shape.layers[kept.index], kept.shape)
        else:
            weight = state[name]
        cut[name] = weight[tuple(slice(length) for length in size)].clone(memory_format=torch.contiguous_format)
    return cut


def head_prefixes(name: str, weight: Tensor, whole: LayerShape, kept: LayerShape) -> Tensor:
    """Return a layer's weight with its heads cut; weights other than attention projections are returned as they are.

    Args:
        name: of the weight within the layer, such as attention.query.weight.
        weight: of the supernet.
        whole: sizes of the supernet's layer.
        kept: sizes of the cut layer.
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
