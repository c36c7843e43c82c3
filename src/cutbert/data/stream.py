"""The inputs of one file as a stream of chunks, each with its row's columns: memory does not grow with the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutbert.data.questions import squad_records
from cutbert.data.reading import check_mistakes, place_name, value_problem
from cutbert.data.records import Record, open_lines, open_records
from cutbert.data.sentences import conll_records, sentence_problem
from cutbert.data.tasks import FileLayout
from cutbert.errors import DataError
from cutbert.parsing import is_encodable

CHUNK_ROWS = 2048
CHUNK_CHARACTERS = 2**20

RowProblem = Callable[[Record], str | None]


@dataclass(frozen=True)
class InputFile:
    """A file of texts, pairs of texts or lists of words.

    Args:
        path: its suffix is the format: those of `open_records`, .conll, .txt (a text in each line) or .json (SQuAD's,
            which is in memory as a whole).
        text, text_pair: columns; None where there is none, as in .txt and .json.
        takes_words: whether a text may be a list of words.
        name: for messages; None for the path.
    """

    path: Path
    text: str | None
    text_pair: str | None = None
    takes_words: bool = False
    name: str | None = None

    @property
    def suffix(self) -> str:
        """The format, without the .gz of a zipped file."""
        return (self.path.with_suffix("") if self.path.suffix == ".gz" else self.path).suffix

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(each for each in (self.text, self.text_pair) if each is not None)


@dataclass(frozen=True)
class Scan:
    """What a first reading finds: the number of rows, and the names of all columns in their order."""

    num_rows: int
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file.

    Args:
        inputs: a text, a pair of texts or a list of words each.
        cells: of each row all its columns by name, the inputs among them.
    """

    inputs: list[Any]
    cells: list[Mapping[str, Any]]


def scan(file: InputFile, row_problem: RowProblem | None = None) -> Scan:
    """Read a file to its end.

    Args:
        file: the file.
        row_problem: what is wrong with a row that can be read, or None.

    Raises:
        DataError: mistakes in the file (the first 20 in full).
    """
    num_rows, columns = 0, dict[str, None]()
    for record in valid_records(file, row_problem):
        num_rows += 1
        columns.update(dict.fromkeys(record.cells))
    return Scan(num_rows, tuple(columns))


def stream_chunks(file: InputFile) -> Iterator[Chunk]:
    """Yield the rows of a file in chunks of at most CHUNK_ROWS, and of about CHUNK_CHARACTERS.

    Raises:
        DataError: mistakes in the file, once all chunks are read.
    """
    chunk, size = Chunk([], []), 0
    for record in valid_records(file):
        chunk.inputs.append(record.values[0] if len(record.values) == 1 else record.values)
        chunk.cells.append(record.cells)
        size += sum(len(each) for each in record.values)
        if len(chunk.inputs) == CHUNK_ROWS or size >= CHUNK_CHARACTERS:
            yield chunk
            chunk, size = Chunk([], []), 0
    if chunk.inputs:
        yield chunk


def valid_records(file: InputFile, row_problem: RowProblem | None = None) -> Iterator[Record]:
    """Yield the rows of a file that are not broken, and raise its mistakes at the end; arguments as above."""
    mistakes: list[str] = []
    is_empty = True
    with naming(file):
        for record in records_of(file):
            problem = record.problem or input_problem(record, file) or cells_problem(record.cells)
            problem = problem or (None if row_problem is None else row_problem(record))
            if problem is None:
                is_empty = False
                yield record
            else:
                mistakes.append(f"{place_name(str(file.path), record.row, record.line)}: {problem}")
        if is_empty and not mistakes:
            mistakes.append(f"{file.path}: has no rows")
        check_mistakes(mistakes)


@contextmanager
def naming(file: InputFile) -> Iterator[None]:
    """Call a file by its name in the messages of errors."""
    try:
        yield
    except DataError as error:
        if file.name is None:
            raise
        raise DataError(*(each.replace(str(file.path), file.name) for each in error.mistakes)) from None


def records_of(file: InputFile) -> Iterator[Record]:
    """Return the rows of a file, broken ones too."""
    if file.suffix == ".json":
        return squad_records(file.path)
    if file.suffix == ".conll":
        return conll_records(file.path, file.columns, whole=True)
    if file.suffix == ".txt":
        return (Record(number, number, (line,), None, {"text": line}) for number, line in open_lines(file.path))
    return open_records(file.path, file.columns, whole=True)


def input_problem(record: Record, file: InputFile) -> str | None:
    """Return what is wrong with the texts of a row, or None."""
    if file.suffix == ".json":  # checked as questions
        return None
    for column, value in zip(file.columns or ("text",), record.values, strict=True):
        if file.takes_words and isinstance(value, list):
            problem = sentence_problem((value,), (column,))
        else:
            problem = value_problem((value,), FileLayout(column, None, None))
        if problem is not None:
            return problem
    return None


def cells_problem(cells: Mapping[str, Any]) -> str | None:
    """Return what keeps the columns of a row from being written again, or None."""
    for name, value in cells.items():
        text = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else value
        if not is_encodable(name) or (isinstance(text, str) and not is_encodable(text)):
            return f"column {name!a} must be UTF-8, got {ascii(text)[:60]}"
    return None
