"""Writes graphs into the onnx/ of a model folder, with an example script; all of them or none."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import onnx

from cutbert.files import linked, replacing_file, replacing_folder
from cutbert.folders.card import EXAMPLE
from cutbert.folders.load import Loaded
from cutbert.folders.provenance import input_length
from cutbert.folders.sentence import Sentence

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
POOL = {
    "cls": "vectors = first[:, 0]\n",
    "mean": """mask = np.array(feeds["attention_mask"])[..., None]
vectors = (first * mask).sum(1) / mask.sum(1)
""",
}
NORMALIZE = "vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)\n"
VECTORS = "print(json.dumps(vectors.tolist()))\n"


def add_files(
    folder: Path, loaded: Loaded, files: Mapping[str, onnx.ModelProto], sentence: Sentence | None = None
) -> None:
    """Write graphs and an example script into a folder's onnx/; other files there stay.

    Args:
        folder: of the model.
        loaded: the model with its tokenizer.
        files: graphs by name.
        sentence: of a bare encoder, how its states become vectors.
    """
    if not files:
        return
    if not (folder / "tokenizer.json").is_file():
        with replacing_file(folder / "tokenizer.json") as aside:
            loaded.tokenizer.backend_tokenizer.save(str(aside))
    with replacing_folder(folder / FOLDER) as aside:
        if (folder / FOLDER).is_dir():
            shutil.copytree(folder / FOLDER, aside, copy_function=linked, dirs_exist_ok=True)
        for name, graph in files.items():
            (aside / name).unlink(missing_ok=True)
            save_graph(graph, aside / name)
        write_example(aside, loaded, next(iter(files)), sentence)


def write_example(folder: Path, loaded: Loaded, file: str, sentence: Sentence | None) -> None:
    """Write the script that runs one of the files of an onnx/ beside it, in place of one that is there."""
    (folder / EXAMPLE).unlink(missing_ok=True)  # it may be a link to another folder's
    (folder / EXAMPLE).write_text(example_code(loaded, file, sentence), encoding="utf-8")


def save_graph(graph: onnx.ModelProto, path: Path) -> None:
    """Write a graph; where it exceeds what one file can hold, its weights go into a second file."""
    is_large = graph.ByteSize() > EXTERNAL_BYTES
    onnx.save(graph, path, save_as_external_data=is_large, location=f"{path.name}_data" if is_large else None)


def example_code(loaded: Loaded, file: str, sentence: Sentence | None = None) -> str:
    """Return a Python script that runs texts through one file of a folder's onnx/; it needs no torch.

    It cuts texts at the `longest_text`.

    Args:
        loaded: the model with its tokenizer.
        file: name of the file.
        sentence: of a bare encoder, how its states become vectors, which the script then prints.
    """
    tokenizer, kind = loaded.tokenizer, loaded.model.head_spec.kind
    head = HEAD.format(
        pad_id=tokenizer.pad_token_id,
        pad_token=tokenizer.pad_token,
        longest=longest_text(loaded, sentence),
        file=file,
        texts=list(TEXTS),
    )
    if kind == "embedding":
        return head + "vectors = first\n" + VECTORS
    if sentence is not None and sentence.pooling in POOL:
        cut = "" if sentence.truncate_dim is None else f"vectors = vectors[:, :{sentence.truncate_dim}]\n"
        return head + POOL[sentence.pooling] + (NORMALIZE if sentence.normalize else "") + cut + VECTORS
    return head + (LABELS if kind == "single_label" else SHAPE)


def longest_text(loaded: Loaded, sentence: Sentence | None) -> int:
    """Return the tokens at which texts are cut: the longest the model was trained on, else the longest that its
    sentence-transformers folder names, else its positions."""
    room = loaded.tokenizer.model_max_length
    named = None if sentence is None else sentence.max_length
    return input_length(loaded.provenance, None, named or room, room)
