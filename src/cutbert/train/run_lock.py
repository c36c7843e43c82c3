"""The lock that keeps a run's folder to one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cutbert.aside import make_folder
from cutbert.errors import RunError
from cutbert.files import making_folder
from cutbert.lacks import naming_lacks
from cutbert.locks import holding, is_held

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


@contextmanager
def making_locked(path: Path, record: str) -> Iterator[None]:
    """Make a run's folder where it is missing, and keep every other process out of it within the block.

    What is in the folder by then may be another's. Where the block fails before anything is recorded, the lock goes
    again, and so do the folders that were made and are empty.

    Args:
        path: the folder.
        record: name of the file that makes it a run's.

    Raises:
        RunError: a process is in it already.
        InputError: a file is in its place.
    """
    with ExitStack() as stack:
        with naming_lacks(path):
            stack.enter_context(making_folder(path))
            while True:
                try:
                    stack.enter_context(locked(path))
                    break
                except FileNotFoundError:  # a command that was refused has just taken it away again
                    make_folder(path)
        try:
            yield
        except BaseException:
            if not (path / record).exists():
                (path / LOCK).unlink(missing_ok=True)
            raise


def is_locked(path: Path) -> bool:
    """Return whether a process is running in a run folder."""
    return is_held(path / LOCK)
