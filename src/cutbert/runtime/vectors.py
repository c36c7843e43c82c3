"""Texts as vectors: the states of an encoder pooled and normalised as its sentence-transformers folder says.

Axes: B batch, S sequence, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.errors import ModelError
from cutbert.runtime.folder import named_prompt, read_object, read_value
from cutbert.runtime.runner import Model, Outputs

MODULES_FILE = "modules.json"
FLAG = "pooling_mode_"
WORDS = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max"}
POOLINGS = ("cls", "mean", "max", "lasttoken")
STATES = ("last_hidden_state", "token_embeddings")


class Embedder(Model):
    """Turns texts into vectors, [H] float32 each, or the first numbers of these (`truncate_dim` in the folder).

    Before a text comes the prompt that a call names, one of `prompts`, else the folder's default, which may be none.

    Raises:
        ModelError: the folder does not say how states become vectors, or says what we do not have.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.pooling, self.normalizes, self.pools_prompts = modules_of(self.folder.path)
        self.prompts, self.prompt = self.folder.prompts, self.folder.default_prompt
        self.truncate_dim = self.folder.truncate_dim
        self.prompt_of(None)

    def prompt_of(self, name: str | None) -> str:
        prompt = self.prompt if name is None else named_prompt(self.prompts, name)
        if prompt and not self.pools_prompts:
            path = self.folder.path / "1_Pooling" / "config.json"
            raise ModelError(f"{path}: include_prompt must be true for a text to have a prompt, got false")
        return prompt

    def rows_of(self, outputs: Outputs, mask_BS: NDArray[np.int64]) -> Iterable[Any]:
        name = next(name for name in STATES if name in outputs)
        states = self.output(outputs, name, mask_BS, *mask_BS.shape, None)
        vectors = pooled(states, mask_BS, self.pooling)
        if self.normalizes:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors[:, : self.truncate_dim]

    def answer(self, given: Any, encodings: Sequence[Any], results: Sequence[Any]) -> NDArray[np.float32]:
        return np.asarray(results[0], dtype=np.float32)


def pooled(states_BSH: NDArray[np.float32], mask_BS: NDArray[np.int64], pooling: str) -> NDArray[np.float32]:
    """Return one vector for each text, [B, H]; padding comes last and does not count."""
    if pooling == "cls":
        return states_BSH[:, 0]
    if pooling == "lasttoken":
        return states_BSH[np.arange(len(states_BSH)), mask_BS.sum(axis=1) - 1]
    if pooling == "max":
        return np.where(mask_BS[..., None] > 0, states_BSH, -np.inf).max(axis=1).astype(np.float32)
    mask_BS1 = mask_BS[..., None].astype(np.float32)
    mean: NDArray[np.float32] = (states_BSH * mask_BS1).sum(axis=1) / mask_BS1.sum(axis=1)
    return mean


def has_modules(folder: Path) -> bool:
    """Return whether a folder is one of sentence-transformers."""
    return (folder / MODULES_FILE).is_file()


def modules_of(folder: Path) -> tuple[str, bool, bool]:
    """Return a folder's pooling, whether its vectors are divided by their norm, and whether prompts are pooled too."""
    path = folder / MODULES_FILE
    if not has_modules(folder):
        raise ModelError(
            f"{folder} must say how a text's states become its vector (modules.json and 1_Pooling, as "
            "sentence-transformers writes them), got a bare encoder without"
        )
    try:
        kinds = [str(each["type"]).rpartition(".")[2] for each in read_value(path)]
    except (TypeError, LookupError):
        raise ModelError(f"{path}: must be a list of sentence-transformers' modules") from None
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        wanted = "Transformer, Pooling and at most Normalize"
        raise ModelError(f"{path}: modules must be {wanted}, got {', '.join(kinds) or 'none'}")
    data = read_object(folder / "1_Pooling" / "config.json")
    modes = [key.removeprefix(FLAG) for key, is_on in data.items() if key.startswith(FLAG) and is_on is True]
    pooling = str(data.get("pooling_mode") or " and ".join(WORDS.get(mode, mode) for mode in modes) or "none")
    if pooling not in POOLINGS:
        raise ModelError(f"{folder}: the pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
    return pooling, "Normalize" in kinds, data.get("include_prompt") is not False
