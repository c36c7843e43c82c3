"""The lock that keeps a run's folder to one process."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cutbert.errors import RunError

LOCK = ".lock"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep every other process out of a run's folder within the block.

    Raises:
        RunError: one is in it already.
    """
    with (path / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"{path}: another process is running in this folder") from None
        yield


def is_locked(path: Path) -> bool:
    """Return whether a process is running in a run folder."""
    if not (path / LOCK).is_file():
        return False
    try:
        with locked(path):
            return False
    except RunError:
        return True
