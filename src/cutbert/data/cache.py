"""The token cache: a folder of arrays for each key, written whole or not at all, read memory-mapped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from cutbert.aside import remove_leftovers
from cutbert.errors import DataError
from cutbert.files import file_sha256, replacing_folder, write_json
from cutbert.lacks import LackError, lack_of
from cutbert.parsing import parse_json
from cutbert.printable import reason_of

INDEX = "index.json"
TRIES = 5  # to write an entry that somebody takes away meanwhile
Arrays = dict[str, NDArray[Any]]
WriteArrays = Callable[[Path], Iterable[str]]


def cache_folder() -> Path:
    """Return CUTBERT_CACHE, or `cutbert` in the user's cache folder.

    Raises:
        DataError: the user has no home folder, and neither is named by the environment.
    """
    named = os.environ.get("CUTBERT_CACHE")
    if named:
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cutbert"
    except RuntimeError:
        raise DataError("the token cache must have a folder, and this user has no home; set CUTBERT_CACHE") from None


def cached_arrays(key: str, make: Callable[[], Arrays], about: str) -> Arrays:
    """Return the arrays stored under a key, memory-mapped; make and store them where there are none.

    Args:
        key, about: as in `cached_files`.
        make: returns the arrays by name.

    Raises:
        DataError: the cache cannot be written.
    """

    def write(folder: Path) -> Iterable[str]:
        arrays = make()
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        return arrays

    return cached_files(key, write, about)


def cached_files(key: str, write: WriteArrays, about: str) -> Arrays:
    """Return the arrays stored under a key, memory-mapped; call `write` where there are none.

    A damaged entry is made again, and so is one that somebody who empties the cache takes away before it is read. Of
    several processes that want the same key, one makes it and the others wait.

    Args:
        key: name of the entry; must cover everything the arrays depend on.
        write: writes the arrays as NAME.npy into a folder, and returns their names; arrays too large for memory with
            `ArrayWriter`.
        about: a description for people who look into the folder; never read.

    Raises:
        DataError: the cache cannot be written.
    """
    folder = cache_folder() / "tokens" / key
    remove_leftovers(folder.parent)
    arrays = load_arrays(folder)
    if arrays is not None:
        return arrays
    try:
        for tries_left in reversed(range(TRIES)):
            try:
                arrays = stored_arrays(folder, write, about)
            except FileNotFoundError:  # taken away while it was written
                if not tries_left:
                    raise
                continue
            if arrays is not None:
                return arrays
    except (LackError, OSError) as error:
        lack = lack_of(error, folder)
        if isinstance(lack, LackError) and lack.where is None:  # memory
            raise lack from None
        if isinstance(lack, LackError):
            raise cache_error(lack.what) from None
        known = error.strerror if isinstance(error, OSError) else None
        raise cache_error(known or reason_of(error)) from None
    raise cache_error("what was written cannot be read back")


def stored_arrays(folder: Path, write: WriteArrays, about: str) -> Arrays | None:
    """Return the arrays of an entry, made where another process has not just done it; None where they cannot be read.

    Raises:
        FileNotFoundError: it was taken away while it was written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        arrays = load_arrays(folder)
        if arrays is None:
            store_arrays(folder, write, about)
            arrays = load_arrays(folder)
        return arrays


def cache_error(problem: str) -> DataError:
    return DataError(f"token cache {cache_folder()} must be writable: {problem}; set CUTBERT_CACHE to another folder")


def load_arrays(folder: Path) -> Arrays | None:
    """Return the arrays of an entry, memory-mapped; None where there is none or it is damaged."""
    try:
        hashes = parse_json((folder / INDEX).read_text(encoding="utf-8"))["sha256"]
        if any(file_sha256(folder / f"{name}.npy") != digest for name, digest in hashes.items()):
            return None
        return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in hashes}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def store_arrays(folder: Path, write: WriteArrays, about: str) -> None:
    """Write the arrays of an entry and the hashes of their files."""
    with replacing_folder(folder) as aside:
        hashes = {name: file_sha256(aside / f"{name}.npy") for name in write(aside)}
        write_json(aside / INDEX, {"about": about, "sha256": hashes})


class ArrayWriter:
    """Writes a flat array part by part as .npy; its length is written into the header at the end of the with block.

    Args:
        path: of the file.
        dtype: of the array; parts are converted.
    """

    def __init__(self, path: Path, dtype: type[np.generic]) -> None:
        self.path, self.dtype, self.length = path, np.dtype(dtype), 0

    def __enter__(self) -> ArrayWriter:
        self.file = self.path.open("wb")
        self._write_header()
        return self

    def __exit__(self, *error: object) -> None:
        with self.file:
            self.file.seek(0)
            self._write_header()  # fits: numpy pads headers, so that one with any length has the same size

    def append(self, part: NDArray[Any]) -> None:
        """Add the elements of a part, in C order."""
        self.file.write(np.ascontiguousarray(part, self.dtype).tobytes())
        self.length += part.size

    def _write_header(self) -> None:
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self.file, header)
