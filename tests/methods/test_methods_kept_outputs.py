"""A teacher's kept outputs: those it computes, whatever was asked before, in files that leave nothing behind."""

from __future__ import annotations

import errno
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cutbert.data.batches import Batch, plan_batches
from cutbert.data.tokens import Tokens
from cutbert.model.task_model import TaskOutput
from cutbert.shape.head import HeadSpec
from cutbert.train.collating import block_batch
from cutbert.train.settings import TrainSettings
from cutbert.work.kept_outputs import real_positions
from cutbert.work.losses import Teacher
from cutbert.work.plans import DISTILLATION
from tiny_runs import tiny_model, tiny_tokens

BATCH_SIZE, SEED = 8, 3


@pytest.fixture
def tokens() -> Tokens:
    return tiny_tokens(40)


def asked(teacher: Teacher, tokens: Tokens, epoch: int) -> list[tuple[Batch, TaskOutput]]:
    """Return the outputs for all batches of a pass."""
    batches = plan_batches(tokens.lengths, BATCH_SIZE, SEED, epoch)
    found = []
    for rows in batches:
        batch = block_batch(teacher.model, tokens, rows)
        found.append((batch, teacher.outputs(batch, rows)))
    return found


def assert_equal(first: list[tuple[Batch, TaskOutput]], second: list[tuple[Batch, TaskOutput]]) -> None:
    for (batch, ours), (_, theirs) in zip(first, second, strict=True):
        assert ours.logits is not None and theirs.logits is not None
        torch.testing.assert_close(ours.logits, theirs.logits, rtol=0, atol=1e-6)
        places = real_positions(batch)
        for mine, its in zip(ours.hidden_states, theirs.hidden_states, strict=True):
            torch.testing.assert_close(mine[places], its[places], rtol=0, atol=1e-6)


def count_calls(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    head = teacher.model.apply_head

    def counted(*args: object) -> TaskOutput:
        calls.append(1)
        return head(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(teacher.model, "apply_head", counted)
    return calls


def test_kept_outputs_are_those_computed(tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Teacher(tiny_model())
    kept = plain.keeping(tokens, BATCH_SIZE, SEED, tmp_path)
    for epoch in (0, 0, 1, 2):
        assert_equal(asked(kept, tokens, epoch), asked(plain, tokens, epoch))
    calls = count_calls(kept, monkeypatch)
    asked(kept, tokens, 3)
    assert not calls


def test_they_do_not_hang_on_what_was_asked_before(tokens: Tokens, tmp_path: Path) -> None:
    plain = Teacher(tiny_model())
    one, two = (plain.keeping(tokens, BATCH_SIZE, SEED, tmp_path) for _ in range(2))
    asked(one, tokens, 0)
    for (_, ours), (_, theirs) in zip(asked(one, tokens, 1), asked(two, tokens, 1), strict=True):
        assert ours.logits is not None and theirs.logits is not None and torch.equal(ours.logits, theirs.logits)
        assert all(map(torch.equal, ours.hidden_states, theirs.hidden_states))


def test_outputs_kept_ahead_are_those_that_would_be_asked_for(tokens: Tokens, tmp_path: Path) -> None:
    plain = Teacher(tiny_model())
    kept = plain.keeping(tokens, BATCH_SIZE, SEED, tmp_path)
    assert kept.kept is not None
    left = kept.kept.batches_left
    assert left == len(kept.kept.batches) - 1  # one is computed to see what is kept
    taken = kept.kept.keep_ahead(2)
    assert len(taken) == 2 and min(taken) > 0 and kept.kept.batches_left == left - 2
    assert_equal(asked(kept, tokens, 0), asked(plain, tokens, 0))
    assert kept.kept.batches_left == 0 and kept.kept.keep_ahead(2) == []


def test_what_has_no_room_is_computed(tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Teacher(tiny_model())
    per_token = sum(each.shape[-1] * 4 for each in asked(plain, tokens, 0)[0][1].hidden_states)
    monkeypatch.setattr("cutbert.work.kept_outputs.MOST_BYTES", per_token * int(tokens.lengths.sum()) // 2)
    kept = plain.keeping(tokens, BATCH_SIZE, SEED, tmp_path)
    for epoch in (0, 1):
        assert_equal(asked(kept, tokens, epoch), asked(plain, tokens, epoch))
    calls = count_calls(kept, monkeypatch)
    asked(kept, tokens, 0)
    assert 0 < len(calls) < len(plan_batches(tokens.lengths, BATCH_SIZE, SEED, 0))


def test_a_training_keeps_outputs_where_its_passes_repeat_rows(
    tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, train = replace(DISTILLATION, epochs=2, min_steps=0, batch_size=BATCH_SIZE), TrainSettings(seed=SEED)
    plain = Teacher(tiny_model())

    def is_kept(teacher: Teacher = plain, train: TrainSettings = train, **changes: Any) -> bool:
        return teacher.for_training(tokens, replace(plan, **changes), train, tmp_path).kept is not None

    kept = plain.for_training(tokens, plan, train, tmp_path)
    for epoch in (0, 1):
        assert_equal(asked(kept, tokens, epoch), asked(plain, tokens, epoch))
    calls = count_calls(kept, monkeypatch)
    asked(kept, tokens, 1)
    assert not calls
    assert not is_kept(epochs=1)
    assert not is_kept(pad_to=16)
    assert not is_kept(train=replace(train, accumulation=2))
    assert not is_kept(Teacher(tiny_model(HeadSpec("token", ("a", "b")))))
    monkeypatch.setattr("cutbert.work.kept_outputs.MOST_BYTES", 1)
    assert not is_kept()
    monkeypatch.undo()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not is_kept()


def test_a_full_disk_is_told_and_all_is_computed(
    tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*args: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    plain = Teacher(tiny_model())
    kept = plain.keeping(tokens, BATCH_SIZE, SEED, tmp_path)
    assert_equal(asked(kept, tokens, 1), asked(plain, tokens, 1))
    assert "computed again in each pass, since they cannot be kept: No space left" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_teacher_with_tokens_of_its_own_keeps_logits_alone(tokens: Tokens, tmp_path: Path) -> None:
    reversed_tokens = tokens.take(np.arange(len(tokens)))
    plain = Teacher(tiny_model(), tokens=reversed_tokens, has_states=False)
    kept = plain.keeping(tokens, BATCH_SIZE, SEED, tmp_path)
    for (_, ours), (_, theirs) in zip(asked(kept, tokens, 1), asked(plain, tokens, 1), strict=True):
        assert ours.logits is not None and theirs.logits is not None
        torch.testing.assert_close(ours.logits, theirs.logits, rtol=0, atol=1e-6)
        assert not ours.hidden_states


def test_nothing_is_left_and_another_process_begins_anew(tokens: Tokens, tmp_path: Path) -> None:
    kept = Teacher(tiny_model()).keeping(tokens, BATCH_SIZE, SEED, tmp_path)
    first = asked(kept, tokens, 0)
    assert not list(tmp_path.iterdir())
    assert_equal(asked(pickle.loads(pickle.dumps(kept)), tokens, 0), first)
