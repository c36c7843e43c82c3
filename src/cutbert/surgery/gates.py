"""Gates: a learned factor for every unit of a network, multiplied into its matrices (schuBERT's prune parameters).

Axes: H hidden, N heads, K key_dim, V value_dim, F neurons.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cutbert.model.attention import Attention
from cutbert.model.feed_forward import FeedForward
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.shape.units import DIMS, Place, places_of, size_at

Values = dict[Place, Tensor]


class Gates(nn.Module):
    """One factor per unit, all 1 at first.

    Args:
        shape: of the network they belong to.

    Source:
        Khetan and Karnin 2020 (2005.06628), section 4, prune parameters alpha: one vector for the hidden size, and
        per layer one each for heads, neurons, keys and values; key and value units are shared by a layer's heads.
    """

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.places = places_of(shape, tuple(DIMS))
        self.values_ = nn.ParameterList(nn.Parameter(torch.ones(size_at(shape, place))) for place in self.places)

    def values(self) -> Values:
        """Return the factors by place; gradients reach them."""
        return dict(zip(self.places, self.values_, strict=True))


def gated_weights(
    model: TaskModel, values: Values, inner: Values | None = None, *, gates_norms: bool = True
) -> dict[str, Tensor]:
    """Return every matrix and bias that gates act on, multiplied by them, by its name in the model.

    Factors of 1 leave every bit as it is.

    Args:
        model: the network; its own weights stay.
        values: a factor per unit at every place of its shape.
        inner: factors for the inner one of the two matrices that a unit stands between (up, key and value, and of a
            head the query); None for the same.
        gates_norms: whether hidden factors also multiply what puts hidden units on the residual stream.

    Source:
        Khetan and Karnin 2020 (2005.06628), tables 4 and 5. Ours, where the paper is silent: a bias is multiplied
        by the factors of the rows it belongs to, and the head's matrices that read hidden units are gated too. Ours,
        where it is not, and left out without `gates_norms`: hidden factors also multiply every LayerNorm's weight and
        bias and a projection's rows. A hidden unit at zero is then gone from the residual stream, not merely unread,
        and training the gates sees what its cut will cost.
    """
    hidden, inner = values[Place("h")], values if inner is None else inner
    found = head_weights(model, hidden) | (stream_weights(model, hidden) if gates_norms else {})
    for i, layer in enumerate(model.encoder.layers):
        where = f"encoder.layers.{i}."
        if isinstance(layer.attention, Attention):
            heads, k, v = inner[Place("a", i)][:, None], Place("k", i), Place("v", i)
            for name, units in (("query", values[k]), ("key", inner[k]), ("value", inner[v])):
                found |= scaled(layer.attention, where + "attention.", name, (heads * units).flatten(), hidden)
            used = (values[Place("a", i)][:, None] * values[v]).flatten()
            found |= scaled(layer.attention, where + "attention.", "output", hidden, used)
        if isinstance(layer.feed_forward, FeedForward):
            neurons = values[Place("f", i)]
            inside = inner[Place("f", i)]
            found |= scaled(layer.feed_forward, where + "feed_forward.", "up", inside, hidden)
            found |= scaled(layer.feed_forward, where + "feed_forward.", "down", hidden, neurons)
    return found


def scaled(owner: nn.Module, where: str, name: str, rows: Tensor, columns: Tensor) -> dict[str, Tensor]:
    """Return a linear layer's weight and bias times a factor per row and per column."""
    linear = getattr(owner, name)
    return {
        f"{where}{name}.weight": linear.weight.detach() * rows[:, None] * columns,
        f"{where}{name}.bias": linear.bias.detach() * rows,
    }


def stream_weights(model: TaskModel, hidden: Tensor) -> dict[str, Tensor]:
    """Return the weights that put hidden units on the residual stream, gated: all norms over them, or a projection.

    In a masked LM whose tables are as wide as the hidden states, the head's norm is one of these.
    """
    found: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        owner = name.rpartition(".")[0].rpartition(".")[2]
        is_of_tables = model.shape.embedding_size is not None and not name.startswith("encoder.layers.")
        if owner == "projection" or (owner == "norm" and not is_of_tables):
            rows = hidden[:, None] if parameter.ndim > 1 else hidden
            found[name] = parameter.detach() * rows
    return found


def head_weights(model: TaskModel, hidden: Tensor) -> dict[str, Tensor]:
    """Return the head's matrices that hidden units are cut from, gated; a pooler's output stands for them in `out`."""
    found: dict[str, Tensor] = {}
    for name in gated_head_parts(model.head_spec):
        weight = model.get_parameter(f"head.{name}.weight")
        found[f"head.{name}.weight"] = weight.detach() * hidden
    return found


def gated_head_parts(head: HeadSpec) -> tuple[str, ...]:
    if head.is_sequence:
        return ("dense", "out")
    if head.kind in ("token", "span"):
        return ("out",)
    return () if head.kind == "none" else ("dense",)


@torch.no_grad()
def fold(model: TaskModel, values: Values, *, gates_norms: bool = True) -> None:
    """Multiply gates into a network's weights for good, in place: its function is that of the gated network.

    Where a closed gate has its unit between two matrices, the outer one alone becomes 0: with both at 0 no gradient
    would reach either, and a unit that stays, because sizes come in groups or are given, could not be healed.
    """
    inner = {p: v if p.dim == "h" else torch.where(v == 0, 1.0, v) for p, v in values.items()}
    for name, weight in gated_weights(model, values, inner, gates_norms=gates_norms).items():
        model.get_parameter(name).copy_(weight)
