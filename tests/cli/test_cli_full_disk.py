"""A disk that is full at any write of a command: one line, nothing left, and the same command finishes with room.

Bounded: the n-th file that is opened, folder that is made or name that is given fails, in this process, and no file may
grow beyond some sizes. benchmarks/measure_full_disk.py does the same to all verbs on a disk that is really full.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cutbert.cli.main import main
from cutbert.files import file_sha256
from cutbert.shape.head import HeadSpec
from machine_limits import largest_file
from tiny_runs import make_run, save_tiny, tiny_model, tiny_rows, write_tsv

QUICK = "--text text --label label --epochs 1 --batch-size 8 --threads 1 --max-length 16 --precision float32"
COMMANDS = {
    "pick": "pick run --max-params 1M --out o",
    "report": "report run --out new/o.html",
    "predict": "predict model --input dev.tsv --text text --out new/o.tsv",
    "export": "export model --onnx",
    "finetune": f"finetune base --train train.tsv --dev dev.tsv {QUICK} --checkpoint-seconds 0 --out o",
}
MAKE_RUNS = ("finetune",)  # which goes on from what it leaves
MOMENTS = (1, 2, 3, 4, 6, 9, 14, 22, 36, 60)  # writes before the disk is full
SIZES = (0, 100, 3000, 20_000)  # bytes that a file may have
_budget: list[int] = []  # writes that are still let through, while a test counts them


@contextmanager
def full_after(count: int) -> Iterator[None]:
    """Let the disk be full within the block after some writes."""
    _install()
    _budget[:] = [count]
    try:
        yield
    finally:
        _budget.clear()


@cache  # once: Python has no way to remove a hook
def _install() -> None:
    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        if not _budget:
            return
        if event == "open":
            path, _, flags = arguments
            is_write = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR)) and path != os.devnull
        else:
            is_write, path = event in ("os.mkdir", "os.rename"), arguments[0] if arguments else None
        if is_write and "pycache" not in str(path):
            _budget[0] -= 1
            if _budget[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    sys.addaudithook(on_event)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models, data and a run."""
    folder = tmp_path_factory.mktemp("inputs")
    save_tiny(folder / "model")
    save_tiny(folder / "base", tiny_model(HeadSpec("pooler")))
    make_run(folder / "run")
    for seed, name in enumerate(("train", "dev")):
        write_tsv(folder / f"{name}.tsv", tiny_rows(41, seed))
    return folder


def files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file by its path, with folders, which have none."""
    return {str(path.relative_to(folder)): file_sha256(path) if path.is_file() else "" for path in folder.rglob("*")}


@pytest.mark.slow
@pytest.mark.parametrize("verb", COMMANDS)
def test_a_full_disk(
    verb: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = COMMANDS[verb].split()
    rooms = [full_after(count) for count in MOMENTS] + [largest_file(size) for size in SIZES]
    failed: list[Path] = []
    for number, room in enumerate(rooms):
        work = tmp_path / str(number)
        shutil.copytree(inputs, work)
        monkeypatch.chdir(work)
        monkeypatch.setenv("CUTBERT_CACHE", str(tmp_path / f"cache{number}"))
        before = files(work)
        with room:
            code = main(words)
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cutbert:")]
        if code == 0:
            continue
        failed.append(work)
        assert code == 2 and len(lines) == 1, lines
        assert "no space left" in lines[0] or "larger than a file may be" in lines[0]
        left = files(work)
        assert not [name for name in left if ".part" in name or ".old" in name or "/.tmp" in name]
        assert verb in MAKE_RUNS or left == before
    assert len(failed) > 3
    for work in failed[:: len(failed) - 1]:  # the first and the last
        monkeypatch.chdir(work)
        assert main(words) == 0
