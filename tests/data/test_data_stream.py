"""A stream of lines is the text as it was read at once, and a stream of texts is the file's rows in chunks."""

from __future__ import annotations

import gzip
import io
import random
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from cutbert.data import stream
from cutbert.data.records import open_text, read_text
from cutbert.data.stream import InputFile, Scan, scan, stream_chunks
from cutbert.errors import DataError

PARTS = ("a", "\n", "\r", "\r\n", "\ufeff", '"', "\t", "\n\n", "\u2028", "é", "\x85")


@pytest.mark.parametrize("newline", ["\n", ""])
@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz"])
def test_a_stream_is_the_text_without_its_empty_end(tmp_path: Path, newline: str, suffix: str) -> None:
    draw, path = random.Random(0), tmp_path / f"text{suffix}"
    for _ in range(400):
        text = "".join(draw.choices(PARTS, k=draw.randrange(12)))
        data = text.encode() + draw.choice([b"", b"\xff"])
        path.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
        plain = data.decode(errors="surrogateescape").removeprefix("\ufeff").rstrip("\r\n")
        if not plain:
            with pytest.raises(DataError, match="file is empty"):
                open_text(path, newline)
            continue
        assert list(open_text(path, newline)) == list(io.StringIO(plain, newline=newline))
        assert read_text(path) == plain


def test_chunks_are_bounded_and_hold_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CHUNK_ROWS", 5)
    monkeypatch.setattr(stream, "CHUNK_CHARACTERS", 100)
    texts = [f"text {i} {'long ' * (20 if i == 7 else 1)}" for i in range(23)]
    table = pyarrow.table({"one": texts, "two": texts[::-1]})
    path = tmp_path / "texts.parquet"
    pyarrow.parquet.write_table(table, path)
    for pair in (None, "two"):
        file = InputFile(path, "one", pair)
        chunks = list(stream_chunks(file))
        inputs = texts if pair is None else list(zip(texts, texts[::-1], strict=True))
        assert [each for chunk in chunks for each in chunk.inputs] == inputs
        assert [cells for chunk in chunks for cells in chunk.cells] == table.to_pylist()
        assert all(len(chunk.inputs) <= 5 for chunk in chunks)
        assert all(sum(len(cells["one"]) for cells in chunk.cells[:-1]) < 100 for chunk in chunks)
        assert scan(file) == Scan(23, ("one", "two"))


def test_mistakes_are_found_before_and_in_the_stream(tmp_path: Path) -> None:
    path = tmp_path / "texts.tsv"
    path.write_text("text\ngood\n \nfine\n", encoding="utf-8")
    for read in (scan, lambda file: list(stream_chunks(file))):
        with pytest.raises(DataError, match=r"row 2 \(line 3\): column 'text' must not be empty"):
            read(InputFile(path, "text"))
