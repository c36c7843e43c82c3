"""Elastic multi-head self-attention with its residual and LayerNorm.

Axes: B batch, S sequence, H hidden, N heads, K key_dim, V value_dim; T all positions of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutbert.errors import ShapeError
from cutbert.model.distances import Distances, distance_scores
from cutbert.model.layout import Layout, at_places
from cutbert.model.prefix import prefix_linear, prefix_linears
from cutbert.model.residual import NormPlace, Residual
from cutbert.model.tiles import ExplicitAttention, in_heads, out_of_window, part_of_bias
from cutbert.shape.blocks import Blocks, num_positions, placed
from cutbert.shape.ingredients import spans
from cutbert.shape.subnet import rotary_misfit


class Attention(Residual):
    """Self-attention that can run with any prefix of its heads, key and value dimensions and hidden units.

    Args:
        hidden_size: width of the residual stream.
        num_heads, key_dim, value_dim: full sizes; key_dim and value_dim per head.
        layer_norm_eps, hidden_dropout, attention_dropout, norm_place, has_bias, has_norm_bias: of the family.
        num_bias_heads: columns of the encoder's table of relative biases, 0 for none. Which column is whose, the buffer
            `bias_heads` says, [num_heads]: columns are shared by all layers, and heads are reordered in each.
        window: how far from itself a position reads; None for any distance.
        rotary_base: base of rotary positions; None for none.
        has_distances: whether scores also compare contents with distances.

    Source:
        Vaswani et al. 2017 (1706.03762), equation 1; Hou et al. 2020 (2004.04037), section 2.1: attention is a sum
        over heads, so a prefix of the sum is a smaller attention.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_heads: int,
        key_dim: int,
        value_dim: int,
        layer_norm_eps: float,
        hidden_dropout: float,
        attention_dropout: float,
        num_bias_heads: int = 0,
        norm_place: NormPlace = "after",
        has_bias: bool = True,
        has_norm_bias: bool = True,
        window: int | None = None,
        rotary_base: float | None = None,
        has_distances: bool = False,
    ) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, num_heads * key_dim, bias=has_bias)
        self.key = nn.Linear(hidden_size, num_heads * key_dim, bias=has_bias)
        self.value = nn.Linear(hidden_size, num_heads * value_dim, bias=has_bias)
        self.output = nn.Linear(num_heads * value_dim, hidden_size, bias=has_bias)
        self.add_norm(hidden_size, norm_place, layer_norm_eps, hidden_dropout, has_norm_bias)
        self.attention_dropout = attention_dropout
        self.num_heads, self.key_dim, self.value_dim = num_heads, key_dim, value_dim
        self.window, self.rotary_base, self.has_distances = window, rotary_base, has_distances
        self.bias_heads: Tensor | None
        self.register_buffer("bias_heads", own_columns(num_heads, num_bias_heads) if num_bias_heads else None)

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        *,
        num_heads: int,
        key_dim: int,
        value_dim: int,
        places: Tensor | None = None,
    ) -> Tensor:
        """Return the attention's output; `add` applies the residual.

        Args:
            x: hidden states, [B, S, H] or [T, H]; H may be a prefix of the hidden units.
            layout: of the batch.
            num_heads, key_dim, value_dim: how many of the first ones run.
            places: of the outputs in the flattened batch, [M]; None for all.

        Returns:
            The shape of x; [M, H] at places.
        """
        c = at_places(self.context(x, layout, num_heads=num_heads, key_dim=key_dim, value_dim=value_dim), places)
        weight: Tensor = self.output.weight
        if value_dim != self.value_dim:
            weight = weight.view(-1, self.num_heads, self.value_dim)[:, :num_heads, :value_dim].flatten(1)
        return prefix_linear(c, weight, self.output.bias, x.shape[-1], num_heads * value_dim)

    def context(
        self,
        x: Tensor,
        layout: Layout,
        *,
        num_heads: int,
        key_dim: int,
        value_dim: int,
    ) -> Tensor:
        """Return what the heads read, the input of the output projection: [..., num_heads * value_dim]."""
        q, k, v = self.projections(x, num_heads=num_heads, key_dim=key_dim, value_dim=value_dim)
        if self.rotary_base is not None:
            if key_dim != self.key_dim:
                raise ShapeError(rotary_misfit(self.key_dim, key_dim))
            cos, sin = layout.rotation(self.rotary_base, key_dim)
            q, k = rotated(q, cos, sin), rotated(k, cos, sin)
        dropout = self.attention_dropout if self.training else 0.0
        relative: list[Tensor] = []
        if self.bias_heads is not None:
            relative = [each.index_select(1, self.bias_heads[:num_heads]) for each in layout.relative]
        elif layout.distances is not None:
            relative = self.distance_scores(q, k, layout, layout.distances, num_heads=num_heads, key_dim=key_dim)
        # The scale is that of the uncut layer even where a prefix of the key dimensions runs. A network cut out uses
        # 1 / sqrt of its own key_dim, so `surgery.extract` multiplies the query by sqrt(new / old).
        return attend(
            q,
            k,
            v,
            layout.blocks,
            layout.padding,
            num_heads=num_heads,
            scale=self.scale,
            dropout=dropout,
            relative=relative,
            window=self.window,
        )

    @property
    def scale(self) -> float:
        """Factor on the scores; with distances these are of three terms."""
        return (self.key_dim * (3 if self.has_distances else 1)) ** -0.5

    def distance_scores(
        self, q: Tensor, k: Tensor, layout: Layout, distances: Distances, *, num_heads: int, key_dim: int
    ) -> list[Tensor]:
        """Return for each block the scaled scores of contents with distances, [B, N, S, S].

        Distances become queries and keys by the same matrices as contents do.
        """
        states = self.dropout(distances.states)
        maps = [self._map(linear, num_heads, key_dim, self.key_dim) for linear in (self.query, self.key)]
        projected = prefix_linears(states, maps, states.shape[-1])
        q_NRK, k_NRK = (each.unflatten(-1, (num_heads, -1)).transpose(0, 1) for each in projected)
        flat, scores = [x.reshape(-1, x.shape[-1]) for x in (q, k)], []
        for i, (block, start) in enumerate(placed(layout.blocks)):
            q_BNSK, k_BNSK = (in_heads(x, block, start, num_heads) for x in flat)
            rows = distances.rows[i]
            own = distance_scores(q_BNSK, k_BNSK, q_NRK[:, rows], k_NRK[:, rows], distances.pairs[i])
            scores.append(own * self.scale)
        return scores

    def projections(self, x: Tensor, *, num_heads: int, key_dim: int, value_dim: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, [..., num_heads * key_dim] and [..., num_heads * value_dim].

        Rotary positions are not in them. The arguments are those of `forward`.
        """
        x = self.read(x)
        maps = [
            self._map(linear, num_heads, dim, full)
            for linear, dim, full in (
                (self.query, key_dim, self.key_dim),
                (self.key, key_dim, self.key_dim),
                (self.value, value_dim, self.value_dim),
            )
        ]
        q, k, v = prefix_linears(x, maps, x.shape[-1])
        return q, k, v

    def _map(self, linear: nn.Linear, num_heads: int, dim: int, full_dim: int) -> tuple[Tensor, Tensor | None, int]:
        """Return weight, bias and rows of a projection to the first heads, and to the first dimensions of each."""
        weight: Tensor = linear.weight
        bias: Tensor | None = linear.bias
        if dim != full_dim:
            weight = weight.view(self.num_heads, full_dim, -1)[:num_heads, :dim].flatten(0, 1)
            bias = None if bias is None else bias.view(self.num_heads, full_dim)[:num_heads, :dim].flatten()
        return weight, bias, num_heads * dim


def own_columns(num_heads: int, num_bias_heads: int) -> Tensor:
    """Return a new layer's columns of the table of relative biases: head j has column j; more heads share columns."""
    return torch.arange(num_heads) % num_bias_heads


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return queries or keys, [..., N K], turned by rotary positions.

    Args:
        x: of all heads, side by side.
        cos, sin: as `Layout.rotation` returns them.

    Source:
        Su et al. 2021 (2104.09864), equation 34; a pair is dimensions j and j + K / 2, as in transformers.
    """
    pairs = x.reshape(cos.shape[0], -1, 2, cos.shape[-1]).float()
    first, second = pairs.unbind(2)
    turned = torch.stack((first * cos - second * sin, second * cos + first * sin), 2)
    return turned.to(x.dtype).view(x.shape)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    blocks: Blocks,
    biases: Sequence[Tensor | None],
    *,
    num_heads: int,
    scale: float,
    dropout: float,
    relative: Sequence[Tensor] = (),
    window: int | None = None,
) -> Tensor:
    """Return softmax(q k' scale + bias) v of every head, block by block, by the faster implementation.

    Training on CPU uses `ExplicitAttention`: torch's flash attention on CPU has a backward several times slower, and
    with dropout, or where key_dim differs from value_dim, torch does not use it at all. Elsewhere torch's
    scaled_dot_product_attention runs.

    Args:
        q, k: [B, S, N K], or [T, N K] where there are several blocks.
        v: [B, S, N V] or [T, N V].
        blocks, biases: the blocks and the padding of a `Layout`.
        num_heads: N.
        scale: factor on the scores.
        dropout: probability of dropping an attention weight.
        relative: for each block [B, N, S, S], added to the scores, or [1, N, S, S] for all its texts; empty for none.
        window: how far from itself a position reads; None for any distance. Scores of a long text then cost memory and
            time in proportion to its length.

    Returns:
        The shape of v; 0 at positions that belong to no text.
    """
    if q.device.type == "cpu" and torch.is_grad_enabled() and q.requires_grad:
        context: Tensor = ExplicitAttention.apply(q, k, v, blocks, biases, num_heads, scale, dropout, window, *relative)
        return context
    flat = [x.reshape(-1, x.shape[-1]) for x in (q, k, v)]
    parts = []
    for i, ((block, start), bias) in enumerate(zip(placed(blocks), biases, strict=True)):
        q_BNSK, k_BNSK, v_BNSV = (in_heads(x, block, start, num_heads) for x in flat)
        if relative:
            own = relative[i].to(q.dtype)
            bias = own if bias is None else own + bias
        ranges = list(spans(block.length, window))
        if len(ranges) == 1:
            bias = inside_window(bias, *ranges[0], window, q_BNSK)
            c_BNSV = F.scaled_dot_product_attention(
                q_BNSK, k_BNSK, v_BNSV, attn_mask=bias, dropout_p=dropout, scale=scale
            )
        else:
            c_BNSV = torch.cat(
                [
                    F.scaled_dot_product_attention(
                        q_BNSK[:, :, queries.start : queries.stop],
                        k_BNSK[:, :, keys.start : keys.stop],
                        v_BNSV[:, :, keys.start : keys.stop],
                        attn_mask=inside_window(part_of_bias(bias, queries, keys), queries, keys, window, q_BNSK),
                        dropout_p=dropout,
                        scale=scale,
                    )
                    for queries, keys in ranges
                ],
                dim=2,
            )
        parts.append(c_BNSV.transpose(1, 2).reshape(block.size, -1))
    rest = flat[2].shape[0] - num_positions(blocks)
    if rest:
        parts.append(flat[2].new_zeros(rest, v.shape[-1]))
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).view(v.shape)


def inside_window(bias: Tensor | None, queries: range, keys: range, window: int | None, like: Tensor) -> Tensor | None:
    """Return a bias that is also the lowest finite number where a key is out of its query's window."""
    far = out_of_window(queries, keys, window, like.device)
    if far is None:
        return bias
    empty = like.new_zeros(()) if bias is None else bias
    return empty.masked_fill(far, torch.finfo(like.dtype).min)
