"""The unit of a regression's labels changes nothing but the unit of the outputs."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cutbert.data.batches import Batch, collate
from cutbert.data.rows import Rows
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.train.loop import StepInfo
from cutbert.train.working_copy import WorkingCopy
from cutbert.work.distill import DistillStep, LabelStep, LossWeights
from cutbert.work.label_spread import LabelSpread
from cutbert.work.losses import TaskLosses, Teacher
from tiny_runs import HEAD, tiny_model, tiny_tokens

SCORE = HeadSpec("regression", ("score",))
ROWS = np.arange(8)
NUMBERS = np.linspace(-1.5, 2.0, len(ROWS)).astype(np.float32)


def spread_of(numbers: np.ndarray, head: HeadSpec = SCORE) -> LabelSpread:
    data: Any = SimpleNamespace(head=head, train=Rows(["a"] * len(numbers), labels=numbers))
    return LabelSpread.of(data)


def gradients(net: TaskModel, teacher: TaskModel | None, numbers: np.ndarray) -> tuple[dict[str, Tensor], float]:
    """Return the gradients of one step on labels, or on a teacher's outputs, and its loss."""
    twin, tokens = copy.deepcopy(net), replace(tiny_tokens(len(ROWS)), labels=numbers)
    batch = collate(tokens, ROWS, pad_token_id=0, use_token_types=False)

    def losses_of(batch: Batch, info: StepInfo) -> TaskLosses:
        return TaskLosses(SCORE, batch, info, label_variance=spread_of(numbers).variance)

    step = LabelStep(losses_of) if teacher is None else DistillStep(losses_of, Teacher(teacher), LossWeights())
    view = WorkingCopy(twin, torch.float32, dropout=0.0)
    view.refresh()
    num_tokens = int(tokens.lengths.sum())
    info = StepInfo(ROWS, len(ROWS), num_tokens, len(ROWS), 0.0, np.random.default_rng(0), 0, ROWS)
    losses = step(view, batch, info)
    view.collect()
    return {name: each.grad for name, each in twin.named_parameters() if each.grad is not None}, float(
        sum(losses.values())
    )


@pytest.mark.parametrize("has_teacher", [False, True])
@pytest.mark.parametrize(("factor", "offset"), [(20.0, 50.0), (0.01, -3.0)])
def test_a_step_is_the_same_in_every_unit(has_teacher: bool, factor: float, offset: float) -> None:
    plain, scaled = tiny_model(SCORE), tiny_model(SCORE)
    teacher, other = tiny_model(SCORE, seed=1), tiny_model(SCORE, seed=1)
    numbers = (factor * NUMBERS + offset).astype(np.float32)
    for network, values in ((plain, NUMBERS), (scaled, numbers), (teacher, NUMBERS), (other, numbers)):
        network.head.out.bias.data.zero_()
        spread_of(values).begin(network)
    ours, loss = gradients(scaled, other if has_teacher else None, numbers)
    theirs, wanted = gradients(plain, teacher if has_teacher else None, NUMBERS)
    assert loss == pytest.approx(wanted, rel=1e-3) and ours.keys() == theirs.keys()
    largest = max(float(each.abs().max()) for name, each in theirs.items() if not name.startswith("head.out."))
    for name, gradient in theirs.items():
        is_output = name.startswith("head.out.")
        again = factor * ours[name] if is_output else ours[name]
        torch.testing.assert_close(again, gradient, rtol=2e-3, atol=1e-3 * largest, msg=name)


def test_only_numbers_have_a_spread() -> None:
    spread = spread_of(np.array([10.0, 30.0], dtype=np.float32))
    assert (spread.mean, spread.deviation, spread.variance) == (20.0, 10.0, 100.0)
    assert spread_of(np.array([7.0, 7.0], dtype=np.float32)) == LabelSpread(7.0, 1.0)
    for others in (np.array([True, False]), np.array([0, 3])):
        assert spread_of(others, SCORE if others.dtype == np.bool_ else HEAD) == LabelSpread()


def test_it_is_said_where_bf16_is_too_coarse() -> None:
    years = spread_of(np.arange(1990, 2021).astype(np.float32))
    (note,) = years.notes(torch.bfloat16)
    assert note.startswith(
        "labels are 2005 on average with a deviation of only 8.94: bf16 rounds such numbers too much"
    )
    assert not years.notes(torch.float32) and not spread_of(NUMBERS).notes(torch.bfloat16)
