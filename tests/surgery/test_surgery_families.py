"""Families made of other things than BERT: training, rewiring, cutting, gates and repair are exact for them too."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutbert.data.batches import join_blocks
from cutbert.model.prefix import accumulate_in_place
from cutbert.model.task_model import TaskModel
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import LayerShape
from cutbert.shape.subnet import KeptLayer, Subnet
from cutbert.shape.units import DIMS, Place, places_of, size_at
from cutbert.surgery.cut import choose_by_sizes, cut
from cutbert.surgery.extract import extract
from cutbert.surgery.gates import Gates, fold, gated_weights
from cutbert.surgery.importance import measure_importance
from cutbert.surgery.repair import repair
from cutbert.surgery.rewire import permuted, rewire
from cutbert.train.working_copy import WorkingCopy
from tiny_families import LAYERS, OTHERS, family_model
from tiny_models import HEADS, assert_same, outputs, random_batch, run

families = pytest.mark.parametrize("family", OTHERS)


@st.composite
def subnets(draw: st.DrawFn) -> Subnet:
    kept = []
    for i, layer in enumerate(LAYERS):
        if draw(st.booleans()):
            heads = draw(st.integers(0, layer.num_heads))
            values = draw(st.integers(1, layer.value_dim)) if heads else 0
            neurons = draw(st.integers(0, layer.intermediate_size))
            kept.append(KeptLayer(i, LayerShape(heads, layer.key_dim if heads else 0, values, neurons)))
    # A LayerNorm of very few units, where these are nearly equal, makes much of rounding.
    return Subnet(tuple(kept), draw(st.integers(6, 24)))


def random_orders(model: TaskModel, dims: str, seed: int = 0) -> dict[Place, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        place: torch.randperm(size_at(model.shape, place), generator=draw)
        for place in places_of(model.shape, tuple(dims))
    }


@settings(max_examples=60)
@given(subnets(), st.sampled_from(HEADS), st.sampled_from(OTHERS), st.booleans())
def test_extracted_equals_in_place(subnet: Subnet, head: HeadSpec, family: str, is_rewired: bool) -> None:
    model, batch = family_model(family, head), random_batch()
    if is_rewired:
        model = permuted(model, random_orders(model, "afv"))
    small = extract(model, subnet)
    assert_same(run(small, batch), run(model, batch, subnet=subnet))
    assert small.shape == subnet.shape_in(model.shape) and small.head_spec == head and small.style == model.style
    assert sum(each.numel() for each in small.parameters()) == cost_of(small.shape, head).params
    encoder = sum(each.numel() for name, each in small.encoder.named_parameters() if not name.startswith("embeddings."))
    assert encoder == cost_of(small.shape, head).params_encoder


@families
@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.kind)
def test_any_order_of_units_computes_the_same(family: str, head: HeadSpec) -> None:
    model, batch = family_model(family, head), random_batch()
    assert_same(run(permuted(model, random_orders(model, "afv")), batch), run(model, batch))
    hidden = random_orders(model, "h")
    moved = run(permuted(model, hidden), batch)
    wanted = run(model, batch)
    order = next(iter(hidden.values()))
    states = len(LAYERS) + 1 + (head.kind == "pooler" or head.is_sequence)
    assert_same(moved[:states], [each[..., order] for each in wanted[:states]])
    assert_same(moved[states:], wanted[states:])


@families
def test_units_come_in_descending_importance(family: str) -> None:
    model, batch = family_model(family), random_batch()
    importance = measure_importance(model, [batch])
    again = measure_importance(rewire(model, importance), [batch])
    for before, after in zip(importance.heads + importance.neurons, again.heads + again.neurons, strict=True):
        torch.testing.assert_close(after, before.sort(descending=True).values, atol=1e-6, rtol=1e-4)


@families
def test_importance_is_the_derivative_of_gates(family: str) -> None:
    """A neuron's is dL/dg of one gate on its rows in and one on its column out; a head's of a gate on its output."""
    model, batch = family_model(family), random_batch()
    importance = measure_importance(model, [batch])
    gates = {p: torch.ones(size_at(model.shape, p), requires_grad=True) for p in places_of(model.shape, tuple(DIMS))}
    weights = {}
    for name, parameter in model.named_parameters():
        weights[name] = parameter.detach()
    for i, layer in enumerate(model.shape.layers):
        where = f"encoder.layers.{i}."
        if layer.has_attention:
            columns = gates[Place("a", i)].repeat_interleave(layer.value_dim)
            weights[where + "attention.output.weight"] = weights[where + "attention.output.weight"] * columns
        if layer.has_feed_forward:
            f = gates[Place("f", i)]
            for part in ("up", "gate"):
                for leaf, shape in (("weight", (-1, 1)), ("bias", (-1,))):
                    name = f"{where}feed_forward.{part}.{leaf}"
                    if name in weights:
                        weights[name] = weights[name] * f.view(shape)
            weights[where + "feed_forward.down.weight"] = weights[where + "feed_forward.down.weight"] * f
    arguments = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
    logits = torch.func.functional_call(model, weights, arguments).logits
    torch.nn.functional.cross_entropy(logits, batch.labels).backward()
    for i, layer in enumerate(model.shape.layers):
        if layer.has_attention:
            torch.testing.assert_close(
                importance.heads[i].float(), gates[Place("a", i)].grad.abs(), atol=1e-5, rtol=1e-3
            )
        if layer.has_feed_forward:
            torch.testing.assert_close(
                importance.neurons[i].float(), gates[Place("f", i)].grad.abs(), atol=1e-5, rtol=1e-3
            )


@families
@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.kind)
def test_open_gates_leave_every_bit(family: str, head: HeadSpec) -> None:
    model, batch = family_model(family, head), random_batch()
    weights = gated_weights(model, Gates(model.shape).values())
    arguments = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
    with torch.no_grad():
        gated = outputs(torch.func.functional_call(model, weights, arguments), batch)
    assert all(torch.equal(one, other) for one, other in zip(gated, run(model, batch), strict=True))


@families
def test_folded_gates_cut_exactly(family: str) -> None:
    """Closed heads, neurons and value units can be cut from the folded network; open gates of any size are folded."""
    model, batch = family_model(family), random_batch()
    draw = torch.Generator().manual_seed(3)
    values = {p: 0.5 + torch.rand(size_at(model.shape, p), generator=draw) for p in places_of(model.shape, "afkvh")}
    sizes = {}
    for place in places_of(model.shape, "afv"):
        if size_at(model.shape, place) > 1:
            values[place][::2] = 0
            sizes[place] = size_at(model.shape, place) // 2
    twin = copy.deepcopy(model)
    fold(twin, values)
    arguments = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
    with torch.no_grad():
        gated = outputs(torch.func.functional_call(model, gated_weights(model, values), arguments), batch)
    assert_same(run(twin, batch), gated)
    small = cut(twin, choose_by_sizes(model.shape, {p: v.abs() for p, v in values.items()}, sizes))
    assert_same(run(small, batch), gated)


@families
@pytest.mark.parametrize("subnet", [None, Subnet((KeptLayer(0, LayerShape(2, 6, 3, 9)), KeptLayer(3, LAYERS[3])), 17)])
def test_training_path_and_its_gradients_equal_autograd(family: str, subnet: Subnet | None) -> None:
    """Against torch's own attention in double precision, padded and in blocks of several lengths."""
    model, batch = family_model(family), random_batch()
    exact = copy.deepcopy(model).double()
    accumulate_in_place(model)
    assert batch.attention_mask is not None
    real = batch.attention_mask.bool()
    for net in (model, exact):
        states = net.encoder(batch.input_ids, batch.attention_mask, subnet=subnet)
        if net is exact:
            with torch.autograd.graph.save_on_cpu(), torch.no_grad():
                plain = net.encoder(batch.input_ids, batch.attention_mask, subnet=subnet)
            for one, other in zip(states, plain, strict=True):
                torch.testing.assert_close(one[real], other[real], atol=1e-9, rtol=1e-9)
        torch.stack([each[real].double().square().mean() for each in states]).sum().backward()
    for (name, weight), other in zip(model.named_parameters(), exact.parameters(), strict=True):
        wanted = torch.zeros_like(other) if other.grad is None else other.grad
        got = torch.zeros_like(weight) if weight.grad is None else weight.grad
        torch.testing.assert_close(got.double(), wanted, atol=1e-4, rtol=1e-3, msg=lambda text, name=name: name + text)


@families
def test_blocks_equal_padded_batches(family: str) -> None:
    model = family_model(family)
    batches = [random_batch(rows=3, seed=seed) for seed in range(2)]
    batches[1] = replace(
        batches[1], input_ids=batches[1].input_ids[:, :6], attention_mask=batches[1].attention_mask[:, :6],
        token_type_ids=None,
    )  # fmt: skip
    batches[0] = replace(batches[0], token_type_ids=None)
    joined = join_blocks(batches, pad_token_id=1)
    for is_training in (False, True):
        with torch.set_grad_enabled(is_training):
            together = model(joined.input_ids, joined.attention_mask, blocks=joined.blocks).logits
            alone = torch.cat([model(each.input_ids, each.attention_mask).logits for each in batches])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@families
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_weight_learns_in_a_working_copy(family: str, dtype: torch.dtype) -> None:
    master, batch = family_model(family), random_batch()
    twin = copy.deepcopy(master)
    work = WorkingCopy(master, dtype, dropout=0.0)
    for _ in range(2):
        work.refresh()
        master.encoder.embeddings.zero_grad()
        work.model(batch.input_ids, batch.attention_mask).logits.float().square().sum().backward()
        copies = {id(weight): cast for weight, cast in work.collect()}
    twin(batch.input_ids, batch.attention_mask).logits.square().sum().backward()
    whole = torch.cat([each.grad.flatten() for each in twin.parameters()]).norm()
    for (name, weight), other in zip(master.named_parameters(), twin.parameters(), strict=True):
        grad = copies.get(id(weight), weight).grad
        assert weight.dtype == torch.float32 and grad is not None, name
        close = 1e-3 if dtype == torch.float32 else 0.3
        assert (grad.float() - other.grad).norm() < close * other.grad.norm().clamp(min=0.01 * float(whole)), name
    work.close()


@families
def test_a_cut_is_repaired(family: str) -> None:
    """The uncut sums come back exactly where the cut can still make them, and held-out texts never lose."""
    model, batches = family_model(family), [random_batch(rows=16, seed=seed) for seed in range(6)]
    small = extract(model, Subnet((KeptLayer(0, LAYERS[0]), KeptLayer(3, LayerShape(1, 4, 7, 5))), 24))
    reports = repair(model, small, batches, layers=[0, 3], across_gaps=True)
    assert len(reports) == 4
    assert all(each.error_after <= each.error_before for each in reports)
    assert any(each.error_after < 0.9 * each.error_before for each in reports)
