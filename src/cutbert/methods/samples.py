"""A random sample of training rows in batches: what importance is measured and norms are settled on."""

from __future__ import annotations

import numpy as np
import torch

from cutbert.data.batches import Batch, collate, plan_eval_batches
from cutbert.data.tokens import Tokens
from cutbert.model.task_model import TaskModel

MAX_TOKENS = 1024


def sample_rows(num_rows: int, size: int, seed: int) -> np.ndarray:
    """Return the indices of a random sample of rows, rising."""
    drawn = np.random.default_rng(seed).permutation(num_rows)[:size]
    return np.sort(drawn)


def sample_batches(model: TaskModel, tokens: Tokens, size: int, seed: int, device: torch.device) -> list[Batch]:
    """Return a random sample of rows as padded batches of like length, on a device."""
    rows = sample_rows(len(tokens.lengths), size, seed)
    pad_token_id, use_token_types = model.style.pad_token_id, model.shape.num_token_types > 1
    return [
        collate(tokens, rows[batch], pad_token_id=pad_token_id, use_token_types=use_token_types).to(device)
        for batch in plan_eval_batches(tokens.lengths[rows], MAX_TOKENS)
    ]
