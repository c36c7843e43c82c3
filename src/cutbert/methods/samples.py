"""A random sample of training rows in batches: what importance is measured and norms are settled on."""

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


def sample_batches(model: TaskModel, tokens: Tokens, size: int, seed: int, device: torch.device) -> list[Batch]:
    """Return a random sample of rows as padded batches of like length, on a device."""
    rows = sample_rows(len(tokens.lengths), size, seed)
    return [
        padded_batch(model, tokens, rows[batch]).to(device)
        for batch in plan_eval_batches(tokens.lengths[rows], MAX_TOKENS)
    ]
