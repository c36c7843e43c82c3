"""Rows read in blocks are those of each text run alone, in the order asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cutbert.analysis.rows import DrawnTokens, draw_tokens, read_representations
from cutbert.data.tokens import Tokens
from cutbert.model.sites import Site, walk
from cutbert.model.task_model import TaskModel
from tiny_models import random_model
from tiny_runs import tiny_tokens

SITES = ("embeddings", "attention", "feed_forward", "layer")


def alone(model: TaskModel, tokens: Tokens, text: int) -> dict[Site, torch.Tensor]:
    """Run one text by itself; return [tokens, hidden] at each site."""
    ids = torch.from_numpy(tokens.ids[tokens.offsets[text] : tokens.offsets[text + 1]].astype(np.int64))
    with torch.no_grad():
        return {site: states[0] for site, states in walk(model.encoder, ids[None])}


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_rows_are_those_of_each_text_alone(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutbert.analysis.rows.MAX_TOKENS", 24)  # several passes
    model, tokens = random_model(family=family), tiny_tokens(12)
    texts = np.array([7, 2, 11, 0, 5, 3])
    picks = draw_tokens(tokens.lengths[texts], 9, np.random.default_rng(0))
    found = read_representations(model, tokens, texts, sites=SITES, rows=("tokens", "cls", "mean"), picks=picks)
    whole = [alone(model, tokens, text) for text in texts]
    sites = [site for site in whole[0] if site.kind in SITES]
    assert all(list(rows) == sites for rows in found.values())
    for site in sites:
        wanted = {
            "cls": torch.stack([each[site][0] for each in whole]),
            "mean": torch.stack([each[site].mean(0) for each in whole]),
            "tokens": torch.stack([whole[text][site][place] for text, place in zip(*picks, strict=True)]),
        }
        for kind, rows in wanted.items():
            torch.testing.assert_close(found[kind][site], rows, atol=1e-4, rtol=1e-4)


def test_tokens_are_drawn_once_and_alike_from_all() -> None:
    lengths, counts = np.array([1, 6, 3]), np.zeros((3, 6))
    for seed in range(600):
        picks = draw_tokens(lengths, 5, np.random.default_rng(seed))
        counts[picks.texts, picks.tokens] += 1
        assert len(set(zip(*picks, strict=True))) == 5
    drawn = counts[np.arange(6) < lengths[:, None]]
    assert len(drawn) == 10 and drawn.sum() == counts.sum()
    assert np.abs(drawn - 300).max() < 60
    everything = draw_tokens(lengths, 99, np.random.default_rng(0))
    assert isinstance(everything, DrawnTokens) and everything.texts.tolist() == [0, 1, 1, 1, 1, 1, 1, 2, 2, 2]
