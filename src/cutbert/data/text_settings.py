"""What the user says about plain text for masked-LM training. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from cutbert.errors import DataError, InputError
from cutbert.options import option
from cutbert.settings import TEXT, Settings, paths_as_text

LEAST_LENGTH = 8


@dataclass(frozen=True, kw_only=True)
class TextSettings(Settings):
    """Which text to train on, and how tokens are masked.

    Either text files (`train`) or a hub data set (`dataset`). Nothing is read here; `check` only looks at what
    fits together.
    """

    GROUP = TEXT
    ERROR: ClassVar[type[InputError]] = DataError

    train: tuple[str, ...] = field(
        default=(),
        metadata=option("Text file (.txt, .txt.gz) or a glob; a blank line ends a document.", is_common=True),
    )
    dev: tuple[str, ...] = field(
        default=(),
        metadata=option("Held-out text file; default 1 % of the sequences, more of a small text.", is_common=True),
    )
    dataset: str | None = field(
        default=None,
        metadata=option("Hub data set or local folder of one, streamed; each row is a document.", is_common=True),
    )
    dataset_config: str | None = field(default=None, metadata=option("Configuration of the hub data set."))
    text_column: str = field(default="text", metadata=option("Column of the hub data set that holds the text."))
    sequence_length: int = field(
        default=128,
        metadata=option(
            "Length of every sequence, special tokens included; none is padded.", least=LEAST_LENGTH, unit="tokens"
        ),
    )
    mask_probability: float = field(
        default=0.15, metadata=option("Share of the ordinary tokens that is masked.", above=0, below=1)
    )
    whole_word: bool = field(default=False, metadata=option("Mask all subwords of a word together."))

    def __post_init__(self) -> None:
        for name in ("train", "dev"):
            object.__setattr__(self, name, paths_as_text(getattr(self, name)))

    def missing(self) -> Iterable[str]:
        if not self.train and self.dataset is None:
            yield "text must be given: --train FILE, or --dataset NAME"

    def conflicts(self) -> Iterable[str]:
        if self.train and self.dataset is not None:
            yield "--train and --dataset must not be given together"
        if self.dataset is None:
            for name in self.given("dataset_config", "text_column"):
                yield f"{name} must come with --dataset"
