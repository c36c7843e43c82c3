"""The rows of one file in any format we read, each as values by column, with its row and line number, as a stream.

Formats: `.tsv` is split on tabs, without quoting; `.csv` is RFC 4180; `.jsonl` has one object per line;
`.parquet`. All but Parquet also as `.gz`. A byte order mark is skipped; LF and CRLF both end lines.
"""

from __future__ import annotations

import csv
import gzip
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from cutbert.errors import DataError
from cutbert.parsing import is_encodable, parse_json

SUFFIXES = (".tsv", ".csv", ".jsonl", ".parquet")
PARQUET_ROWS = 1024  # that are objects at a time
PARQUET_BUFFER = 2**20  # bytes of a column that are read at a time


@dataclass(frozen=True)
class Record:
    """One row of a file.

    Args:
        row: 1-based, the header row not counted.
        line: 1-based line of the file where the row begins, or None (Parquet).
        values: one per wanted column; empty where the row is broken.
        problem: what is wrong with the row as a whole, or None.
        cells: all columns by name, where they are asked for.
    """

    row: int
    line: int | None
    values: tuple[Any, ...]
    problem: str | None = None
    cells: Mapping[str, Any] = field(default_factory=dict)


def open_records(
    path: Path, columns: Sequence[str], header: Sequence[str] | None = None, *, whole: bool = False
) -> Iterator[Record]:
    """Yield the rows of a file, broken ones too.

    Args:
        path: the file; its suffix is the format.
        columns: the wanted columns.
        header: names of the columns of a .tsv or .csv file without a header row.
        whole: read all columns into `cells` too; no two may have one name then.

    Raises:
        DataError: the file as a whole cannot be read, is empty or lacks a column.
    """
    stem, zipped = (path.with_suffix(""), True) if path.suffix == ".gz" else (path, False)
    if stem.suffix not in SUFFIXES or (zipped and stem.suffix == ".parquet"):
        names = ", ".join(SUFFIXES)
        raise DataError(f"{path}: name must end in one of {names} (or in .gz after the first three)")
    if stem.suffix == ".parquet":
        return parquet_records(path, columns, whole)
    if stem.suffix == ".jsonl":
        return jsonl_records(path, open_lines(path), columns, whole)
    rows = tsv_rows(open_lines(path)) if stem.suffix == ".tsv" else csv_rows(open_text(path, newline=""))
    return table_records(path, rows, columns, header, whole)


def read_text(path: Path) -> str:
    """Return a file's text, zipped or not, as `open_text` does."""
    return "".join(open_text(path, newline="\n"))


def open_text(path: Path, newline: str) -> Iterator[str]:
    """Return a stream of a file's lines with their ends, without byte order mark and without empty lines at the end.

    Bytes that are not UTF-8 become lone surrogates, so that a message can name their row.

    Args:
        path: the file, unzipped where it ends in .gz.
        newline: what ends a line, as `open` takes it; line ends stay as they are.

    Raises:
        DataError: the file cannot be read or is empty; in the stream too, where it is read no further.
    """
    lines = without_empty_end(stored_lines(path, newline))
    first = next(lines, None)
    if first is None:
        raise DataError(f"{path}: file is empty")
    return chain([first], lines)


def stored_lines(path: Path, newline: str) -> Iterator[str]:
    """Yield a file's lines, unzipped; arguments as in `open_text`."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8", errors="surrogateescape", newline=newline) as file:
            yield file.readline().removeprefix("\ufeff")
            yield from file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: must be a whole gzip file: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def without_empty_end(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a text without the line ends that it ends with."""
    held: list[str] = []
    for line in lines:
        if line.strip("\r\n"):
            yield from held
            held = [line]
        else:
            held.append(line)
    if held and (last := held[0].rstrip("\r\n")):
        yield last


Fields = tuple[int, list[str], str | None]


def open_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Return a stream of line numbers and lines of a text file, zipped or not; only LF or CRLF ends a line.

    Raises:
        DataError: as in `open_text`.
    """
    return numbered(open_text(path, newline="\n"))


def numbered(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, 1):
        yield number, line.removesuffix("\n").removesuffix("\r")


def tsv_rows(lines: Iterable[tuple[int, str]]) -> Iterator[Fields]:
    """Yield line number, fields and problem; only a tab ends a field."""
    for number, line in lines:
        yield number, line.split("\t"), None


def csv_rows(lines: Iterable[str]) -> Iterator[Fields]:
    """Yield line number, fields and problem; a row with broken quoting is the last, since its end is unknown."""
    reader = csv.reader(iter(lines), strict=True)
    limit = csv.field_size_limit(sys.maxsize)
    try:
        while True:
            start = reader.line_num + 1
            try:
                yield start, next(reader), None
            except StopIteration:
                return
            except csv.Error as error:
                yield start, [], f"must be quoted as RFC 4180 says: {error}"
                return
    finally:
        csv.field_size_limit(limit)


def table_records(
    path: Path, rows: Iterator[Fields], columns: Sequence[str], header: Sequence[str] | None, whole: bool
) -> Iterator[Record]:
    """Return the wanted fields of each row; the header is read at once, so that its mistakes are raised first."""
    headless = header is not None
    if header is None:
        _, header, problem = next(rows)
        problem = problem or (None if is_encodable("".join(header)) else "must be UTF-8")
        if problem:
            raise DataError(f"{path}: header row {problem}")
    check_columns(path, header, list(dict.fromkeys([*columns, *header])) if whole else columns)
    places = [list(header).index(column) for column in columns]
    return pick_fields(rows, places, len(header), headless, header if whole else ())


def pick_fields(
    rows: Iterator[Fields], places: list[int], width: int, headless: bool, names: Sequence[str]
) -> Iterator[Record]:
    """Yield the wanted fields of rows of text, or what is wrong with a row.

    Args:
        rows: line, fields and problem of each.
        places: indices of the wanted fields.
        width: number of fields a row must have.
        headless: the file has no header row; only words a message.
        names: of all fields, where the whole row is wanted too; else empty.
    """
    for row, (line, values, problem) in enumerate(rows, 1):
        if problem is None and len(values) != width:
            like = "as every row of this task" if headless else "as the header row"
            problem = f"must have {width} fields, {like}, got {len(values)}"
        if problem is None:
            cells = dict(zip(names, values, strict=True)) if names else {}
            yield Record(row, line, tuple(values[place] for place in places), None, cells)
        else:
            yield Record(row, line, (), problem)


def jsonl_records(
    path: Path, lines: Iterator[tuple[int, str]], columns: Sequence[str], whole: bool
) -> Iterator[Record]:
    """Return the wanted keys of each line; those of the first line are checked at once."""
    number, line = next(lines)
    first = parse_object(line)
    if isinstance(first, dict):
        check_columns(path, list(first), columns)
    return pick_keys(chain([(number, line)], lines), columns, whole)


def pick_keys(lines: Iterable[tuple[int, str]], columns: Sequence[str], whole: bool) -> Iterator[Record]:
    """Yield the wanted keys of lines of JSON, or what is wrong with a line."""
    for row, line in lines:
        parsed = parse_object(line)
        if isinstance(parsed, str):
            yield Record(row, row, (), parsed)
            continue
        missing = [column for column in columns if column not in parsed]
        problem = f"has no column {missing[0]!r}; columns: {listed(parsed)}" if missing else None
        values = () if missing else tuple(parsed[column] for column in columns)
        yield Record(row, row, values, problem, parsed if whole else {})


def parse_object(line: str) -> dict[str, Any] | str:
    """Return the JSON object of one line, or what is wrong with it."""
    try:
        value = parse_json(line, any_value=True)
    except ValueError as error:
        return f"must be a JSON object: {error}"
    return value if isinstance(value, dict) else "must be a JSON object"


def parquet_records(path: Path, columns: Sequence[str], whole: bool) -> Iterator[Record]:
    """Return the wanted columns of each row; the file's schema is checked at once.

    Raises:
        DataError: it cannot be read, is no Parquet file, has no rows or lacks a column.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        path.open("rb").close()  # so that a missing file gives the same message as in the other formats
        file = pyarrow.parquet.ParquetFile(path, buffer_size=PARQUET_BUFFER)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: must be a Parquet file: {error}") from None
    names = list(dict.fromkeys([*columns, *file.schema_arrow.names])) if whole else list(columns)
    check_columns(path, file.schema_arrow.names, names)
    if file.metadata.num_rows == 0:
        raise DataError(f"{path}: has no rows")
    batches = file.iter_batches(PARQUET_ROWS, columns=None if whole else names)
    return pick_cells(path, batches, columns, file.schema_arrow.names if whole else ())


def pick_cells(path: Path, batches: Iterator[Any], columns: Sequence[str], names: Sequence[str]) -> Iterator[Record]:
    """Yield the wanted cells of batches of pyarrow, or what is wrong with a row.

    Args:
        path: for messages.
        batches: of the file.
        columns: that are wanted.
        names: of all columns, where the whole row is wanted too; else empty.
    """
    import pyarrow

    row = 0
    try:
        for batch in batches:
            for i in range(batch.num_rows):
                row += 1
                try:
                    cells = {name: batch.column(name)[i].as_py() for name in names or columns}
                except UnicodeDecodeError as error:
                    yield Record(row, None, (), f"must be UTF-8 text: {error.reason}")
                except (ValueError, OverflowError) as error:  # such as a time in nanoseconds, or in the year 20000
                    yield Record(row, None, (), f"must hold values that Python has: {error}")
                else:
                    yield Record(row, None, tuple(cells[column] for column in columns), None, cells if names else {})
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: must be a whole Parquet file: {error}") from None


def listed(names: Iterable[str]) -> str:
    """Return column names for a message; characters that cannot be encoded are escaped."""
    return ", ".join(names).encode(errors="backslashreplace").decode()


def check_columns(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    """Raise a DataError where a header lacks a wanted column or has it twice."""
    mistakes = []
    for column in columns:
        count = header.count(column)
        if count == 0:
            mistakes.append(f"{path}: has no column {column!r}; columns: {listed(header)}")
        elif count > 1:
            mistakes.append(f"{path}: column {column!r} must be there once, is there {count} times")
    if mistakes:
        raise DataError(*mistakes)
