"""Gates get the gradients that plain autograd gives them, and nothing else is trained."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.func import functional_call

from cutbert.methods.schubert_gates import GatedModel, GateOptimizer, GateView, Price, priced_share
from cutbert.shape.units import DIMS, places_of
from cutbert.surgery.gates import gated_weights
from cutbert.train.engine import make_engine
from cutbert.train.settings import StagePlan, TrainSettings
from tiny_runs import SHAPE, tiny_model

IDS = torch.tensor([[2, 5, 6, 7, 3], [2, 9, 9, 5, 3]])
PLAN = StagePlan(
    name="gates",
    epochs=1.0,
    batch_size=2,
    learning_rate=0.5,
    warmup_ratio=0.0,
    weight_decay=0.0,
    schedule="constant",
    dropout=0.0,
    token_table="frozen",
    exact_steps=4,
)


def gated_model(
    dims: tuple[str, ...] = tuple(DIMS), aim: float = 0.5, embedding_size: int | None = None, gates_norms: bool = True
) -> GatedModel:
    model = tiny_model(shape=replace(SHAPE, embedding_size=embedding_size))
    price = Price({place: 1.0 for place in places_of(model.shape, dims)}, aim)
    return GatedModel(model, [price], gates_norms=gates_norms)


def backward(work: GateView) -> None:
    work.refresh()
    work.model(IDS).logits.float().square().sum().backward()
    work.collect()


def flat(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


@pytest.mark.parametrize("embedding_size", [None, 8])
@pytest.mark.parametrize("gates_norms", [True, False])
@pytest.mark.parametrize("dtype, close", [(torch.float32, 1e-5), (torch.bfloat16, 0.08)])
def test_gradients_are_autograds(
    dtype: torch.dtype, close: float, gates_norms: bool, embedding_size: int | None
) -> None:
    gated = gated_model(embedding_size=embedding_size, gates_norms=gates_norms)
    with torch.no_grad():
        for gate in gated.parameters():
            gate.uniform_(0.5, 1.5)
    work = GateView(gated, dtype, dropout=0.0)
    for _ in range(2):  # a second step starts from nothing
        backward(work)
    got = flat([gate.grad for gate in gated.parameters()])
    twin = copy.deepcopy(gated.gates)
    weights = gated_weights(gated.base, twin.values(), gates_norms=gates_norms)
    logits = functional_call(gated.base, weights, (IDS,)).logits
    wanted = flat(list(torch.autograd.grad(logits.square().sum(), list(twin.parameters()))))
    assert float((got - wanted).norm() / wanted.norm()) < close


def test_only_gates_move_and_none_below_zero() -> None:
    gated = gated_model()
    before = {name: weight.clone() for name, weight in gated.base.state_dict().items()}
    work, engine = GateView(gated, torch.float32, dropout=0.0), make_engine(TrainSettings(threads=1))
    optimizer = GateOptimizer(gated, PLAN, engine, max_grad_norm=1.0)
    for step in range(4):
        backward(work)
        assert optimizer.step(step / 4, torch.empty(0)) > 0
    assert all(torch.equal(weight, before[name]) for name, weight in gated.base.state_dict().items())
    values = flat(list(gated.parameters()))
    assert values.min() == 0.0 and values.max() > 0.0
    assert optimizer.rate == 0.5 and not optimizer.updates_rows
    work.close()


def test_gates_of_other_dimensions_stay_at_1() -> None:
    gated = gated_model(("f",))
    work, engine = GateView(gated, torch.float32, dropout=0.0), make_engine(TrainSettings(threads=1))
    optimizer = GateOptimizer(gated, PLAN, engine, max_grad_norm=1.0)
    assert {name.split(".")[3] for name in work.casts} == {"feed_forward"}  # nothing else needs gradients
    for step in range(4):
        backward(work)
        optimizer.step(step / 4, torch.empty(0))
    moved = {place.dim for place, gate in gated.values().items() if not torch.equal(gate, torch.ones_like(gate))}
    assert moved == {"f"}


def test_the_prices_are_kept_to_at_every_step() -> None:
    model = tiny_model()
    prices = [Price({place: 2.0 for place in places_of(model.shape, (dim,))}, 0.3) for dim in ("f", "v")]
    gated = GatedModel(model, prices)
    work, engine = GateView(gated, torch.float32, dropout=0.0), make_engine(TrainSettings(threads=1))
    plan = replace(PLAN, learning_rate=0.02, exact_steps=20)
    optimizer = GateOptimizer(gated, plan, engine, max_grad_norm=1.0)
    for step in range(20):
        backward(work)
        optimizer.step(step / 20, torch.empty(0))
        for price in prices:
            gates = flat([gated.values()[place].detach() for place in price.unit_prices]).double()
            share = float(priced_share(gates, torch.ones_like(gates)))
            assert share <= price.share_left((step + 1) / 20) + 1e-5
    assert share == pytest.approx(0.3, abs=0.05)


def test_one_step_is_enough_for_the_price() -> None:
    gated = gated_model(("f",), aim=0.25)
    work, engine = GateView(gated, torch.float32, dropout=0.0), make_engine(TrainSettings(threads=1))
    optimizer = GateOptimizer(gated, replace(PLAN, exact_steps=1), engine, max_grad_norm=1.0)
    backward(work)
    optimizer.step(0.0, torch.empty(0))
    assert float(priced_share(flat(gated.trained()), torch.ones(96))) <= 0.25 + 1e-5


def test_weights_that_no_gate_acts_on_get_no_gradients() -> None:
    work = GateView(gated_model(("f",)), torch.float32, dropout=0.0)
    for _ in range(2):
        backward(work)
    assert {name for name, weight in work.model.named_parameters() if weight.grad is not None} == set(work.casts)


def test_a_stored_optimizer_goes_on_to_the_bit() -> None:
    engine = make_engine(TrainSettings(threads=1))
    found = []
    for is_stored in (False, True):
        gated = gated_model()
        work, optimizer = GateView(gated, torch.float32, 0.0), GateOptimizer(gated, PLAN, engine, 1.0)
        for step in range(4):
            if is_stored and step == 2:
                state = optimizer.state()
                optimizer = GateOptimizer(gated, PLAN, engine, 1.0)
                optimizer.load_state(state)
            backward(work)
            optimizer.step(step / 4, torch.empty(0))
        found.append(flat([gate.detach() for gate in gated.parameters()]))
    assert torch.equal(*found)


def test_its_weights_are_the_gates_alone() -> None:
    gated = gated_model()
    assert len(gated.state_dict()) == 1 + 4 * 3


def test_under_the_papers_price_adam_sees_loss_and_l1_norm_together() -> None:
    model, gamma = tiny_model(), 0.05
    units = {place: 1.0 + i for i, place in enumerate(places_of(model.shape, ("f", "a")))}
    gated = GatedModel(model, [Price(units, gamma=gamma)], gates_norms=False)
    optimizer = GateOptimizer(gated, PLAN, make_engine(TrainSettings(threads=1)), max_grad_norm=1.0)
    twin = copy.deepcopy(gated.gates)
    places = dict(zip(twin.places, twin.values_, strict=True))
    adam = torch.optim.Adam([places[place] for place in units], lr=PLAN.learning_rate)
    view = GateView(gated, torch.float32, dropout=0.0)
    for step in range(4):
        backward(view)
        optimizer.step(step / 4, torch.empty(0))
        adam.zero_grad()
        logits = functional_call(model, gated_weights(model, twin.values(), gates_norms=False), (IDS,)).logits
        (logits.square().sum() + gamma * sum(u * places[place].abs().sum() for place, u in units.items())).backward()
        adam.step()
    for place in units:
        torch.testing.assert_close(gated.values()[place], places[place], atol=1e-4, rtol=1e-4)
    assert min(float(gate.min()) for gate in gated.trained()) < 0.0  # an L1 norm does not stop gates at 0


def test_the_papers_hidden_gates_multiply_matrices_alone() -> None:
    model = tiny_model()
    price = Price({place: 1.0 for place in places_of(model.shape, ("h",))}, gamma=0.1)
    names = {flag: set(GatedModel(model, [price], gates_norms=flag).products()) for flag in (True, False)}
    norms = {name for name, _ in model.named_parameters() if ".norm." in name}
    assert norms and names[True] - names[False] == norms
