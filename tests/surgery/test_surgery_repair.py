"""The repair of a cut is exact where it can be, the closed form of least squares, and never harms held-out texts."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from cutbert.data.batches import Batch, join_blocks
from cutbert.errors import InputError, ShapeError
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.subnet import KeptLayer, Subnet
from cutbert.shape.units import DIMS, Place, places_of, size_at
from cutbert.surgery.cut import cut
from cutbert.surgery.extract import extract
from cutbert.surgery.repair import UncutSums, repair
from tiny_models import LAYERS, assert_same, random_batch, random_model, run, tiny_shape


def cut_to(model: TaskModel, kept: dict[Place, list[int]]) -> TaskModel:
    units = {place: list(range(size_at(model.shape, place))) for place in places_of(model.shape, tuple(DIMS))}
    return cut(model, {**units, **kept})


def with_layers(model: TaskModel, *layers: KeptLayer) -> TaskModel:
    return extract(model, Subnet(layers, model.shape.hidden_size))


def many(count: int = 6) -> list[Batch]:
    return [random_batch(rows=16, seed=seed) for seed in range(count)]


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_units_that_others_can_replace_are_repaired_exactly(family: str) -> None:
    """Two neurons, two heads and two value units are copies of others up to a factor; all go."""
    model = random_model(family=family)
    first = model.encoder.layers[0]
    with torch.no_grad():
        up = first.feed_forward.up
        up.weight[4:6], up.bias[4:6] = up.weight[:2], up.bias[:2]
        for linear in (first.attention.query, first.attention.key, first.attention.value):
            for part in (linear.weight, linear.bias):
                by_head = part.unflatten(0, (4, 6))
                by_head[2:] = by_head[:2]
        last = model.encoder.layers[3].attention.value
        for part in (last.weight, last.bias):
            part.unflatten(0, (2, 7))[:, 5:] = 2 * part.unflatten(0, (2, 7))[:, :2]
    small = cut_to(
        model,
        {Place("f", 0): [0, 1, 2, 3, *range(6, 20)], Place("a", 0): [0, 1], Place("v", 3): [0, 1, 2, 3, 4]},
    )
    batch = random_batch(seed=9)
    wanted = run(model, batch)
    with pytest.raises(AssertionError):
        assert_same(run(small, batch), wanted, atol=0.1)
    reports = repair(model, small, many(), layers=range(4))
    assert_same(run(small, batch), wanted, atol=2e-3)
    changed = [(each.layer, each.kind) for each in reports if each.ridge is not None]
    assert changed[:2] == [(0, "attention"), (0, "feed_forward")]


@pytest.mark.parametrize("head", ["none", "masked_lm"])
@pytest.mark.parametrize("across_gaps", [False, True])
def test_nothing_cut_is_nothing_changed(head: str, across_gaps: bool) -> None:
    model = random_model(HeadSpec(head), tiny_shape(16))
    small = copy.deepcopy(model)
    reports = repair(model, small, many(2), layers=range(4), across_gaps=across_gaps)
    assert [(each.layer, each.kind) for each in reports] == [
        (0, "attention"), (0, "feed_forward"), (1, "attention"), (2, "feed_forward"), (3, "attention"),
        (3, "feed_forward"),
    ]  # fmt: skip
    assert all(each.ridge is None and each.error_before == each.error_after == 0 for each in reports)
    for name, weight in small.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name])


def test_the_fit_is_ridge_regression_of_the_change() -> None:
    """Against numpy, on a feed-forward that lost half of its neurons; the ridge is further rows."""
    shape = EncoderShape(24, (LayerShape(0, 0, 0, 20),), 31, 12, 2)
    model = random_model(HeadSpec("none"), shape)
    small = cut_to(model, {Place("f", 0): list(range(10))})
    batches = many()
    units, missing = [], []
    for batch in batches:
        real = batch.attention_mask.bool()
        x = run(model, batch)[0]
        kept, whole = small.encoder.layers[0].feed_forward, model.encoder.layers[0].feed_forward
        with torch.no_grad():
            units.append(kept.neurons(x, intermediate_size=10).double().numpy())
            missing.append((whole(x, intermediate_size=20) - kept(x, intermediate_size=10)).double().numpy())
        assert len(x) == int(real.sum())
    before = copy.deepcopy(small.encoder.layers[0].feed_forward.down)
    (report,) = repair(model, small, batches, layers=[0], ridges=[0.1])
    a, r = np.concatenate(units), np.concatenate(missing)
    strength = np.sqrt(0.1 * np.square(a).sum() / 10)
    rows = np.block([[a, np.ones((len(a), 1))], [strength * np.eye(10), np.zeros((10, 1))]])
    wanted = np.linalg.lstsq(rows, np.concatenate([r, np.zeros((10, 24))]), rcond=None)[0]
    after = small.encoder.layers[0].feed_forward.down
    np.testing.assert_allclose((after.weight - before.weight).detach().numpy().T, wanted[:10], atol=1e-5)
    np.testing.assert_allclose((after.bias - before.bias).detach().numpy(), wanted[10], atol=1e-5)
    assert report.ridge == 0.1 and 0 < report.error_after < report.error_before


@pytest.mark.parametrize("across_gaps", [False, True])
def test_kept_sums_serve_every_repair(across_gaps: bool) -> None:
    """Of whatever depth, in any order: each is the repair that runs the uncut network itself."""
    model, batches = random_model(), many()
    with torch.no_grad():
        sums = UncutSums(model, batches, are_kept=True)
    for layers in ((0, 2), (1, 2, 3), (0,)):
        cuts = [with_layers(model, *(KeptLayer(i, LAYERS[i]) for i in layers)) for _ in range(2)]
        options: dict[str, Any] = {"layers": layers, "across_gaps": across_gaps}
        assert repair(model, cuts[0], batches, sums=sums, **options) == repair(model, cuts[1], batches, **options)
        assert all(map(torch.equal, cuts[0].state_dict().values(), cuts[1].state_dict().values()))


def test_ridges_in_float32_repair_as_those_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()
    ridges, cuts = (0.01, 0.1, 1.0), [with_layers(model, KeptLayer(0, LayerShape(2, 3, 4, 10))) for _ in range(2)]
    in_float32 = repair(model, cuts[0], many(), layers=[0], ridges=ridges)
    monkeypatch.setattr("cutbert.surgery.repair.SOLVED_IN_FLOAT32", 2.0)
    in_float64 = repair(model, cuts[1], many(), layers=[0], ridges=ridges)
    assert [each.ridge for each in in_float32] == [each.ridge for each in in_float64]
    for name, weight in cuts[0].state_dict().items():
        torch.testing.assert_close(weight, cuts[1].state_dict()[name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("across_gaps", [False, True])
@pytest.mark.parametrize("count", [1, 6])
def test_held_out_texts_are_never_worse_off(count: int, across_gaps: bool) -> None:
    model = random_model()
    kept = (KeptLayer(0, LayerShape(2, 3, 4, 10)), KeptLayer(2, LAYERS[2]), KeptLayer(3, LayerShape(0, 0, 0, 5)))
    small = with_layers(model, *kept)
    twin = copy.deepcopy(small)
    reports = repair(model, small, many(count), layers=[0, 2, 3], across_gaps=across_gaps)
    assert len(reports) == 4
    for each in reports:
        assert each.error_after <= each.error_before
        assert (each.ridge is None) == (each.error_after == each.error_before)
    changed = {name for name, weight in small.state_dict().items() if not torch.equal(weight, twin.state_dict()[name])}
    outgoing = {"attention.output", "feed_forward.down", *(["feed_forward.norm"] if across_gaps else [])}
    assert {name.split(".", 3)[3].rpartition(".")[0] for name in changed} <= outgoing


@pytest.mark.parametrize("shape_of", ["bert", "roberta", "projected"])
def test_a_repaired_cut_is_closer_on_texts_never_seen(shape_of: str) -> None:
    """Whatever is cut: heads, key and value units, neurons, sub-layers, the hidden units too."""
    shape = tiny_shape(16 if shape_of == "projected" else None)
    model = random_model(HeadSpec("none"), shape, family="roberta" if shape_of == "roberta" else "bert")
    hidden = [*range(0, 24, 2), 1, 3, 5, 7, 9, 11]
    units = {Place("h"): hidden, Place("a", 0): [1, 3], Place("k", 1): [0, 2], Place("v", 3): [1, 2, 6],
             Place("f", 2): list(range(6))}  # fmt: skip
    small = cut_to(model, units)
    before, batch = copy.deepcopy(small), random_batch(rows=16, seed=50)
    repair(model, small, many(12), layers=range(4), hidden=torch.tensor(hidden))
    wanted = run(model, batch)[-1][:, hidden]
    far = [float((run(each, batch)[-1] - wanted).square().mean()) for each in (small, before)]
    assert far[0] < far[1]


def test_across_a_gap_the_next_layer_reads_what_it_is_used_to() -> None:
    """With a feed-forward wide enough to imitate its successor's sum, dropping the successor costs nothing."""
    shape = EncoderShape(6, (LayerShape(0, 0, 0, 40), LayerShape(0, 0, 0, 3), LayerShape(1, 3, 3, 4)), 31, 12, 2)
    model = random_model(HeadSpec("none"), shape)
    small = with_layers(model, KeptLayer(0, shape.layers[0]), KeptLayer(2, shape.layers[2]))
    batch = random_batch(rows=16, seed=51)
    far = []
    for across_gaps in (False, True):
        twin = copy.deepcopy(small)
        repair(model, twin, many(30), layers=[0, 2], across_gaps=across_gaps)
        far.append([float((got - run(model, batch)[i]).square().mean())
                    for got, i in zip(run(twin, batch)[1:], (2, 3), strict=True)])  # fmt: skip
    assert far[1][0] < far[0][0] / 2 and far[1][1] < far[0][1]


def test_blocks_and_padded_batches_repair_alike() -> None:
    model = random_model()
    small = cut_to(model, {Place("f", 0): list(range(8)), Place("a", 0): [0, 1]})
    twin = copy.deepcopy(small)
    padded = many(3)
    repair(model, small, padded, layers=range(4))
    repair(model, twin, [join_blocks([each], 0) for each in padded], layers=range(4))
    for name, weight in twin.state_dict().items():
        torch.testing.assert_close(weight, small.state_dict()[name], atol=1e-4, rtol=1e-4)


def test_modes_gradients_and_the_uncut_network_are_left() -> None:
    model, small = random_model().train(), random_model()
    before = copy.deepcopy(model.state_dict())
    repair(model, small, many(1), layers=range(4))
    assert model.training and not small.training
    assert all(weight.requires_grad for weight in small.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_what_does_not_fit_is_refused() -> None:
    model = random_model()
    small = with_layers(model, KeptLayer(0, LAYERS[0]), KeptLayer(2, LAYERS[2]))
    with pytest.raises(ShapeError) as error:
        repair(model, small, many(1), layers=[2, 0], hidden=torch.arange(5))
    assert error.value.mistakes == (
        "layers must be 2 rising indices in 0..3, got [2, 0]",
        "hidden must be 24 indices, those of the cut's hidden units, got 5",
    )
    with pytest.raises(ShapeError, match=r"^layer 1 of the uncut network must have the sub-layers of layer 1 of the"):
        repair(model, small, many(1), layers=[0, 1])
    with pytest.raises(InputError, match=r"^a cut must be repaired on at least 2 texts, got 1$"):
        repair(model, small, [random_batch(rows=1)], layers=[0, 2])
