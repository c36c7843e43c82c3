"""What the user says about plain text for masked-LM training. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from cutbert.errors import DataError, Mistakes

FILE_LISTS = ("train", "dev")
LEAST_LENGTH = 8


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """Which text to train on, and how tokens are masked.

    Either text files (`train`) or a hub data set (`dataset`). Nothing is read here; `check` only looks at what
    fits together.
    """

    train: tuple[str, ...] = field(
        default=(),
        metadata={"help": "Text file (.txt, .txt.gz), a blank line ends a document; repeatable; globs are expanded."},
    )
    dev: tuple[str, ...] = field(
        default=(),
        metadata={"help": "Held-out text file; repeatable; default: 1 % of the sequences, of a small text more."},
    )
    dataset: str | None = field(
        default=None, metadata={"help": "Hub data set or local folder of one, streamed; each row is a document."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of the hub data set."})
    text_column: str = field(default="text", metadata={"help": "Column of the hub data set that holds the text."})
    sequence_length: int = field(
        default=128, metadata={"help": "Tokens of every sequence, special tokens included; none is padded."}
    )
    mask_probability: float = field(default=0.15, metadata={"help": "Share of the ordinary tokens that is masked."})
    whole_word: bool = field(default=False, metadata={"help": "Mask all pieces of a word together."})

    def __post_init__(self) -> None:
        for name in FILE_LISTS:
            value = getattr(self, name)
            files: Iterable[str | os.PathLike[str]] = [value] if isinstance(value, str | os.PathLike) else value
            object.__setattr__(self, name, tuple(os.fspath(file) for file in files))

    def check(self) -> None:
        """Refuse what does not fit together.

        Raises:
            DataError: every such mistake, together.
        """
        mistakes = Mistakes()
        if not self.train and self.dataset is None:
            mistakes.add("text must be given: --train FILE, or --dataset NAME")
        if self.train and self.dataset is not None:
            mistakes.add("--train and --dataset must not be given together")
        for name, default in (("dataset_config", None), ("text_column", "text")):
            if self.dataset is None and getattr(self, name) != default:
                mistakes.add(f"--{name.replace('_', '-')} must come with --dataset")
        if self.sequence_length < LEAST_LENGTH:
            mistakes.add(f"--sequence-length must be at least {LEAST_LENGTH}, got {self.sequence_length}")
        if not 0 < self.mask_probability < 1:
            mistakes.add(f"--mask-probability must lie between 0 and 1, got {self.mask_probability}")
        mistakes.check(DataError)
