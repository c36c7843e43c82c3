"""The lock that keeps a run's folder to one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cutbert.errors import RunError
from cutbert.locks import holding

LOCK = ".lock"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep every other process out of a run's folder within the block.

    What is read of the folder before the block may have changed by its beginning.

    Raises:
        RunError: one is in it already.
    """
    with holding(path / LOCK) as is_held:
        if not is_held:
            raise RunError(f"{path}: another process is running in this folder")
        yield


def is_locked(path: Path) -> bool:
    """Return whether a process is running in a run folder."""
    if not (path / LOCK).is_file():
        return False
    with holding(path / LOCK, patience_s=0) as is_held:
        return not is_held
