"""Peak memory is of a fresh process; file size is of the weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutbert.bench.memory import file_bytes, measure_alone, run_here
from cutbert.errors import MissingError
from cutbert.train.machine import own_peak_bytes
from tiny_runs import save_tiny


def test_peak_covers_what_was_touched(tmp_path: Path) -> None:
    before = own_peak_bytes()
    block = bytearray(before + 50_000_000)
    block[::4096] = b"x" * len(block[::4096])
    assert own_peak_bytes() >= before + 50_000_000
    assert run_here("torch", str(save_tiny(tmp_path / "m")), 5, 1)["peak_bytes"] >= own_peak_bytes() // 2


def test_only_weight_files_count(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"12345")
    assert file_bytes(tmp_path) == 5
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"123")
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"1")
    (tmp_path / "config.json").write_text("{}")
    assert file_bytes(tmp_path) == 4
    assert file_bytes(tmp_path / "none") == 0


def test_a_process_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="a process that runs it could not be measured"):
        measure_alone("torch", tmp_path, length=4, threads=1)
