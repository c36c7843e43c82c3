"""Answers for whole texts or pairs of them: a label with probabilities, several labels, or a number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.errors import ModelError
from cutbert.runtime.runner import Answer, Model, Outputs

HALF = 0.5


class Labeller(Model):
    """Labels texts: an answer has `label` and `probabilities` by label.

    Of a model whose labels exclude no others `label` is a list: those with a probability of at least one half.
    """

    def rows_of(self, outputs: Outputs, mask_BS: NDArray[np.int64]) -> Iterable[Any]:
        logits = self.output(outputs, "logits", mask_BS, len(mask_BS), None).astype(np.float64)
        if logits.shape[1] != len(self.folder.labels):
            wanted = len(self.folder.labels)
            raise ModelError(
                f"{self.folder.path}: must have {wanted} outputs, one for each label, got {logits.shape[1]}"
            )
        if self.folder.kind == "multi_label":
            return 1 / (1 + np.exp(-logits))
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def answer(self, given: Any, encodings: Sequence[Any], results: Sequence[Any]) -> Answer:
        named = dict(zip(self.folder.labels, results[0].tolist(), strict=True))
        above = [name for name, chance in named.items() if chance >= HALF]
        best = above if self.folder.kind == "multi_label" else max(named, key=named.__getitem__)
        return {"label": best, "probabilities": named}


class Scorer(Model):
    """Gives texts or pairs a number, as rerankers do: an answer has `label`, the network's output.

    Scores are raw logits, unless the folder names an activation for sentence-transformers' CrossEncoder
    (`activation_fn`: Sigmoid, Tanh or Identity): that is applied, as there.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.activate = self.folder.activation

    def rows_of(self, outputs: Outputs, mask_BS: NDArray[np.int64]) -> Iterable[Any]:
        return self.activate(self.output(outputs, "logits", mask_BS, len(mask_BS), 1)[:, 0])

    def answer(self, given: Any, encodings: Sequence[Any], results: Sequence[Any]) -> Answer:
        return {"label": float(results[0])}
