"""The sub-layers of an encoder in the order they run, and a batch's states on the way through them.

Axes: T positions of a batch, H hidden, U units: values of all heads, or neurons.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cutbert.data.batches import Batch
from cutbert.model.attention import Attention
from cutbert.model.encoder import Encoder, EncoderLayer, attention_sizes
from cutbert.model.feed_forward import FeedForward
from cutbert.model.layout import blocks_of
from cutbert.model.task_model import TaskModel
from cutbert.shape.blocks import placed
from cutbert.shape.shape import LayerShape


class SubLayer(NamedTuple):
    """An attention or a feed-forward.

    Args:
        layer: index of its layer.
        module: the sub-layer.
        shape: of its layer.
    """

    layer: int
    module: Attention | FeedForward
    shape: LayerShape

    @property
    def kind(self) -> str:
        return "attention" if isinstance(self.module, Attention) else "feed_forward"

    @property
    def outgoing(self) -> nn.Linear:
        """The matrix from its units to the residual stream."""
        return self.module.output if isinstance(self.module, Attention) else self.module.down


def sub_layers(encoder: Encoder) -> list[SubLayer]:
    """Return the sub-layers that are there, in order."""
    present = []
    for i, (layer, shape) in enumerate(zip(encoder.layers, encoder.shape.layers, strict=True)):
        assert isinstance(layer, EncoderLayer)
        present += [SubLayer(i, each, shape) for each in (layer.attention, layer.feed_forward) if each is not None]
    return present


class Stream:
    """The residual stream of one batch, moved from sub-layer to sub-layer.

    Args:
        model: in evaluation mode.
        batch: on the model's device.
    """

    def __init__(self, model: TaskModel, batch: Batch) -> None:
        self.x = model.encoder.embed(batch.input_ids, batch.attention_mask, batch.token_type_ids, blocks=batch.blocks)
        blocks = blocks_of(batch.input_ids, batch.attention_mask, batch.blocks)
        self.layout = model.encoder.layout(batch.attention_mask, blocks, self.x)

    def units(self, sub_layer: SubLayer) -> Tensor:
        """Return what the sub-layer's outgoing matrix reads here, [..., U]."""
        module, shape = sub_layer.module, sub_layer.shape
        if isinstance(module, Attention):
            return module.context(self.x, self.layout, **attention_sizes(shape))
        return module.neurons(self.x, intermediate_size=shape.intermediate_size)

    def sum_after(self, sub_layer: SubLayer, units: Tensor) -> Tensor:
        """Return the stream with the sub-layer's output added, which a LayerNorm after it reads: [..., H]."""
        return self.x + sub_layer.outgoing(units)

    def advance(self, sub_layer: SubLayer) -> Tensor:
        """Run a sub-layer with its LayerNorm, and return the sum that a LayerNorm after it reads, [..., H]."""
        total = self.sum_after(sub_layer, self.units(sub_layer))
        self.x = sub_layer.module.settle(total)
        return total


def texts_of_positions(batch: Batch) -> Tensor:
    """Return which text of the batch each position belongs to, -1 at padding: [T]."""
    blocks = blocks_of(batch.input_ids, batch.attention_mask, batch.blocks)
    texts = torch.full((batch.input_ids.numel(),), -1, device=batch.input_ids.device)
    first = 0
    for block, start in placed(blocks):
        numbers = torch.arange(first, first + block.rows, device=texts.device)
        texts[start : start + block.size] = numbers.repeat_interleave(block.length)
        first += block.rows
    if batch.attention_mask is not None:
        texts[batch.attention_mask.flatten() == 0] = -1
    return texts
