"""Elastic multi-head self-attention with its residual and LayerNorm.

Axes: B batch, S sequence, H hidden, N heads, K key_dim, V value_dim; T all positions of a batch;
M heads of a tile, of all its texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cutbert.errors import ShapeError
from cutbert.model.distances import Distances, distance_scores
from cutbert.model.dropout import draw_kept, kept_share
from cutbert.model.layout import Layout
from cutbert.model.prefix import NormPlace, SubLayer, prefix_linear
from cutbert.shape.blocks import Block, Blocks, num_positions, placed
from cutbert.shape.ingredients import spans
from cutbert.shape.subnet import rotary_misfit

TILE = 1 << 18  # attention scores of a tile, per thread: 1 MiB of float32, which stays in a core's own cache


class Attention(SubLayer):
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
    ) -> Tensor:
        """Return the attention's output; `add` applies the residual.

        Args:
            x: hidden states, [B, S, H] or [T, H]; H may be a prefix of the hidden units.
            layout: of the batch.
            num_heads, key_dim, value_dim: how many of the first ones run.

        Returns:
            The shape of x.
        """
        c = self.context(x, layout, num_heads=num_heads, key_dim=key_dim, value_dim=value_dim)
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
        q_NRK, k_NRK = (
            self._project(states, linear, num_heads, key_dim, self.key_dim)
            .unflatten(-1, (num_heads, -1))
            .transpose(0, 1)
            for linear in (self.query, self.key)
        )
        flat, scores = [x.reshape(-1, x.shape[-1]) for x in (q, k)], []
        for i, (block, start) in enumerate(placed(layout.blocks)):
            q_BNSK, k_BNSK = (in_heads(x, block, start, num_heads) for x in flat)
            rows = distances.rows[i]
            own = distance_scores(q_BNSK, k_BNSK, q_NRK[:, rows], k_NRK[:, rows], distances.index[i])
            scores.append(own * self.scale)
        return scores

    def projections(self, x: Tensor, *, num_heads: int, key_dim: int, value_dim: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, [..., num_heads * key_dim] and [..., num_heads * value_dim].

        Rotary positions are not in them. The arguments are those of `forward`.
        """
        x = self.read(x)
        q = self._project(x, self.query, num_heads, key_dim, self.key_dim)
        k = self._project(x, self.key, num_heads, key_dim, self.key_dim)
        v = self._project(x, self.value, num_heads, value_dim, self.value_dim)
        return q, k, v

    def _project(self, x: Tensor, linear: nn.Linear, num_heads: int, dim: int, full_dim: int) -> Tensor:
        """Project to the first heads, and to the first dimensions of each: [..., num_heads * dim]."""
        weight: Tensor = linear.weight
        bias: Tensor | None = linear.bias
        if dim != full_dim:
            weight = weight.view(self.num_heads, full_dim, -1)[:num_heads, :dim].flatten(0, 1)
            bias = None if bias is None else bias.view(self.num_heads, full_dim)[:num_heads, :dim].flatten()
        return prefix_linear(x, weight, bias, num_heads * dim, x.shape[-1])


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


def part_of_bias(bias: Tensor | None, queries: range, keys: range) -> Tensor | None:
    """Return the part of a bias, [..., 1 or S, S], for some queries and keys."""
    if bias is None:
        return None
    rows = bias if bias.shape[-2] == 1 else bias[..., queries.start : queries.stop, :]
    return rows[..., keys.start : keys.stop]


def inside_window(bias: Tensor | None, queries: range, keys: range, window: int | None, like: Tensor) -> Tensor | None:
    """Return a bias that is also the lowest finite number where a key is out of its query's window."""
    far = out_of_window(queries, keys, window, like.device)
    if far is None:
        return bias
    empty = like.new_zeros(()) if bias is None else bias
    return empty.masked_fill(far, torch.finfo(like.dtype).min)


def out_of_window(queries: range, keys: range, window: int | None, device: torch.device) -> Tensor | None:
    """Return where a key is out of its query's window, [queries, keys]; None where none is."""
    if window is None or max(keys.stop - 1 - queries.start, queries.stop - 1 - keys.start) <= window:
        return None
    places_Q, places_K = (torch.arange(each.start, each.stop, device=device) for each in (queries, keys))
    return (places_Q[:, None] - places_K).abs() > window


def in_heads(x_TC: Tensor, block: Block, start: int, num_heads: int) -> Tensor:
    """Return a block of [T, N K] as a view of [B, N, S, K]."""
    part = x_TC if block.size == x_TC.shape[0] else x_TC[start : start + block.size]
    return part.view(block.rows, block.length, num_heads, -1).transpose(1, 2)


class ExplicitAttention(torch.autograd.Function):
    """Attention as plain matrix products in at least float32, whatever the dtype around it; differentiable once.

    Float32 is as fast as bf16 here: the products are small compared with the copies that bring heads together, which
    convert on the way. And oneDNN compiles a kernel for every new size of a bf16 product, which takes longer than
    the product itself, and blocks have many sizes; MKL's float32 products need none.

    Long texts run in tiles, whose scores stay in the cache. The backward computes their attention weights again,
    which costs no more than storing and reading them: of T N S numbers only dropout's masks are kept, a byte each.

    Source:
        Vaswani et al. 2017 (1706.03762), equation 1; tiles and recomputation after Dao et al. 2022 (2205.14135).
        The dtype, and tiles of whole heads, are our choice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        blocks: Blocks,
        biases: Sequence[Tensor | None],
        num_heads: int,
        scale: float,
        dropout: float,
        window: int | None,
        *relative: Tensor,
    ) -> Tensor:
        flat = [x.reshape(-1, x.shape[-1]) for x in (q, k, v)]
        context = torch.zeros_like(flat[2])
        ctx.num_heads, ctx.scale, ctx.dropout, ctx.shapes = num_heads, scale, dropout, (q.shape, k.shape, v.shape)
        ctx.relative, ctx.tiles, saved = relative, list(tiles_of(blocks, biases, num_heads, window)), []
        for tile in ctx.tiles:
            q_MSK, k_MSK, v_MSV = (
                gathered(x, tile, num_heads, places)
                for x, places in zip(flat, (tile.queries, tile.keys, tile.keys), strict=True)
            )
            weights_MSS = weights_of(q_MSK, k_MSK, tile, scale, relative)
            kept_MSS = draw_kept(weights_MSS.shape, dropout) if dropout else None
            used_MSS = weights_MSS if kept_MSS is None else weights_MSS * factors(kept_MSS, dropout, weights_MSS)
            scatter(context, torch.bmm(used_MSS, v_MSV), tile, num_heads, tile.queries)
            saved.append((q_MSK, k_MSK, v_MSV, weights_MSS if tile.is_whole else None, kept_MSS))
        ctx.save_for_backward(*(tensor for tensors in saved for tensor in tensors))
        return context.view(v.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        dc = gradients[0].reshape(-1, gradients[0].shape[-1])
        T = dc.shape[0]
        dq, dk, dv = (dc.new_zeros(T, shape[-1]) for shape in ctx.shapes)
        has_relative = any(ctx.needs_input_grad[9:])
        drelative = [torch.zeros_like(each) for each in ctx.relative] if has_relative else [None] * len(ctx.relative)
        for i, tile in enumerate(ctx.tiles):
            q_MSK, k_MSK, v_MSV, weights_MSS, kept_MSS = ctx.saved_tensors[5 * i : 5 * i + 5]
            if weights_MSS is None:
                weights_MSS = weights_of(q_MSK, k_MSK, tile, ctx.scale, ctx.relative)
            dc_MSV = gathered(dc, tile, ctx.num_heads, tile.queries)
            dweights_MSS, used_MSS = torch.bmm(dc_MSV, v_MSV.mT), weights_MSS
            if kept_MSS is not None:
                factors_MSS = factors(kept_MSS, ctx.dropout, weights_MSS)
                used_MSS = weights_MSS * factors_MSS
                dweights_MSS *= factors_MSS
            scatter(dv, torch.bmm(used_MSS.mT, dc_MSV), tile, ctx.num_heads, tile.keys)
            dscores_MSS = torch._softmax_backward_data(dweights_MSS, weights_MSS, -1, weights_MSS.dtype)
            if has_relative:
                part, dscores_RNSS = tile.of(drelative), dscores_MSS.unflatten(0, (-1, tile.num_heads))
                part += dscores_RNSS if len(part) == len(dscores_RNSS) else dscores_RNSS.sum(0)
            scatter(dq, products(dscores_MSS, k_MSK, ctx.scale), tile, ctx.num_heads, tile.queries)
            scatter(dk, products(dscores_MSS.mT, q_MSK, ctx.scale), tile, ctx.num_heads, tile.keys)
        gradients_qkv = (d.view(shape) for d, shape in zip((dq, dk, dv), ctx.shapes, strict=True))
        return (*gradients_qkv, None, None, None, None, None, None, *drelative)


class Tile(NamedTuple):
    """The heads of some texts, whose scores are computed together; of a long text with a window some positions.

    Args:
        block, start: the texts' block and its first position.
        number: of the block.
        rows: which texts of the block.
        heads: which heads of each of them.
        queries, keys: which positions of each of them.
        bias: added to their scores, [rows, 1, 1, keys], or None.
        far: where a key is out of its query's window, [queries, keys], or None.
        is_whole: whether these are all texts, heads and positions of the block.
    """

    block: Block
    start: int
    number: int
    rows: slice
    heads: slice
    queries: slice
    keys: slice
    bias: Tensor | None
    far: Tensor | None
    is_whole: bool

    @property
    def num_heads(self) -> int:
        return int(self.heads.stop - self.heads.start)

    def of(self, relative: Sequence[Tensor]) -> Tensor:
        """Return the part of what is added to a block's scores, [rows or 1, heads, queries, keys]."""
        own = relative[self.number]
        rows = self.rows if len(own) > 1 else slice(None)
        return own[rows, self.heads, self.queries, self.keys]


def tiles_of(
    blocks: Blocks, biases: Sequence[Tensor | None], num_heads: int, window: int | None = None
) -> Iterator[Tile]:
    """Yield the tiles of all blocks: a whole block, some of its texts, or some heads of one text.

    With a window the positions of a long text are parted too, and each part reads no further than its windows.
    """
    room = TILE * torch.get_num_threads()
    for number, ((block, start), bias) in enumerate(zip(placed(blocks), biases, strict=True)):
        ranges = list(spans(block.length, window))
        for queries, keys in ranges:
            size = len(queries) * len(keys)
            parts = -(-num_heads // max(1, room // size))  # a text's heads in equal parts, not a small last one
            heads = -(-num_heads // parts)
            rows = min(block.rows, max(1, room // (size * num_heads)))
            is_whole = rows == block.rows and heads == num_heads and len(ranges) == 1
            own_bias = part_of_bias(bias, queries, keys)
            far = None if window is None else out_of_window(queries, keys, window, torch.device("cpu"))
            for row in range(0, block.rows, rows):
                part = slice(row, row + rows)
                tile_bias = None if own_bias is None else own_bias[part]
                for head in range(0, num_heads, heads):
                    yield Tile(
                        block=block,
                        start=start,
                        number=number,
                        rows=part,
                        heads=slice(head, min(num_heads, head + heads)),
                        queries=slice(queries.start, queries.stop),
                        keys=slice(keys.start, keys.stop),
                        bias=tile_bias,
                        far=far,
                        is_whole=is_whole,
                    )


def weights_of(q_MSK: Tensor, k_MSK: Tensor, tile: Tile, scale: float, relative: Sequence[Tensor]) -> Tensor:
    """Return the attention weights of a tile, [M, S, S]."""
    scores_MSS = products(q_MSK, k_MSK.mT, scale)
    scores_RNSS = scores_MSS.view(-1, tile.num_heads, *scores_MSS.shape[1:])
    if relative:
        scores_RNSS.add_(tile.of(relative))
    if tile.bias is not None:
        scores_RNSS.add_(tile.bias)
    if tile.far is not None:
        scores_RNSS.masked_fill_(tile.far, torch.finfo(scores_MSS.dtype).min)
    return scores_MSS.softmax(-1)


def factors(kept: Tensor, dropout: float, like: Tensor) -> Tensor:
    """Return the factors of dropout, in a tensor's dtype: 0 where dropped, else 1 / the share kept."""
    return kept.to(like.dtype).mul_(1 / kept_share(dropout))


def products(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Return a @ b * scale, [M, ., .], in one pass."""
    empty = a.new_empty(a.shape[0], a.shape[1], b.shape[2])
    return torch.baddbmm(empty, a, b, beta=0, alpha=scale)


def gathered(x_TC: Tensor, tile: Tile, num_heads: int, places: slice) -> Tensor:
    """Return a tile's heads side by side at some of its positions, in at least float32: [M, S, K]."""
    heads = part_of(x_TC, tile, num_heads, places)
    wide = torch.promote_types(heads.dtype, torch.float32)
    return heads.to(wide, memory_format=torch.contiguous_format).flatten(0, 1)


def scatter(x_TC: Tensor, heads_MSK: Tensor, tile: Tile, num_heads: int, places: slice) -> None:
    """Write a tile's heads back to their positions; add them where tiles share positions."""
    part = part_of(x_TC, tile, num_heads, places)
    if len(range(tile.block.length)[places]) == tile.block.length or places is tile.queries:
        part.copy_(heads_MSK.view(part.shape))
    else:
        part.add_(heads_MSK.view(part.shape))


def part_of(x_TC: Tensor, tile: Tile, num_heads: int, places: slice) -> Tensor:
    """Return a tile of [T, N K] as a view, [rows, heads, S, K]."""
    heads = in_heads(x_TC, tile.block, tile.start, num_heads)
    return heads if tile.is_whole else heads[tile.rows, tile.heads, places]
