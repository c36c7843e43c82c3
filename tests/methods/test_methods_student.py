"""A small network's distillation step beside plain formulas, with a teacher of other sizes; what it says it cannot."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_task import tiny_task
from torch import Tensor
from torch.nn import functional as F

import cutbert
from cutbert.data.batches import Batch, collate, collate_blocks
from cutbert.errors import ShapeError
from cutbert.model.task_model import TaskModel, TaskOutput
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.surgery.extract import with_layers
from cutbert.train.loop import StepInfo
from cutbert.train.working_copy import WorkingCopy
from cutbert.work.distill import DistillStep, LossWeights
from cutbert.work.losses import TaskLosses, Teacher
from cutbert.work.plans import DISTILLATION
from cutbert.work.student import (
    SIMILAR_EMBEDDER,
    SMALL,
    WIDE_RATE,
    StudentRecipe,
    chosen_layers,
    recipe_for,
    student_step,
)
from tiny_models import random_model
from tiny_runs import HEAD, SHAPE, save_tiny, tiny_model, tiny_tokens

ROWS = np.arange(6)
WIDE = EncoderShape.uniform(  # with SHAPE's tokens, and nothing else of its
    hidden_size=40, num_layers=5, num_heads=5, intermediate_size=16, vocab_size=20, num_positions=128
)


def batch_of(in_blocks: bool, is_labelled: bool = True) -> Batch:
    tokens = tiny_tokens() if is_labelled else replace(tiny_tokens(), labels=None)
    make = collate_blocks if in_blocks else collate
    return make(tokens, ROWS, pad_token_id=0, use_token_types=False)


def losses_of(step: DistillStep, net: TaskModel, batch: Batch) -> dict[str, float]:
    """Run a step, which leaves its gradients in the network."""
    num_tokens = int(tiny_tokens().lengths[:6].sum())
    info = StepInfo(ROWS, 6, num_tokens, 6, 0.0, np.random.default_rng(0), 0, ROWS)
    work = WorkingCopy(net, torch.float32, dropout=0.0)
    work.refresh()
    losses = step(work, batch, info)
    work.collect()
    return {name: float(value) for name, value in losses.items()}


def recipe(**weights: float) -> StudentRecipe:
    return replace(SMALL, state_map="uniform", weights=LossWeights(**{"logits": 1.0, **weights}))


def step_of(teacher: TaskModel, student: TaskModel, how: StudentRecipe, **options: Any) -> DistillStep:
    return student_step(partial(TaskLosses, HEAD), Teacher(teacher), student.shape, how, **options)


def outputs_of(net: TaskModel) -> tuple[TaskOutput, Tensor]:
    batch = batch_of(in_blocks=False)
    return net(batch.input_ids, batch.attention_mask), batch.attention_mask.bool()


def plain_relations(net: TaskModel, states: Tensor, real: Tensor, layer: int, heads: int) -> list[list[Tensor]]:
    """Return for queries, keys and values every head's relations of every text, by the formula."""
    attention = net.encoder.layers[layer].attention
    found = []
    for project in (attention.query, attention.key, attention.value):
        texts = [project(states[b][real[b]]).chunk(heads, dim=-1) for b in range(len(states))]
        found.append([(a @ a.T / a.shape[-1] ** 0.5).softmax(-1) for text in texts for a in text])
    return found


def assert_same_gradients(net: TaskModel, twin: TaskModel) -> None:
    pairs = zip(net.encoder.layers.named_parameters(), twin.encoder.layers.parameters(), strict=True)
    for (name, weight), wanted in pairs:
        expected = torch.zeros_like(wanted) if wanted.grad is None else wanted.grad
        torch.testing.assert_close(weight.grad, expected, atol=2e-5, rtol=1e-3, msg=name)


def with_clear_relations(net: TaskModel) -> TaskModel:
    """Make every projection large: in the tiny models each token would relate to all alike."""
    with torch.no_grad():
        for layer in net.encoder.layers:
            for project in (layer.attention.query, layer.attention.key, layer.attention.value):
                project.weight *= 3.0
    return net


@pytest.mark.parametrize("in_blocks", [False, True])
def test_fewer_layers_learn_states_by_the_map(in_blocks: bool) -> None:
    teacher, student = tiny_model(seed=1), with_layers(tiny_model(seed=2), (0, 2))
    twin = with_layers(tiny_model(seed=2), (0, 2))
    losses = losses_of(step_of(teacher, student, recipe(hidden=2.0)), student, batch_of(in_blocks))
    (ours, real), (theirs, _) = outputs_of(twin), outputs_of(teacher)
    pairs = [(0, 0), (1, 2), (2, 3)]
    errors = [F.mse_loss(ours.hidden_states[i][real], theirs.hidden_states[j][real].detach()) for i, j in pairs]
    kl = F.kl_div(ours.logits.log_softmax(-1), theirs.logits.detach().softmax(-1), reduction="batchmean")
    (2.0 * torch.stack(errors).mean() + kl).backward()
    assert losses == pytest.approx({"logits": float(kl), "hidden": 2 * torch.stack(errors).mean().item()}, rel=1e-4)
    for (name, weight), wanted in zip(
        student.encoder.layers.named_parameters(), twin.encoder.layers.parameters(), strict=True
    ):
        torch.testing.assert_close(weight.grad, wanted.grad, atol=2e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("in_blocks", [False, True])
@pytest.mark.parametrize("layer", [None, 2])
def test_a_network_of_other_sizes_learns_relations(in_blocks: bool, layer: int | None) -> None:
    teacher = with_clear_relations(random_model(HEAD, WIDE, seed=1))
    student, twin = with_clear_relations(tiny_model(seed=2)), with_clear_relations(tiny_model(seed=2))
    how = replace(recipe(relations=3.0), relation_layer=layer)
    losses = losses_of(step_of(teacher, student, how), student, batch_of(in_blocks))
    (ours, real), (theirs, _) = outputs_of(twin), outputs_of(teacher)
    layer = 4 if layer is None else layer
    q = plain_relations(twin, ours.hidden_states[-2], real, 2, 8)  # 8 divides both 24 and 40
    p = plain_relations(teacher, theirs.hidden_states[layer].detach(), real, layer, 8)
    kls = [
        (one * (one / other).log()).sum()
        for each, own in zip(p, q, strict=True)
        for one, other in zip(each, own, strict=True)
    ]
    wanted = 3.0 * torch.stack(kls).sum() / 8 / real.sum()
    kl = F.kl_div(ours.logits.log_softmax(-1), theirs.logits.detach().softmax(-1), reduction="batchmean")
    (wanted + kl).backward()
    assert losses == pytest.approx({"logits": float(kl), "relations": float(wanted)}, rel=1e-3)
    for (name, weight), expected in zip(
        student.encoder.layers.named_parameters(), twin.encoder.layers.parameters(), strict=True
    ):
        if expected.grad is not None:
            torch.testing.assert_close(weight.grad, expected.grad, atol=2e-5, rtol=1e-3, msg=name)


def test_a_copy_loses_nothing_and_needs_no_labels() -> None:
    teacher, student = tiny_model(seed=1), tiny_model(seed=1)
    step = step_of(teacher, student, recipe(hidden=30.0, relations=1.0))
    losses = losses_of(step, student, batch_of(in_blocks=True, is_labelled=False))
    assert losses == pytest.approx({"logits": 0.0, "hidden": 0.0, "relations": 0.0}, abs=1e-6)


def test_relations_of_a_last_layer_without_attention_are_those_before() -> None:
    shape = replace(SHAPE, layers=(*SHAPE.layers[:2], LayerShape(0, 0, 0, 8)))
    student = random_model(HEAD, shape)
    losses = losses_of(step_of(tiny_model(), student, recipe(relations=1.0)), student, batch_of(in_blocks=False))
    attention = student.encoder.layers[1].attention
    assert losses["relations"] > 0 and attention is not None and attention.value.weight.grad.abs().max() > 0


def test_what_cannot_be_compared_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    student, wide = tiny_model(), random_model(HEAD, WIDE)
    step = step_of(wide, student, recipe(hidden=30.0, relations=1.0))
    assert set(losses_of(step, student, batch_of(in_blocks=False))) == {"logits", "relations"}
    other = Teacher(tiny_model(), tiny_tokens(), has_states=False)
    how = recipe(hidden=30.0, relations=1.0)
    step = student_step(partial(TaskLosses, HEAD), other, student.shape, how)
    assert set(losses_of(step, student, batch_of(in_blocks=False))) == {"logits"}
    said = " ".join(capsys.readouterr().err.split())
    assert "only its logits and relations are distilled" in said and "only its logits are distilled" in said
    assert "the teacher has a tokenizer of its own: relations between tokens are not learned" in said


def test_a_cut_learns_its_own_layers_and_another_network_all_of_them() -> None:
    teacher, two = Teacher(tiny_model()), replace(SHAPE, layers=SHAPE.layers[:2])
    steps = [student_step(partial(TaskLosses, HEAD), teacher, two, kept=kept) for kept in ((0, 1), (0, 2), None)]
    pairs = [step.state_pairs for step in steps]
    assert pairs == [[(0, 0), (1, 1), (2, 2)], [(0, 0), (1, 1), (2, 3)], [(0, 0), (1, 2), (2, 3)]]


def test_chosen_layers_are_there() -> None:
    with pytest.raises(ShapeError, match=r"the number of layers to keep must lie in 1\.\.6, got 7"):
        chosen_layers(7, 6, "first")


@pytest.mark.parametrize("verb", ["dynabert", "undivided"])
def test_a_teacher_of_other_depth_gives_its_states(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_tiny(tmp_path / "model")
    deep = with_layers(tiny_model(seed=4), (0, 1))
    teacher = save_tiny(tmp_path / "teacher", deep)
    options = {"width_mult": [1.0], "depths": [3]} if verb == "dynabert" else {"num_ffn": 2, "hidden_weight": 1.0}
    run = getattr(cutbert, verb)(
        str(model), out=str(tmp_path / "run"), teacher=str(teacher), **options, **tiny_task(tmp_path)
    )
    said = " ".join(capsys.readouterr().err.split())
    assert "the teacher has 2 layers, the model 3: their hidden states are compared at even distances" in said
    assert "(0 with 0, 1 with 1, 2 with 1, 3 with 2; 0 is the embeddings')" in said
    assert '"hidden": ' in (run.path / "log.jsonl").read_text()


def test_wide_models_learn_at_a_lower_rate() -> None:
    vectors = HeadSpec("embedding")
    assert recipe_for(HEAD, 384).plan == SMALL.plan and SMALL.plan.learning_rate == DISTILLATION.learning_rate
    for is_cut in (True, False):
        recipe = recipe_for(HEAD, 768, is_cut=is_cut)
        assert recipe.plan == replace(SMALL.plan, learning_rate=WIDE_RATE) and DISTILLATION.learning_rate > WIDE_RATE
    assert recipe_for(vectors, 768, is_cut=False, has_width=False) == SIMILAR_EMBEDDER  # lower as it is
