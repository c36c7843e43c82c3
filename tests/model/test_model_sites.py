"""Walking an encoder passes its own hidden states, and sub-layers of which residual and norm make the next ones."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from cutbert.model.sites import Site, walk
from cutbert.shape.subnet import Subnet
from tiny_models import LAYERS, random_batch, random_model, tiny_shape


def walked(model, batch, **options) -> dict[Site, torch.Tensor]:
    with torch.no_grad():
        return dict(walk(model.encoder, batch.input_ids, batch.attention_mask, batch.token_type_ids, **options))


@pytest.mark.parametrize("embedding_size", [None, 10])
def test_layers_are_the_hidden_states(embedding_size: int | None) -> None:
    model, batch = random_model(shape=tiny_shape(embedding_size)), random_batch()
    with torch.no_grad():
        states = model.encoder(batch.input_ids, batch.attention_mask, batch.token_type_ids)
    found = walked(model, batch)
    ours = [found[Site("embeddings")], *(found[Site("layer", i)] for i in range(len(LAYERS)))]
    assert all(torch.equal(a, b) for a, b in zip(ours, states, strict=True))


def test_absent_sub_layers_have_no_sites() -> None:
    found = walked(random_model(), random_batch())
    layers = {kind: [site.layer for site in found if site.kind == kind] for kind in {site.kind for site in found}}
    assert layers == {
        "embeddings": [-1],
        "attention": [0, 1, 3],
        "between": [0, 2, 3],
        "feed_forward": [0, 2, 3],
        "layer": [0, 1, 2, 3],
    }


def test_what_is_written_is_what_residual_and_norm_take() -> None:
    model, batch = random_model(), random_batch()
    found = walked(model, batch)
    for i, layer in enumerate(model.encoder.layers):
        before = found[Site("layer", i - 1)] if i else found[Site("embeddings")]
        if layer.attention is not None:
            before = layer.attention.norm(before + found[Site("attention", i)])
        if layer.feed_forward is not None:
            torch.testing.assert_close(found[Site("between", i)], before)
            before = layer.feed_forward.norm(before + found[Site("feed_forward", i)])
        torch.testing.assert_close(found[Site("layer", i)], before)


def test_a_subnet_walks_alone() -> None:
    model, batch = random_model(), random_batch()
    full = Subnet.full(model.shape)
    first, last = full.layers[0], full.layers[3]
    without = dataclasses.replace(first, shape=dataclasses.replace(first.shape, intermediate_size=0))
    subnet = Subnet((without, last), 20)
    found = walked(model, batch, subnet=subnet)
    assert list(found) == [
        Site("embeddings"),
        Site("attention", 0),
        Site("layer", 0),
        Site("attention", 3),
        Site("between", 3),
        Site("feed_forward", 3),
        Site("layer", 3),
    ]
    with torch.no_grad():
        states = model.encoder(batch.input_ids, batch.attention_mask, batch.token_type_ids, subnet=subnet)
    assert torch.equal(found[Site("layer", 3)], states[-1])
