"""LayerNorm over a prefix of the hidden units."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class PrefixNorm(nn.LayerNorm):
    """LayerNorm that runs over as many units as its input has, with the prefix of its weights.

    Over a true prefix the statistics are the prefix's own: equal to the extracted network, and to
    neither the full network nor one with zeroed units.
    """

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-1]
        if size == self.weight.shape[0]:
            return F.layer_norm(x, (size,), self.weight, self.bias, self.eps)
        return F.layer_norm(x, (size,), self.weight[:size], self.bias[:size], self.eps)
