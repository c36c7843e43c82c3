"""The sites of an encoder whose activations can be read, yielded one by one during a forward pass.

Axes: B batch, S sequence, T positions of a batch in blocks, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from torch import Tensor

from cutbert.model.encoder import Encoder, EncoderLayer, attention_sizes
from cutbert.model.layout import blocks_of
from cutbert.shape.blocks import Blocks
from cutbert.shape.subnet import Subnet

SiteKind = Literal["embeddings", "attention", "between", "feed_forward", "layer"]


class Site(NamedTuple):
    """A point in an encoder whose activations can be read.

    Args:
        kind: `embeddings`: the embeddings' output. `attention`, `feed_forward`: the sub-layer's output before residual
            and LayerNorm. `between`: the input of a layer's feed-forward. `layer`: the layer's output.
        layer: index of the layer in the whole encoder; -1 for the embeddings.
    """

    kind: SiteKind
    layer: int = -1


def walk(
    encoder: Encoder,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    token_type_ids: Tensor | None = None,
    *,
    subnet: Subnet | None = None,
    blocks: Blocks | None = None,
) -> Iterator[tuple[Site, Tensor]]:
    """Run a subnet and yield the activations at each site in turn.

    Nothing is stored, so memory does not grow with depth. Sites of absent sub-layers are left out. The states of
    `embeddings` and `layer` are the hidden states that the encoder returns.

    Args:
        encoder: in evaluation mode, unless dropout is wanted.
        input_ids, attention_mask, token_type_ids, subnet, blocks: as in `Encoder.forward`.

    Yields:
        A site and its states, [B, S, H] or [T, H].
    """
    subnet = subnet or Subnet.full(encoder.shape)
    x = encoder.embed(input_ids, attention_mask, token_type_ids, hidden_size=subnet.hidden_size, blocks=blocks)
    yield Site("embeddings"), x
    layout = encoder.layout(attention_mask, blocks_of(input_ids, attention_mask, blocks), x)
    for kept in subnet.layers:
        layer = encoder.layers[kept.index]
        assert isinstance(layer, EncoderLayer)
        if layer.attention is not None and kept.shape.has_attention:
            y = layer.attention(x, layout, **attention_sizes(kept.shape))
            yield Site("attention", kept.index), y
            x = layer.attention.add(x, y)
        if layer.feed_forward is not None and kept.shape.has_feed_forward:
            yield Site("between", kept.index), x
            y = layer.feed_forward(x, intermediate_size=kept.shape.intermediate_size)
            yield Site("feed_forward", kept.index), y
            x = layer.feed_forward.add(x, y)
        yield Site("layer", kept.index), encoder.finish(x) if kept is subnet.layers[-1] else x
