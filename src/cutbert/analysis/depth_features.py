"""One vector per text and depth, from the hidden states of one forward pass of a frozen network.

Axes: B batch, S sequence, H hidden, N rows, F features.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutbert.analysis.depth_selectors import Features
from cutbert.data.batches import MAX_TOKENS, Batch, plan_eval_batches
from cutbert.data.tokens import Tokens
from cutbert.model.task_model import TaskModel
from cutbert.train.collating import padded_batch


@torch.inference_mode()
def depth_features(
    model: TaskModel,
    tokens: Tokens,
    rows: NDArray[np.int64],
    pooling: str,
    *,
    max_tokens: int = MAX_TOKENS,
    on_batch: Callable[[int], None] | None = None,
) -> list[Features]:
    """Return the features of some rows at every depth, that of 1 layer first.

    Runs without dropout, in the model's own dtype; features are float32. The model's mode is restored.

    Args:
        model: any network; its head is not used.
        tokens: of texts or pairs.
        rows: indices of the rows to read, [N].
        pooling: one of POOLINGS.
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
            pooled = [each.cpu().numpy() for each in batch_features(model, tokens, picked, pooling)]
            if not features:
                features = [np.empty((len(rows), each.shape[1]), dtype=np.float32) for each in pooled]
            for whole, each in zip(features, pooled, strict=True):
                whole[places] = each
            if on_batch is not None:
                on_batch(len(picked))
    finally:
        model.train(was_training)
    return features


def batch_features(model: TaskModel, tokens: Tokens, rows: NDArray[np.int64], pooling: str) -> list[Tensor]:
    """Return the features of one batch of rows at every depth."""
    batch = padded_batch(model, tokens, rows).to(next(model.parameters()).device)
    sides = sides_of(batch, None if tokens.pair_starts is None else tokens.pair_starts[rows])
    with torch.autocast(device_type=batch.input_ids.device.type, enabled=False):
        states = model.encoder(batch.input_ids, batch.attention_mask, batch.token_type_ids)
    return [POOLINGS[pooling](state.float(), sides) for state in states[1:]]


def sides_of(batch: Batch, pair_starts: NDArray[np.int32] | None) -> list[Tensor]:
    """Return which positions belong to each text of a row, [B, S, 1]: one mask, two for pairs.

    Pairs in families with a single token type count as one text, since nothing marks where the second begins.
    """
    ids = batch.input_ids
    real_BS1 = (torch.ones_like(ids) if batch.attention_mask is None else batch.attention_mask)[..., None].float()
    if pair_starts is None:
        return [real_BS1]
    starts = torch.from_numpy(pair_starts.astype(np.int64)).to(ids.device)
    first_BS1 = (torch.arange(ids.shape[1], device=ids.device) < starts[:, None])[..., None].float()
    second_BS1 = real_BS1 * (1 - first_BS1)
    has_second = bool((second_BS1.sum(1) > 0).all())
    return [real_BS1 * first_BS1, second_BS1] if has_second else [real_BS1]


def first_state(x_BSH: Tensor, sides: list[Tensor]) -> Tensor:
    """Return the state of the first token, which the task head reads."""
    return x_BSH[:, 0]


def mean_state(x_BSH: Tensor, sides: list[Tensor]) -> Tensor:
    """Return the mean over a text's tokens; for pairs both means, their absolute difference and their product.

    Source:
        Conneau et al. 2017 (1705.02364), section 3.1, for the four parts of a pair. There the two texts are encoded
        separately; here they attend to each other, as in fine-tuning (our choice).
    """
    means = [(x_BSH * side).sum(1) / side.sum(1) for side in sides]
    if len(means) == 1:
        return means[0]
    one, other = means
    return torch.cat([one, other, (one - other).abs(), one * other], dim=-1)


def both_states(x_BSH: Tensor, sides: list[Tensor]) -> Tensor:
    """Return the first token's state followed by the mean."""
    return torch.cat([first_state(x_BSH, sides), mean_state(x_BSH, sides)], dim=-1)


POOLINGS: dict[str, Callable[[Tensor, list[Tensor]], Tensor]] = {
    "cls": first_state,
    "mean": mean_state,
    "both": both_states,
}
