"""Plain text to full sequences of tokens: documents concatenated, no padding, stored in the token cache.

Axes: N sequences, S positions of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cutbert.data.cache import ArrayWriter, cached_files
from cutbert.data.splits import HeldOut
from cutbert.data.text_settings import TextSettings
from cutbert.data.text_sources import TextSource, find_dev, find_train
from cutbert.data.tokens import Tokens, bare_engine
from cutbert.errors import DataError, Mistakes, ModelError

FORMAT = 2
CHUNK_PIECES = 5_000
CHUNK_CHARACTERS = 4_000_000
ARRAYS = ("train", "held_out")
UNKNOWN_MARK = "<unk>"  # how corpora of whole words, such as WikiText, write a rare word


class TextSources(NamedTuple):
    """The sources of training and held-out text; without dev, a share of the training sequences is held out."""

    train: TextSource
    dev: TextSource | None


@dataclass(frozen=True, eq=False)
class TextData:
    """Text as sequences of one length.

    Args:
        train: sequences to train on.
        dev: held-out sequences, none of which is in train.
        files: SHA-256 of each file, or the fingerprint of a hub data set.
        notes: for the user.
    """

    train: Tokens
    dev: Tokens
    files: dict[str, str]
    notes: tuple[str, ...]


class Frame(NamedTuple):
    """The form of a sequence: special tokens around ordinary ones.

    Args:
        first: id of the token that begins every sequence ([CLS]).
        separator: id of the token between documents and at the end of every sequence ([SEP]).
        length: S, special tokens included.
    """

    first: int
    separator: int
    length: int


def find_texts(settings: TextSettings) -> TextSources:
    """Return the sources that the settings name; files are only checked to exist, not read.

    Raises:
        DataError: all mistakes in the settings, and all files or data sets that cannot be found.
    """
    mistakes = Mistakes()
    with mistakes.collect():
        settings.check()
    train = dev = None
    if bool(settings.train) != (settings.dataset is not None):  # else `check` has reported it
        with mistakes.collect():
            train = find_train(settings)
    with mistakes.collect():
        dev = find_dev(settings)
    if train is not None and dev is not None:
        mistakes.extend(shared_texts(train, dev))
    mistakes.check(DataError)
    assert train is not None
    return TextSources(train, dev)


def shared_texts(train: TextSource, dev: TextSource) -> list[str]:
    """Return a mistake for every file that is both trained on and held out, by content, not by name."""
    names = {digest: name for name, digest in train.files.items()}
    return [
        f"--train and --dev must not both hold the same text, got {' and '.join(dict.fromkeys((names[digest], name)))}"
        for name, digest in dev.files.items()
        if digest in names
    ]


def load_texts(sources: TextSources, tokenizer: Any, tokenizer_id: str, sequence_length: int) -> TextData:
    """Return text as sequences of a model's tokens, all of one length.

    Documents are concatenated with [SEP] between; every sequence is [CLS], the next S - 2 of these tokens, [SEP].
    The rest that does not fill a sequence is left out, unless it is all there is. Text is read once, as a stream:
    memory does not grow with it.

    Args:
        sources: of `find_texts`.
        tokenizer: a fast tokenizer of transformers.
        tokenizer_id: its name, for messages.
        sequence_length: S.

    Raises:
        ModelError: the tokenizer is not a fast one, or has no tokens that begin and separate.
        DataError: text that cannot be read, too little text, or the cache cannot be written.

    Source:
        Liu et al. 2019 (RoBERTa, 1907.11692), section 4.2, FULL-SENTENCES: no next-sentence prediction, documents
        joined. Departure: sequences end in the middle of a sentence, so that none is padded.
    """
    first, separator = tokenizer.cls_token_id, tokenizer.sep_token_id
    if first is None or separator is None:
        raise ModelError(f"{tokenizer_id}: the tokenizer must have a first and a separating token (cls, sep)")
    packer = Packer(bare_engine(tokenizer, tokenizer_id), tokenizer.unk_token, Frame(first, separator, sequence_length))
    train, held_out = packer.tokens_of(sources.train, holds_out=sources.dev is None)
    dev = held_out if sources.dev is None else packer.tokens_of(sources.dev, holds_out=False)[0]
    if sources.dev is None and not (len(train) and len(dev)):
        raise DataError(
            f"{', '.join(sources.train.files)}: must fill two different sequences of {sequence_length} tokens, one to "
            "train on and one held out; give more text, --dev FILE, or a smaller --sequence-length"
        )
    for source, tokens in ((sources.train, train), (sources.dev, dev)):
        if source is not None and not len(tokens):
            raise DataError(f"{', '.join(source.files)}: must hold text, got none")
    longest = int(train.lengths.max())
    notes = [f"{len(train):,} sequences of {longest} tokens to train on, {len(dev):,} held out"]
    if sources.dev is None:
        notes.append("the held-out sequences are a share of the training text, by hash; --dev FILE gives others")
    files = sources.train.files | (sources.dev.files if sources.dev else {})
    return TextData(train, dev, files, tuple(notes))


@dataclass(frozen=True)
class Packer:
    """Turns text into sequences.

    Args:
        engine: of the tokenizer, without truncation and padding.
        unknown: the tokenizer's unknown token, which replaces <unk> in the text; None leaves it.
        frame: of a sequence.
    """

    engine: Any
    unknown: str | None
    frame: Frame

    def tokens_of(self, source: TextSource, *, holds_out: bool) -> tuple[Tokens, Tokens]:
        """Return a source's sequences, and those held out (none unless `holds_out`)."""
        about = f"{', '.join(source.files)} in sequences of {self.frame.length} tokens"
        key = hashlib.sha256(repr((FORMAT, self.engine.to_str(), self.unknown, self.frame, holds_out)).encode())
        key.update(repr(list(source.files.values())).encode())

        def write(folder: Path) -> Sequence[str]:
            write_sequences(folder, self.sequences(source.pieces()), holds_out=holds_out)
            return ARRAYS

        arrays = cached_files(f"text-{key.hexdigest()}", write, about)
        return self._rows(arrays["train"]), self._rows(arrays["held_out"])

    def _rows(self, ids: NDArray[np.int32]) -> Tokens:
        length = min(self.frame.length, len(ids)) or self.frame.length
        return Tokens(ids, np.arange(0, len(ids) + 1, length))

    def sequences(self, pieces: Iterable[str | None]) -> Iterator[NDArray[np.int32]]:
        """Yield the sequences of a stream of text, [N, S]; one shorter sequence where the text does not fill one."""
        inner = self.frame.length - 2
        rest, is_empty = np.empty(0, np.int32), True
        for ids in self.ids_of(pieces):
            joined = np.concatenate([rest, ids])
            whole = len(joined) // inner * inner
            rest = joined[whole:]
            if whole:
                is_empty = False
                yield self._framed(joined[:whole].reshape(-1, inner))
        if is_empty and len(rest):
            yield self._framed(rest[None])

    def _framed(self, inner: NDArray[np.int32]) -> NDArray[np.int32]:
        return np.pad(inner, ((0, 0), (1, 1)), constant_values=((0, 0), (self.frame.first, self.frame.separator)))

    def ids_of(self, pieces: Iterable[str | None]) -> Iterator[NDArray[np.int32]]:
        """Yield the ids of a stream of text, a separator between documents.

        Args:
            pieces: parts of documents; None ends a document.
        """
        starts_document, is_first = True, True
        for chunk in chunks(pieces):
            texts, begins = [], []
            for piece in chunk:
                if piece is None:
                    starts_document = True
                    continue
                begins.append(starts_document and not is_first)
                # For byte-level tokenizers (RoBERTa) the space marks that a word begins here.
                texts.append(self._plain(piece if starts_document else f" {piece}"))
                starts_document = is_first = False
            encoded = [encoding.ids for encoding in self.engine.encode_batch_fast(texts, add_special_tokens=False)]
            separated = ([self.frame.separator, *ids] if new else ids for new, ids in zip(begins, encoded, strict=True))
            yield np.fromiter(chain.from_iterable(separated), dtype=np.int32)

    def _plain(self, piece: str) -> str:
        return piece if self.unknown is None else piece.replace(UNKNOWN_MARK, self.unknown)


def chunks(pieces: Iterable[str | None]) -> Iterator[list[str | None]]:
    """Yield a stream in parts that fit into memory."""
    chunk: list[str | None] = []
    characters = 0
    for piece in pieces:
        chunk.append(piece)
        characters += len(piece or "")
        if len(chunk) >= CHUNK_PIECES or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    yield chunk


def write_sequences(folder: Path, sequences: Iterable[NDArray[np.int32]], *, holds_out: bool) -> None:
    """Write train.npy and held_out.npy: flat ids."""
    held_out = HeldOut()
    with ExitStack() as stack:
        train, held = (stack.enter_context(ArrayWriter(folder / f"{name}.npy", np.int32)) for name in ARRAYS)
        for rows in sequences:
            for row in held_out.pass_on(rows) if holds_out else [rows]:
                train.append(row)
        for row in held_out.cut_down():
            train.append(row)
        for row in held_out.rows():
            held.append(row)


def every_second(tokens: Tokens, first: int) -> Tokens:
    """Return every second row, beginning with row `first`; all rows must have one length."""
    S = int(tokens.offsets[1])
    ids = np.asarray(tokens.ids).reshape(-1, S)[first::2]
    return Tokens(ids.reshape(-1), np.arange(len(ids) + 1, dtype=np.int64) * S)
