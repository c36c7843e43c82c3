"""Elastic feed-forward sub-layer with its residual and LayerNorm.

Axes: B batch, S sequence, H hidden, F neurons.
"""

from __future__ import annotations

from torch import Tensor, nn
from transformers.activations import ACT2FN

from cutbert.model.dropout import Dropout
from cutbert.model.prefix import PrefixNorm, prefix_linear


class FeedForward(nn.Module):
    """Two linear maps with an activation between them, which can run with any prefix of the neurons.

    Args:
        hidden_size: width of the residual stream.
        intermediate_size: neurons.
        activation: a name in transformers' ACT2FN.
        layer_norm_eps, dropout: of the family.

    Source:
        Hou et al. 2020 (2004.04037), section 2.1: the feed-forward is a sum over neurons, so a prefix of the sum is a
        smaller feed-forward.
    """

    def __init__(
        self, *, hidden_size: int, intermediate_size: int, activation: str, layer_norm_eps: float, dropout: float
    ) -> None:
        super().__init__()
        self.up = nn.Linear(hidden_size, intermediate_size)
        self.down = nn.Linear(intermediate_size, hidden_size)
        self.norm = PrefixNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = Dropout(dropout)
        self.activation = ACT2FN[activation]

    def forward(self, x_BSH: Tensor, *, intermediate_size: int) -> Tensor:
        """Return the output of the first neurons before residual and LayerNorm, which `add` applies."""
        h_BSF = self.neurons(x_BSH, intermediate_size=intermediate_size)
        return prefix_linear(h_BSF, self.down.weight, self.down.bias, x_BSH.shape[-1], intermediate_size)

    def neurons(self, x_BSH: Tensor, *, intermediate_size: int) -> Tensor:
        """Return the first neurons' activations, the input of the second map: [..., intermediate_size]."""
        return self.activation(prefix_linear(x_BSH, self.up.weight, self.up.bias, intermediate_size, x_BSH.shape[-1]))

    def add(self, x_BSH: Tensor, y_BSH: Tensor) -> Tensor:
        """Return the states after residual and LayerNorm: x before the feed-forward, y its output."""
        return self.norm(x_BSH + self.dropout(y_BSH))
