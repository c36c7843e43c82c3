"""The working copy: casts once a step, shares the embeddings, hands its gradients to the float32 network."""

from __future__ import annotations

import copy

import pytest
import torch
from accelerate import Accelerator

from cutbert.model.task_model import TaskModel
from cutbert.train.engine import Engine
from cutbert.train.optimizer import Optimizer
from cutbert.train.working_copy import WorkingCopy
from cutbert.work.plans import FINETUNE
from tiny_runs import tiny_model

IDS = torch.tensor([[2, 5, 6, 7, 3], [2, 9, 9, 5, 3]])


def backward(model: TaskModel) -> None:
    model(IDS).logits.float().square().sum().backward()


@pytest.mark.parametrize("dtype, close", [(torch.float32, 1e-5), (torch.bfloat16, 0.08)])
def test_gradients_reach_the_float32_network(dtype: torch.dtype, close: float) -> None:
    master = tiny_model()
    twin = copy.deepcopy(master)
    work = WorkingCopy(master, dtype, dropout=0.0)
    for _ in range(2):
        work.refresh()
        master.encoder.embeddings.zero_grad()
        backward(work.model)
        copies = {id(weight): copy for weight, copy in work.collect()}
    backward(twin)
    assert all(weight.dtype == torch.float32 for weight in master.parameters())
    assert all(copy.dtype == dtype for copy in copies.values())
    gradients = [copies.get(id(weight), weight).grad.float().flatten() for weight in master.parameters()]
    got, wanted = torch.cat(gradients), torch.cat([weight.grad.flatten() for weight in twin.parameters()])
    assert float((got - wanted).norm() / wanted.norm()) < close


def test_micro_batches_add_up() -> None:
    master, twin = tiny_model(), tiny_model()
    work = WorkingCopy(master, torch.float32, dropout=0.0)
    work.refresh()
    for row in IDS:
        work.model(row[None]).logits.square().sum().backward()
    backward(twin)
    for weight, other in zip(master.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, other.grad, atol=1e-4, rtol=1e-4)


def test_a_cast_copy_follows_the_updates() -> None:
    master = tiny_model()
    work = WorkingCopy(master, torch.bfloat16, dropout=0.0)
    assert work.model is not master and work.model.encoder.embeddings is master.encoder.embeddings
    layer = work.model.encoder.layers[0].attention
    assert layer.query.weight.dtype == torch.bfloat16
    assert work.model.encoder.embeddings.token.weight.dtype == torch.float32
    before = layer.query.weight.detach().clone()
    optimizer = Optimizer(master, FINETUNE, Engine(Accelerator(cpu=True), torch.bfloat16), 1.0)
    work.refresh()
    backward(work.model)
    optimizer.step(0.5, IDS.unique(), work.collect())
    assert not torch.equal(layer.query.weight, before)
    assert torch.equal(layer.query.weight, master.encoder.layers[0].attention.query.weight.bfloat16())


def test_dropout_is_the_stages_and_ends_with_it() -> None:
    master = tiny_model()
    work = WorkingCopy(master, torch.float32, dropout=0.5)
    assert work.model is master and master.training
    assert not torch.equal(master(IDS).logits, master(IDS).logits)
    none = WorkingCopy(master, torch.float32, dropout=0.0)
    assert torch.equal(none.model(IDS).logits, none.model(IDS).logits)
    work.close()
    assert not master.training and all(p.grad is None and p.requires_grad for p in master.parameters())
