"""Every layout that export writes, and a folder that another tool wrote, answer alike through the runtime."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from cutbert.errors import ModelError
from cutbert.exporters.folder import save_graph
from cutbert.exporters.graph import build_graph
from cutbert.exporters.int8 import instruction_set, int8_file, quantize
from cutbert.exporters.layouts import Graphs, resolved, write_layouts
from cutbert.folders.load import load_model
from cutbert.runtime import Labeller, Reader, load
from cutbert.shape.head import HeadSpec
from tiny_runs import WORDS, save_tiny, tiny_model, tiny_rows, tiny_tokenizer

LABELS = ("neg", "pos")
HEAD = HeadSpec("single_label", LABELS)
TEXTS = tiny_rows(12).text


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("layouts") / "model", tiny_model(HEAD))


@pytest.fixture(scope="module")
def graphs(model: Path) -> Graphs:
    graph = build_graph(load_model(model).model)
    return Graphs(graph, quantize(graph, instruction_set()), int8_file(instruction_set()), "title")


def written(model: Path, layout: str, graphs: Graphs, out: Path) -> Path:
    """Write a model folder with the files of one layout, which its record names as `export` does."""
    shutil.copytree(model, out)
    files = write_layouts(out, resolved([layout], "bert", HEAD, None), graphs)
    record = json.loads((out / "cutbert.json").read_text())
    (out / "cutbert.json").write_text(json.dumps({**record, "layouts": files}))
    return out


def chances(folder: Path, backend: str) -> np.ndarray:
    """Return the probabilities of texts served one by one."""
    answers = load(folder, backend=backend, threads=1, batch_size=1)(TEXTS)
    return np.array([list(each["probabilities"].values()) for each in answers])


@pytest.fixture(scope="module")
def default(model: Path, graphs: Graphs) -> Path:
    return written(model, "default", graphs, model.with_name("default"))


@pytest.mark.parametrize("layout", ["transformers.js", "sentence-transformers", "optimum", "triton", "tei"])
def test_every_layout_answers_as_the_default_does(
    model: Path, graphs: Graphs, default: Path, tmp_path: Path, layout: str
) -> None:
    folder = written(model, layout, graphs, tmp_path / "out")
    for backend in ("onnx-int8",) if layout == "tei" else ("onnx", "onnx-int8"):  # tei reads one file
        found = chances(folder, backend)
        np.testing.assert_allclose(found, chances(default, backend), atol=1e-6)
        assert np.ptp(found, axis=0).max() > 1e-3


@pytest.mark.parametrize("place", ["onnx/model.onnx", "model.onnx"])
def test_a_folder_of_another_tool_answers_as_transformers_does(tmp_path: Path, place: str) -> None:
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=20,
        max_position_embeddings=16, id2label=dict(enumerate(LABELS)), initializer_range=0.5,
    )  # fmt: skip
    network = BertForSequenceClassification(config).eval()
    network.save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    folder = tmp_path / "exported"
    (folder / place).parent.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tmp_path / "theirs" / name, folder / name)
    save_graph(build_graph(load_model(tmp_path / "theirs").model), folder / place)
    texts = [*TEXTS, " ".join(WORDS * 3)]  # the last is longer than fits
    given = tokenizer(texts, padding=True, truncation=True, max_length=16, return_tensors="pt")
    with torch.no_grad():
        wanted = network(**given).logits.softmax(dim=1).numpy()
    loaded = load(folder, threads=1)
    assert isinstance(loaded, Labeller)
    found = [list(each["probabilities"].values()) for each in loaded(texts)]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert loaded.num_cut == 1 and np.ptp(wanted, axis=0).max() > 0.01


def test_a_folder_for_openvino_alone_says_what_is_missing(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / "openvino").mkdir()
    (tmp_path / "model" / "openvino" / "openvino_model.xml").write_text("<net/>")
    with pytest.raises(ModelError, match=r"must hold an ONNX file for onnx-int8 or onnx .*, got files for OpenVINO"):
        load(tmp_path / "model")


def test_whether_a_reader_may_refuse_is_recorded_or_given(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "reader", tiny_model(HeadSpec("span")))
    save_graph(build_graph(load_model(folder).model), folder / "model.onnx")
    path = folder / "cutbert.json"
    record = json.loads(path.read_text())
    for task, given, wanted in (
        ("squad", None, False),
        ("squad2", None, True),
        ("squad", True, True),
        ("squad2", False, False),
    ):
        path.write_text(json.dumps({**record, "task": {"task": task}}))
        reader = load(folder, threads=1, has_unanswerable=given)
        assert isinstance(reader, Reader) and reader.has_unanswerable == wanted
        (answer,) = reader([("good film", "a bad film")])
        assert ("no_answer_score" in answer) == wanted


def test_only_a_reader_may_refuse(default: Path) -> None:
    with pytest.raises(ModelError, match="has_unanswerable must be given for a reader, got a Labeller"):
        load(default, has_unanswerable=True)
