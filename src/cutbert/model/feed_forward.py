"""Elastic feed-forward sub-layer with its residual and LayerNorm, plain or gated.

Axes: B batch, S sequence, H hidden, F neurons.
"""

from __future__ import annotations

from torch import Tensor, nn

from cutbert.model.activations import ACTIVATIONS
from cutbert.model.prefix import prefix_linear
from cutbert.model.residual import NormPlace, Residual


class FeedForward(Residual):
    """Two linear maps with an activation between them, which can run with any prefix of the neurons.

    A gated one has a third map, `gate`, beside the first: a neuron is the activation of the one times the other.

    Args:
        hidden_size: width of the residual stream.
        intermediate_size: neurons.
        activation: a name in `model.activations`.
        layer_norm_eps, dropout, norm_place, is_gated, has_bias, has_neuron_bias, has_norm_bias: of the family.

    Source:
        Hou et al. 2020 (2004.04037), section 2.1: the feed-forward is a sum over neurons, so a prefix of the sum is a
        smaller feed-forward. Gates: Shazeer 2020 (2002.05202), equation 6.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        intermediate_size: int,
        activation: str,
        layer_norm_eps: float,
        dropout: float,
        norm_place: NormPlace = "after",
        is_gated: bool = False,
        has_bias: bool = True,
        has_neuron_bias: bool = True,
        has_norm_bias: bool = True,
    ) -> None:
        super().__init__()
        into = has_bias and has_neuron_bias
        self.up = nn.Linear(hidden_size, intermediate_size, bias=into)
        self.gate = nn.Linear(hidden_size, intermediate_size, bias=into) if is_gated else None
        self.down = nn.Linear(intermediate_size, hidden_size, bias=has_bias)
        self.add_norm(hidden_size, norm_place, layer_norm_eps, dropout, has_norm_bias)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x_BSH: Tensor, *, intermediate_size: int) -> Tensor:
        """Return the output of the first neurons; `add` applies the residual."""
        h_BSF = self.neurons(x_BSH, intermediate_size=intermediate_size)
        return prefix_linear(h_BSF, self.down.weight, self.down.bias, x_BSH.shape[-1], intermediate_size)

    def neurons(self, x_BSH: Tensor, *, intermediate_size: int) -> Tensor:
        """Return the first neurons' activations, the input of the last map: [..., intermediate_size]."""
        x, H = self.read(x_BSH), x_BSH.shape[-1]
        h = self.activation(prefix_linear(x, self.up.weight, self.up.bias, intermediate_size, H))
        if self.gate is None:
            return h
        return h * prefix_linear(x, self.gate.weight, self.gate.bias, intermediate_size, H)
