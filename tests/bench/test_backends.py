"""Every backend answers as the network does, from memory and from its file, and says what it lacks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from cutbert import api
from cutbert.bench.backends import BACKENDS
from cutbert.bench.memory import file_bytes, measure_alone
from cutbert.bench.settings import BackendName, LatencySettings, MeasureSettings
from cutbert.train.runner import TorchRunner
from tiny_runs import save_tiny, tiny_model, tiny_rows, write_tsv

IDS = np.array([[2, 5, 6, 3], [2, 7, 3, 0]])
MASK = np.array([[1, 1, 1, 1], [1, 1, 1, 0]])
TOLERANCES = {"torch": 0.0, "torch-bf16": 0.2, "onnx": 1e-4, "onnx-int8": 0.5}


def test_the_table_has_every_name() -> None:
    assert tuple(BACKENDS) == get_args(BackendName)


@pytest.mark.parametrize("name", get_args(BackendName))
def test_answers_from_memory_and_from_file(name: str, tmp_path: Path) -> None:
    backend, model, folder = BACKENDS[name], tiny_model(), save_tiny(tmp_path / "m")
    wanted = TorchRunner(model)(IDS, MASK)
    path = backend.stored(folder)
    if not path.exists():
        path = tmp_path / "made.onnx"
        backend.store(model, path)
    in_memory, stored = backend.load(model, 1)(IDS, MASK), backend.load(path, 1)(IDS, MASK)
    np.testing.assert_allclose(in_memory, wanted, atol=TOLERANCES[name] * max(1.0, float(np.abs(wanted).max())))
    np.testing.assert_allclose(stored, in_memory, atol=1e-5)
    assert file_bytes(path) > 0
    assert next(model.parameters()).dtype.itemsize == 4


def test_onnx_is_measured_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "made.onnx"
    BACKENDS["onnx"].store(tiny_model(), path)
    found = measure_alone("onnx", path, length=5, threads=1)
    assert found["peak_bytes"] > 0 and found["load_ms"] > 0
    script = (
        "import sys\nfrom cutbert.bench.memory import run_here\n"
        f"run_here('onnx', {str(path)!r}, 5, 1)\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_models_are_measured_on_several_backends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tiny(tmp_path / "m")
    train, dev = write_tsv(tmp_path / "train.tsv", tiny_rows()), write_tsv(tmp_path / "dev.tsv", tiny_rows(12, seed=1))
    found = api.measure(
        tmp_path / "m", backend="torch,onnx,onnx-int8", rounds=1, throughput_batch_size=2, threads=1,
        train=[train], dev=[dev], text="text", label="label",
    )  # fmt: skip
    assert [each["backend"] for each in found["models"]] == ["torch", "onnx", "onnx-int8"]
    torch, onnx, _ = found["models"]
    assert torch["score"] == onnx["score"] and torch["params"] == onnx["params"]
    assert onnx["file_bytes"] > 0 and onnx["load_ms"] > 0
    assert "m has no onnx/model.onnx: measured on one made for this measurement" in capsys.readouterr().err
    assert not (tmp_path / "m" / "onnx").exists()
    assert found["measured"]["backend"] == "torch,onnx,onnx-int8" and "onnxruntime" in found["measured"]["versions"]


def test_settings_say_where_onnx_runs() -> None:
    assert LatencySettings(backend="onnx").engine_device == "cpu"
    assert MeasureSettings(backend=("torch",), device="cuda").engine_device == "cuda"
