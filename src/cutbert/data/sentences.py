"""Sentences with one label per word, from the user's own files: .conll, .jsonl and .parquet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.data.labels import checked_names, own_names, unknown_label
from cutbert.data.reading import check_mistakes, expand_files, place_name
from cutbert.data.records import Record, open_lines, open_records
from cutbert.data.rows import text_key
from cutbert.data.settings import DataSettings
from cutbert.errors import DataError
from cutbert.files import file_sha256
from cutbert.parsing import is_encodable
from cutbert.shape.head import HeadSpec

FORMATS = (".conll", ".jsonl", ".parquet")
GAPS = re.compile(r"[ \t]+")
DOCUMENT_START = "-DOCSTART-"
LINES = "lines"  # name of the cell of a sentence's lines


@dataclass(frozen=True, eq=False)
class Sentences:
    """Sentences as words.

    Args:
        words: of each sentence, at least one.
        labels: int64 ids of each sentence, one per word; None in rows without labels.
        names: the labels in id order.
    """

    words: list[list[str]]
    labels: list[NDArray[np.int64]] | None
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.words)

    def take(self, indices: NDArray[np.integer]) -> Sentences:
        """Return the rows at `indices`, in that order."""
        labels = None if self.labels is None else [self.labels[i] for i in indices]
        return Sentences([self.words[i] for i in indices], labels, self.names)

    def joined(self, others: Sentences) -> Sentences:
        """Return these rows followed by others, without labels."""
        return Sentences([*self.words, *others.words], None, self.names)

    def text_keys(self) -> list[bytes]:
        """Return one key per row; equal keys mean equal words."""
        return [text_key(" ".join(words)) for words in self.words]


def read_sentences(settings: DataSettings, own: HeadSpec | None = None) -> tuple[dict[str, Sentences], dict[str, str]]:
    """Read the splits of the user's own files; return them and the SHA-256 of each file.

    Args:
        settings: name the files.
        own: of the model that is scored where nothing is trained, whose labels count in place of those of dev.

    Raises:
        DataError: all mistakes in the files, else all labels that are not known (the first 20 in full).
    """
    mistakes: list[str] = []
    train, dev = (expand_files(getattr(settings, name), f"--{name}", mistakes) for name in ("train", "dev"))
    mistakes.extend(f"--train and --dev must not both name {path}" for path in train if path in dev)
    files = {part: paths for part, paths in (("train", train), ("dev", dev)) if getattr(settings, part)}
    if settings.select not in (None, "dev"):
        files["select"] = [Path(str(settings.select))]
    if settings.unlabeled:
        files["unlabeled"] = expand_files(settings.unlabeled, "--unlabeled", mistakes)
    raw = {part: read_tagged(paths, settings, part != "unlabeled", mistakes) for part, paths in files.items()}
    check_mistakes(mistakes)
    labels = (label for sentence in raw[settings.judging] for label in sentence.labels)
    names = own_names(own, "token") or checked_names(labels, 2, settings)
    parts = {part: numbered(sentences, names, part != "unlabeled", mistakes) for part, sentences in raw.items()}
    check_mistakes(mistakes)
    return parts, {str(path): file_sha256(path) for paths in files.values() for path in paths}


@dataclass(frozen=True)
class RawSentence:
    """A sentence as in the file, and its place there, for messages."""

    words: list[str]
    labels: list[str]
    place: str


def read_tagged(
    paths: Sequence[Path], settings: DataSettings, has_labels: bool, mistakes: list[str]
) -> list[RawSentence]:
    """Read several files, one after the other; mistakes in them are added to `mistakes`."""
    columns = [str(settings.text), str(settings.label)] if has_labels else [str(settings.text)]
    rows: list[RawSentence] = []
    for path in paths:
        before = len(rows), len(mistakes)
        try:
            for record in tagged_records(path, columns):
                place = place_name(str(path), record.row, record.line)
                problem = record.problem or sentence_problem(record.values, columns)
                if problem is None:
                    rows.append(RawSentence(record.values[0], record.values[1] if has_labels else [], place))
                else:
                    mistakes.append(f"{place}: {problem}")
        except DataError as error:
            mistakes.extend(error.mistakes)
        if before == (len(rows), len(mistakes)):
            mistakes.append(f"{path}: has no rows")
    return rows


def tagged_records(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    """Return the rows of a file, each value a list.

    Raises:
        DataError: the file's format has no labels per word, or it cannot be read or lacks a column.
    """
    stem = path.with_suffix("") if path.suffix == ".gz" else path
    if stem.suffix not in FORMATS:
        names = ", ".join(FORMATS)
        raise DataError(f"{path}: with --tagging a name must end in one of {names} (or in .gz after the first two)")
    return conll_records(path, columns) if stem.suffix == ".conll" else open_records(path, columns)


def conll_records(path: Path, columns: Sequence[str], *, whole: bool = False) -> Iterator[Record]:
    """Return the sentences of a file with one word per line: columns by number, an empty line after each sentence.

    Args:
        path: of the file.
        columns: their numbers.
        whole: read the words' lines into the cell LINES too, one space between columns.
    """
    wrong = [column for column in columns if not re.fullmatch(r"-?[0-9]+", column)]
    if wrong:
        raise DataError(f"{path}: columns of a .conll file must be numbers from 0, got {', '.join(wrong)}")
    return pick_columns(path, [int(column) for column in columns], whole)


def pick_columns(path: Path, places: list[int], whole: bool) -> Iterator[Record]:
    """Yield the sentences of a file; arguments as in `conll_records`."""
    row, first_line, problem = 0, 0, None
    words: list[list[str]] = []
    lines: list[str] = []
    for number, line in chain(open_lines(path), [(0, "")]):
        fields = GAPS.split(line.strip(" \t"))
        if fields[0] and fields[0] != DOCUMENT_START:
            first_line = first_line or number
            short = [place for place in places if not -len(fields) <= place < len(fields)]
            if short and problem is None:
                problem = f"line {number} must have a column {short[0]}, got {len(fields)} columns"
            words.append([] if short else [fields[place] for place in places])
            lines.append(" ".join(fields))
        elif words:
            row += 1
            values = () if problem else tuple([word[i] for word in words] for i in range(len(places)))
            yield Record(row, first_line, values, problem, {LINES: lines} if whole else {})
            words, lines, first_line, problem = [], [], 0, None


def sentence_problem(values: tuple[Any, ...], columns: Sequence[str]) -> str | None:
    """Return what is wrong with the values of a row, or None."""
    for column, value in zip(columns, values, strict=True):
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            return f"column {column!r} must be a list of texts, got {type(value).__name__} {value!r:.40}"
        if not value:
            return f"column {column!r} must not be empty"
        if not is_encodable("".join(value)):
            return f"column {column!r} must be UTF-8, got {ascii(value)[:60]}"
    if len(values) > 1 and len(values[0]) != len(values[1]):
        return f"must have one label per word, got {len(values[0])} words and {len(values[1])} labels"
    return None


def numbered(rows: Sequence[RawSentence], names: tuple[str, ...], has_labels: bool, mistakes: list[str]) -> Sentences:
    """Return sentences with ids in place of label names; a label outside `names` is a mistake."""
    words = [sentence.words for sentence in rows]
    if not has_labels:
        return Sentences(words, None, names)
    known = {name: i for i, name in enumerate(names)}
    mistakes.extend(
        unknown_label(sentence.place, label, names)
        for sentence in rows
        for label in dict.fromkeys(sentence.labels)
        if label not in known
    )
    ids = [np.array([known.get(label, 0) for label in sentence.labels], dtype=np.int64) for sentence in rows]
    return Sentences(words, ids, names)
