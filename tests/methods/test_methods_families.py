"""Every method on families made of other things than BERT: it runs, and its result loads, in int8 too."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_task import QUICK, fit_quickly, measure_quickly, tiny_task, tiny_text, weights

import cutbert
from cutbert.data.tokens import tokenize_rows
from cutbert.data.vectors import VectorTexts
from cutbert.errors import InputError
from cutbert.folders.load import load_model
from cutbert.fronts.front import Front
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.runtime import load
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.shape.source import find_model
from cutbert.shape.stock_config import STOCK_FAMILIES
from cutbert.train.evaluate import predict_logits
from kills import killed_as_it_says
from known_times import take_known_memory, take_known_times
from tiny_families import INGREDIENTS
from tiny_runs import SHAPE, save_tiny, save_tiny_embedder, tiny_rows

FAMILIES = ("mpnet", "modernbert", "nomic_bert", "gte", "deberta-v2")
ROTARY = ("modernbert", "nomic_bert", "gte")
WITH_TYPES = ("nomic_bert", "gte")
HEAD = HeadSpec("single_label", ("neg", "pos"))
IDS = torch.tensor([[2, 5, 6, 9, 7, 3]])
WIDTHS = {"width_mult": (1.0, 0.5), "depths": [3, 1], "importance_samples": 8}


def family_shape(family: str, shape: EncoderShape = SHAPE) -> EncoderShape:
    ingredients = INGREDIENTS[family].of_layers((0, 1, 2))
    return replace(shape, num_token_types=2 if family in WITH_TYPES else 0, ingredients=ingredients)


def family_model(family: str, head: HeadSpec = HEAD) -> TaskModel:
    """Return a network of 3 layers that the family's class holds, all parameters random."""
    style = EncoderStyle(
        family=family,
        head_activation=STOCK_FAMILIES[family].head_activation,
        position_offset=2 if family == "mpnet" else 0,
    )
    torch.manual_seed(0)
    model = TaskModel(family_shape(family), style, head)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    return model.eval()


def check_loads(folder: Path, family: str, *, is_stock: bool) -> None:
    """A model folder loads, counts as it is, and says which class it is for."""
    loaded = load_model(folder)
    assert loaded.model.style.family == family
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    assert kind == (family if is_stock else "cutbert")
    count = sum(each.numel() for each in loaded.model.parameters())
    assert count == cost_of(loaded.model.shape, loaded.model.head_spec).params


def ms_of(shape: EncoderShape, length: int) -> float:
    """Return known milliseconds, a sum over sub-layers: 0.1, and one for every million multiply-adds."""
    return 0.1 + cost_of(shape, sequence_length=length).macs / 1e6


def take_known(patch: pytest.MonkeyPatch) -> None:
    measure_quickly(patch)
    take_known_times(patch, ms_of)
    take_known_memory(patch)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    take_known(monkeypatch)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tiny_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def base(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_tiny(tmp_path_factory.mktemp("base") / family, family_model(family))
    check_loads(folder, family, is_stock=True)
    return folder


@pytest.fixture(scope="module")
def run(base: Path, task: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> cutbert.api.Run:
    """A supernet and its front."""
    with pytest.MonkeyPatch.context() as patch:
        take_known(patch)
        return cutbert.dynabert(base, out=tmp_path_factory.mktemp("run") / "run", **WIDTHS, **task)


def test_a_supernet_its_cuts_and_their_files(family: str, run: cutbert.api.Run, tmp_path: Path) -> None:
    check_loads(run.path / "model", family, is_stock=True)
    least = min(entry.macs for entry in run.front)
    free = run.pick(max_macs=least, out=str(tmp_path / "free"))
    check_loads(tmp_path / "free", family, is_stock=free.entry.is_stock)
    run.pick(stock=True, min_score=0.0, out=str(tmp_path / "stock"))
    check_loads(tmp_path / "stock", family, is_stock=True)
    cutbert.export(tmp_path / "free", onnx=True, int8=True, threads=1, max_drop=100)
    assert len(list((tmp_path / "free" / "onnx").glob("*.onnx"))) == 2


def test_a_search_by_a_table_of_milliseconds(run: cutbert.api.Run, known: None, tmp_path: Path) -> None:
    """The table foretells what is a sum over sub-layers; what is found answers cut out as in place."""
    folder = Path(shutil.copytree(run.path, tmp_path / "run"))
    most = 0.8 * ms_of(load_model(folder).model.shape, 6)
    found = cutbert.search(folder, trials=12, keep=2, threads=1, max_latency_ms=most)
    assert found["latency_error"] < 0.02 and found["subnets"]
    assert all(each["latency_ms"] <= most for each in found["subnets"])
    name = found["subnets"][0]["name"]
    entry = Front.load(folder)[name]
    picked = cutbert.pick(folder, max_macs=entry.macs, min_score=entry.select_score, out=tmp_path / "small")
    in_place = load_model(folder).model(IDS, subnet=picked.entry.subnet).logits
    torch.testing.assert_close(load_model(tmp_path / "small").model(IDS).logits, in_place)


def test_killed_and_resumed_to_the_bit(base: Path, task: dict[str, Any], tmp_path: Path) -> None:
    options = {**task, "dropout": 0.1, "learning_rate": 0.003, "checkpoint_seconds": 0.0}
    whole = cutbert.finetune(base, out=tmp_path / "whole", **options)
    with killed_as_it_says("finetune: 3/6"):
        cutbert.finetune(base, out=tmp_path / "run", **options)
    again = cutbert.finetune(base, out=tmp_path / "run", **options)
    wanted, got, before = (weights(folder) for folder in (whole.path / "model", again.path / "model", base))
    assert all(torch.equal(got[name], weight) for name, weight in wanted.items())
    assert any(not torch.equal(before[name], weight) for name, weight in wanted.items())


def test_gates_and_fewer_feed_forwards(
    family: str, base: Path, task: dict[str, Any], known: None, tmp_path: Path
) -> None:
    options = {"budget": "macs=0.6", "gate_steps": 2, "multiple_of": 2}
    if family in ROTARY:
        with pytest.raises(InputError, match=r"--dims must be without k, since rotary .*; give --dims h,f,a,v"):
            cutbert.schubert(base, out=tmp_path / "refused", **options, **task)
        assert not (tmp_path / "refused").exists()
        options["dims"] = ["h", "f", "a", "v"]
    cut = cutbert.schubert(base, out=tmp_path / "cut", **options, **task)
    check_loads(cut.path / "model", family, is_stock=False)
    fewer = cutbert.undivided(base, out=tmp_path / "fewer", num_ffn=1, **task)
    check_loads(fewer.path / "model", family, is_stock=False)


def test_depth_is_stock(family: str, base: Path, task: dict[str, Any], known: None, tmp_path: Path) -> None:
    run = cutbert.depth(base, out=tmp_path / "run", depth=2, **task)
    check_loads(run.path / "model", family, is_stock=True)


def test_a_masked_lm_of_new_sizes(family: str, tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base", family_model(family, HeadSpec("masked_lm")))
    sizes, shape = tmp_path / "sizes.json", replace(SHAPE, layers=SHAPE.layers * 2)
    shape = replace(shape, num_token_types=family_shape(family).num_token_types)
    sizes.write_text(json.dumps(shape.to_json()))
    run = cutbert.pretrain(base, from_scratch=str(sizes), out=tmp_path / "run", **tiny_text(tmp_path))
    check_loads(run.path / "model", family, is_stock=True)
    assert find_model(run.path).shape.ingredients == shape.made_as(find_model(base).shape).ingredients


def test_analysis(base: Path, task: dict[str, Any]) -> None:
    files = {name: task[name] for name in ("train", "select", "dev", "text", "label", "threads")}
    sizes = {"num_examples": 20, "batch_size": 10, "probe_examples": 0, "importance_samples": 8}
    found = cutbert.analyze(base, **files, **sizes)
    layers = [f"layer{i}" for i in range(3)]
    assert np.allclose(np.diag(found["cka"]), 1) and list(found["importance"]) == layers


def test_vectors(family: str, known: None, tmp_path: Path) -> None:
    """A family of embedding models, whose ONNX file gives the vectors of its weights."""
    base = save_tiny_embedder(tmp_path / "base", model=family_model(family, HeadSpec("none")))
    texts = tiny_rows(20).text
    (tmp_path / "train.txt").write_text("\n".join(texts))
    rows = [f"{text},{texts[i + 1]},{i % 4}" for i, text in enumerate(texts[:12])]
    (tmp_path / "dev.csv").write_text("\n".join(["a,b,score", *rows]))
    data = {name: str(tmp_path / file) for name, file in (("train", "train.txt"), ("dev", "dev.csv"))}
    data |= {"objective": "embedding", "text": "a", "text_pair": "b", "label": "score"}
    run = cutbert.dynabert(base, out=tmp_path / "run", **WIDTHS, **data, **QUICK)
    check_loads(run.path / "model", family, is_stock=True)
    run.pick(max_macs=min(entry.macs for entry in run.front), out=str(tmp_path / "small"))
    cutbert.export(tmp_path / "small", onnx=True, threads=1)
    loaded = load_model(tmp_path / "small", HeadSpec("embedding"))
    tokens = tokenize_rows(VectorTexts(texts[:5]), loaded.tokenizer, "tiny", 16, cache=False)
    vectors = np.stack(load(tmp_path / "small", threads=1)(texts[:5]))
    np.testing.assert_allclose(vectors, predict_logits(loaded.model, tokens), atol=1e-5)


@pytest.mark.parametrize(
    "family", ("mpnet", "modernbert", "deberta-v2"), indirect=True
)  # of whose parts the others are
def test_fit(family: str, base: Path, task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit_quickly(monkeypatch)
    macs = cost_of(find_model(base).shape, HEAD).macs
    options: dict[str, Any] = {"max_macs": int(0.6 * macs), "time": 600.0, "rounds": 2, "candidates": 2}
    task = {name: value for name, value in task.items() if name not in ("epochs", "batch_size")}
    run = cutbert.fit(base, out=tmp_path / "run", **options, **task)
    loaded = load_model(run.path / "model")
    assert loaded.model.style.family == family
    assert cost_of(loaded.model.shape, loaded.model.head_spec).macs <= options["max_macs"]
