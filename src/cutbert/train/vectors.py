"""Vectors of an embedding model: those of a split beside which others are judged, and a runner that pools states.

Axes: B batch, S sequence, H hidden, N texts.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cutbert.data.tokens import Tokens
from cutbert.data.vectors import VectorScorer, unit
from cutbert.errors import RunError
from cutbert.files import replacing_file
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.pooling import Pooling
from cutbert.train.evaluate import predict_logits
from cutbert.train.runner import Runner

FOLDER = "vectors"  # in a run: the teacher's, of select and dev


def embedder(model: TaskModel, normalizes: bool) -> TaskModel:
    """Return a bare encoder, which shares its weights, as an embedding model."""
    made = copy.copy(model)
    made.head_spec = HeadSpec("embedding", normalizes=normalizes)
    return made


def beside(tokens: Tokens, vectors: NDArray[np.float32]) -> Tokens:
    """Return the rows of an embedding model's data with a scorer that knows a teacher's vectors of them."""
    assert isinstance(tokens.scorer, VectorScorer)
    return replace(tokens, scorer=tokens.scorer.beside(vectors))


def keep_vectors(path: Path, model: TaskModel, tokens: Tokens) -> None:
    """Write a model's vectors of some rows, unit length, [N, H]."""
    path.parent.mkdir(exist_ok=True)
    with replacing_file(path) as aside, aside.open("wb") as file:
        np.save(file, unit(predict_logits(model, tokens)))


def kept_vectors(path: Path, tokens: Tokens, width: int) -> NDArray[np.float32]:
    """Return the vectors that a file keeps of some rows, [N, width].

    Raises:
        RunError: the file is damaged, or is of other rows or another model.
    """
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from None
    if vectors.shape != (len(tokens), width):
        wanted = f"a vector of {width} numbers for each of {len(tokens):,} texts"
        raise RunError(f"{path}: must hold {wanted}, got an array of shape {vectors.shape}")
    return np.asarray(vectors, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class PooledRunner:
    """Returns a text's vectors, whether a runner gives these or hidden states, as files for other loaders do.

    Args:
        runner: gives [B, H] or [B, S, H].
        pooling: what is read of the states.
        normalizes: whether vectors are divided by their norm.
    """

    runner: Runner
    pooling: Pooling
    normalizes: bool

    def __call__(
        self,
        input_ids: NDArray[np.int64],
        attention_mask: NDArray[np.int64] | None = None,
        token_type_ids: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        answer = self.runner(input_ids, attention_mask, token_type_ids)
        if answer.ndim == 2:
            return answer
        if self.pooling == "cls":
            vectors = answer[:, 0]
        elif attention_mask is None:
            vectors = answer.mean(axis=1)
        else:
            mask = attention_mask[..., None].astype(answer.dtype)
            vectors = (answer * mask).sum(axis=1) / mask.sum(axis=1)
        return unit(vectors) if self.normalizes else vectors
