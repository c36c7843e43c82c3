"""A network with some rows of its token table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from cutbert.model.task_model import TaskModel

TABLE, DECODER_BIAS = "encoder.embeddings.token.weight", "head.bias"


@torch.no_grad()
def with_token_rows(model: TaskModel, rows: NDArray[np.int64]) -> TaskModel:
    """Return a network that knows some tokens only and does with them what the model does.

    Its weights are copies. A masked LM's output layer is the table, and loses the same rows.

    Args:
        model: of any shape and head.
        rows: ids of the tokens that stay, rising, the padding token among them; the new ids are their places.
    """
    style = replace(model.style, pad_token_id=int(np.searchsorted(rows, model.style.pad_token_id)))
    with torch.device("meta"):
        small = TaskModel(replace(model.shape, vocab_size=len(rows)), style, model.head_spec)
    index, state = torch.from_numpy(rows), model.state_dict()
    by_token = {TABLE} | ({DECODER_BIAS} if model.head_spec.kind == "masked_lm" else set())
    cut = {
        name: (tensor[index.to(tensor.device)] if name in by_token else tensor.clone())
        for name, tensor in state.items()
    }
    small.load_state_dict(cut, assign=True)
    return small.train(model.training)
