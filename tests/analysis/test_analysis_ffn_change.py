"""What each feed-forward changes: nothing where it writes nothing, and what two CKAs on kept states say elsewhere."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from cutbert.analysis.cka import cka
from cutbert.analysis.ffn_change import ffn_changes
from cutbert.data.batches import Batch
from cutbert.errors import InputError
from cutbert.model.sites import Site, walk
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.subnet import Subnet
from tiny_models import random_batch, random_model


def states(model: TaskModel, batch: Batch, site: Site) -> torch.Tensor:
    with torch.no_grad():
        found = dict(walk(model.encoder, batch.input_ids, batch.attention_mask, batch.token_type_ids))
    return found[site]


def test_one_batch_is_the_cka_of_its_tokens() -> None:
    model, batch = random_model(), random_batch(rows=12)
    real = batch.attention_mask.bool()
    found = ffn_changes(model, [batch])
    assert list(found) == [0, 2, 3]
    for layer, change in found.items():
        before, after = (states(model, batch, Site(kind, layer))[real] for kind in ("between", "layer"))
        assert change == pytest.approx(1 - cka(before, after), abs=1e-9)
        assert 0 < change < 1.1


@pytest.mark.parametrize("rows", ["cls", "mean"])
def test_texts_as_rows(rows) -> None:
    model, batch = random_model(HeadSpec("none")), random_batch(rows=12)
    found = ffn_changes(model, [batch], rows=rows)
    before, after = (states(model, batch, Site(kind, 2)) for kind in ("between", "layer"))
    weights = batch.attention_mask[..., None] / batch.attention_mask.sum(1)[:, None, None]
    pooled = [x[:, 0] if rows == "cls" else (x * weights).sum(1) for x in (before, after)]
    assert found[2] == pytest.approx(1 - cka(*pooled), abs=1e-5)


def test_a_feed_forward_that_writes_nothing_changes_nothing() -> None:
    model = random_model()
    silent = model.encoder.layers[2].feed_forward
    with torch.no_grad():
        for parameter in (silent.down.weight, silent.down.bias, silent.norm.bias):
            parameter.zero_()
        silent.norm.weight.fill_(1.0)
        model.encoder.layers[1].attention.norm.weight.fill_(1.0)  # layer 2 has no attention: this is what it reads
        model.encoder.layers[1].attention.norm.bias.zero_()
    found = ffn_changes(model.train(), [random_batch(rows=12, seed=i) for i in range(3)])
    assert found[2] == pytest.approx(0.0, abs=1e-6)
    assert min(found[0], found[3]) > 0.01
    assert model.training


def test_one_after_the_other() -> None:
    model, batches = random_model(), [random_batch(rows=12, seed=i) for i in range(2)]
    kept = list(Subnet.full(model.shape).layers)
    kept[0] = dataclasses.replace(kept[0], shape=dataclasses.replace(kept[0].shape, intermediate_size=0))
    fewer = ffn_changes(model, batches, subnet=Subnet(tuple(kept), model.shape.hidden_size))
    assert list(fewer) == [2, 3]
    assert fewer[2] != ffn_changes(model, batches)[2]


def test_batches_without_rows_are_refused() -> None:
    with pytest.raises(InputError, match="changes must be measured on a batch of at least 4 rows, got none"):
        ffn_changes(random_model(), [random_batch(rows=3)], rows="cls")
