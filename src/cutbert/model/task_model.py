"""An encoder and a task head as one network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cutbert.model.encoder import Encoder
from cutbert.model.heads import MaskedLMHead, Pooler, SequenceHead, build_head
from cutbert.model.layout import at_places, first_places, text_states
from cutbert.model.style import EncoderStyle
from cutbert.shape.blocks import Blocks
from cutbert.shape.head import HeadSpec
from cutbert.shape.pooling import Pooling
from cutbert.shape.shape import EncoderShape
from cutbert.shape.subnet import Subnet


class TaskOutput(NamedTuple):
    """The outputs of a network for a batch.

    Args:
        logits: [B, C] for a sequence head, the vectors [B, H] of an embedding, [B, S, C] per token, [B, S, 2] for
            spans, [B, S, vocabulary] for a masked LM; None without an output layer. [T, ...] in place of [B, S, ...]
            where the batch is in blocks, [M, ...] for chosen positions.
        hidden_states: the embeddings' output, then that of each kept layer, [B, S, H] or [T, H] each.
        pooled: [B, H] from the dense layer of a pooler or sequence head, else None.
    """

    logits: Tensor | None
    hidden_states: tuple[Tensor, ...]
    pooled: Tensor | None


class TaskModel(nn.Module):
    """An elastic encoder with a head; new weights are drawn from N(0, style.initializer_range).

    Args:
        shape: sizes of the encoder.
        style: its family's other choices.
        head: kind and labels of the head.
    """

    def __init__(self, shape: EncoderShape, style: EncoderStyle, head: HeadSpec) -> None:
        super().__init__()
        self.shape, self.style, self.head_spec = shape, style, head
        self.encoder = Encoder(shape, style)
        self.head = build_head(head, shape, style)
        self.apply(self._initialize)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        subnet: Subnet | None = None,
        blocks: Blocks | None = None,
    ) -> TaskOutput:
        """Run a subnet (None: everything); the arguments are those of `Encoder.forward`."""
        states = self.encoder(input_ids, attention_mask, token_type_ids, subnet=subnet, blocks=blocks)
        return self.apply_head(states, attention_mask, blocks)

    @property
    def pooling(self) -> Pooling:
        """What the head reads of a text: as in the style; BERT's own pooler always the first token."""
        return self.style.pooling if self.head_spec.reads_text else "cls"

    def read_at(self, input_ids: Tensor, blocks: Blocks | None) -> Tensor | None:
        """Return the places of the last hidden state that the head reads, in the flattened batch; None for all."""
        reads_firsts = self.head_spec.reads_text and self.pooling == "cls"
        return first_places(input_ids, blocks) if reads_firsts else None

    def apply_head(
        self,
        hidden_states: tuple[Tensor, ...],
        attention_mask: Tensor | None,
        blocks: Blocks | None = None,
        *,
        positions: Tensor | None = None,
        is_read: bool = False,
    ) -> TaskOutput:
        """Run the head on an encoder's hidden states.

        Args:
            hidden_states: as the encoder returned them.
            attention_mask: that the encoder was given; None means that every position is a token.
            blocks: the layout of [T]; None for [B, S].
            positions: [M], in the flattened batch: a head that works token by token returns logits of these only,
                [M, C]; None for all.
            is_read: whether the last state is only of the places that the head reads: `read_at`, or `positions`.
        """
        last = hidden_states[-1] if is_read else at_places(hidden_states[-1], positions)
        pooled: Tensor | None = None
        if isinstance(self.head, Pooler):
            pooled = self.head.pool(last if is_read else text_states(last, attention_mask, blocks, self.pooling))
        logits: Tensor | None = None
        if isinstance(self.head, SequenceHead):
            logits = self.head(pooled)
        elif isinstance(self.head, MaskedLMHead):
            logits = self.head(last, self.encoder.embeddings.token.weight)
        elif self.head_spec.kind == "embedding":
            logits = last if is_read else text_states(last, attention_mask, blocks, self.pooling)
            logits = nn.functional.normalize(logits, dim=-1) if self.head_spec.normalizes else logits
        elif self.head is not None and not isinstance(self.head, Pooler):
            logits = self.head(last)
        return TaskOutput(logits, hidden_states, pooled)

    @torch.no_grad()
    def _initialize(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.normal_(0.0, self.style.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.zero_()
