"""Writes graphs into the onnx/ of a model folder, with an example script; all of them or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import onnx

from cutbert.files import replacing_file, replacing_folder
from cutbert.hub.card import EXAMPLE
from cutbert.hub.load import Loaded
from cutbert.hub.provenance import input_length

FOLDER, FLOAT_FILE = "onnx", "model.onnx"
EXTERNAL_BYTES = 2**31 - 2**20  # one protobuf file can hold no more
TEXTS = ("a film that is anything but dull", "it is dull")
HEAD = """import json, sys
from pathlib import Path
import numpy as np, onnxruntime, tokenizers

folder = Path(__file__).resolve().parents[1]
tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
tokenizer.enable_padding(pad_id={pad_id}, pad_token={pad_token!r})
tokenizer.enable_truncation({longest})
session = onnxruntime.InferenceSession(folder / "onnx" / "{file}")
texts = tokenizer.encode_batch(sys.argv[1:] or {texts!r})  # of pairs of texts: [("one", "other"), ...]
feeds = {{"input_ids": [each.ids for each in texts], "attention_mask": [each.attention_mask for each in texts],
         "token_type_ids": [each.type_ids for each in texts]}}
first = session.run(None, {{each.name: np.array(feeds[each.name]) for each in session.get_inputs()}})[0]
"""
LABELS = """labels = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
for row in first:
    print(labels[str(row.argmax())], row.tolist())
"""
SHAPE = "print(session.get_outputs()[0].name, first.shape)\n"


def add_files(folder: Path, loaded: Loaded, files: Mapping[str, onnx.ModelProto]) -> None:
    """Write graphs and an example script into a folder's onnx/; other files there stay."""
    if not files:
        return
    if not (folder / "tokenizer.json").is_file():
        with replacing_file(folder / "tokenizer.json") as aside:
            loaded.tokenizer.backend_tokenizer.save(str(aside))
    with replacing_folder(folder / FOLDER) as aside:
        if (folder / FOLDER).is_dir():
            shutil.copytree(folder / FOLDER, aside, copy_function=link, dirs_exist_ok=True)
        for name, graph in files.items():
            (aside / name).unlink(missing_ok=True)
            save_graph(graph, aside / name)
        (aside / EXAMPLE).unlink(missing_ok=True)
        (aside / EXAMPLE).write_text(example_code(loaded, next(iter(files))), encoding="utf-8")


def link(source: str, target: str) -> None:
    """Hard-link a file, or copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def save_graph(graph: onnx.ModelProto, path: Path) -> None:
    """Write a graph; where it exceeds what one file can hold, its weights go into a second file."""
    is_large = graph.ByteSize() > EXTERNAL_BYTES
    onnx.save(graph, path, save_as_external_data=is_large, location=f"{path.name}_data" if is_large else None)


def example_code(loaded: Loaded, file: str) -> str:
    """Return a Python script that runs texts through one file of a folder's onnx/; it needs no torch.

    It cuts texts at the longest input the model was trained on, or at the model's positions where that is not known.

    Args:
        loaded: the model with its tokenizer.
        file: name of the file.
    """
    tokenizer, kind = loaded.tokenizer, loaded.model.head_spec.kind
    room = tokenizer.model_max_length
    head = HEAD.format(
        pad_id=tokenizer.pad_token_id,
        pad_token=tokenizer.pad_token,
        longest=input_length(loaded.provenance, None, room, room),
        file=file,
        texts=list(TEXTS),
    )
    return head + (LABELS if kind == "single_label" else SHAPE)
