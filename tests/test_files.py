"""Folders written whole or not at all: what was there before is there again where writing is interrupted."""

from __future__ import annotations

from pathlib import Path

from cutbert.files import replacing_folder
from kills import killed_before


def fill(path: Path, text: str) -> None:
    with replacing_folder(path) as aside:
        (aside / "file.txt").write_text(text)


def test_an_interrupt_between_the_two_renames_keeps_the_former_folder(tmp_path: Path) -> None:
    path = tmp_path / "model"
    fill(path, "former")
    with killed_before(path):
        fill(path, "new")
    assert (path / "file.txt").read_text() == "former" and list(tmp_path.iterdir()) == [path]
    fill(path, "new")
    assert (path / "file.txt").read_text() == "new" and list(tmp_path.iterdir()) == [path]
