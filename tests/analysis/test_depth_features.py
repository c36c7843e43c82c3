"""Features of every depth beside what truncated networks read, run one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cutbert.analysis.depth_features import depth_features
from cutbert.data.rows import Rows
from cutbert.data.tokens import Tokens, tokenize_rows
from cutbert.methods.depth_networks import first_layers
from cutbert.model.task_model import TaskModel
from cutbert.shape.pooling import Pooling
from tiny_runs import HEAD, SHAPE, tiny_model, tiny_rows, tiny_tokenizer, tiny_tokens

ROWS = np.array([3, 4, 9, 17])


def reading(pooling: Pooling) -> TaskModel:
    model = tiny_model()
    twin = TaskModel(SHAPE, replace(model.style, pooling=pooling), HEAD)
    twin.load_state_dict(model.state_dict())
    return twin.eval()


def row(tokens: Tokens, index: int) -> torch.Tensor:
    return torch.from_numpy(tokens.ids[tokens.offsets[index] : tokens.offsets[index + 1]].astype(np.int64))[None]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("has_pairs", [False, True])
def test_features_are_what_the_truncated_network_reads(pooling: Pooling, has_pairs: bool) -> None:
    model, tokens = reading(pooling), tiny_tokens()
    if has_pairs:
        rows = Rows(tiny_rows(20, 1).text, tiny_rows(20, 2).text)
        tokens = tokenize_rows(rows, tiny_tokenizer(), "tiny", 32, cache=False)
    features = depth_features(model, tokens, ROWS, max_tokens=20)
    for depth in (1, 2, 3):
        cut = first_layers(model, depth)
        for place, index in enumerate(ROWS):
            ids = row(tokens, index)
            start = int(tokens.pair_starts[index]) if has_pairs else ids.shape[1]
            types = (torch.arange(ids.shape[1]) >= start).long()[None]
            with torch.no_grad():
                output = cut(ids, None, types)
            state = output.hidden_states[-1][0].numpy()
            wanted = state[0] if pooling == "cls" else state.mean(0)
            np.testing.assert_allclose(features[depth - 1][place], wanted, atol=1e-5)
            pooled = cut.head.pool(torch.from_numpy(features[depth - 1][place])[None])
            torch.testing.assert_close(pooled, output.pooled, atol=1e-5, rtol=1e-5)


def test_the_model_stays_as_it_was() -> None:
    model = tiny_model().train()
    seen: list[int] = []
    depth_features(model, tiny_tokens(), ROWS, max_tokens=12, on_batch=seen.append)
    assert model.training and sum(seen) == len(ROWS)
