"""The ten lines that lie beside an ONNX file and show how to run it."""

from __future__ import annotations

from cutbert.hub.load import Loaded

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


def example_code(loaded: Loaded, file: str) -> str:
    """Return a Python script that runs texts through one file of a folder's onnx/; it needs no torch.

    Args:
        loaded: the model with its tokenizer.
        file: name of the file.
    """
    tokenizer, kind = loaded.tokenizer, loaded.model.head_spec.kind
    head = HEAD.format(
        pad_id=tokenizer.pad_token_id,
        pad_token=tokenizer.pad_token,
        longest=tokenizer.model_max_length,
        file=file,
        texts=list(TEXTS),
    )
    return head + (LABELS if kind == "single_label" else SHAPE)
