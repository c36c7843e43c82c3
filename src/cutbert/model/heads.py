"""Task heads on an encoder; each can also run on a prefix of the hidden units.

Axes: B batch, S sequence, H hidden, E table width, C outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from cutbert.model.dropout import Dropout
from cutbert.model.prefix import PrefixNorm, prefix_linear
from cutbert.model.style import EncoderStyle
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape


class Pooler(nn.Module):
    """A dense layer and an activation on the state that stands for a text, without an output layer."""

    def __init__(self, hidden_size: int, activation: str) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.activation = ACT2FN[activation]

    def pool(self, text_BH: Tensor) -> Tensor:
        """Return [B, H] of the texts' states."""
        H = text_BH.shape[-1]
        return self.activation(prefix_linear(text_BH, self.dense.weight, self.dense.bias, H, H))


class SequenceHead(Pooler):
    """One output per label for the whole text: dense, activation, dropout, linear.

    BERT's pooler with its classifier and the classification heads of RoBERTa, ELECTRA and DistilBERT all have this
    form. Dropout is before the last layer only: our choice, since the families differ.
    """

    def __init__(self, hidden_size: int, num_outputs: int, activation: str, dropout: float) -> None:
        super().__init__(hidden_size, activation)
        self.dropout = Dropout(dropout)
        self.out = nn.Linear(hidden_size, num_outputs)

    def forward(self, pooled_BH: Tensor) -> Tensor:
        H = pooled_BH.shape[-1]
        return prefix_linear(self.dropout(pooled_BH), self.out.weight, self.out.bias, self.out.out_features, H)


class TokenHead(nn.Module):
    """A linear layer on every token, for token labels or for the start and end of a span."""

    def __init__(self, hidden_size: int, num_outputs: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.out = nn.Linear(hidden_size, num_outputs)

    def forward(self, last_BSH: Tensor) -> Tensor:
        H = last_BSH.shape[-1]
        return prefix_linear(self.dropout(last_BSH), self.out.weight, self.out.bias, self.out.out_features, H)


class MaskedLMHead(nn.Module):
    """Logits of the whole vocabulary, through the encoder's own token table."""

    def __init__(
        self, hidden_size: int, table_size: int, vocab_size: int, activation: str, layer_norm_eps: float
    ) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, table_size)
        self.norm = PrefixNorm(table_size, eps=layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.activation = ACT2FN[activation]
        self.is_projected = table_size != hidden_size

    def forward(self, last_BSH: Tensor, table_VE: Tensor) -> Tensor:
        x = self.transform(last_BSH)
        return nn.functional.linear(x, table_VE[:, : x.shape[-1]], self.bias)

    def transform(self, last_BSH: Tensor) -> Tensor:
        """Return the states that are multiplied by the table: [..., E], or [..., H] for a hidden prefix."""
        H = last_BSH.shape[-1]
        width = self.dense.out_features if self.is_projected else H
        return self.norm(self.activation(prefix_linear(last_BSH, self.dense.weight, self.dense.bias, width, H)))


def build_head(spec: HeadSpec, shape: EncoderShape, style: EncoderStyle) -> nn.Module | None:
    """Return a new head of the given kind, or None for kind `none`."""
    if spec.kind == "none":
        return None
    if spec.kind == "pooler":
        return Pooler(shape.hidden_size, style.head_activation)
    if spec.is_sequence:
        return SequenceHead(shape.hidden_size, spec.num_outputs, style.head_activation, style.hidden_dropout)
    if spec.kind == "masked_lm":
        return MaskedLMHead(
            shape.hidden_size, shape.table_size, shape.vocab_size, style.activation, style.layer_norm_eps
        )
    return TokenHead(shape.hidden_size, spec.num_outputs, style.hidden_dropout)
