"""Masked-LM training: no split of a step changes it, a killed run resumes to the bit, tiny texts are learnt."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_training
import torch
from tiny_training import (
    NUM_STEPS,
    RARELY,
    SETTINGS,
    Killed,
    OnStep,
    assert_close,
    assert_equal,
    kill_at,
    train_stages,
    watched,
)
from torch.nn import functional as F

from cutbert.data.batches import collate, plan_eval_batches
from cutbert.data.masking import Masking, draw_masks, masking_of
from cutbert.data.tokens import Tokens
from cutbert.errors import InputError, ModelError
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.subnet import Subnet
from cutbert.train.checkpoint import Position
from cutbert.train.loop import Stage, StepInfo
from cutbert.train.masked_lm import EVAL_SEED, StepMasks, check_token_table, masked_outcomes
from cutbert.train.settings import StagePlan, TrainSettings
from cutbert.train.working_copy import WorkingCopy
from cutbert.work.distill import LabelStep
from cutbert.work.losses import TextLosses
from tiny_runs import SHAPE, SPECIAL, WORDS, tiny_model, tiny_tokenizer

S = 16
PLAN = replace(tiny_training.PLAN, token_table="dense")


def masked_model(seed: int = 0) -> TaskModel:
    return tiny_model(HeadSpec("masked_lm"), seed)


def masking(**more: object) -> Masking:
    return masking_of(tiny_tokenizer(), "tiny", vocab_size=SHAPE.vocab_size, **more)


def text_tokens(count: int = 37, seed: int = 0) -> Tokens:
    """Return full rows of random words."""
    ids = np.random.default_rng(seed).integers(len(SPECIAL), len(SPECIAL) + len(WORDS), (count, S)).astype(np.int32)
    ids[:, 0], ids[:, -1], ids[::5, 7] = 2, 3, 3
    return Tokens(ids.flatten(), np.arange(0, ids.size + 1, S))


def masked_step(tokens: Tokens, how: Masking) -> LabelStep:
    return LabelStep(TextLosses(StepMasks(tokens, how)))


def train(
    out: Path,
    plan: StagePlan = PLAN,
    *,
    settings: TrainSettings = SETTINGS,
    dtype: torch.dtype = torch.float32,
    on_step: OnStep = lambda stage, calls: None,
    tokens: Tokens | None = None,
    how: Masking | None = None,
    model: TaskModel | None = None,
) -> tuple[TaskModel, Position]:
    model = model or masked_model()
    rows = tokens or text_tokens()
    stage = watched(Stage(plan, rows, masked_step(rows, how or masking())), on_step)
    return model, train_stages(out, model, [stage], settings=settings, dtype=dtype)[0]


def one_step(model: TaskModel, dtype: torch.dtype, parts: int = 1) -> float:
    """Run one step's forwards and backwards; return its loss, gradients are on the model."""
    tokens, rows = text_tokens(), np.arange(8)
    step, work = masked_step(tokens, masking()), WorkingCopy(model, dtype, dropout=0.0)
    work.refresh()
    total = 0.0
    for i in range(parts):
        part = rows[i::parts]
        info = StepInfo(part, 8, 8 * S, 8, 0.0, np.random.default_rng(5), 0, rows)
        batch = collate(tokens, part, pad_token_id=0, use_token_types=False)
        total += float(step(work, batch, info)["masked_lm"])
    for weight, cast in work.collect():
        weight.grad = cast.grad.float()
    return total


def plain_step(model: TaskModel) -> float:
    """The same in plain torch: all logits, the mean over what is hidden."""
    masks = draw_masks(text_tokens(), np.arange(8), masking(), np.random.default_rng(5))
    labels = torch.from_numpy(np.where(masks.is_hidden, masks.ids, -100))
    logits = model(torch.from_numpy(masks.shown)).logits
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    loss.backward()
    return float(loss.detach())


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 0.08)], ids=["float32", "bf16"])
@pytest.mark.parametrize("parts", [1, 2, 8])
def test_gradients_reach_the_float32_network(dtype: torch.dtype, close: float, parts: int) -> None:
    model = masked_model()
    twin = copy.deepcopy(model)
    wanted = plain_step(twin)
    assert abs(one_step(model, dtype, parts) - wanted) < close * wanted
    assert all(weight.dtype == weight.grad.dtype == torch.float32 for weight in model.parameters())
    for (name, weight), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        if name in ("encoder.embeddings.token.weight", "head.bias", "head.dense.weight"):
            assert float((weight.grad - other.grad).norm() / other.grad.norm()) < close, name
    got, plain = (torch.cat([weight.grad.flatten() for weight in net.parameters()]) for net in (model, twin))
    assert float((got - plain).norm() / plain.norm()) < close


def test_the_output_table_is_cast_anew_each_step() -> None:
    model = masked_model()
    work = WorkingCopy(model, torch.bfloat16, dropout=0.0)
    work.refresh()
    table = model.encoder.embeddings.token.weight
    first = work.token_table()
    assert first is work.token_table() and first.dtype == torch.bfloat16 and not first.requires_grad
    with torch.no_grad():
        table.add_(1.0)
    assert torch.equal(work.token_table(), first)
    work.refresh()
    assert torch.equal(work.token_table(), table.bfloat16())
    assert WorkingCopy(model, torch.float32, dropout=0.0).token_table().data_ptr() == table.data_ptr()


@pytest.mark.parametrize("whole_word", [False, True])
def test_micro_batches_change_nothing(whole_word: bool, tmp_path: Path) -> None:
    plan, how = replace(PLAN, dropout=0.0, learning_rate=2e-4), masking(whole_word=whole_word)
    one, _ = train(tmp_path / "one", plan, how=how)
    two, _ = train(tmp_path / "two", plan, settings=replace(SETTINGS, accumulation=2), how=how)
    assert_close(two, one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bf16"])
@pytest.mark.parametrize("token_table", ["dense", "frozen"])
def test_killed_within_an_epoch_and_resumed_to_the_bit(dtype: torch.dtype, token_table: str, tmp_path: Path) -> None:
    plan = replace(PLAN, token_table=token_table)
    whole, position = train(tmp_path / "whole", plan, dtype=dtype)
    assert position.step == NUM_STEPS and position.tokens == 2 * 37 * S
    with pytest.raises(Killed):
        train(tmp_path / "run", plan, dtype=dtype, on_step=kill_at("first", 7))
    resumed, position = train(tmp_path / "run", plan, dtype=dtype)
    assert position.step == NUM_STEPS and position.tokens == 2 * 37 * S
    assert_equal(resumed, whole)
    same = torch.equal(whole.encoder.embeddings.token.weight, masked_model().encoder.embeddings.token.weight)
    assert same == (token_table == "frozen")


def test_a_finished_stage_still_knows_its_tokens_and_seconds(tmp_path: Path) -> None:
    _, position = train(tmp_path / "run")
    assert train(tmp_path / "run", on_step=kill_at("first", 0))[1] == position and position.seconds > 0


def test_masks_differ_from_epoch_to_epoch_and_are_a_steps_own() -> None:
    masks_of, rows = StepMasks(text_tokens(), masking()), np.arange(8)
    infos = [StepInfo(rows, 8, 8 * S, 8, 0.0, np.random.default_rng([3, step]), step, rows) for step in (0, 0, 5)]
    first, same, later = (masks_of(info) for info in infos)
    moved = masks_of(replace(infos[2], step_rows=rows + 1))
    assert moved.rows.tolist() == list(range(1, 9))  # another stage may be at the same step
    assert first is same and not np.array_equal(first.is_hidden, later.is_hidden)


def test_a_tiny_text_is_learnt(tmp_path: Path) -> None:
    ids = np.tile(np.array([2, *range(5, 12), 3], dtype=np.int32), 24)
    tokens = Tokens(ids, np.arange(0, len(ids) + 1, 9))
    torch.manual_seed(0)
    new = TaskModel(SHAPE, EncoderStyle(family="bert"), HeadSpec("masked_lm"))
    before = masked_outcomes(new, tokens, masking()).loss
    plan = replace(PLAN, epochs=60.0, dropout=0.0, weight_decay=0.0)
    model, _ = train(tmp_path / "run", plan, tokens=tokens, settings=RARELY, model=new)
    after = masked_outcomes(model, tokens, masking()).loss
    assert math.exp(after) < 1.5 < 5 < math.exp(before)


def test_evaluation_equals_a_plain_one() -> None:
    model, tokens, how = masked_model(), text_tokens(30), masking()
    total = count = 0.0
    for number, rows in enumerate(plan_eval_batches(tokens.lengths, 64)):
        masks = draw_masks(tokens, rows, how, np.random.default_rng([EVAL_SEED, number]))
        labels = torch.from_numpy(np.where(masks.is_hidden, masks.ids, -100)).flatten()
        with torch.no_grad():
            logits = model(torch.from_numpy(masks.shown)).logits.flatten(0, 1)
        total += float(F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum"))
        count += int((labels != -100).sum())
    model.train()
    seen: list[int] = []
    found = masked_outcomes(model, tokens, how, max_tokens=64, on_batch=seen.append).loss
    assert found == pytest.approx(total / count, rel=1e-5) and sum(seen) == 30 and model.training
    subnet = Subnet(Subnet.full(SHAPE).layers[:1], 12)
    assert masked_outcomes(model, tokens, how, max_tokens=64, subnet=subnet).loss != pytest.approx(found, rel=1e-3)


def test_what_cannot_be_trained_or_evaluated_is_refused() -> None:
    with pytest.raises(InputError, match=r"--token-table must be dense or frozen for masked LM, .* got rows"):
        check_token_table("rows")
    with pytest.raises(ModelError, match="a model with a masked-LM head is needed, got head kind 'single_label'"):
        masked_outcomes(tiny_model(), text_tokens(), masking())
