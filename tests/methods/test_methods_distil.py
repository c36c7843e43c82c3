"""One distillation step beside a plain twin: every subnet run by itself through autograd, gradients summed."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cutbert.data.batches import Batch, collate, collate_blocks
from cutbert.methods.dynabert_recipes import RECIPES, DistillStage, DynabertRecipe
from cutbert.methods.dynabert_steps import FamilyStep, FinalStep, choose_points
from cutbert.model.losses import task_loss
from cutbert.model.task_model import TaskModel, TaskOutput
from cutbert.shape.head import HeadSpec
from cutbert.shape.space import GridPoint, grid, grid_point, kept_layers
from cutbert.shape.subnet import Subnet
from cutbert.train.loop import StepInfo
from cutbert.train.working_copy import WorkingCopy
from cutbert.work.losses import TaskLosses, Teacher
from tiny_runs import HEAD, SHAPE, tiny_model, tiny_tokens

ROWS = np.arange(6)
SCORE = HeadSpec("regression", ("score",))


def padded_batch(pad_to: int | None = None, rows: np.ndarray = ROWS) -> Batch:
    return collate(tiny_tokens(), rows, pad_token_id=0, use_token_types=False, pad_to=pad_to)


def batch_in_blocks() -> Batch:
    batch = collate_blocks(tiny_tokens(), ROWS, pad_token_id=0, use_token_types=False)
    assert batch.blocks is not None and len(batch.blocks) > 2
    return batch


def step_info(num_examples: int = 6, rows: np.ndarray = ROWS) -> StepInfo:
    num_tokens = int(tiny_tokens().lengths[:num_examples].sum())
    every = np.arange(num_examples)
    return StepInfo(rows, num_examples, num_tokens, num_examples, 0.0, np.random.default_rng(0), 0, every)


def points_of(recipe: DynabertRecipe, stage: DistillStage) -> list[GridPoint]:
    points = grid(
        SHAPE, width_mults=(1.0, 0.5, 0.25), depth_mults=(1.0, 2 / 3, 1 / 3), rule=recipe.layer_rule, stock=False
    )
    return [point for point in points if stage.all_depths or point.depth_mult == 1.0]


class CountingTeacher(Teacher):
    """A teacher that remembers what it was asked."""

    def outputs(self, batch: Batch, rows: np.ndarray, subnet: Subnet | None = None) -> TaskOutput:
        self.__dict__.setdefault("asked", []).append(subnet)
        return super().outputs(batch, rows, subnet)


def distil_step(
    net: TaskModel, teacher: Teacher, points: Sequence[GridPoint], stage: DistillStage, recipe: DynabertRecipe
) -> FamilyStep:
    return FamilyStep(partial(TaskLosses, net.head_spec), net, teacher, points, stage, recipe)


def final_step(net: TaskModel, points: Sequence[GridPoint], recipe: DynabertRecipe) -> FinalStep:
    return FinalStep(partial(TaskLosses, net.head_spec), points, recipe.subnets_per_step)


def run_step(step: FamilyStep | FinalStep, net: TaskModel, batch: Batch) -> tuple[TaskModel, dict[str, Tensor]]:
    """Return a copy of the network with the step's gradients, and the losses it logs."""
    twin = copy.deepcopy(net)
    work = WorkingCopy(twin, torch.float32, dropout=0.0)
    work.refresh()
    losses = step(work, batch, step_info())
    work.collect()
    return twin, losses


def mean_error(student: Tensor, teacher: Tensor, batch: Batch, with_padding: bool) -> Tensor:
    if with_padding or batch.attention_mask is None:
        return F.mse_loss(student, teacher)
    real = batch.attention_mask.bool()
    return F.mse_loss(student[real], teacher[real])


def plain_loss(
    net: TaskModel, teacher: TaskModel, point: GridPoint, recipe: DynabertRecipe, stage: DistillStage, batch: Batch
) -> Tensor:
    """The papers' formula, written out: lambda 1 times the logits', lambda 2 times the states'."""
    student = net(batch.input_ids, batch.attention_mask, subnet=point.subnet)
    subnet = None
    if stage.teacher_width == "same":
        subnet = grid_point(SHAPE, point.head_mult, point.ffn_mult, 1.0, recipe.layer_rule).subnet
    with torch.no_grad():
        target = teacher(batch.input_ids, batch.attention_mask, subnet=subnet)
    loss = torch.zeros(())
    if net.head_spec.kind == "regression":
        if not recipe.skips_regression_logits:
            loss = stage.logit_weight * F.mse_loss(student.logits, target.logits)
    else:
        surprise = -(target.logits.softmax(-1) * student.logits.log_softmax(-1)).sum(-1)
        loss = stage.logit_weight * surprise.mean()
    kept = kept_layers(SHAPE.num_layers, point.depth_mult, recipe.layer_rule)
    pairs = [(0, 0)]
    if recipe.layer_rule == "paper":
        pairs += [(place + 1, layer + 1) for place, layer in enumerate(kept)]
    else:
        pairs += [(place, layer) for place, layer in enumerate(kept) if place] + [(len(kept), SHAPE.num_layers)]
    far = [
        mean_error(student.hidden_states[s], target.hidden_states[t], batch, recipe.counts_padding) for s, t in pairs
    ]
    total = torch.stack(far).sum()
    return loss + stage.hidden_weight * (total / len(far) if recipe.mean_over_layers else total)


def assert_same_gradients(net: TaskModel, twin: TaskModel) -> None:
    for (name, weight), other in zip(net.named_parameters(), twin.parameters(), strict=True):
        got, wanted = (torch.zeros_like(p) if p.grad is None else p.grad for p in (weight, other))
        torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


CASES = [(name, i) for name, recipe in RECIPES.items() for i in range(len(recipe.stages))]


@pytest.mark.parametrize("head", [HEAD, SCORE], ids=lambda head: head.kind)
@pytest.mark.parametrize("name, number", CASES)
def test_gradients_equal_subnets_run_one_by_one(name: str, number: int, head: HeadSpec) -> None:
    recipe = replace(RECIPES[name], subnets_per_step=0)
    stage = recipe.stages[number]
    net, teacher = tiny_model(head), tiny_model(head, seed=1)
    points, batch = points_of(recipe, stage), padded_batch(pad_to=12 if name == "release" else None)
    step = distil_step(net, Teacher(teacher), points, stage, recipe)
    got, losses = run_step(step, net, batch)
    wanted = torch.zeros(())
    for point in points:
        loss = plain_loss(net, teacher, point, recipe, stage, batch)
        loss.backward()
        wanted = wanted + loss.detach()
    assert_same_gradients(got, net)
    if head is SCORE:  # squared error is 0 between equals, cross-entropy is not
        torch.testing.assert_close(torch.stack(list(losses.values())).sum(), wanted, atol=1e-4, rtol=1e-4)


def test_same_width_and_full_width_teachers_differ() -> None:
    recipe, batch = replace(RECIPES["paper"], subnets_per_step=0), padded_batch()
    net, found = tiny_model(), {}
    for width in ("same", "full"):
        stage = replace(recipe.stages[1], teacher_width=width)
        teacher = CountingTeacher(tiny_model(seed=1))
        step = distil_step(net, teacher, points_of(recipe, stage), stage, recipe)
        found[width] = run_step(step, net, batch)[1]["hidden"]
        asked = teacher.__dict__["asked"]
        if width == "full":
            assert asked == [None]
        else:
            sizes = [(subnet.num_layers, subnet.layers[0].shape.num_heads) for subnet in asked]
            assert sorted(sizes) == [(3, 1), (3, 2), (3, 4)]
    assert found["same"] != found["full"]


@pytest.mark.parametrize("name, runs", [("release", 3), ("paper", 1), ("default", 1)])
def test_only_the_release_runs_its_full_width_teacher_for_each_width(name: str, runs: int) -> None:
    recipe = replace(RECIPES[name], subnets_per_step=0)
    stage = replace(recipe.stages[-1], teacher_width="full")
    teacher = CountingTeacher(tiny_model(seed=1))
    step = distil_step(tiny_model(), teacher, points_of(recipe, stage), stage, recipe)
    run_step(step, tiny_model(), padded_batch())
    assert teacher.__dict__["asked"] == [None] * runs


@pytest.mark.parametrize("name, trains", [("default", True), ("paper", True), ("release", False)])
def test_regression_trains_logits_but_not_in_the_release(name: str, trains: bool) -> None:
    recipe = replace(RECIPES[name], subnets_per_step=0)
    stage, net = recipe.stages[0], tiny_model(SCORE)
    step = distil_step(net, Teacher(tiny_model(SCORE, seed=1)), points_of(recipe, stage), stage, recipe)
    got, losses = run_step(step, net, padded_batch())
    assert ("logits" in losses) == trains and "hidden" in losses
    assert got.head is not None and bool(got.head.out.weight.grad.any()) == trains


def test_a_teacher_without_states_is_imitated_in_logits() -> None:
    recipe = replace(RECIPES["default"], subnets_per_step=0)
    stage, net = recipe.stages[0], tiny_model()
    teacher = Teacher(tiny_model(seed=1), tiny_tokens(seed=5), False)
    step = distil_step(net, teacher, points_of(recipe, stage), stage, recipe)
    got, losses = run_step(step, net, padded_batch())
    assert losses.keys() == {"logits"}
    own = collate(tiny_tokens(seed=5), ROWS, pad_token_id=0, use_token_types=False)
    with torch.no_grad():
        target = teacher.model(own.input_ids, own.attention_mask).logits
    batch = padded_batch()
    for point in step.points:
        logits = net(batch.input_ids, batch.attention_mask, subnet=point.subnet).logits
        (stage.logit_weight * F.kl_div(logits.log_softmax(-1), target.softmax(-1), reduction="batchmean")).backward()
    assert_same_gradients(got, net)


def test_the_last_training_is_on_labels() -> None:
    recipe = replace(RECIPES["paper"], subnets_per_step=0)
    points = points_of(recipe, recipe.stages[1])
    net, batch = tiny_model(), padded_batch()
    got, losses = run_step(final_step(net, points, recipe), net, batch)
    total = 0.0
    for point in points:
        loss = task_loss(HEAD, net(batch.input_ids, batch.attention_mask, subnet=point.subnet).logits, batch.labels)
        loss.backward()
        total += float(loss.detach())
    assert_same_gradients(got, net)
    assert float(losses["labels"]) == pytest.approx(total, rel=1e-4)


def test_micro_batches_add_up_to_the_whole() -> None:
    recipe = replace(RECIPES["default"], subnets_per_step=0)
    stage, net = recipe.stages[0], tiny_model()
    step = distil_step(net, Teacher(tiny_model(seed=1)), points_of(recipe, stage), stage, recipe)
    whole, losses = run_step(step, net, padded_batch())
    parts = WorkingCopy(net, torch.float32, dropout=0.0)
    parts.refresh()
    totals: Counter[str] = Counter()
    for rows in (ROWS[:1], ROWS[1:4], ROWS[4:]):
        for name, value in step(parts, padded_batch(rows=rows), step_info(rows=rows)).items():
            totals[name] += float(value)
    assert_same_gradients(net, whole)
    assert totals == pytest.approx({name: float(value) for name, value in losses.items()}, rel=1e-4)


def assert_blocks_change_nothing(step: FamilyStep | FinalStep, net: TaskModel) -> None:
    wanted, losses = run_step(step, net, padded_batch())
    got, found = run_step(step, net, batch_in_blocks())
    assert_same_gradients(got, wanted)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {name: float(value) for name, value in losses.items()}, rel=1e-4
    )


@pytest.mark.parametrize("own_tokens", [False, True])
def test_blocks_change_nothing(own_tokens: bool) -> None:
    recipe = replace(RECIPES["paper"], subnets_per_step=0)
    stage, net = recipe.stages[1], tiny_model()
    teacher = Teacher(tiny_model(seed=1), tiny_tokens(seed=5) if own_tokens else None, not own_tokens)
    assert_blocks_change_nothing(distil_step(net, teacher, points_of(recipe, stage), stage, recipe), net)
    assert_blocks_change_nothing(final_step(net, points_of(recipe, stage), recipe), net)


def choices(points: Sequence[GridPoint], count: int) -> list[list[str]]:
    return [[point.name for point in choose_points(points, count, np.random.default_rng(i))] for i in range(200)]


def test_chosen_subnets_follow_the_sandwich_rule() -> None:
    recipe = RECIPES["paper"]
    points = points_of(recipe, recipe.stages[1])
    names = [point.name for point in points]
    assert len(names) == 9
    for chosen in choices(points, 4):
        assert (chosen[0], chosen[-1], len(set(chosen))) == (names[0], names[-1], 4)
        assert chosen == sorted(chosen, key=names.index)
    middle = Counter(name for chosen in choices(points, 4) for name in chosen[1:-1])
    assert middle.keys() == set(names[1:-1]) and min(middle.values()) > 30
    assert all(chosen == [names[0], names[-1]] for chosen in choices(points, 2))
    assert {name for (name,) in choices(points, 1)} == set(names)
    assert all(chosen == names for count in (0, 9, 20) for chosen in choices(points, count)[:3])
