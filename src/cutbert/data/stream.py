"""The texts of one file as a stream of chunks: what is in memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cutbert.data.reading import check_mistakes, valid_records
from cutbert.data.records import Record, open_records
from cutbert.data.rows import Rows
from cutbert.data.tasks import Layout

CHUNK_ROWS = 2048
CHUNK_CHARACTERS = 2**20


def count_texts(path: Path, layout: Layout) -> int:
    """Return the number of rows of a file, which is read to its end.

    Args:
        path: a file in any format of `open_records`.
        layout: its columns, without a label.

    Raises:
        DataError: mistakes in the file (the first 20 in full).
    """
    return sum(1 for _ in texts_of(path, layout))


def stream_texts(path: Path, layout: Layout) -> Iterator[Rows]:
    """Yield the rows of a file in chunks of at most CHUNK_ROWS, and of about CHUNK_CHARACTERS; arguments as above.

    Raises:
        DataError: mistakes in the file, once all chunks are read.
    """
    text: list[str] = []
    pairs: list[str] = []
    size = 0
    for record in texts_of(path, layout):
        text.append(record.values[0])
        pairs.extend(record.values[1:])
        size += sum(map(len, record.values))
        if len(text) == CHUNK_ROWS or size >= CHUNK_CHARACTERS:
            yield Rows(text, None if layout.text_pair is None else pairs)
            text, pairs, size = [], [], 0
    if text:
        yield Rows(text, None if layout.text_pair is None else pairs)


def texts_of(path: Path, layout: Layout) -> Iterator[Record]:
    """Yield the records of a file, and raise its mistakes at the end; arguments as above."""
    mistakes: list[str] = []
    yield from valid_records(open_records(path, layout.columns), str(path), layout, mistakes, {})
    check_mistakes(mistakes)
