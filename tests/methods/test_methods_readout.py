"""--pooling from the command to what is stored: the model's own, a given one, a teacher's; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_task import time_by_macs, tiny_task, tiny_text

import cutbert
from cutbert.errors import BudgetError, InputError, ModelError
from cutbert.folders.load import load_model
from cutbert.shape.head import HeadSpec
from cutbert.shape.source import find_model
from tiny_runs import save_tiny, tiny_model

FAMILY = {"width_mult": (1.0,), "depths": [3, 1], "importance_samples": 8}


@pytest.fixture
def task(tmp_path: Path) -> dict[str, Any]:
    return tiny_task(tmp_path)


def base(folder: Path, pooling: str | None = None) -> Path:
    """Save a pre-trained model, as sentence-transformers stores it where a pooling is given."""
    save_tiny(folder, tiny_model(HeadSpec("pooler")))
    if pooling is not None:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": pooling}))
    return folder


def test_a_run_that_reads_the_mean(tmp_path: Path, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    time_by_macs(monkeypatch)
    run = cutbert.dynabert(base(tmp_path / "base", "mean"), out=tmp_path / "run", **FAMILY, **task)
    for name in ("model", "teacher"):
        assert load_model(run.path / name).model.pooling == "mean"
    assert all(each.pooling == "mean" and not each.is_stock for each in run.front)
    assert run.front["w1.0-d0.3333"].shape.is_stock
    assert run.pick(min_score=0.0, out=str(tmp_path / "picked")).to_json()["stock"] is False
    assert find_model(tmp_path / "picked").style_data["pooling"] == "mean"
    with pytest.raises(BudgetError, match="train with --pooling cls to have stock ones"):
        run.pick(stock=True)
    with pytest.raises(ModelError, match=r"--space stock must have a head that reads the first token, .*the mean"):
        cutbert.search(run.path, max_macs=10**9, space="stock", threads=1)


def test_one_that_is_given_wins_and_makes_a_head_new(
    tmp_path: Path, task: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    first = cutbert.finetune(base(tmp_path / "base", "mean"), out=tmp_path / "cls", pooling="cls", **task)
    assert load_model(first.path).model.pooling == "cls"
    assert json.loads((first.path / "model" / "config.json").read_text())["model_type"] == "bert"
    capsys.readouterr()
    second = cutbert.finetune(first.path, out=tmp_path / "mean", pooling="mean", **task)
    assert load_model(second.path).model.pooling == "mean"
    said = capsys.readouterr().err
    assert "the checkpoint's head reads the first token, not the mean over tokens" in said
    assert "new, untrained: pooler.dense, classifier" in said
    third = cutbert.finetune(second.path, out=tmp_path / "auto", **task)
    assert load_model(third.path).model.pooling == "mean" and "new, untrained" not in capsys.readouterr().err


def test_a_teacher_reads_as_it_was_trained(
    tmp_path: Path, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    time_by_macs(monkeypatch)
    teacher = save_tiny(tmp_path / "other")  # a stock class, which reads the first token
    run = cutbert.dynabert(
        base(tmp_path / "base"), out=tmp_path / "run", pooling="mean", teacher=str(teacher), **FAMILY, **task
    )
    assert load_model(run.path).model.pooling == "mean"


@pytest.mark.parametrize("method", [cutbert.finetune, cutbert.dynabert, cutbert.depth])
def test_a_pooling_that_we_do_not_have_is_refused_with_the_rest(
    method: Any, tmp_path: Path, task: dict[str, Any]
) -> None:
    model = base(tmp_path / "base", "max")
    with pytest.raises(InputError) as caught:
        method(model, out=tmp_path / "run", **{**task, "epochs": -1.0})
    said = str(caught.value)
    assert "own pooling is 'max'; give --pooling cls or mean" in said and "--epochs must be" in said
    assert not (tmp_path / "run").exists()


def test_it_means_nothing_where_no_text_is_read(tmp_path: Path) -> None:
    masked = save_tiny(tmp_path / "model", tiny_model(HeadSpec("masked_lm")))
    with pytest.raises(InputError, match="--pooling is for --objective task"):
        cutbert.schubert(
            masked, out=tmp_path / "run", objective="mlm", pooling="mean", budget="macs=0.5", **tiny_text(tmp_path)
        )


@pytest.mark.slow
def test_depth_keeps_what_it_reads_in_every_process(tmp_path: Path, task: dict[str, Any]) -> None:
    run = cutbert.depth(base(tmp_path / "base", "max"), out=tmp_path / "run", depth=1, pooling="mean", **task)
    assert load_model(run.path).model.pooling == "mean"
    truncated = load_model(run["truncated"]).model
    assert truncated.style.pooling == "mean" and truncated.head_spec.kind == "pooler"
    assert json.loads((Path(run["truncated"]) / "config.json").read_text())["classifier_pooling"] == "mean"
