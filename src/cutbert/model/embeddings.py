"""Token, position and type tables, their LayerNorm, ELECTRA's projection; MPNet's relative biases, DeBERTa's distances.

Axes: B batch, S sequence, E table width, H hidden.
"""

from __future__ import annotations

from torch import Tensor, nn

from cutbert.model.dropout import Dropout
from cutbert.model.layout import positions_in_text
from cutbert.model.prefix import PrefixNorm, prefix_linear
from cutbert.shape.blocks import Blocks
from cutbert.shape.ingredients import NUM_BUCKETS


class Embeddings(nn.Module):
    """The input of the first layer.

    Args:
        vocab_size, num_positions, num_token_types: rows of the tables; with 0 token types there is no such table.
        table_size: width of the tables.
        hidden_size: width of the output; a projection exists where it differs from table_size.
        layer_norm_eps, dropout: of the family.
        position_offset: position id of the first real token. Above 0 (RoBERTa) padding does not advance positions.
        num_bias_heads: columns of the table of relative biases, which the layers read; 0 for no table.
        num_distance_buckets, has_distance_norm: of the table of distances, which the layers read; 0 for no table.
        has_position_table, has_norm_bias: of the family.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        num_positions: int,
        num_token_types: int,
        table_size: int,
        hidden_size: int,
        layer_norm_eps: float,
        dropout: float,
        position_offset: int,
        num_bias_heads: int = 0,
        num_distance_buckets: int = 0,
        has_distance_norm: bool = False,
        has_position_table: bool = True,
        has_norm_bias: bool = True,
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, table_size)
        self.position = nn.Embedding(num_positions, table_size) if has_position_table else None
        self.token_type = nn.Embedding(num_token_types, table_size) if num_token_types else None
        self.norm = PrefixNorm(table_size, eps=layer_norm_eps, bias=has_norm_bias)
        self.projection = nn.Linear(table_size, hidden_size) if table_size != hidden_size else None
        self.relative = nn.Embedding(NUM_BUCKETS, num_bias_heads) if num_bias_heads else None
        self.distance = nn.Embedding(2 * num_distance_buckets, hidden_size) if num_distance_buckets else None
        self.distance_norm = PrefixNorm(hidden_size, eps=layer_norm_eps) if has_distance_norm else None
        self.dropout = Dropout(dropout)
        self.position_offset = position_offset

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        *,
        hidden_size: int,
        blocks: Blocks | None = None,
    ) -> Tensor:
        """Return the first hidden states.

        Args:
            input_ids: [B, S]; or [T] with blocks, padded on the right.
            attention_mask: 1 = token; None where nothing is padded.
            token_type_ids: shaped as input_ids; None for all zeros.
            hidden_size: how many of the first hidden units are kept.
            blocks: the layout of [T]; None for [B, S].

        Returns:
            [..., hidden_size].
        """
        width = hidden_size if self.projection is None else self.norm.weight.shape[0]
        x = self.token(input_ids)[..., :width]
        if self.position is not None:
            x = x + self.position(self._positions(input_ids, attention_mask, blocks))[..., :width]
        if self.token_type is not None:
            types = self.token_type.weight[0] if token_type_ids is None else self.token_type(token_type_ids)
            x = x + types[..., :width]
        x = self.dropout(self.norm(x))
        if self.projection is None:
            return x
        return prefix_linear(x, self.projection.weight, self.projection.bias, hidden_size, width)

    def distance_states(self, hidden_size: int) -> Tensor:
        """Return the states of all distances, [2 x buckets, hidden_size]."""
        assert self.distance is not None
        states = self.distance.weight[:, :hidden_size]
        return states if self.distance_norm is None else self.distance_norm(states)

    def _positions(self, input_ids: Tensor, attention_mask: Tensor | None, blocks: Blocks | None) -> Tensor:
        if self.position_offset and attention_mask is not None and blocks is None:
            real = attention_mask.long()
            return (real.cumsum(-1) - 1).clamp(min=0) * real + self.position_offset
        return positions_in_text(input_ids, blocks) + self.position_offset
