"""The logits of many parts of one network on the same few rows: what parts share with the whole is computed once.

Axes: B batch, S sequence, H hidden, N rows, C classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from numpy.typing import NDArray
from torch import Tensor

from cutbert.data.batches import MAX_TOKENS, Batch, plan_eval_batches
from cutbert.data.tokens import Tokens
from cutbert.model.layout import blocks_of
from cutbert.model.task_model import TaskModel
from cutbert.shape.subnet import Subnet
from cutbert.train.collating import padded_batch
from cutbert.train.runner import in_order, products_for, without_padding


@dataclass(frozen=True, eq=False)
class PartLogits:
    """Answers as `train.evaluate.predict_logits` does with a subnet, to the bit.

    The first layers of a part that are whole are not run: their states are kept. Of all parts of a network without one
    of its layers that saves half of the work.

    Args:
        model: in evaluation mode; must not change.
        batches: the rows of each batch, the batch, and the whole network's states: the output of the embeddings and
            of each layer, [B, S, H]. All are in memory.
    """

    model: TaskModel
    batches: Sequence[tuple[NDArray, Batch, tuple[Tensor, ...]]]

    @classmethod
    @torch.inference_mode()
    def of(cls, model: TaskModel, tokens: Tokens, max_tokens: int = MAX_TOKENS) -> PartLogits:
        """Run the whole network on some rows, and keep its states."""
        encoder, device = model.encoder, next(model.parameters()).device
        whole, batches = Subnet.full(model.shape), []
        for rows in plan_eval_batches(tokens.lengths, max_tokens):
            batch = padded_batch(model, tokens, rows).to(device)
            embedded = encoder.embed(batch.input_ids, batch.attention_mask, batch.token_type_ids)
            blocks = blocks_of(batch.input_ids, batch.attention_mask, None)
            with products_for(model):
                states = encoder.run_layers(embedded, batch.attention_mask, whole, blocks)
            batches.append((rows, batch, states))
        return cls(model, batches)

    @torch.inference_mode()
    def __call__(self, subnet: Subnet) -> NDArray:
        """Return a part's logits of every row, [N, C]; for token and span heads [N, S, C], 0 behind a row's tokens.

        Args:
            subnet: with all hidden units.
        """
        whole = Subnet.full(self.model.shape).layers
        pairs = zip(subnet.layers, whole[:-1], strict=False)  # the last state may be normalised, which no layer reads
        shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        rest, answers = Subnet(subnet.layers[shared:], subnet.hidden_size), []
        for rows, batch, states in self.batches:
            blocks = blocks_of(batch.input_ids, batch.attention_mask, None)
            with products_for(self.model):
                after = self.model.encoder.run_layers(states[shared], batch.attention_mask, rest, blocks)
                logits = self.model.apply_head(after, batch.attention_mask).logits
            assert logits is not None
            answers.append((rows, without_padding(logits.float().cpu().numpy(), batch)))
        return in_order(answers, sum(len(rows) for rows, _, _ in self.batches))
