"""The elastic encoder: it runs any subnet of itself, given as an argument."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cutbert.model.attention import Attention
from cutbert.model.distances import distances_of
from cutbert.model.embeddings import Embeddings
from cutbert.model.feed_forward import FeedForward
from cutbert.model.layout import Layout, at_places, blocks_of, padding_biases, positions_in_blocks
from cutbert.model.prefix import PrefixNorm
from cutbert.model.relative import relative_biases
from cutbert.model.style import EncoderStyle
from cutbert.shape.blocks import Blocks
from cutbert.shape.ingredients import Ingredients
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.subnet import Subnet


class EncoderLayer(nn.Module):
    """One layer: attention, then feed-forward; either may be absent (None)."""

    def __init__(
        self, hidden_size: int, shape: LayerShape, ingredients: Ingredients, style: EncoderStyle, index: int
    ) -> None:
        super().__init__()
        self.attention: Attention | None = None
        self.feed_forward: FeedForward | None = None
        if shape.has_attention:
            self.attention = Attention(
                hidden_size=hidden_size,
                num_heads=shape.num_heads,
                key_dim=shape.key_dim,
                value_dim=shape.value_dim,
                layer_norm_eps=style.layer_norm_eps,
                hidden_dropout=style.hidden_dropout,
                attention_dropout=style.attention_dropout,
                num_bias_heads=ingredients.num_bias_heads,
                norm_place="none" if ingredients.is_bare(index) else "before" if ingredients.norm_first else "after",
                has_bias=ingredients.has_attention_bias,
                has_norm_bias=ingredients.has_norm_bias,
                window=ingredients.window_of(index),
                rotary_base=ingredients.rotary_base_of(index),
                has_distances=ingredients.num_distance_buckets > 0,
            )
        if shape.has_feed_forward:
            self.feed_forward = FeedForward(
                hidden_size=hidden_size,
                intermediate_size=shape.intermediate_size,
                activation=style.activation,
                layer_norm_eps=style.layer_norm_eps,
                dropout=style.hidden_dropout,
                norm_place="before" if ingredients.norm_first else "after",
                is_gated=ingredients.is_gated,
                has_bias=ingredients.has_feed_forward_bias,
                has_neuron_bias=ingredients.has_neuron_bias,
                has_norm_bias=ingredients.has_norm_bias,
            )

    def forward(self, x: Tensor, layout: Layout, kept: LayerShape, places: Tensor | None = None) -> Tensor:
        if self.attention is not None and kept.has_attention:
            y = self.attention(x, layout, **attention_sizes(kept), places=places)
            x = self.attention.add(at_places(x, places), y)
        else:
            x = at_places(x, places)
        if self.feed_forward is not None and kept.has_feed_forward:
            x = self.feed_forward.add(x, self.feed_forward(x, intermediate_size=kept.intermediate_size))
        return x


def attention_sizes(kept: LayerShape) -> dict[str, int]:
    """Return the sizes of a layer's attention, by name."""
    return {"num_heads": kept.num_heads, "key_dim": kept.key_dim, "value_dim": kept.value_dim}


class Encoder(nn.Module):
    """An encoder of any shape, made of any family's ingredients.

    A subnet runs on slices of the weights, so it costs as little as a small network; the module itself keeps no state.

    Args:
        shape: all sizes.
        style: everything that is not a size.
    """

    def __init__(self, shape: EncoderShape, style: EncoderStyle) -> None:
        super().__init__()
        self.shape, self.style = shape, style
        self.embeddings = Embeddings(
            vocab_size=shape.vocab_size,
            num_positions=shape.num_positions,
            num_token_types=shape.num_token_types,
            table_size=shape.table_size,
            hidden_size=shape.hidden_size,
            layer_norm_eps=style.layer_norm_eps,
            dropout=style.hidden_dropout,
            position_offset=style.position_offset,
            num_bias_heads=shape.ingredients.num_bias_heads,
            num_distance_buckets=shape.ingredients.num_distance_buckets,
            has_distance_norm=shape.ingredients.has_distance_norm,
            has_position_table=shape.ingredients.has_position_table,
            has_norm_bias=shape.ingredients.has_norm_bias,
        )
        self.layers = nn.ModuleList(
            EncoderLayer(shape.hidden_size, layer, shape.ingredients, style, i) for i, layer in enumerate(shape.layers)
        )
        self.norm: PrefixNorm | None = None
        if shape.ingredients.norm_first:
            has_bias = shape.ingredients.has_norm_bias
            self.norm = PrefixNorm(shape.hidden_size, eps=style.layer_norm_eps, bias=has_bias)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        subnet: Subnet | None = None,
        blocks: Blocks | None = None,
        last_at: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return all hidden states of a subnet: the embeddings' output, then that of each kept layer.

        Args:
            input_ids: [B, S]; or [T] with blocks.
            attention_mask: shaped as input_ids, 1 = token, 0 = padding; None where nothing is padded.
            token_type_ids: shaped as input_ids; None for all zeros.
            subnet: the part that runs; None for everything. Must fit this encoder (`Subnet.check_fits`).
            blocks: the layout of [T], texts padded on the right; None for [B, S].
            last_at: places in the flattened batch, [M], at which alone the last state is wanted; None for all.

        Returns:
            1 + number of kept layers tensors, [B, S, H] or [T, H], H the subnet's hidden size. The last one is what a
            head reads: with norms first, it is normalised, and the others are not. With last_at it is [M, H].
        """
        subnet = subnet or Subnet.full(self.shape)
        embedded = self.embed(input_ids, attention_mask, token_type_ids, hidden_size=subnet.hidden_size, blocks=blocks)
        return self.run_layers(embedded, attention_mask, subnet, blocks_of(input_ids, attention_mask, blocks), last_at)

    def embed(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        *,
        hidden_size: int | None = None,
        blocks: Blocks | None = None,
    ) -> Tensor:
        """Return the embeddings' output, [..., hidden_size], in the layers' dtype."""
        kept = hidden_size or self.shape.hidden_size
        embedded = self.embeddings(input_ids, attention_mask, token_type_ids, hidden_size=kept, blocks=blocks)
        return embedded.to(self.layers_dtype)

    @property
    def layers_dtype(self) -> torch.dtype:
        """The dtype of the layers; training with bf16 layers keeps the embedding tables in float32."""
        return next(self.layers.parameters(), self.embeddings.norm.weight).dtype

    def run_layers(
        self,
        embedded: Tensor,
        attention_mask: Tensor | None,
        subnet: Subnet,
        blocks: Blocks,
        last_at: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Run a subnet's layers on the embeddings' output; return that and the output of each kept layer.

        Where only some last states are wanted, all that follows the last attention runs on these alone: of a text's
        first tokens, most of the last layer's work is saved.
        """
        layout = self.layout(attention_mask, blocks, embedded)
        states = [embedded]
        for kept in subnet.layers:
            places = last_at if kept is subnet.layers[-1] else None
            states.append(self.layers[kept.index](states[-1], layout, kept.shape, places))
        last = states[-1] if subnet.layers else at_places(embedded, last_at)
        return (*states[:-1], self.finish(last))

    def layout(self, attention_mask: Tensor | None, blocks: Blocks, embedded: Tensor) -> Layout:
        """Return what the layers need to know of a batch; arguments as in `run_layers`."""
        table = self.embeddings.relative
        relative = [] if table is None else relative_biases(table.weight, blocks)
        places = positions_in_blocks(embedded, blocks) if self.shape.ingredients.rotary_bases else None
        distances = None
        if self.embeddings.distance is not None:
            states = self.embeddings.distance_states(embedded.shape[-1]).to(embedded.dtype)
            distances = distances_of(states, blocks, self.shape.ingredients)
        padding = padding_biases(attention_mask, blocks, embedded.dtype)
        return Layout(blocks, padding, relative, places, distances)

    def finish(self, x: Tensor) -> Tensor:
        """Return the states that a head reads where a network ends at x: after the last LayerNorm, if there is one."""
        return x if self.norm is None else self.norm(x)

    @property
    def upper(self) -> list[nn.Module]:
        """What follows the embeddings."""
        return [self.layers] if self.norm is None else [self.layers, self.norm]
