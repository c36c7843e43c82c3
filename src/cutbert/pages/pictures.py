"""The pictures of an analysis that is a run or lies in one, each as text that stands in the page itself."""

from __future__ import annotations

import base64
from pathlib import Path

ANALYSIS = "analysis.json"
KINDS = {".svg": "image/svg+xml", ".png": "image/png"}


def read_pictures(run: Path) -> dict[str, str]:
    """Return by title the pictures beside every analysis.json in a run folder or one folder below it.

    They are shown as images, in which a browser runs no script and loads nothing.
    """
    folders = [run, *sorted(path for path in run.iterdir() if path.is_dir())]
    return {
        path.stem if folder == run else f"{folder.name}: {path.stem}": data_uri(path)
        for folder in folders
        if (folder / ANALYSIS).is_file()
        for path in sorted(folder.iterdir())
        if path.suffix in KINDS
    }


def data_uri(path: Path) -> str:
    return f"data:{KINDS[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
