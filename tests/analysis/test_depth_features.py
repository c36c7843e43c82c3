"""Features of every depth beside truncated networks run one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cutbert.analysis.depth_features import depth_features
from cutbert.data.rows import Rows
from cutbert.data.tokens import Tokens, tokenize_rows
from cutbert.methods.depth_networks import first_layers
from cutbert.shape.head import HeadSpec
from tiny_runs import tiny_model, tiny_rows, tiny_tokenizer, tiny_tokens

ROWS = np.array([3, 4, 9, 17, 30])


def row(tokens: Tokens, index: int) -> torch.Tensor:
    return torch.from_numpy(tokens.ids[tokens.offsets[index] : tokens.offsets[index + 1]].astype(np.int64))[None]


def test_texts_are_pooled_at_every_depth() -> None:
    model, tokens = tiny_model(HeadSpec("none")), tiny_tokens()
    both = depth_features(model, tokens, ROWS, "both", max_tokens=20)
    first, mean = (depth_features(model, tokens, ROWS, name) for name in ("cls", "mean"))
    for depth in (1, 2, 3):
        cut = first_layers(model, depth)
        for place, index in enumerate(ROWS):
            state = cut(row(tokens, index)).hidden_states[-1][0].detach().numpy()
            np.testing.assert_allclose(first[depth - 1][place], state[0], atol=1e-5)
            np.testing.assert_allclose(mean[depth - 1][place], state.mean(0), atol=1e-5)
            np.testing.assert_allclose(both[depth - 1][place], [*state[0], *state.mean(0)], atol=1e-5)


@pytest.mark.parametrize("has_types", [True, False])
def test_pairs_are_pooled_apart_where_the_tokens_tell(has_types: bool) -> None:
    rows = Rows(tiny_rows(20, 1).text, tiny_rows(20, 2).text)
    model, tokens = tiny_model(HeadSpec("none")), tokenize_rows(rows, tiny_tokenizer(), "tiny", 32, cache=False)
    if not has_types:  # as a tokenizer with one token type leaves it
        tokens = Tokens(tokens.ids, tokens.offsets, tokens.lengths.astype(np.int32))
    found = depth_features(model, tokens, ROWS[:4], "mean", max_tokens=30)[2]
    for place, index in enumerate(ROWS[:4]):
        ids, start = row(tokens, index), int(tokens.pair_starts[index])
        types = (torch.arange(ids.shape[1]) >= start).long()[None]
        state = model(ids, None, types).hidden_states[-1][0].detach().numpy()
        u, v = state[:start].mean(0), state[start:].mean(0) if has_types else None
        wanted = u if v is None else np.concatenate([u, v, abs(u - v), u * v])
        np.testing.assert_allclose(found[place], wanted, atol=1e-5)


def test_the_model_stays_as_it_was() -> None:
    model = tiny_model().train()
    seen: list[int] = []
    depth_features(model, tiny_tokens(), ROWS, "mean", max_tokens=12, on_batch=seen.append)
    assert model.training and sum(seen) == len(ROWS)
