"""AdamW on the layers, the token table by the rows a batch touches, and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from cutbert.errors import RunError
from cutbert.model.task_model import TaskModel
from cutbert.train.engine import Engine
from cutbert.train.settings import StagePlan

PART = 1 << 18  # weights updated together, per thread: 1 MB of each of gradient, weights and two moments
PART_ON_CUDA = 1 << 26  # few kernels
BETAS, EPSILON = (0.9, 0.999), 1e-8

Casts = Sequence[tuple[Tensor, Tensor]]
"""Weights and their copies in another dtype."""


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

    def step(self, progress: float, used_ids: Tensor, casts: Casts = ()) -> float:
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
    `rows` only those are updated, by Adam that does not decay the moments of the others (our choice), under
    `frozen` none, under `dense` all.

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
        self.dense = AdamW(self.weights, plan.weight_decay)
        self.rows = RowAdam(self.table) if self.updates_rows else None
        self.rate = plan.learning_rate

    @torch.no_grad()
    def step(self, progress: float, used_ids: Tensor, casts: Casts = ()) -> float:
        """Sum gradients over processes, clip and update.

        Args:
            progress: share of the stage's steps done, in [0, 1).
            used_ids: sorted token ids of the whole step's batch, over all processes.
            casts: weights with their copies in another dtype: these have the gradients, and follow the update.

        Returns:
            The gradients' norm before clipping.
        """
        cast_of = {id(weight): cast for weight, cast in casts}
        copies = [cast_of.get(id(weight)) for weight in self.weights]
        gradients = [gradient_of(w if c is None else c) for w, c in zip(self.weights, copies, strict=True)]
        if self.engine.num_processes > 1:  # summed in float32
            gradients = [gradient.float() for gradient in gradients]
        of_rows = self._row_gradients(used_ids) if self.updates_rows else None
        every = gradients if of_rows is None else [*gradients, of_rows]
        self.engine.reduce(every)
        norm = total_norm(every)
        clip = (self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        self.rate = learning_rate_at(progress, self.plan)
        self.dense.step(gradients, copies, clip, self.rate)
        if self.rows is not None and of_rows is not None:
            self.rows.step(used_ids, of_rows.mul_(clip), self.rate)
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
        parts = {"dense": self.dense.state(), "rows": {} if self.rows is None else self.rows.state()}
        return {f"{owner}.{name}": each for owner, part in parts.items() for name, each in part.items()}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `state` returned.

        Raises:
            RunError: it is of other weights, or of another version of cutbert.
        """
        own = self.state()
        if {name: each.shape for name, each in tensors.items()} != {name: each.shape for name, each in own.items()}:
            raise RunError(
                "a checkpoint must be of the same weights and version of cutbert, but its optimizer has other moments; "
                "begin again with another --out"
            )
        for name, each in own.items():
            each.copy_(tensors[name])


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of some weights, which are updated together.

    Args:
        places: which weight, and which of its rows.
        weights, firsts, seconds: views of the weights and of their moments there.
        buffer: for their gradients, of memory that all parts share.
        buffers: views of it, shaped as the weights.
        weight_decay: of these weights.
    """

    places: list[tuple[int, slice]]
    weights: list[Tensor]
    firsts: list[Tensor]
    seconds: list[Tensor]
    buffer: Tensor
    buffers: list[Tensor]
    weight_decay: float
    _views: list[dict[int, tuple[Tensor, Tensor]]] = field(default_factory=lambda: [{}, {}])

    def of(self, tensors: Sequence[Tensor | None], kind: int) -> list[Tensor | None]:
        """Return the part's rows of tensors shaped as the weights, None for None.

        Views of tensors that are the same every step are kept: making them takes longer than the update of a few rows.

        Args:
            tensors: of all weights.
            kind: 0 for gradients, 1 for copies.
        """
        views, kept = self._views[kind], []
        for i, rows in self.places:
            tensor = tensors[i]
            if tensor is not None and (i not in views or views[i][0] is not tensor):
                views[i] = (tensor, tensor[rows])
            kept.append(None if tensor is None else views[i][1])
        return kept


class AdamW:
    """AdamW in one pass over the memory: clipping, update and the cast of a few weights at a time.

    Weights are taken in parts that stay in the cache: each part's gradient becomes float32 in a buffer that all share,
    is clipped, updates the weights, and these are cast again. In passes over all weights, as torch's optimizers make
    them, reading and writing them takes longer than the arithmetic.

    Args:
        weights: float32; matrices decay, vectors do not.
        weight_decay: of matrices.

    Source:
        Loshchilov and Hutter 2019 (1711.05101), algorithm 2, by torch's own kernel.
    """

    def __init__(self, weights: Sequence[Tensor], weight_decay: float) -> None:
        device = weights[0].device
        self.firsts, self.seconds = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
        self.num_steps = torch.zeros((), device=device)
        room = PART * torch.get_num_threads() if device.type == "cpu" else PART_ON_CUDA
        values = [weight.detach() for weight in weights]
        self.parts, buffer = [], torch.empty(min(room, sum(value.numel() for value in values)), device=device)
        for is_matrix in (True, False):
            own = [i for i, value in enumerate(values) if (value.ndim > 1) == is_matrix]
            for places in parts_of([values[i] for i in own], room):
                named = [(own[i], rows) for i, rows in places]
                views, firsts, seconds = (
                    [each[i][rows] for i, rows in named] for each in (values, self.firsts, self.seconds)
                )
                sizes = [view.numel() for view in views]
                if sum(sizes) > buffer.numel():  # a row longer than a part
                    buffer = torch.empty(sum(sizes), device=device)
                own_buffer, decay = buffer[: sum(sizes)], weight_decay if is_matrix else 0.0
                pieces = own_buffer.split(sizes)
                shaped = [each.view(view.shape) for each, view in zip(pieces, views, strict=True)]
                self.parts.append(Part(named, views, firsts, seconds, own_buffer, shaped, decay))

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], copies: Sequence[Tensor | None], clip: Tensor, rate: float) -> None:
        """Update.

        Args:
            gradients: of the weights, in their order, of any float dtype.
            copies: of each weight what follows it in another dtype, or None.
            clip: factor on the gradients.
            rate: learning rate.
        """
        self.num_steps += 1
        for part in self.parts:
            torch._foreach_copy_(part.buffers, [each for each in part.of(gradients, 0) if each is not None])
            part.buffer.mul_(clip)
            torch._fused_adamw_(
                part.weights,
                part.buffers,
                part.firsts,
                part.seconds,
                [],
                [self.num_steps] * len(part.places),
                lr=rate,
                beta1=BETAS[0],
                beta2=BETAS[1],
                weight_decay=part.weight_decay,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )
            followers = zip(part.of(copies, 1), part.weights, strict=True)
            pairs = [(copy, weight) for copy, weight in followers if copy is not None]
            if pairs:
                torch._foreach_copy_([copy for copy, _ in pairs], [weight for _, weight in pairs])

    def state(self) -> dict[str, Tensor]:
        """Return the moments and the step count as named tensors."""
        moments = {"exp_avg": self.firsts, "exp_avg_sq": self.seconds}
        named = {f"{i}.{name}": each for name, tensors in moments.items() for i, each in enumerate(tensors)}
        return {**named, "step": self.num_steps}


class RowAdam:
    """Adam on those rows of a table that a step used; the moments of the others stay as they are.

    Args:
        table: [V, H], float32.

    Source:
        Kingma and Ba 2015 (1412.6980), algorithm 1. Equal to torch's SparseAdam, whose first use loads torch's
        compiler: a second of every start.
    """

    def __init__(self, table: Tensor) -> None:
        self.table = table.detach()
        self.first, self.second = torch.zeros_like(self.table), torch.zeros_like(self.table)
        self.num_steps = torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def step(self, ids: Tensor, gradients: Tensor, rate: float) -> None:
        """Update.

        Args:
            ids: [N], of the rows, each once.
            gradients: [N, H], of these rows.
            rate: learning rate.
        """
        self.num_steps += 1
        moments = []
        for stored, news, beta in zip((self.first, self.second), (gradients, gradients.square()), BETAS, strict=True):
            former = stored[ids]
            moments.append(former.add_(news.sub(former).mul_(1 - beta)))
            stored[ids] = former
        bias, bias_of_second = (1 - beta ** int(self.num_steps) for beta in BETAS)
        size = rate * math.sqrt(bias_of_second) / bias
        first, second = moments
        self.table.index_add_(0, ids, first.div_(second.sqrt_().add_(EPSILON)).mul_(-size))

    def state(self) -> dict[str, Tensor]:
        """Return the moments and the step count as named tensors."""
        return {"exp_avg": self.first, "exp_avg_sq": self.second, "step": self.num_steps}


def parts_of(weights: Sequence[Tensor], room: int) -> Iterator[list[tuple[int, slice]]]:
    """Yield groups of rows with at most `room` numbers each, or one longer row: indices of weights and their rows.

    >>> list(parts_of([torch.ones(3, 4), torch.ones(2), torch.ones(1)], 8))
    [[(0, slice(0, 2, None))], [(0, slice(2, 3, None)), (1, slice(0, 2, None)), (2, slice(0, 1, None))]]
    """
    part: list[tuple[int, slice]] = []
    left = room
    for i, weight in enumerate(weights):
        width, start = weight[0].numel(), 0
        while start < len(weight):
            stop = min(len(weight), start + max(left // width, 0 if part else 1))
            if stop > start:
                part.append((i, slice(start, stop)))
                left -= (stop - start) * width
                start = stop
            if start < len(weight):
                yield part
                part, left = [], room
    if part:
        yield part


def total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Return the norm of all numbers of some tensors.

    The norms of a bf16 matrix's rows are rounded to bf16, each by itself: a cast of all numbers takes as long as
    their norm.
    """
    by_row = [torch.linalg.vector_norm(tensor, dim=-1).flatten() for tensor in tensors if tensor.ndim > 1]
    vectors = [tensor.flatten() for tensor in tensors if tensor.ndim <= 1]
    return torch.linalg.vector_norm(torch.cat([each.float() for each in (*by_row, *vectors)]))


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
