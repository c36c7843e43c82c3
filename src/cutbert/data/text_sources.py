"""Plain text as a stream of lines of documents, from files or from a hub data set."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cutbert.data.reading import expand_files
from cutbert.data.text_settings import TextSettings
from cutbert.errors import DataError
from cutbert.files import file_sha256
from cutbert.lacks import refuse_lack
from cutbert.printable import reason_of

SUFFIXES = (".txt", ".txt.gz")
SPLIT = "train"
BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class TextSource:
    """Text that can be streamed.

    Args:
        files: SHA-256 of each file, or a hub data set's fingerprint, by name.
        pieces: starts the stream: lines of documents, without line ends; None ends a document.
    """

    files: dict[str, str]
    pieces: Callable[[], Iterator[str | None]]


def find_train(settings: TextSettings) -> TextSource:
    """Return the training text.

    Raises:
        DataError: files do not exist or are not text files, or the data set cannot be read.
    """
    if settings.dataset is not None:
        return find_dataset(settings.dataset, settings.dataset_config, settings.text_column)
    return find_files(settings.train, "--train")


def find_dev(settings: TextSettings) -> TextSource | None:
    """Return the held-out text, None where no files are named.

    Raises:
        DataError: files do not exist or are not text files.
    """
    return find_files(settings.dev, "--dev") if settings.dev else None


def find_files(patterns: Iterable[str], option: str) -> TextSource:
    """Return the text of files.

    Raises:
        DataError: all files that do not exist, or whose names have another suffix.
    """
    mistakes: list[str] = []
    paths = expand_files(list(patterns), option, mistakes)
    for path in paths:
        if not path.name.endswith(SUFFIXES):
            mistakes.append(f"{option} {path}: name must end in {' or '.join(SUFFIXES)}")
        elif not path.is_file():
            mistakes.append(f"{option} {path}: no such file")
    if mistakes:
        raise DataError(*mistakes)
    return TextSource({str(path): file_sha256(path) for path in paths}, lambda: files_pieces(paths))


def files_pieces(paths: Iterable[Path]) -> Iterator[str | None]:
    for path in paths:
        yield from file_pieces(path)


def file_pieces(path: Path) -> Iterator[str | None]:
    """Yield the lines of a file, stripped; a blank line or the end of the file ends a document.

    Raises:
        DataError: a line is not UTF-8, or the file cannot be read to its end.
    """
    number = 0
    try:
        with open_bytes(path) as file:
            for number, line in enumerate(file, 1):
                text = line.decode("utf-8")
                yield (text.removeprefix(BYTE_ORDER_MARK) if number == 1 else text).strip() or None
    except UnicodeDecodeError:
        raise DataError(f"{path}: line {number} must be UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: must be a whole gzip file: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    yield None


def lines_of(path: Path, mistakes: list[str]) -> list[str]:
    """Return the lines of a text file that are not blank."""
    try:
        lines = [line for line in file_pieces(path) if line is not None]
    except DataError as error:
        mistakes.extend(error.mistakes)
        return []
    if not lines:
        mistakes.append(f"{path}: has no texts")
    return lines


def open_bytes(path: Path) -> IO[bytes] | gzip.GzipFile:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def find_dataset(name: str, config: str | None, column: str) -> TextSource:
    """Return the text of a hub data set, or of a local folder of one.

    Raises:
        DataError: it cannot be read, or has no such split or column.
    """
    import datasets

    try:
        builder = datasets.load_dataset_builder(name, config)
        stream = builder.as_streaming_dataset(split=SPLIT)
        row: dict[str, Any] = next(iter(stream), {})
    except Exception as error:  # the hub's client raises many kinds; they mean the same to the user
        refuse_lack(error)
        raise DataError(f"--dataset {name} cannot be had ({reason_of(error)}); give text files by --train") from error
    if not isinstance(row.get(column), str):
        raise DataError(f"--dataset {name} must have a column of text {column!r}, got {', '.join(row)}")
    label = " ".join(part for part in (name, config, SPLIT) if part)
    return TextSource({label: f"{builder.hash} {column}"}, lambda: dataset_pieces(name, stream, column))


def dataset_pieces(name: str, stream: Iterable[dict[str, Any]], column: str) -> Iterator[str | None]:
    """Yield the lines of each row; a row's end ends a document, blank lines do not.

    Raises:
        DataError: the stream breaks off.
    """
    try:
        for row in stream:
            for line in (row[column] or "").splitlines():
                if line.strip():
                    yield line.strip()
            yield None
    except Exception as error:  # as above
        refuse_lack(error)
        raise DataError(f"--dataset {name} broke off ({reason_of(error)}); the same command reads it again") from error
