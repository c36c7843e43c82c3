"""One vector per text and depth, what the head would read there, from one forward pass of a frozen network.

Axes: N rows, F features: the hidden size.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutbert.analysis.depth_selectors import Features
from cutbert.data.batches import MAX_TOKENS, plan_eval_batches
from cutbert.data.tokens import Tokens
from cutbert.model.layout import text_states
from cutbert.model.task_model import TaskModel
from cutbert.train.collating import padded_batch


@torch.inference_mode()
def depth_features(
    model: TaskModel,
    tokens: Tokens,
    rows: NDArray[np.int64],
    *,
    max_tokens: int = MAX_TOKENS,
    on_batch: Callable[[int], None] | None = None,
) -> list[Features]:
    """Return the features of some rows at every depth, that of 1 layer first.

    Runs without dropout, in the model's own dtype; features are float32. The model's mode is restored.

    Args:
        model: with a head of whole texts, whose weights are not used: only what it reads.
        tokens: of texts or pairs.
        rows: indices of the rows to read, [N].
        max_tokens: positions per batch at most, padding counted (a longer row runs alone).
        on_batch: called after each batch with its number of rows.

    Returns:
        One array per layer, [N, F], rows in the order of `rows`.
    """
    was_training = model.training
    model.eval()
    features: list[Features] = []
    try:
        for places in plan_eval_batches(tokens.lengths[rows], max_tokens):
            picked = rows[places]
            pooled = [each.cpu().numpy() for each in batch_features(model, tokens, picked)]
            if not features:
                features = [np.empty((len(rows), each.shape[1]), dtype=np.float32) for each in pooled]
            for whole, each in zip(features, pooled, strict=True):
                whole[places] = each
            if on_batch is not None:
                on_batch(len(picked))
    finally:
        model.train(was_training)
    return features


def batch_features(model: TaskModel, tokens: Tokens, rows: NDArray[np.int64]) -> list[Tensor]:
    """Return the features of one batch of rows at every depth."""
    batch = padded_batch(model, tokens, rows).to(next(model.parameters()).device)
    with torch.autocast(device_type=batch.input_ids.device.type, enabled=False):
        states = model.encoder(batch.input_ids, batch.attention_mask, batch.token_type_ids)[1:]
        ends = [model.encoder.finish(state) for state in states[:-1]] + list(states[-1:])
    return [text_states(state.float(), batch.attention_mask, None, model.pooling) for state in ends]
