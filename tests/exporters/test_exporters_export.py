"""An exported folder runs where there is no torch, int8 passes its gate or leaves nothing, and the rest stays."""

from __future__ import annotations

import json
import string
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import cutbert
from cutbert.cli.main import main
from cutbert.data.rows import Rows
from cutbert.data.tokens import tokenize_rows
from cutbert.errors import BudgetError, InputError
from cutbert.exporters import gate
from cutbert.exporters.graph import build_graph
from cutbert.exporters.int8 import instruction_set, int8_file, quantize
from cutbert.exporters.session import OnnxRunner
from cutbert.exporters.trimming import tokens_that_stay
from cutbert.folders import trim
from cutbert.folders.load import Loaded, load_model
from cutbert.folders.sentence import PROMPTS_FILE, Sentence
from cutbert.model.task_model import TaskModel
from cutbert.runtime import load
from cutbert.shape.head import HeadSpec
from cutbert.train.runner import TorchRunner
from tiny_runs import (
    HEAD,
    PROVENANCE,
    SHAPE,
    WORDS,
    save_tiny,
    save_tiny_embedder,
    tiny_model,
    tiny_rows,
    tiny_tokenizer,
    write_tsv,
)

INT8 = int8_file(instruction_set())
ALONE = "import sys; sys.modules.update(dict.fromkeys(('torch', 'cutbert', 'transformers', 'onnx'))); "


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "m")


@pytest.fixture
def data(tmp_path: Path) -> dict[str, object]:
    files = {
        name: [str(write_tsv(tmp_path / f"{name}.tsv", tiny_rows(60, seed)))]
        for seed, name in enumerate(("train", "dev"))
    }
    return {**files, "text": "text", "label": "label", "threads": 1}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_folder_runs_without_torch_and_cutbert(model: Path, tmp_path: Path) -> None:
    found = cutbert.export(model, onnx=True, out=tmp_path / "out", threads=1)
    assert found["files"] == [str(tmp_path / "out" / "onnx" / "model.onnx")] and found["max_abs_diff"] <= 1e-4
    assert [path.name for path in (tmp_path / "out").rglob("*.onnx")] == ["model.onnx"]
    assert not (model / "onnx").exists()
    script = ALONE + "import runpy; sys.argv = ['example.py', 'a good film', 'dull']; "
    script += f"runpy.run_path({str(tmp_path / 'out' / 'onnx' / 'example.py')!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.partition(" ") for line in done.stdout.splitlines()]
    encoded = [tiny_tokenizer()(text)["input_ids"] for text in ("a good film", "dull")]
    for (label, _, logits), ids in zip(lines, encoded, strict=True):
        wanted = TorchRunner(tiny_model())(np.array([ids]))[0]
        np.testing.assert_allclose(json.loads(logits), wanted, atol=1e-4)
        assert label == HEAD.labels[wanted.argmax()]


def test_files_are_added_and_what_was_there_stays(model: Path, data: dict[str, object]) -> None:
    before = tree(model)
    cutbert.export(model, onnx=True, threads=1)
    (model / "onnx" / "mine.txt").write_text("kept")
    found = cutbert.export(model, int8=True, max_drop=100.0, **data)
    assert found["files"] == [str(model / "onnx" / INT8)]
    assert {path.name for path in (model / "onnx").iterdir()} == {"model.onnx", INT8, "example.py", "mine.txt"}
    after = tree(model)
    assert all(after[name] == before[name] for name in before.keys() - {"cutbert.json", "README.md"})
    assert {"score_before", "score_after", "select_score_before", "select_score_after"} <= found.to_json().keys()
    stored = json.loads((model / "cutbert.json").read_text())
    assert len(stored["commands"]) == 2 and stored["int8"]["score_after"] == found["score_after"]
    card = (model / "README.md").read_text()
    assert f"onnx/{INT8}" in card and "int8 (dynamic ranges) changes the accuracy: select" in card
    assert INT8 in (model / "onnx" / "example.py").read_text()


def test_int8_that_loses_too_much_leaves_nothing(tmp_path: Path, data: dict[str, object]) -> None:
    """Labels are what the model itself answers, which it is never sure of: int8 answers some texts otherwise."""
    close, texts = tiny_model(), tiny_rows(60, 1).text
    runner = TorchRunner(close)
    logits = np.concatenate([runner(np.array([tiny_tokenizer()(text)["input_ids"]])) for text in texts])
    margins = logits[:, 1] - logits[:, 0]
    with torch.no_grad():
        close.head.out.bias[0] += float(np.median(margins))
    write_tsv(tmp_path / "select.tsv", Rows(texts, labels=(margins > np.median(margins)).astype(int)))
    model = save_tiny(tmp_path / "close", close)
    before = tree(tmp_path)
    options = {**data, "select": str(tmp_path / "select.tsv"), "max_drop": 0.0}
    for out in (None, tmp_path / "out"):
        with pytest.raises(BudgetError, match=r"int8 may lose --max-drop 0 points of accuracy on select, it"):
            cutbert.export(model, onnx=True, int8=True, out=out, **options)
    assert tree(tmp_path) == before


def test_a_graph_that_answers_otherwise_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No graph answers as torch to the last bit; that other answers are found is in test_exporters_gate."""
    before = tree(model)
    monkeypatch.setattr(gate, "MAX_DIFF", 0.0)
    with pytest.raises(InputError, match="ONNX Runtime must answer as torch within"):
        cutbert.export(model, onnx=True, threads=1)
    assert tree(model) == before


@pytest.mark.parametrize("calibrated", (False, True))
def test_int8_is_near(calibrated: bool) -> None:
    model = tiny_model()
    graph = build_graph(model)
    inputs = [np.array([[2, *range(5, 5 + n), 3]]) for n in (1, 3, 6)]
    feeds = [
        {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)} for ids in inputs
    ]
    made = quantize(graph, instruction_set(), feeds if calibrated else None)
    weights = [
        each for each in made.graph.initializer if each.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    ]
    sizes = {tuple(each.dims) for each in weights}
    assert (SHAPE.vocab_size, SHAPE.hidden_size) in sizes and (SHAPE.hidden_size, 3 * SHAPE.hidden_size) in sizes
    if calibrated:  # ranges are fixed: every product's input has its own
        assert sum(node.op_type == "QuantizeLinear" for node in made.graph.node) >= 4 * SHAPE.num_layers
        assert not any(node.op_type == "DynamicQuantizeLinear" for node in made.graph.node)
    runner, own = OnnxRunner(made, 1), TorchRunner(model)
    for feed in feeds:
        np.testing.assert_allclose(runner(**feed), own(**feed), atol=0.3)


def test_the_task_is_known_from_the_model(model: Path, data: dict[str, object]) -> None:
    path = model / "cutbert.json"
    task = {name: value for name, value in data.items() if name != "threads"}
    path.write_text(json.dumps({**PROVENANCE, "task": task}))
    found = cutbert.export(model, int8=True, max_drop=100.0, threads=1)
    assert found["metric"] == "accuracy"


def test_a_label_order_of_its_own_is_kept(tmp_path: Path, data: dict[str, object]) -> None:
    own = tiny_model()
    turned = TaskModel(own.shape, own.style, HeadSpec("single_label", HEAD.labels[::-1]))
    turned.load_state_dict(own.state_dict())
    folder = save_tiny(tmp_path / "turned", turned)
    found = cutbert.export(folder, onnx=True, **data)
    wanted = cutbert.export(save_tiny(tmp_path / "m"), onnx=True, **data)
    assert found["score_after"] == found["score_before"] == pytest.approx(1 - wanted["score_after"])
    assert json.loads((folder / "config.json").read_text())["id2label"]["0"] == HEAD.labels[1]


def test_a_card_of_the_users_own_stays(model: Path) -> None:
    (model / "README.md").write_text("mine")
    cutbert.export(model, onnx=True, threads=1)
    assert (model / "README.md").read_text() == "mine"


def test_an_encoder_whose_config_names_a_masked_lm_gives_vectors(tmp_path: Path) -> None:
    """As all-mpnet-base-v2's does: sentence-transformers keeps the name of the class that it was made from."""
    folder, vectors = save_tiny_embedder(tmp_path / "m"), []
    config = json.loads((folder / "config.json").read_text())
    for name in ("BertModel", "BertForMaskedLM"):
        (folder / "config.json").write_text(json.dumps(config | {"architectures": [name]}))
        cutbert.export(folder, onnx=True, out=tmp_path / name, threads=1)
        vectors += load(tmp_path / name, threads=1)(["a fine film"])
    np.testing.assert_array_equal(*vectors)
    cutbert.export(folder, onnx=True, threads=1)  # in place the config goes on naming that class
    np.testing.assert_array_equal(load(folder, threads=1)(["a fine film"])[0], vectors[0])
    np.testing.assert_array_equal(cutbert.predict(folder, texts=["a fine film"], threads=1)[0], vectors[0])


def test_stock_and_hub_ids(model: Path, tmp_path: Path) -> None:
    found = cutbert.export(model, stock=True, out=tmp_path / "stock", threads=1)
    assert found["files"] == [str(tmp_path / "stock" / "model.safetensors")]
    assert load_model(tmp_path / "stock").model.shape == SHAPE
    with pytest.raises(InputError, match=r"a model must be|must be a folder here or"):
        cutbert.export("nobody/nothing", onnx=True)


def test_rows_of_the_table_that_no_text_uses_go(
    model: Path, data: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    facts = cutbert.export(model, stock=True, trim_vocab=True, out=out, **data)["trimmed_vocabulary"]
    assert (facts["tokens_before"], facts["tokens"]) == (SHAPE.vocab_size, len(tiny_tokenizer()))
    assert facts["bytes_saved"] == 4 * SHAPE.hidden_size * (SHAPE.vocab_size - len(tiny_tokenizer()))
    assert facts["split_differently"] == {"select": 0, "dev": 0} and facts["metric"] == "accuracy"
    assert facts["score_before"] == facts["score_after"] and "split differently than before" in capsys.readouterr().err
    cut, ids = load_model(out), np.array([[2, 5, 6, 3]])
    np.testing.assert_array_equal(TorchRunner(cut.model)(ids), TorchRunner(tiny_model())(ids))
    assert cut.provenance["trimmed_vocabulary"] == facts
    assert "Of 20 tokens 15 are left" in (out / "README.md").read_text()
    for given, message in (
        ({"stock": True, "out": tmp_path / "other"}, "--trim-vocab must have data, whose training texts"),
        ({"onnx": True}, "--trim-vocab must come with --out"),
    ):
        with pytest.raises(InputError, match=message):
            cutbert.export(model, trim_vocab=True, **given)


def test_all_prompts_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trim, "COMMON_PIECES", 0)
    letters = [f"{before}{letter}" for letter in string.ascii_lowercase for before in ("", "##") if letter != "a"]
    tokenizer = tiny_tokenizer([*WORDS, *letters, "##a"])
    model = tiny_model(HeadSpec("none"), shape=replace(SHAPE, vocab_size=len(tokenizer)))
    loaded = Loaded(model, tokenizer, "tiny", (), dict(PROVENANCE))
    texts = tokenize_rows(Rows(["good"]), tokenizer, "tiny", 8, cache=False)
    prompts = {"prompts": {"query": "a film ", "clustering": "very "}}
    for files, kept in (({}, {"good"}), ({PROMPTS_FILE: prompts}, {"good", "film", "very"})):
        stay = tokens_that_stay(loaded, texts, Sentence("mean", True, 60, files))
        assert {*tokenizer.convert_ids_to_tokens(stay.tolist())} & {*WORDS} == kept | {"a"}


def test_mistakes_come_together(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["export", str(model), "--max-drop", "-1", "--calibration-samples", "3", "--stock", "--threads", "0"]) == 2
    )
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("cutbert: error: ").split(" must")[0] for line in lines] == [
        "--threads", "--max-drop", "--max-drop", "--calibration-samples", "--stock",
    ]  # fmt: skip
    with pytest.raises(InputError, match="--int8 must have data for its gate: --task NAME or own files"):
        cutbert.export(model, int8=True)
    with pytest.raises(InputError, match="--int8 must have data for --calibration static"):
        cutbert.export(model, int8=True, gate=False, calibration="static")
    assert not (model / "onnx").exists()


def test_a_model_folder_that_cannot_be_written_is_refused_before_it_is_loaded(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutbert.exporters.export.change_mistakes", lambda folder: [f"{folder}: permission denied"])
    monkeypatch.setattr("cutbert.exporters.export.load_model", None)
    with pytest.raises(InputError) as caught:
        cutbert.export(model, onnx=True)
    assert caught.value.mistakes == (f"{model}: permission denied",)


def test_without_a_gate_that_is_said(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = cutbert.export(model, int8=True, gate=False, threads=1)
    assert found["files"] == [str(model / "onnx" / INT8)] and "score_after" not in found.to_json()
    assert "int8 is written without a gate" in capsys.readouterr().err
