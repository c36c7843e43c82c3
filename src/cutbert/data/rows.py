"""Texts with their labels, the interface of the rows of any task, and the hash of a text."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray


class Examples(Protocol):
    """The rows of one split: texts (Rows), questions (Questions) or sentences (Sentences)."""

    def __len__(self) -> int: ...

    def take(self, indices: NDArray[np.integer]) -> Self:
        """Return the rows at `indices`, in that order."""
        ...

    def text_keys(self) -> list[bytes]:
        """Return one key per row; rows with equal keys must be in one split."""
        ...

    def joined(self, others: Self) -> Self:
        """Return these rows followed by others, without labels."""
        ...


@dataclass(frozen=True, eq=False)
class Rows:
    """Texts, perhaps in pairs, perhaps with labels.

    Args:
        text: the texts, as in the file.
        text_pair: the second texts, or None.
        labels: int64 ids [N], float32 scores [N], float32 multi-hot [N, C], bool [N] (whether a pair is relevant), or
            None.
        groups: of each pair, the group that it is ranked in, or None.
    """

    text: list[str]
    text_pair: list[str] | None = None
    labels: NDArray[np.generic] | None = None
    groups: list[str] | None = None

    def __len__(self) -> int:
        return len(self.text)

    def take(self, indices: NDArray[np.integer]) -> Rows:
        """Return the rows at `indices`, in that order."""
        return Rows(
            text=[self.text[i] for i in indices],
            text_pair=None if self.text_pair is None else [self.text_pair[i] for i in indices],
            labels=None if self.labels is None else self.labels[indices],
            groups=None if self.groups is None else [self.groups[i] for i in indices],
        )

    def joined(self, others: Rows) -> Rows:
        """Return these rows followed by others, without labels."""
        pairs = None if self.text_pair is None else [*self.text_pair, *(others.text_pair or [])]
        return Rows([*self.text, *others.text], pairs)

    def text_keys(self) -> list[bytes]:
        """Return one key per row; equal keys mean equal texts."""
        if self.text_pair is None:
            return [text_key(text) for text in self.text]
        return [text_key(text, pair) for text, pair in zip(self.text, self.text_pair, strict=True)]


def text_key(text: str, text_pair: str | None = None) -> bytes:
    """Return 16 bytes that are equal for equal texts; runs of white space count as one space."""
    sides = [text] if text_pair is None else [text, text_pair]
    joined = "\n".join(" ".join(side.split()) for side in sides)
    return hashlib.blake2b(joined.encode(), digest_size=16).digest()
