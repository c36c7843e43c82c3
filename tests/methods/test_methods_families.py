"""Every method on families made of other things than BERT: it runs, and its result loads, in int8 too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_task import fit_quickly, time_by_macs, tiny_task, tiny_text

import cutbert
from cutbert.errors import InputError
from cutbert.hub.load import load_model
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.source import find_model
from cutbert.shape.stock_config import STOCK_FAMILIES
from known_times import take_known_memory
from tiny_families import INGREDIENTS
from tiny_runs import SHAPE, save_tiny

FAMILIES = ("mpnet", "modernbert", "deberta-v2")
families = pytest.mark.parametrize("family", FAMILIES)
with_nomic = pytest.mark.parametrize("family", (*FAMILIES, "nomic_bert"))  # between BERT and ModernBERT
HEAD = HeadSpec("single_label", ("neg", "pos"))


def family_base(folder: Path, family: str, head: HeadSpec = HEAD) -> Path:
    """Save a stock model of 3 layers, all parameters random."""
    ingredients = INGREDIENTS[family].of_layers((0, 1, 2))
    shape = replace(SHAPE, num_token_types=2 if family == "nomic_bert" else 0, ingredients=ingredients)
    style = EncoderStyle(
        family=family,
        head_activation=STOCK_FAMILIES[family].head_activation,
        position_offset=2 if family == "mpnet" else 0,
    )
    torch.manual_seed(0)
    model = TaskModel(shape, style, head)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    save_tiny(folder, model.eval())
    assert json.loads((folder / "config.json").read_text())["model_type"] == family
    return folder


def check_loads(folder: Path, family: str, *, is_stock: bool) -> None:
    """A model folder loads, counts as it is, and says which class it is for."""
    loaded = load_model(folder)
    assert loaded.model.style.family == family
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    assert kind == (family if is_stock else "cutbert")
    count = sum(each.numel() for each in loaded.model.parameters())
    assert count == cost_of(loaded.model.shape, loaded.model.head_spec).params


@with_nomic
def test_a_supernet_its_cuts_and_their_files(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time_by_macs(monkeypatch)
    task = tiny_task(tmp_path)
    options = {"width_mult": (1.0, 0.5), "depths": [3, 1], "importance_samples": 8}
    run = cutbert.dynabert(family_base(tmp_path / "base", family), out=tmp_path / "run", **options, **task)
    check_loads(run.path / "model", family, is_stock=True)
    least = min(entry.macs for entry in run.front)
    free = run.pick(max_macs=least, out=str(tmp_path / "free"))
    check_loads(tmp_path / "free", family, is_stock=free.entry.is_stock)
    run.pick(stock=True, min_score=0.0, out=str(tmp_path / "stock"))
    check_loads(tmp_path / "stock", family, is_stock=True)
    cutbert.export(tmp_path / "free", onnx=True, int8=True, threads=1, max_drop=100)
    assert len(list((tmp_path / "free" / "onnx").glob("*.onnx"))) == 2


@with_nomic
def test_gates_and_fewer_feed_forwards(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time_by_macs(monkeypatch)
    base, task = family_base(tmp_path / "base", family), tiny_task(tmp_path)
    options = {"budget": "macs=0.6", "gate_steps": 2, "multiple_of": 2}
    if family in ("modernbert", "nomic_bert"):
        with pytest.raises(InputError, match=r"--dims must be without k, since rotary .*; give --dims h,f,a,v"):
            cutbert.schubert(base, out=tmp_path / "refused", **options, **task)
        assert not (tmp_path / "refused").exists()
        options["dims"] = ["h", "f", "a", "v"]
    cut = cutbert.schubert(base, out=tmp_path / "cut", **options, **task)
    check_loads(cut.path / "model", family, is_stock=False)
    fewer = cutbert.undivided(base, out=tmp_path / "fewer", num_ffn=1, **task)
    check_loads(fewer.path / "model", family, is_stock=False)


@families
def test_depth_is_stock(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time_by_macs(monkeypatch)
    take_known_memory(monkeypatch)
    run = cutbert.depth(family_base(tmp_path / "base", family), out=tmp_path / "run", depth=2, **tiny_task(tmp_path))
    check_loads(run.path / "model", family, is_stock=True)


@families
def test_a_masked_lm_of_new_sizes(family: str, tmp_path: Path) -> None:
    base = family_base(tmp_path / "base", family, HeadSpec("masked_lm"))
    sizes = tmp_path / "sizes.json"
    sizes.write_text(json.dumps(replace(SHAPE, num_token_types=0, layers=SHAPE.layers * 2).to_json()))
    run = cutbert.pretrain(base, from_scratch=str(sizes), out=tmp_path / "run", **tiny_text(tmp_path))
    check_loads(run.path / "model", family, is_stock=True)
    made = find_model(run.path).shape.ingredients
    assert made == replace(SHAPE, layers=SHAPE.layers * 2).made_as(find_model(base).shape).ingredients


@pytest.mark.parametrize("family", ["modernbert"])  # the one with most that is its own; others take seconds each too
def test_fit(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit_quickly(monkeypatch)
    base, task = family_base(tmp_path / "base", family), tiny_task(tmp_path)
    macs = cost_of(find_model(base).shape, HEAD).macs
    options: dict[str, Any] = {"max_macs": int(0.6 * macs), "time": 600.0, "rounds": 2}
    task = {name: value for name, value in task.items() if name not in ("epochs", "batch_size")}
    run = cutbert.fit(base, out=tmp_path / "run", **options, **task)
    loaded = load_model(run.path / "model")
    assert loaded.model.style.family == family
    assert cost_of(loaded.model.shape, loaded.model.head_spec).macs <= options["max_macs"]
