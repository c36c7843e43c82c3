"""Attention in training on a CPU: plain products in tiles that stay in the cache, and their gradients.

Axes: B batch, S sequence, N heads, K key_dim, V value_dim; T all positions of a batch; M heads of a tile, of all its
texts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cutbert.model.dropout import draw_kept, kept_share
from cutbert.shape.blocks import Block, Blocks, placed
from cutbert.shape.ingredients import spans

TILE = 1 << 18  # attention scores of a tile, per thread: 1 MiB of float32, which stays in a core's own cache
HALVES = (torch.bfloat16, torch.float16)
SHORT = 16  # keys, a vector of float32: torch's softmax takes rows of fewer one by one, ten times as long


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
        ctx.num_heads, ctx.scale, ctx.shapes = num_heads, scale, (q.shape, k.shape, v.shape)
        ctx.relative, ctx.tiles, saved = relative, list(tiles_of(blocks, biases, num_heads, window)), []
        ctx.share = 1 / kept_share(dropout) if dropout else 1.0
        masks = drawn_masks(ctx.tiles, dropout) if dropout else [None] * len(ctx.tiles)
        for tile, kept_MSS in zip(ctx.tiles, masks, strict=True):
            q_MSK, k_MSK, v_MSV = (
                gathered(x, tile, num_heads, places)
                for x, places in zip(flat, (tile.queries, tile.keys, tile.keys), strict=True)
            )
            weights_MSS = weights_of(q_MSK, k_MSK, tile, scale, relative)
            used_MSS = weights_MSS if kept_MSS is None else weights_MSS * kept_MSS
            scatter(context, products(tile.by_query(used_MSS), v_MSV, ctx.share), tile, num_heads, tile.queries)
            saved.append((q_MSK, k_MSK, v_MSV, weights_MSS if tile.is_whole else None, kept_MSS))
        ctx.save_for_backward(*(tensor for tensors in saved for tensor in tensors))
        return context.view(v.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        dc = gradients[0].reshape(-1, gradients[0].shape[-1])
        T, num_heads, share = dc.shape[0], ctx.num_heads, ctx.share
        dq, dk, dv = (dc.new_zeros(T, shape[-1]) for shape in ctx.shapes)
        has_relative = any(ctx.needs_input_grad[9:])
        drelative = [torch.zeros_like(each) for each in ctx.relative] if has_relative else [None] * len(ctx.relative)
        saved = ctx.saved_tensors
        for i, tile in enumerate(ctx.tiles):
            q_MSK, k_MSK, v_MSV, weights_MSS, kept_MSS = saved[5 * i : 5 * i + 5]
            if weights_MSS is None:
                weights_MSS = weights_of(q_MSK, k_MSK, tile, ctx.scale, ctx.relative)
            dc_MSV, used_MSS = gathered(dc, tile, num_heads, tile.queries), weights_MSS
            left, right = (v_MSV, dc_MSV) if tile.is_short else (dc_MSV, v_MSV)
            dscores_MSS = products(left, right.mT, share)
            if kept_MSS is not None:
                used_MSS = weights_MSS * kept_MSS
                dscores_MSS *= kept_MSS
            scatter(dv, products(tile.by_key(used_MSS), dc_MSV, share), tile, num_heads, tile.keys)
            axis = 1 if tile.is_short else -1
            dscores_MSS = torch._softmax_backward_data(dscores_MSS, weights_MSS, axis, weights_MSS.dtype)
            dscores_by_query = tile.by_query(dscores_MSS)
            if has_relative:
                part, dscores_RNSS = tile.of(drelative), dscores_by_query.unflatten(0, (-1, tile.num_heads))
                part += dscores_RNSS if len(part) == len(dscores_RNSS) else dscores_RNSS.sum(0)
            scatter(dq, products(dscores_by_query, k_MSK, ctx.scale), tile, num_heads, tile.queries)
            scatter(dk, products(tile.by_key(dscores_MSS), q_MSK, ctx.scale), tile, num_heads, tile.keys)
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

    @property
    def is_short(self) -> bool:
        """Whether scores and weights are stored by key, [M, keys, queries], not by query."""
        return len(range(self.block.length)[self.keys]) < SHORT

    @property
    def score_shape(self) -> tuple[int, int, int]:
        """The shape of its scores as they are stored."""
        rows, queries, keys = (
            len(range(size)[part])
            for size, part in (
                (self.block.rows, self.rows),
                (self.block.length, self.queries),
                (self.block.length, self.keys),
            )
        )
        return (rows * self.num_heads, keys, queries) if self.is_short else (rows * self.num_heads, queries, keys)

    def by_query(self, stored_MSS: Tensor) -> Tensor:
        """Return stored scores or weights as [M, queries, keys]."""
        return stored_MSS.mT if self.is_short else stored_MSS

    def by_key(self, stored_MSS: Tensor) -> Tensor:
        """Return stored scores or weights as [M, keys, queries]."""
        return stored_MSS if self.is_short else stored_MSS.mT

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
    """Return the attention weights of a tile as they are stored."""
    left, right = (k_MSK, q_MSK) if tile.is_short else (q_MSK, k_MSK)
    scores_MSS = products(left, right.mT, scale)
    if relative or tile.bias is not None or tile.far is not None:
        scores_RNSS = tile.by_query(scores_MSS).unflatten(0, (-1, tile.num_heads))
        if relative:
            scores_RNSS.add_(tile.of(relative))
        if tile.bias is not None:
            scores_RNSS.add_(tile.bias)
        if tile.far is not None:
            scores_RNSS.masked_fill_(tile.far, torch.finfo(scores_MSS.dtype).min)
    return scores_MSS.softmax(1 if tile.is_short else -1)


def drawn_masks(tiles: Sequence[Tile], dropout: float) -> Iterator[Tensor]:
    """Yield for each tile a mask of the weights that dropout keeps, stored as they are, a byte each.

    The masks of some tiles are drawn together, up to a number of weights: tiles of short texts have few.
    """
    shapes = [tile.score_shape for tile in tiles]
    sizes = [math.prod(shape) for shape in shapes]
    start = 0
    while start < len(tiles):
        stop, total = start + 1, sizes[start]
        while stop < len(tiles) and total + sizes[stop] <= TILE:
            total += sizes[stop]
            stop += 1
        kept = draw_kept(torch.Size([total]), dropout, torch.int8).split(sizes[start:stop])
        yield from (each.view(shape) for each, shape in zip(kept, shapes[start:stop], strict=True))
        start = stop


def products(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Return a @ b * scale, [M, ., .], in one pass."""
    return a.new_empty(a.shape[0], a.shape[1], b.shape[2]).baddbmm_(a, b, beta=0, alpha=scale)


def gathered(x_TC: Tensor, tile: Tile, num_heads: int, places: slice) -> Tensor:
    """Return a tile's heads side by side at some of its positions, in at least float32: [M, S, K]."""
    part = part_of(x_TC, tile, num_heads, places)
    dtype = torch.float32 if x_TC.dtype in HALVES else x_TC.dtype
    return torch.empty(part.shape, dtype=dtype).copy_(part).flatten(0, 1)


def scatter(x_TC: Tensor, heads_MSK: Tensor, tile: Tile, num_heads: int, places: slice) -> None:
    """Write a tile's heads back to their positions; add them where tiles share positions."""
    part = part_of(x_TC, tile, num_heads, places)
    if tile.is_whole or places is tile.queries or part.shape[2] == tile.block.length:
        part.copy_(heads_MSK.view(part.shape))
    else:
        part.add_(heads_MSK.view(part.shape))


def part_of(x_TC: Tensor, tile: Tile, num_heads: int, places: slice) -> Tensor:
    """Return a tile of [T, N K] as a view, [rows, heads, S, K]; by one call, since tiles of short texts are many."""
    (row, column), block = x_TC.stride(), tile.block
    size = x_TC.shape[1] // num_heads
    heads = x_TC.as_strided(
        (block.rows, num_heads, block.length, size),
        (block.length * row, size * column, row, column),
        x_TC.storage_offset() + tile.start * row,
    )
    return heads if tile.is_whole else heads[tile.rows, tile.heads, places]


def in_heads(x_TC: Tensor, block: Block, start: int, num_heads: int) -> Tensor:
    """Return a block of [T, N K] as a view of [B, N, S, K]."""
    part = x_TC if block.size == x_TC.shape[0] else x_TC[start : start + block.size]
    return part.view(block.rows, block.length, num_heads, -1).transpose(1, 2)


def part_of_bias(bias: Tensor | None, queries: range, keys: range) -> Tensor | None:
    """Return the part of a bias, [..., 1 or S, S], for some queries and keys."""
    if bias is None:
        return None
    rows = bias if bias.shape[-2] == 1 else bias[..., queries.start : queries.stop, :]
    return rows[..., keys.start : keys.stop]


def out_of_window(queries: range, keys: range, window: int | None, device: torch.device) -> Tensor | None:
    """Return where a key is out of its query's window, [queries, keys]; None where none is."""
    if window is None or max(keys.stop - 1 - queries.start, queries.stop - 1 - keys.start) <= window:
        return None
    places_Q, places_K = (torch.arange(each.start, each.stop, device=device) for each in (queries, keys))
    return (places_Q[:, None] - places_K).abs() > window
