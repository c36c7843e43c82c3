"""Locks on files, which the system takes from a process when it ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PATIENCE_S = 0.5  # in which those who only look at a lock, or clean up, let go of it
POLL_S = 0.01


@contextmanager
def holding(path: Path, *, patience_s: float | None = PATIENCE_S) -> Iterator[bool]:
    """Hold a lock file within the block, made where it is missing.

    Args:
        path: the file; whoever holds it may remove it, those who waited then make it again.
        patience_s: how long to wait for another holder, in this process or another; None for as long as it takes.

    Yields:
        Whether it is held.

    Raises:
        FileNotFoundError: its folder is not there, or has just been removed.
    """
    file = acquired(path, patience_s)
    try:
        yield file is not None
    finally:
        if file is not None:
            file.close()


def is_held(path: Path) -> bool:
    """Return whether a lock file is held, in this process or another; it is neither made nor kept from others."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except BlockingIOError:
        return True
    return False


def acquired(path: Path, patience_s: float | None) -> BinaryIO | None:
    """Return the locked file, None where another holder kept it; arguments as in `holding`."""
    deadline = None if patience_s is None else time.monotonic() + patience_s
    while True:
        file = path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if deadline is None else fcntl.LOCK_NB))
            if is_still(path, file):
                return file
            file.close()  # its holder removed it while this process waited
        except BlockingIOError:
            file.close()
            if deadline is None or time.monotonic() >= deadline:
                return None
            time.sleep(POLL_S)
        except BaseException:
            file.close()
            raise


def is_still(path: Path, file: BinaryIO) -> bool:
    """Return whether a path still names an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
