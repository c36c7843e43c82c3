"""Graphs come into a folder's onnx/ beside what is there, the largest in two files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cutbert.exporters import folder as folders
from cutbert.exporters.folder import FLOAT_FILE, FOLDER, add_files, save_graph
from cutbert.exporters.graph import build_graph
from cutbert.exporters.session import OnnxRunner
from cutbert.folders.load import load_model
from cutbert.train.runner import TorchRunner
from tiny_runs import save_tiny, tiny_model

IDS = np.array([[2, 5, 6, 3]])


def test_new_files_replace_those_of_their_name_alone(tmp_path: Path) -> None:
    loaded = load_model(save_tiny(tmp_path / "m"))
    own, another, folder = build_graph(loaded.model), build_graph(tiny_model(seed=5)), tmp_path / "m" / FOLDER
    add_files(tmp_path / "m", loaded, {})
    assert not folder.exists()
    add_files(tmp_path / "m", loaded, {FLOAT_FILE: another, "other.onnx": another})
    other = (folder / "other.onnx").read_bytes()
    add_files(tmp_path / "m", loaded, {FLOAT_FILE: own})
    assert {path.name for path in folder.iterdir()} == {FLOAT_FILE, "other.onnx", "example.py"}
    assert (folder / "other.onnx").read_bytes() == other
    np.testing.assert_allclose(OnnxRunner(folder / FLOAT_FILE, 1)(IDS), TorchRunner(tiny_model())(IDS), atol=1e-4)


def test_what_one_file_cannot_hold_goes_into_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "EXTERNAL_BYTES", 0)
    save_graph(build_graph(tiny_model()), tmp_path / "large.onnx")
    assert {path.name for path in tmp_path.iterdir()} == {"large.onnx", "large.onnx_data"}
    found = OnnxRunner(tmp_path / "large.onnx", 1)(IDS)
    np.testing.assert_allclose(found, TorchRunner(tiny_model())(IDS), atol=1e-4)
