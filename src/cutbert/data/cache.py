"""The token cache: arrays in a folder of their own per key, written whole or not at all, read memory-mapped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.errors import DataError
from cutbert.files import file_sha256, replacing_folder, write_json

INDEX = "index.json"
Arrays = dict[str, NDArray[Any]]


def cache_folder() -> Path:
    """Return CUTBERT_CACHE, or `cutbert` in the user's cache folder."""
    named = os.environ.get("CUTBERT_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cutbert"


def load_arrays(key: str) -> Arrays | None:
    """Return the arrays stored under a key, memory-mapped; None where there are none or they are damaged."""
    folder = cache_folder() / "tokens" / key
    try:
        hashes = json.loads((folder / INDEX).read_text(encoding="utf-8"))["sha256"]
        if any(file_sha256(folder / f"{name}.npy") != digest for name, digest in hashes.items()):
            return None
        return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in hashes}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def store_arrays(key: str, arrays: Mapping[str, NDArray[Any]], about: str) -> Arrays:
    """Store arrays under a key and return them memory-mapped.

    Two processes may store the same key at once: one of the two equal folders stays.

    Args:
        key: name of the entry; says all that the arrays depend on.
        arrays: the arrays by name.
        about: for a person who looks into the folder; not read again.

    Raises:
        DataError: the cache cannot be written.
    """
    folder = cache_folder() / "tokens" / key
    problem = "it was damaged at once"
    try:
        with replacing_folder(folder) as aside:
            for name, array in arrays.items():
                np.save(aside / f"{name}.npy", array, allow_pickle=False)
            hashes = {name: file_sha256(aside / f"{name}.npy") for name in arrays}
            write_json(aside / INDEX, {"about": about, "sha256": hashes})
    except OSError as error:
        problem = error.strerror or str(error)
    stored = load_arrays(key)
    if stored is None:
        raise DataError(
            f"token cache {cache_folder()} must be writable: {problem}; set CUTBERT_CACHE to another folder"
        )
    return stored
