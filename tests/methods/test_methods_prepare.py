"""Mistakes of every kind in one command are told together, and nothing is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_task import tiny_task, tiny_text

import cutbert
from cutbert.api.runs import Run
from cutbert.errors import InputError
from cutbert.shape.head import HeadSpec
from tiny_runs import save_tiny, tiny_model

WRONG_TRAINING = {"epochs": -1.0, "seed": -1}
ON_TASK: list[tuple[Callable[..., Run], dict[str, Any], str]] = [
    (cutbert.schubert, {"budget": "macs=0.001"}, "--budget macs must be at least"),
    (cutbert.undivided, {"ffn_keep": [7]}, "feed-forwards to keep must be of layers 0, 1, 2"),
    (cutbert.dynabert, {"width_mult": [1.5]}, "must lie in"),
    (cutbert.depth, {"depth": 9}, "--depth must be at most 3"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("masked") / "model", tiny_model(HeadSpec("masked_lm"))))


def refused(method: Callable[..., Run], model: str, out: Path, options: dict[str, Any]) -> str:
    """Return what a method says to options that it must refuse."""
    with pytest.raises(InputError) as caught:
        method(model, out=out, **options)
    assert not out.exists()
    return str(caught.value)


@pytest.mark.parametrize(("method", "options", "wanted"), ON_TASK)
def test_a_task(method: Callable[..., Run], options: dict[str, Any], wanted: str, model: str, tmp_path: Path) -> None:
    given = {**tiny_task(tmp_path), **WRONG_TRAINING, **options}
    said = refused(method, model, tmp_path / "run", given)
    assert wanted in said and "--epochs must be" in said and "--seed must lie in" in said
    assert len(said.splitlines()) == len(set(said.splitlines())) == 3


@pytest.mark.parametrize(("method", "options", "wanted"), ON_TASK[:3])
def test_plain_text(
    method: Callable[..., Run], options: dict[str, Any], wanted: str, model: str, tmp_path: Path
) -> None:
    given = {**tiny_text(tmp_path), **WRONG_TRAINING, **options, "objective": "mlm", "dev": str(tmp_path / "none.txt")}
    said = refused(method, model, tmp_path / "run", given)
    assert wanted in said and "--epochs must be" in said and "none.txt: no such file" in said
    assert len(said.splitlines()) == len(set(said.splitlines())) == 4


def test_a_model_without_vocabulary_head_is_told_with_the_rest(tmp_path: Path) -> None:
    plain = str(save_tiny(tmp_path / "model", tiny_model(HeadSpec("none"))))
    said = refused(
        cutbert.schubert,
        plain,
        tmp_path / "run",
        {**tiny_text(tmp_path), "objective": "mlm", "budget": "macs=0.001", "epochs": -1.0},
    )
    assert "must start from a model with a masked-LM head" in said
    assert "--epochs must be" in said and len(said.splitlines()) == 2  # the budget needs a model that can be used
