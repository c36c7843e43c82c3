"""The residual of a sub-layer with its LayerNorm: before the sub-layer, after the sum, or none."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from cutbert.model.dropout import Dropout
from cutbert.model.prefix import PrefixNorm

NormPlace = Literal["before", "after", "none"]


class Residual(nn.Module):
    """What attention and feed-forward share: a LayerNorm before or after them, or none, and the residual."""

    norm: PrefixNorm | None
    dropout: Dropout
    norm_place: NormPlace

    def add_norm(
        self, hidden_size: int, norm_place: NormPlace, layer_norm_eps: float, dropout: float, has_norm_bias: bool
    ) -> None:
        """Add LayerNorm and dropout, behind the sub-layer's own matrices.

        Args:
            hidden_size: width of the residual stream.
            norm_place: before: the sub-layer reads its norm's output; after: the norm reads the sum.
            layer_norm_eps, dropout, has_norm_bias: of the family.
        """
        self.norm_place = norm_place
        self.norm = None
        if norm_place != "none":
            self.norm = PrefixNorm(hidden_size, eps=layer_norm_eps, bias=has_norm_bias)
        self.dropout = Dropout(dropout)

    def read(self, x: Tensor) -> Tensor:
        """Return what the sub-layer's matrices read of the stream x."""
        return self.norm(x) if self.norm is not None and self.norm_place == "before" else x

    def settle(self, total: Tensor) -> Tensor:
        """Return the stream after the sum of stream and output."""
        return self.norm(total) if self.norm is not None and self.norm_place == "after" else total

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the stream after the sub-layer: x before it, y its output."""
        return self.settle(self.dropout.added(x, y))
