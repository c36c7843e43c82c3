"""Which feed-forwards go: an idle one first, measured again after each, in rounds at even distances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_task import time_by_macs, tiny_task, tiny_text

import cutbert
from cutbert.analysis.ffn_change import ffn_changes
from cutbert.errors import InputError
from cutbert.methods.undivided import RemovalSchedule, rounds_of
from cutbert.methods.undivided_choice import by_cka, by_importance, check_changes, without
from cutbert.methods.undivided_settings import UndividedSettings
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.pattern import feed_forward_layers, pattern_of
from cutbert.surgery.extract import extract
from cutbert.train.collating import sample_batches
from tiny_runs import HEAD, SHAPE, save_tiny, tiny_model, tiny_tokens


def idle_model(layer: int, head: HeadSpec = HEAD) -> TaskModel:
    """Return a tiny model in which one layer's feed-forward writes nothing and its norm does nothing more."""
    model = tiny_model(head)
    part, before = model.encoder.layers[layer].feed_forward, model.encoder.layers[layer].attention
    with torch.no_grad():
        part.down.weight.zero_(), part.down.bias.zero_()
        for norm in (part.norm, before.norm):
            norm.weight.fill_(1.0), norm.bias.zero_()
    return model


def batches(model: TaskModel) -> list[Any]:
    return sample_batches(model, tiny_tokens(), 40, 0, torch.device("cpu"))


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_an_idle_feed_forward_goes_first(layer: int) -> None:
    model = idle_model(layer)
    by_loss, by_states = by_importance(model, batches(model), 2), by_cka(model, batches(model), 2, 0)
    assert by_loss.order == by_states.order == (layer,)
    assert by_loss.scores[layer] == pytest.approx(0, abs=1e-9) and by_states.scores[layer] == pytest.approx(0, abs=1e-4)


def test_importance_keeps_the_most_important() -> None:
    model = tiny_model()
    found = by_importance(model, batches(model), 1)
    assert len(found.scores) == 3 and found.order == tuple(sorted(found.scores, key=found.scores.__getitem__)[:2])


def test_cka_is_measured_again_after_each_removal() -> None:
    """The plain twin cuts the network out at every turn."""
    model = tiny_model(seed=4)
    network, order = model, []
    while feed_forward_layers(network.shape):
        changes = ffn_changes(network, batches(model))
        order.append(min(changes, key=changes.__getitem__))
        network = extract(network, without(network.shape, order[-1:]))
    found = by_cka(model, batches(model), 0, 0)
    assert found.order == tuple(order) and found.scores.keys() == {0, 1, 2}


def test_states_that_are_all_the_same_have_no_cka() -> None:
    with pytest.raises(
        InputError, match="--choose cka must have states that differ from token to token, got none in 2"
    ):
        check_changes({0: 0.1, 2: float("nan")})


@pytest.mark.parametrize("choose", ["importance", "cka"])
@pytest.mark.parametrize("objective", ["task", "mlm"])
def test_a_run_chooses_on_training_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choose: str, objective: str
) -> None:
    time_by_macs(monkeypatch)
    head = HEAD if objective == "task" else HeadSpec("masked_lm")
    source = save_tiny(tmp_path / "source", idle_model(1, head))
    data = tiny_task(tmp_path) if objective == "task" else tiny_text(tmp_path)
    options = {**data, "objective": objective, "num_ffn": 2, "choose": choose, "choose_samples": 40}
    run = cutbert.undivided(source, out=tmp_path / "run", **options)
    assert run["removed"] == [1] and run["pattern"] == "AFAAF" and "1" in run["choice_scores"]


def rounds(order: tuple[int, ...], **options: Any) -> list[tuple[int, ...]]:
    return rounds_of(order, UndividedSettings(num_ffn=0, **options))


def test_rounds() -> None:
    order = (4, 0, 2, 1, 3)
    assert rounds(order) == [order]
    assert rounds(order, removal="gradual") == [(4,), (0,), (2,), (1,), (3,)]
    assert rounds(order, removal="gradual", removal_rounds=2) == [(4, 0, 2), (1, 3)]
    assert rounds(order, removal="gradual", removal_rounds=9) == rounds(order, removal="gradual")
    assert rounds((), removal="gradual") == rounds(()) == []


def test_a_course_removes_at_even_distances() -> None:
    shape = without(SHAPE, (1,)).shape_in(SHAPE)
    course = RemovalSchedule.of(shape, [(1,), (0,), (2,)], share=0.6)
    assert course.moments == pytest.approx((0.0, 0.2, 0.4))
    assert [course(progress) for progress in (0.0, 0.19)] == [None, None]
    patterns = [pattern_of(found.shape_in(shape)) for progress in (0.21, 0.41, 0.99) if (found := course(progress))]
    assert patterns == ["AAAF", "AAA", "AAA"]
    assert RemovalSchedule.of(SHAPE, [(0, 1)], share=0.4)(0.99) is None
