"""Puts graphs into the onnx/ of a model folder, with an example of their use; all of them or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import onnx

from cutbert.exporters.example import example_code
from cutbert.files import replacing_folder
from cutbert.hub.card import EXAMPLE
from cutbert.hub.load import Loaded

FOLDER, FLOAT_FILE = "onnx", "model.onnx"
EXTERNAL_BYTES = 2**31 - 2**20  # what one protobuf file can hold


def add_files(folder: Path, loaded: Loaded, files: Mapping[str, onnx.ModelProto]) -> None:
    """Put graphs and an example of their use into a folder's onnx/; what else is there stays."""
    if not files:
        return
    if not (folder / "tokenizer.json").is_file():
        loaded.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    with replacing_folder(folder / FOLDER) as aside:
        if (folder / FOLDER).is_dir():
            shutil.copytree(folder / FOLDER, aside, copy_function=link, dirs_exist_ok=True)
        for name, graph in files.items():
            (aside / name).unlink(missing_ok=True)
            save_graph(graph, aside / name)
        (aside / EXAMPLE).unlink(missing_ok=True)
        (aside / EXAMPLE).write_text(example_code(loaded, next(iter(files))), encoding="utf-8")


def link(source: str, target: str) -> None:
    """Give a file a second name, or copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def save_graph(graph: onnx.ModelProto, path: Path) -> None:
    """Write a graph; weights beyond what one file can hold go into a second one beside it."""
    is_large = graph.ByteSize() > EXTERNAL_BYTES
    onnx.save(graph, path, save_as_external_data=is_large, location=f"{path.name}_data" if is_large else None)
