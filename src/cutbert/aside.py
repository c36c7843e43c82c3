"""The folder beside a path in which it is written: held by a process, and removed after one that was killed.

What becomes `model` is written in the folder `.model.cutbert.part` beside it, which a process holds by the lock in it:
of several that write one path, one does and the others wait; one that holds no lock is dead, and what it left is
removed by the next that writes in the same folder. Libraries may put files of their own beside what they write: they
go with it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cutbert.errors import InputError
from cutbert.lacks import ASIDE, NO_FOLDERS, LackError, check_working_folder
from cutbert.locks import PATIENCE_S, holding

LOCK, NEW, OLD = "lock", "new", "old"  # in that folder: its lock, what is written, what was there before
TRIES = 20  # to make a folder that others take away


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder and its parents where they are missing, also where another process takes one away meanwhile."""
    for tries_left in reversed(range(TRIES)):
        try:
            folder.mkdir(mode, parents=True, exist_ok=True)
            return
        except FileNotFoundError as error:
            if not tries_left:
                check_working_folder()
                raise LackError(NO_FOLDERS, error.filename) from None
        except FileExistsError:
            if not tries_left:
                raise


@contextmanager
def claimed(path: Path, *, is_new: bool, mode: int = 0o777) -> Iterator[Path]:
    """Hold the folder aside of a path within the block, empty but for its lock, and remove it afterwards.

    Args:
        path: the file or folder that is to be written.
        is_new: refuse where it is there or held; else wait.
        mode: of the folder aside, less the umask.

    Raises:
        InputError: it is not new.
    """
    aside = aside_of(path)
    remove_leftovers(aside.parent)
    with ExitStack() as stack:
        while True:
            make_folder(aside, mode)
            try:
                is_held = stack.enter_context(holding(aside / LOCK, patience_s=PATIENCE_S if is_new else None))
                break
            except FileNotFoundError:  # removed by the process that held it
                continue
            except OSError:
                with suppress(OSError):
                    aside.rmdir()
                raise
        if not is_held:
            raise InputError(f"{path}: another process is writing it")
        try:
            clear(aside)
            if is_new:
                check_new(path)
            yield aside
        finally:
            discard(aside)


def is_free(path: Path) -> bool:
    """Return whether nothing is at a path, or an empty folder."""
    return not os.path.lexists(path) or (path.is_dir() and not names_in(path))


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder; none where another process has just removed it."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def check_new(path: Path) -> None:
    """Raise an InputError unless a path is free, or an empty folder."""
    if not is_free(path):
        raise InputError(f"{path}: must be new, but it is there already")


def remove_leftovers(folder: Path, *, and_below: bool = False) -> None:
    """Remove what processes that are dead left aside in a folder; what cannot be removed stays.

    Args:
        folder: need not exist.
        and_below: in the folders below it too.
    """
    with suppress(OSError):
        folders = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
        for entry in folders:
            if is_aside(entry.name):
                remove_if_dead(Path(entry.path))
            elif and_below:
                remove_leftovers(Path(entry.path), and_below=True)


def remove_if_dead(aside: Path) -> None:
    """Remove a folder aside that no process holds; one of another user stays."""
    with suppress(OSError):
        if aside.lstat().st_uid != os.getuid():
            return
        with holding(aside / LOCK, patience_s=0) as is_held:
            if is_held:
                clear(aside)
                discard(aside)


def clear(aside: Path) -> None:
    """Empty a folder aside that is held, but for its lock; what was there before is back unless it was replaced."""
    path, old = aside.with_name(aside.name.removeprefix(".").removesuffix(ASIDE)), aside / OLD
    if os.path.lexists(old) and not os.path.lexists(path):
        os.replace(old, path)
    for entry in aside.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != LOCK:
            entry.unlink(missing_ok=True)


def discard(aside: Path) -> None:
    """Remove a folder aside that is held; once its lock is gone it may be another process's."""
    with suppress(OSError):
        clear(aside)
        (aside / LOCK).unlink(missing_ok=True)
        aside.rmdir()


def aside_of(path: Path) -> Path:
    """Return the folder in which a path is written aside."""
    path = named(path)
    return path.with_name(f".{path.name}{ASIDE}")


def is_aside(name: str) -> bool:
    """Return whether a folder's name is that of one in which something is written aside."""
    return name.startswith(".") and name.endswith(ASIDE) and len(name) > len(ASIDE) + 1


def named(path: Path) -> Path:
    """Return a path by its own name, where it was given as . or .. of others, or as a link to a folder."""
    return path.resolve() if path.name in ("", "..") or (path.is_symlink() and path.is_dir()) else path
