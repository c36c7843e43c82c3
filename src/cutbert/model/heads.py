"""Task heads on an encoder; each can also run on a prefix of the hidden units.

Axes: B batch, S sequence, H hidden, E table width, C outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cutbert.model.activations import ACTIVATIONS
from cutbert.model.dropout import Dropout
from cutbert.model.prefix import PrefixNorm, prefix_linear
from cutbert.model.style import EncoderStyle
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape


class Pooler(nn.Module):
    """A dense layer and an activation on the state that stands for a text, without an output layer.

    Args:
        hidden_size: of the states.
        activation: a name in `model.activations`.
        norm: a LayerNorm after the activation, or None.
        has_bias: of the dense layer.
    """

    def __init__(
        self, hidden_size: int, activation: str, norm: PrefixNorm | None = None, has_bias: bool = True
    ) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size, bias=has_bias)
        self.norm = norm
        self.activation = ACTIVATIONS[activation]

    def pool(self, text_BH: Tensor) -> Tensor:
        """Return [B, H] of the texts' states."""
        return transformed(self, text_BH, text_BH.shape[-1])


class SequenceHead(Pooler):
    """One output per label for the whole text: dense, activation, perhaps a LayerNorm, dropout, linear.

    BERT's pooler with its classifier and the classification heads of the other families all have this form. Dropout
    is before the last layer only: our choice, since the families differ.
    """

    def __init__(
        self,
        hidden_size: int,
        num_outputs: int,
        activation: str,
        dropout: float,
        norm: PrefixNorm | None = None,
        has_bias: bool = True,
    ) -> None:
        super().__init__(hidden_size, activation, norm, has_bias)
        self.dropout = Dropout(dropout)
        self.out = nn.Linear(hidden_size, num_outputs)

    def forward(self, pooled_BH: Tensor) -> Tensor:
        return output_of(self, pooled_BH)


class TokenHead(nn.Module):
    """A linear layer on every token, for token labels or for the start and end of a span."""

    def __init__(self, hidden_size: int, num_outputs: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.out = nn.Linear(hidden_size, num_outputs)

    def forward(self, last_BSH: Tensor) -> Tensor:
        return output_of(self, last_BSH)


class PredictionTokenHead(TokenHead):
    """A token head that begins with a dense layer, an activation and a LayerNorm (ModernBERT)."""

    def __init__(
        self, hidden_size: int, num_outputs: int, activation: str, dropout: float, norm: PrefixNorm, has_bias: bool
    ) -> None:
        super().__init__(hidden_size, num_outputs, dropout)
        self.dense = nn.Linear(hidden_size, hidden_size, bias=has_bias)
        self.norm = norm
        self.activation = ACTIVATIONS[activation]

    def forward(self, last_BSH: Tensor) -> Tensor:
        return output_of(self, transformed(self, last_BSH, last_BSH.shape[-1]))


class MaskedLMHead(nn.Module):
    """Logits of the whole vocabulary, through the encoder's own token table."""

    def __init__(
        self,
        hidden_size: int,
        table_size: int,
        vocab_size: int,
        activation: str,
        norm: PrefixNorm,
        has_bias: bool = True,
    ) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, table_size, bias=has_bias)
        self.norm = norm
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.activation = ACTIVATIONS[activation]
        self.is_projected = table_size != hidden_size

    def forward(self, last_BSH: Tensor, table_VE: Tensor) -> Tensor:
        x = self.transform(last_BSH)
        return nn.functional.linear(x, table_VE[:, : x.shape[-1]], self.bias)

    def transform(self, last_BSH: Tensor) -> Tensor:
        """Return the states that are multiplied by the table: [..., E], or [..., H] for a hidden prefix."""
        return transformed(self, last_BSH, self.dense.out_features if self.is_projected else last_BSH.shape[-1])


def transformed(head: Pooler | PredictionTokenHead | MaskedLMHead, x: Tensor, width: int) -> Tensor:
    """Return dense layer, activation and, where there is one, LayerNorm of states: [..., width]."""
    y = head.activation(prefix_linear(x, head.dense.weight, head.dense.bias, width, x.shape[-1]))
    return y if head.norm is None else head.norm(y)


def output_of(head: SequenceHead | TokenHead, x: Tensor) -> Tensor:
    """Return dropout and the output layer of states: [..., C]."""
    return prefix_linear(head.dropout(x), head.out.weight, head.out.bias, head.out.out_features, x.shape[-1])


def masked_lm_activation(shape: EncoderShape, style: EncoderStyle) -> str:
    """Return the name of the activation in a masked LM's head."""
    return style.head_activation if shape.ingredients.has_prediction_head else style.activation


def build_head(spec: HeadSpec, shape: EncoderShape, style: EncoderStyle) -> nn.Module | None:
    """Return a new head of the given kind, or None for the kinds without weights."""
    if spec.kind in ("none", "embedding"):
        return None
    made, hidden, eps = shape.ingredients, shape.hidden_size, style.layer_norm_eps
    has_prediction, has_bias = made.has_prediction_head, made.has_head_bias or not made.has_prediction_head
    if spec.kind == "masked_lm":
        norm = PrefixNorm(shape.table_size, eps=eps, bias=made.has_norm_bias)
        activation = masked_lm_activation(shape, style)
        return MaskedLMHead(hidden, shape.table_size, shape.vocab_size, activation, norm, has_bias)
    own_norm = PrefixNorm(hidden, eps=eps, bias=made.has_norm_bias) if has_prediction else None
    if spec.kind == "pooler":
        return Pooler(hidden, style.head_activation, own_norm, has_bias)
    outputs, dropout = spec.num_outputs, style.hidden_dropout
    if spec.is_sequence:
        return SequenceHead(hidden, outputs, style.head_activation, dropout, own_norm, has_bias)
    if own_norm is not None:
        return PredictionTokenHead(hidden, outputs, style.head_activation, dropout, own_norm, has_bias)
    return TokenHead(hidden, outputs, dropout)
