"""Updates beside plain twins: the token table's three ways, clipping, and the learning rate's course."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from cutbert.errors import RunError
from cutbert.model.task_model import TaskModel
from cutbert.train import optimizer
from cutbert.train.engine import Engine
from cutbert.train.optimizer import Optimizer, learning_rate_at
from cutbert.train.settings import StagePlan
from tiny_runs import tiny_model

PLAN = StagePlan(
    name="stage",
    epochs=1.0,
    batch_size=8,
    learning_rate=0.01,
    warmup_ratio=0.0,
    weight_decay=0.1,
    schedule="constant",
    dropout=0.0,
    token_table="rows",
)
IDS = ((5, 6, 6, 2), (7, 5, 9, 2), (5, 6, 6, 2))


@pytest.fixture
def engine() -> Engine:
    return Engine(Accelerator(cpu=True), torch.float32)


def backward(model: TaskModel, ids: tuple[int, ...]) -> None:
    model(torch.tensor([ids])).logits.square().sum().backward()


def train(model: TaskModel, plan: StagePlan, engine: Engine, max_grad_norm: float = 1e9) -> list[float]:
    """Take one step for each of IDS; returns the gradients' norms."""
    updates, norms = Optimizer(model, plan, engine, max_grad_norm), []
    for ids in IDS:
        model.zero_grad()
        backward(model, ids)
        norms.append(updates.step(0.5, torch.tensor(sorted({0, *ids}))))
    return norms


def twin_of(model: TaskModel, sparse: bool) -> tuple[TaskModel, list[torch.optim.Optimizer]]:
    """Return a copy and plain optimizers of its weights."""
    twin = copy.deepcopy(model)
    table = twin.encoder.embeddings.token.weight
    matrices = [p for p in twin.parameters() if p.ndim > 1 and not (sparse and p is table)]
    vectors = [p for p in twin.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=0.01, fused=True)]
    if sparse:
        twin.encoder.embeddings.token.sparse = True
        optimizers.append(torch.optim.SparseAdam([table], lr=0.01))
    return twin, optimizers


@pytest.mark.parametrize("token_table", ["rows", "dense"])
def test_equals_torchs_own_optimizers(token_table: str, engine: Engine) -> None:
    model = tiny_model()
    twin, optimizers = twin_of(model, sparse=token_table == "rows")
    before = model.encoder.embeddings.token.weight.detach().clone()
    train(model, replace(PLAN, token_table=token_table), engine)
    for ids in IDS:
        twin.zero_grad()
        backward(twin, ids)
        for each in optimizers:
            each.step()
    for (name, weight), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(weight, other), name
    used = sorted({0, *IDS[0], *IDS[1]})
    untouched = [i for i in range(20) if i not in used]
    moved = (model.encoder.embeddings.token.weight != before).any(-1)
    assert moved[[2, 5, 6, 7, 9]].all() and bool(moved[untouched].any()) == (token_table == "dense")


def test_a_frozen_table_stands_still(engine: Engine) -> None:
    model = tiny_model()
    before = model.encoder.embeddings.token.weight.detach().clone()
    positions = model.encoder.embeddings.position.weight.detach().clone()
    train(model, replace(PLAN, token_table="frozen"), engine)
    assert torch.equal(model.encoder.embeddings.token.weight, before)
    assert not torch.equal(model.encoder.embeddings.position.weight, positions)


@pytest.mark.parametrize("token_table", ["rows", "dense"])
def test_clipping_takes_all_gradients_together(token_table: str, engine: Engine) -> None:
    model = tiny_model()
    twin, optimizers = twin_of(model, sparse=False)
    backward(twin, IDS[0])
    wanted = torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
    optimizers[0].step()
    updates = Optimizer(model, replace(PLAN, token_table=token_table), engine, 0.5)
    backward(model, IDS[0])
    norm = updates.step(0.0, torch.tensor(sorted({0, *IDS[0]})))
    assert norm == pytest.approx(float(wanted), rel=1e-5)
    table = model.encoder.embeddings.token.weight
    for weight, other in zip(model.parameters(), twin.parameters(), strict=True):
        if token_table == "dense" or weight is not table:
            torch.testing.assert_close(weight, other)


def test_parts_change_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = []
    for part in (1 << 20, 100, 5):
        monkeypatch.setattr(optimizer, "PART", part)
        nets.append(tiny_model())
        train(nets[-1], replace(PLAN, token_table="dense"), engine, max_grad_norm=0.5)
    for net in nets[1:]:
        got, wanted = (dict(each.named_parameters()) for each in (net, nets[0]))
        torch.testing.assert_close(got, wanted, atol=1e-3, rtol=0)  # Adam makes steps of the rounding of zeros


@pytest.mark.parametrize("token_table", ["rows", "dense", "frozen"])
def test_state_is_taken_back(token_table: str, engine: Engine) -> None:
    plan, used = replace(PLAN, token_table=token_table), torch.tensor(sorted({0, *IDS[0]}))
    model = tiny_model()
    updates = Optimizer(model, plan, engine, 1.0)
    backward(model, IDS[0])
    updates.step(0.1, used)
    twin = copy.deepcopy(model)
    again = Optimizer(twin, plan, engine, 1.0)
    again.load_state({name: tensor.clone() for name, tensor in updates.state().items()})
    for net, own in ((model, updates), (twin, again)):
        net.zero_grad()
        backward(net, IDS[0])
        own.step(0.2, used)
    for weight, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(weight, other)


def test_the_state_of_other_weights_is_refused(engine: Engine) -> None:
    updates = Optimizer(tiny_model(), PLAN, engine, 1.0)
    state = updates.state()
    other = {**state, "dense.0.exp_avg": torch.zeros(1)}  # would be broadcast
    for broken in (other, {f"dense.0.{name}": value for name, value in state.items()}, {"gates.step": torch.ones(1)}):
        with pytest.raises(RunError, match=r"the same weights and version of cutbert.*another --out"):
            updates.load_state(broken)


@pytest.mark.parametrize(
    "schedule, warmup, progress, share",
    [
        ("linear", 0.0, 0.0, 1.0),
        ("linear", 0.0, 0.25, 0.75),
        ("linear", 0.2, 0.1, 0.5),
        ("linear", 0.2, 0.2, 1.0),
        ("linear", 0.2, 0.6, 0.5),
        ("cosine", 0.0, 0.0, 1.0),
        ("cosine", 0.0, 0.5, 0.5),
        ("cosine", 0.5, 0.75, 0.5),
        ("constant", 0.1, 0.05, 0.5),
        ("constant", 0.1, 0.9, 1.0),
        ("linear", 1.0, 0.5, 0.5),
    ],
)
def test_learning_rate(schedule: str, warmup: float, progress: float, share: float) -> None:
    plan = replace(PLAN, schedule=schedule, warmup_ratio=warmup)
    assert learning_rate_at(progress, plan) == pytest.approx(share * PLAN.learning_rate)
