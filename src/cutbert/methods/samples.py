"""Parts of the training rows: random samples, what importance is measured and norms are settled on; chosen rows."""

from __future__ import annotations

import numpy as np
import torch

from cutbert.data.batches import Batch, plan_eval_batches
from cutbert.data.tokens import Tokens
from cutbert.model.task_model import TaskModel
from cutbert.train.collating import padded_batch

MAX_TOKENS = 1024


def sample_rows(num_rows: int, size: int, seed: int) -> np.ndarray:
    """Return the indices of a random sample of rows, rising."""
    drawn = np.random.default_rng(seed).permutation(num_rows)[:size]
    return np.sort(drawn)


def take_tokens(tokens: Tokens, rows: np.ndarray) -> Tokens:
    """Return some rows as tokens of their own, with their labels; nothing judges them."""
    places = np.concatenate([np.arange(tokens.offsets[row], tokens.offsets[row + 1]) for row in rows])
    offsets = np.concatenate([[0], np.cumsum(tokens.lengths[rows])]).astype(np.int64)
    return Tokens(
        np.asarray(tokens.ids)[places],
        offsets,
        pair_starts=None if tokens.pair_starts is None else tokens.pair_starts[rows],
        labels=None if tokens.labels is None else np.asarray(tokens.labels)[rows],
        token_labels=None if tokens.token_labels is None else tokens.token_labels[places],
    )


def sample_batches(model: TaskModel, tokens: Tokens, size: int, seed: int, device: torch.device) -> list[Batch]:
    """Return a random sample of rows as padded batches of like length, on a device."""
    rows = sample_rows(len(tokens.lengths), size, seed)
    return [
        padded_batch(model, tokens, rows[batch]).to(device)
        for batch in plan_eval_batches(tokens.lengths[rows], MAX_TOKENS)
    ]
