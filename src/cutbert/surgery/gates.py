"""Gates: a learned factor for every unit of a network, multiplied into its matrices (schuBERT's prune parameters).

Axes: H hidden, N heads, K key_dim, V value_dim, F neurons.

Source:
    Khetan and Karnin 2020 (2005.06628), section 4 and tables 4 and 5. With D() a diagonal matrix, the weights of layer
    i (keys K, queries Q, values V, output projection P, feed-forward D and G) are replaced by

        K~_i = K_i [D(alpha_k_i) D(alpha_a_i) D(alpha_h)]      Q~_i = Q_i [D(alpha_k_i) D(alpha_a_i) D(alpha_h)]
        V~_i = V_i [D(alpha_v_i) D(alpha_a_i) D(alpha_h)]      P~_i = P_i [D(alpha_h) D(alpha_v_i) D(alpha_a_i)]
        D~_i = D_i [D(alpha_f_i) D(alpha_h)]                   G~_i = G_i [D(alpha_h) D(alpha_f_i)]

    and equation 2 trains the alphas alone:

        argmin L(E, {K~, Q~, V~, P~, D~, G~}) + gamma * beta_h ||alpha_h||_1 + gamma * sum_i (beta_a ||alpha_a_i||_1
            + beta_v ||alpha_v_i||_1 + beta_k ||alpha_k_i||_1 + beta_f ||alpha_f_i||_1)

    `gated_weights` gives the weights with ~, `shape.units.unit_prices` the betas; algorithm 1, step 4 is `fold`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cutbert.model.attention import Attention
from cutbert.model.feed_forward import FeedForward
from cutbert.model.heads import PredictionTokenHead
from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import EncoderShape
from cutbert.shape.units import DIMS, Place, places_of, size_at

Values = dict[Place, Tensor]


class Gates(nn.Module):
    """The alphas: one factor per unit, all 1 at first.

    Args:
        shape: of the network.

    Source:
        Khetan and Karnin 2020 (2005.06628), section 4, prune parameters: alpha_h for the hidden size of the whole
        network, and in layer i alpha_a_i for heads, alpha_f_i for neurons, alpha_k_i and alpha_v_i for key and value
        units, which all heads of the layer share.
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

    With all gates at 1 the weights are the same to the bit.

    Args:
        model: the network; its own weights are not changed.
        values: a factor per unit at every place of its shape.
        inner: factors for the first of the two matrices that a unit is between (up, key and value, and for a head the
            query too); None for the same as `values`.
        gates_norms: whether alpha_h also multiplies the weights that write the residual stream.

    Source:
        Khetan and Karnin 2020 (2005.06628), tables 4 and 5: the equations at the top of this file. Ours, where the
        paper is silent: a bias is multiplied by the factors of its rows, of a gated neuron both rows in are, and the
        task head's matrices that read hidden units are gated too. Ours, against the paper, and left out without
        `gates_norms`: alpha_h also multiplies every LayerNorm's weight and bias and the rows of ELECTRA's projection. A
        hidden unit at 0 is then absent from the residual stream, not just unread, and training the gates sees what
        cutting it will cost.
    """
    hidden, inner = values[Place("h")], values if inner is None else inner
    gated = head_weights(model, hidden) | (stream_weights(model, hidden) if gates_norms else {})
    for i, layer in enumerate(model.encoder.layers):
        where = f"encoder.layers.{i}."
        if isinstance(layer.attention, Attention):
            heads, k, v = inner[Place("a", i)][:, None], Place("k", i), Place("v", i)
            for name, units in (("query", values[k]), ("key", inner[k]), ("value", inner[v])):
                gated |= scaled(layer.attention, where + "attention.", name, (heads * units).flatten(), hidden)
            columns = (values[Place("a", i)][:, None] * values[v]).flatten()
            gated |= scaled(layer.attention, where + "attention.", "output", hidden, columns)
        if isinstance(layer.feed_forward, FeedForward):
            f = Place("f", i)
            for name in ("up", "gate"):
                gated |= scaled(layer.feed_forward, where + "feed_forward.", name, inner[f], hidden)
            gated |= scaled(layer.feed_forward, where + "feed_forward.", "down", hidden, values[f])
    return gated


def scaled(owner: nn.Module, where: str, name: str, rows: Tensor, columns: Tensor) -> dict[str, Tensor]:
    """Return a linear layer's weight and bias, where they are there, times a factor per row and per column."""
    linear = getattr(owner, name)
    if linear is None:
        return {}
    gated = {f"{where}{name}.weight": linear.weight.detach() * rows[:, None] * columns}
    return gated if linear.bias is None else gated | {f"{where}{name}.bias": linear.bias.detach() * rows}


def stream_weights(model: TaskModel, hidden: Tensor) -> dict[str, Tensor]:
    """Return, gated, the weights that write the residual stream: every LayerNorm over hidden units, and a projection.

    In a masked LM whose tables are as wide as the hidden states, the head's LayerNorm is one of these.
    """
    gated: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        owner = name.rpartition(".")[0].rpartition(".")[2]
        is_above = name.startswith(("encoder.layers.", "encoder.norm.", "encoder.embeddings.distance_norm."))
        is_of_tables = model.shape.embedding_size is not None and not is_above
        if owner == "projection" or (owner in ("norm", "distance_norm") and not is_of_tables):
            rows = hidden[:, None] if parameter.ndim > 1 else hidden
            gated[name] = parameter.detach() * rows
    return gated


def head_weights(model: TaskModel, hidden: Tensor) -> dict[str, Tensor]:
    """Return, gated, the task head's matrices whose columns are cut with the hidden units.

    The columns of a sequence head's `out` are the pooler's outputs, which are cut with them too.
    """
    gated: dict[str, Tensor] = {}
    for name in gated_head_parts(model):
        weight = model.get_parameter(f"head.{name}.weight")
        gated[f"head.{name}.weight"] = weight.detach() * hidden
    return gated


def gated_head_parts(model: TaskModel) -> tuple[str, ...]:
    head = model.head_spec
    if head.is_sequence or isinstance(model.head, PredictionTokenHead):
        return ("dense", "out")
    if head.kind in ("token", "span"):
        return ("out",)
    return () if model.head is None else ("dense",)


@torch.no_grad()
def fold(model: TaskModel, values: Values, *, gates_norms: bool = True) -> None:
    """Multiply gates into a network's weights for good, in place; it then computes what the gated network did.

    A closed gate (0) is folded into the second of its unit's two matrices only. With both at 0 no gradient would reach
    either, and a unit that stays in spite of its gate, because sizes come in groups or are given, could not recover.

    Source:
        Khetan and Karnin 2020 (2005.06628), algorithm 1, step 4: "fold all alphas, zero and non-zero, into the
        weights". That closed gates spare the first matrix is ours.
    """
    inner = {p: v if p.dim == "h" else torch.where(v == 0, 1.0, v) for p, v in values.items()}
    for name, weight in gated_weights(model, values, inner, gates_norms=gates_norms).items():
        model.get_parameter(name).copy_(weight)
