"""Logits come back in the rows' order, whatever the batches; scores are the metrics of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cutbert.errors import DataError, ModelError
from cutbert.shape.head import HeadSpec
from cutbert.train.evaluate import least_teacher_kl, predict_logits, score, teacher_kl
from cutbert.train.working_copy import frozen_copy
from tiny_runs import HEAD, tiny_grid, tiny_model, tiny_tokens


def one_by_one(model: torch.nn.Module, tokens, subnet=None) -> list[np.ndarray]:
    """The plain twin: each row alone, without batches or padding."""
    found = []
    for start, stop in zip(tokens.offsets, tokens.offsets[1:], strict=False):
        ids = torch.from_numpy(np.array(tokens.ids[start:stop], dtype=np.int64))[None]
        with torch.no_grad():
            found.append(model(ids, subnet=subnet).logits[0].numpy())
    return found


@pytest.mark.parametrize("max_tokens", [1, 37, 4096])
def test_logits_equal_rows_run_alone(max_tokens: int) -> None:
    model, tokens, seen = tiny_model(), tiny_tokens(), []
    subnet = tiny_grid()[-1].subnet
    for part in (None, subnet):
        logits = predict_logits(model, tokens, subnet=part, max_tokens=max_tokens, on_batch=seen.append)
        assert logits.dtype == np.float32 and logits.shape == (len(tokens), 2)
        np.testing.assert_allclose(logits, np.stack(one_by_one(model, tokens, part)), atol=1e-5)
    assert sum(seen) == 2 * len(tokens)


def test_token_logits_are_padded_with_zeros() -> None:
    model, tokens = tiny_model(HeadSpec("token", ("A", "B", "C"))), tiny_tokens()
    logits = predict_logits(model, tokens, max_tokens=50)
    assert logits.shape == (len(tokens), int(max(tokens.lengths)), 3)
    for row, length, alone in zip(logits, tokens.lengths, one_by_one(model, tokens), strict=True):
        np.testing.assert_allclose(row[:length], alone, atol=1e-5)
        assert not row[length:].any()


def test_training_mode_and_dropout_are_left_alone() -> None:
    model, tokens = tiny_model(), tiny_tokens()
    model.train()
    first, second = predict_logits(model, tokens), predict_logits(model, tokens)
    assert model.training
    np.testing.assert_array_equal(first, second)


def test_float32_inside_autocast() -> None:
    model, tokens = tiny_model(), tiny_tokens()
    plain = predict_logits(model, tokens)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(predict_logits(model, tokens), plain)


@pytest.mark.parametrize(("dtype", "uses_onednn"), [(torch.float32, False), (torch.bfloat16, True)])
def test_float32_layers_run_without_onednn(dtype: torch.dtype, uses_onednn: bool) -> None:
    model, seen = frozen_copy(tiny_model(), dtype), []
    model.encoder.layers[0].register_forward_hook(lambda *_: seen.append(torch.backends.mkldnn.enabled))
    predict_logits(model, tiny_tokens(4))
    assert set(seen) == {uses_onednn} and torch.backends.mkldnn.enabled


def test_a_model_without_logits_is_refused() -> None:
    with pytest.raises(ModelError, match="a model with a head that gives logits is needed, got head kind 'pooler'"):
        predict_logits(tiny_model(HeadSpec("pooler")), tiny_tokens())


def test_score_is_the_primary_metric() -> None:
    logits = np.array([[0.0, 1.0], [2.0, 1.0], [0.0, 3.0], [1.0, 0.0]], dtype=np.float32)
    tokens = replace(tiny_tokens(4), labels=np.array([1, 0, 0, 0]))
    found = score(HEAD, "accuracy", logits, tokens)
    assert found.score == found.metrics["accuracy"] == 0.75
    assert found.outputs == {"classes": ["neg", "pos"], "labels": [1, 0, 0, 0], "logits": logits.tolist()}
    with pytest.raises(DataError, match="rows must have labels to be scored against, got none"):
        score(HEAD, "accuracy", logits, replace(tokens, labels=None))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def kl(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """The plain twin: sum p log(p / q) of probabilities over the last axis."""
    return (teacher * np.log(teacher / student)).sum(-1)


DRAWN = np.random.default_rng(0).normal(size=(2, 7, 3)).astype(np.float32)


def test_kl_of_each_kind_of_head() -> None:
    student, teacher = DRAWN
    classes = HeadSpec("single_label", ("a", "b", "c"))
    assert teacher_kl(classes, student, teacher) == pytest.approx(kl(softmax(student), softmax(teacher)).mean())
    assert teacher_kl(classes, teacher, teacher) == 0
    both = [np.stack([1 / (1 + np.exp(-x)), 1 / (1 + np.exp(x))], -1) for x in (student, teacher)]
    many = HeadSpec("multi_label", ("a", "b", "c"))
    assert teacher_kl(many, student, teacher) == pytest.approx(kl(*both).mean(), rel=1e-5)
    number = HeadSpec("regression", ("score",))
    wanted = np.square(student[:, :1] - teacher[:, :1]).mean()
    assert teacher_kl(number, student[:, :1], teacher[:, :1]) == pytest.approx(wanted, rel=1e-5)


def test_what_a_factor_of_the_logits_explains_is_left_out() -> None:
    student, teacher = DRAWN
    classes, number = HeadSpec("single_label", ("a", "b", "c")), HeadSpec("regression", ("score",))
    assert least_teacher_kl(classes, 2 * teacher, teacher) == pytest.approx(0, abs=1e-6)
    dense = min(teacher_kl(classes, np.float32(factor) * student, teacher) for factor in np.geomspace(0.25, 4, 400))
    assert dense <= least_teacher_kl(classes, student, teacher) <= 1.02 * dense < teacher_kl(classes, student, teacher)
    one = (number, student[:, :1], teacher[:, :1])
    assert least_teacher_kl(*one) == teacher_kl(*one)


def test_kl_per_token_and_per_span_leaves_padding_out() -> None:
    """Rows of 4, 2 and 5 positions, against each row alone without padding."""
    lengths, draw = (4, 2, 5), np.random.default_rng(1)
    for head, C in ((HeadSpec("token", ("a", "b", "c")), 3), (HeadSpec("span"), 2)):
        student, teacher = np.zeros((2, 3, 6, C), dtype=np.float32)
        rows = []
        for row, length in enumerate(lengths):
            ours, theirs = draw.normal(size=(2, length, C)).astype(np.float32)
            student[row, :length], teacher[row, :length] = ours, theirs
            if head.kind == "token":
                rows.append(kl(softmax(ours), softmax(theirs)))
            else:
                rows.append(np.mean([kl(softmax(ours[:, i]), softmax(theirs[:, i])) for i in range(2)], keepdims=True))
        assert teacher_kl(head, student, teacher) == pytest.approx(np.concatenate(rows).mean(), rel=1e-5)
        assert teacher_kl(head, teacher, teacher) == 0


def test_kl_of_other_rows_is_refused() -> None:
    for rows in (DRAWN[0][:3], DRAWN[0][:0]):
        with pytest.raises(DataError, match=r"must have one shape, for at least one row, got \(\d, 3\) and \(\d, 3\)"):
            teacher_kl(HEAD, rows, DRAWN[0] if len(rows) else rows)
