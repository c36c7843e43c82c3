"""AdamW on the layers, the token table by the rows a batch touches, and the learning-rate schedule."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from cutbert.model.task_model import TaskModel
from cutbert.train.engine import Engine
from cutbert.train.settings import StagePlan


class StageOptimizer(Protocol):
    """What updates a network once a step."""

    @property
    def updates_rows(self) -> bool:
        """Whether only the token-table rows that a step used are updated."""
        ...

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        ...

    def zero_embedding_gradients(self) -> None:
        """Clear the gradients of the embeddings; the view clears those of layers and head."""
        ...

    def step(self, progress: float, used_ids: Tensor) -> float:
        """Sum gradients over processes and update; return their norm. Arguments as in `Optimizer.step`."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return its moments and step counts as named tensors."""
        ...

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `state` returned."""
        ...


class Optimizer:
    """Updates a network's float32 weights once a step.

    The token table is the largest matrix of a small encoder, and a batch touches few of its rows: under
    `rows` only those are updated, by Adam that does not decay the moments of the others (torch's
    SparseAdam; our choice), under `frozen` none, under `dense` all.

    Args:
        model: the float32 network.
        plan: of the stage.
        engine: sums gradients over processes.
        max_grad_norm: global norm that gradients are clipped to.
    """

    def __init__(self, model: TaskModel, plan: StagePlan, engine: Engine, max_grad_norm: float) -> None:
        self.model, self.plan, self.engine, self.max_grad_norm = model, plan, engine, max_grad_norm
        embedding = model.encoder.embeddings.token
        self.table = embedding.weight
        self.updates_rows = plan.token_table == "rows"
        self.table.requires_grad_(plan.token_table != "frozen")
        embedding.sparse = self.updates_rows
        skip_table = plan.token_table != "dense"
        self.weights = [p for p in model.parameters() if not (skip_table and p is self.table)]
        groups = [
            {"params": [p for p in self.weights if p.ndim > 1], "weight_decay": plan.weight_decay},
            {"params": [p for p in self.weights if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.dense = torch.optim.AdamW(groups, lr=plan.learning_rate, fused=True)
        self.sparse = torch.optim.SparseAdam([self.table], lr=plan.learning_rate) if self.updates_rows else None

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        return float(self.dense.param_groups[0]["lr"])

    def step(self, progress: float, used_ids: Tensor) -> float:
        """Sum gradients over processes, clip and update.

        Args:
            progress: share of the stage's steps done, in [0, 1).
            used_ids: sorted token ids of the whole step's batch, over all processes.

        Returns:
            The gradients' norm before clipping.
        """
        gradients = [gradient_of(p) for p in self.weights]
        rows = self._row_gradients(used_ids) if self.updates_rows else None
        every = gradients if rows is None else [*gradients, rows]
        self.engine.reduce(every)
        norm = torch.nn.utils.get_total_norm(every, foreach=True)
        torch._foreach_mul_(every, (self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
        rate = learning_rate_at(progress, self.plan)
        for optimizer in (self.dense, self.sparse):
            for group in optimizer.param_groups if optimizer else ():
                group["lr"] = rate
        self.dense.step()
        if self.sparse is not None and rows is not None:
            shape = self.table.shape
            self.table.grad = torch.sparse_coo_tensor(
                used_ids[None], rows, shape, is_coalesced=True, check_invariants=False
            )
            self.sparse.step()
            self.table.grad = None
        return float(norm)

    def zero_embedding_gradients(self) -> None:
        """Clear the gradients of the embeddings; the working copy clears those of layers and head."""
        for parameter in self.model.encoder.embeddings.parameters():
            parameter.grad = None

    def _row_gradients(self, used_ids: Tensor) -> Tensor:
        rows = torch.zeros(len(used_ids), self.table.shape[1], device=self.table.device)
        if self.table.grad is not None:
            own = self.table.grad.coalesce()
            rows[torch.searchsorted(used_ids, own.indices()[0])] = own.values()
        return rows

    def state(self) -> dict[str, Tensor]:
        """Return the optimizers' moments and step counts as named tensors."""
        tensors: dict[str, Tensor] = {}
        for kind, optimizer in (("dense", self.dense), ("sparse", self.sparse)):
            if optimizer is None:
                continue
            for i, values in optimizer.state_dict()["state"].items():
                for name, value in values.items():
                    tensors[f"{kind}.{i}.{name}"] = torch.as_tensor(value)
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `state` returned."""
        for kind, optimizer in (("dense", self.dense), ("sparse", self.sparse)):
            if optimizer is None:
                continue
            state: dict[int, dict[str, Tensor | int]] = {}
            for key, value in tensors.items():
                owner, i, name = key.split(".")
                if owner == kind:
                    is_count = kind == "sparse" and name == "step"
                    state.setdefault(int(i), {})[name] = int(value) if is_count else value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def gradient_of(weight: Tensor) -> Tensor:
    """Return a weight's gradient, made of zeros where there is none: in a process without rows of a small batch."""
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    return weight.grad


def learning_rate_at(progress: float, plan: StagePlan) -> float:
    """Return the learning rate after a share `progress` of the steps: linear warm-up, then the schedule."""
    if progress < plan.warmup_ratio:
        return plan.learning_rate * progress / plan.warmup_ratio
    rest = (1.0 - progress) / max(1e-9, 1.0 - plan.warmup_ratio)
    if plan.schedule == "linear":
        return plan.learning_rate * rest
    if plan.schedule == "cosine":
        return plan.learning_rate * 0.5 * (1 + math.cos(math.pi * (1 - rest)))
    return plan.learning_rate
