"""Files to texts and raw labels; every mistake in them is reported by file and row."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cutbert.data.records import Record, open_records
from cutbert.data.tasks import FileLayout
from cutbert.errors import DataError
from cutbert.parsing import is_encodable, is_finite

MAX_MISTAKES = 20


@dataclass
class RawRows:
    """Texts and labels as in the files.

    Args:
        text: the texts.
        text_pair: the second texts, or None.
        labels: the labels as text without surrounding spaces, or None.
        groups: the groups as text, or None.
        places: for each row its file, row and line, for messages.
        left_out: number of incomplete rows left out, by file, where the layout allows it.
    """

    text: list[str] = field(default_factory=list)
    text_pair: list[str] | None = None
    labels: list[str] | None = None
    groups: list[str] | None = None
    places: list[tuple[str, int, int | None]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    def place(self, index: int) -> str:
        """Return the name of row `index` for messages."""
        return place_name(*self.places[index])

    def add(self, record: Record, file: str, layout: FileLayout) -> None:
        """Add a row, as a file in this layout has it."""
        self.text.append(record.values[0])
        if self.text_pair is not None:
            self.text_pair.append(record.values[1])
        if self.labels is not None:
            self.labels.append(label_text(record.values[-1]))
        if self.groups is not None:
            self.groups.append(label_text(record.values[layout.columns.index(str(layout.group))]))
        self.places.append((file, record.row, record.line))


def read_files(paths: Sequence[Path], layout: FileLayout, mistakes: list[str]) -> RawRows:
    """Read several files of one layout, one after the other; mistakes in them are added to `mistakes`."""
    rows = empty_rows(layout)
    for path in paths:
        try:
            read_records(open_records(path, layout.columns, layout.header), str(path), layout, rows, mistakes)
        except DataError as error:
            mistakes.extend(error.mistakes)
    return rows


def empty_rows(layout: FileLayout) -> RawRows:
    return RawRows(
        text_pair=None if layout.text_pair is None else [],
        labels=None if layout.label is None else [],
        groups=None if layout.group is None else [],
    )


def read_records(records: Iterable[Record], file: str, layout: FileLayout, rows: RawRows, mistakes: list[str]) -> None:
    """Append records to rows; broken ones add to `mistakes`, or are only counted where the layout says so."""
    for record in valid_records(records, file, layout, mistakes, rows.left_out):
        rows.add(record, file, layout)


def valid_records(
    records: Iterable[Record], file: str, layout: FileLayout, mistakes: list[str], left_out: dict[str, int]
) -> Iterator[Record]:
    """Yield the records that are not broken.

    Args:
        records: of one file.
        file: its name.
        layout: its columns.
        mistakes: broken records are added here; so is, at the end, that there were no rows at all.
        left_out: by file, the number of incomplete records, where the layout leaves them out.
    """
    num_valid, before = 0, len(mistakes)
    for record in records:
        if layout.skip_incomplete and is_incomplete(record):
            left_out[file] = left_out.get(file, 0) + 1
            continue
        problem = record.problem or value_problem(record.values, layout)
        if problem is None:
            num_valid += 1
            yield record
        else:
            mistakes.append(f"{place_name(file, record.row, record.line)}: {problem}")
    if not num_valid and before == len(mistakes):
        mistakes.append(f"{file}: has no rows")


def is_incomplete(record: Record) -> bool:
    return record.problem is not None or any(value is None or value == "" for value in record.values)


def value_problem(values: tuple[Any, ...], layout: FileLayout) -> str | None:
    """Return what is wrong with the values of a row, or None."""
    for column, value in zip(layout.columns, values, strict=True):
        is_label = column == layout.label
        if value is None:
            value = ""
        may_be_number = is_label or (column == layout.group and column not in layout.text_columns)
        if may_be_number and isinstance(value, int | float) and is_finite(value):
            continue
        if not isinstance(value, str):
            kind = "text or a finite number" if may_be_number else "text"
            return f"column {column!r} must be {kind}, got {type(value).__name__} {value!r:.40}"
        if not value.strip() and not (is_label and layout.labels_may_be_empty):
            return f"column {column!r} must not be empty"
        if not is_encodable(value):
            return f"column {column!r} must be UTF-8, got {ascii(value)[:60]}"
    return None


def label_text(value: Any) -> str:
    """Return a label as text: numbers, true and false as JSON writes them."""
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value)


def place_name(file: str, row: int, line: int | None) -> str:
    return f"{file}: row {row}" if line is None or line == row else f"{file}: row {row} (line {line})"


def expand_files(patterns: Sequence[str], option: str, mistakes: list[str]) -> list[Path]:
    """Return the files that an option names, globs expanded in sorted order.

    A pattern that is itself the name of an existing file means that file.
    """
    paths: list[Path] = []
    for pattern in patterns:
        if Path(pattern).exists() or not glob.has_magic(pattern):
            paths.append(Path(pattern))
            continue
        matches = sorted(glob.glob(pattern, recursive=True))
        if not matches:
            mistakes.append(f"{option} {pattern}: no file matches")
        paths.extend(Path(name) for name in matches)
    twice = sorted({str(path) for path in paths if paths.count(path) > 1})
    mistakes.extend(f"{option} names {name} more than once" for name in twice)
    return paths


def check_mistakes(mistakes: Sequence[str]) -> None:
    """Raise the first mistakes as one error, with the number of the rest; do nothing where there are none."""
    if not mistakes:
        return
    rest = len(mistakes) - MAX_MISTAKES
    raise DataError(*mistakes[:MAX_MISTAKES], *([f"... and {rest:,} more"] if rest > 0 else []))
