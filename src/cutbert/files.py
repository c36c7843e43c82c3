"""Files written whole or not at all: write aside, then rename; JSON files, and whether a path can be written."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any

from cutbert.aside import (
    NEW,
    OLD,
    aside_of,
    check_new,
    claimed,
    is_aside,
    make_folder,
    named,
    remove_leftovers,
)
from cutbert.errors import CutbertError, InputError
from cutbert.lacks import naming_lacks
from cutbert.parsing import parse_json

CHANGE = "change"  # for what becomes nothing by that name: a change of several files of a folder
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux: fcntl.h and linux/fs.h
MOVING_TEMPORARY = threading.Lock()  # where Python makes temporary files is one setting of the whole process


@contextmanager
def making_folder(folder: Path, *, stays: bool = True) -> Iterator[None]:
    """Make a folder and its parents before the block; on any error, or where it is not to stay, the empty go again."""
    made, is_kept = [each for each in (folder, *folder.parents) if not each.exists()], False
    try:
        make_folder(folder)
        yield
        is_kept = stays
    finally:
        with suppress(OSError):  # there is more in it
            for each in () if is_kept else made:
                if each.exists():
                    each.rmdir()


def write_mistakes(path: Path, where: Path | None = None) -> Iterator[str]:
    """Yield why nothing can be written at a path, which is tried: what is made for that goes again.

    Args:
        path: a file or folder that is to be written.
        where: what a message names; None for the path.
    """
    try:
        with naming_lacks(where or path), making_folder(path.parent, stays=False):
            remove_leftovers(path.parent)
            if not aside_of(path).exists():  # else another process is writing it
                with claimed(path, is_new=False):
                    pass
    except CutbertError as error:
        yield str(error)


def change_mistakes(folder: Path) -> Iterator[str]:
    """Yield why nothing can be written in a folder, as `write_mistakes`."""
    return write_mistakes(folder / CHANGE, folder)


Manager = Callable[..., AbstractContextManager[Path]]


def in_its_folder(manager: Manager) -> Manager:
    """Return a context manager of a path whose folder is made first; on an error what was made of that goes again.

    What the machine lacks within the block is an error of ours, which names the path.
    """

    @contextmanager
    @wraps(manager)
    def placed(path: Path, **options: Any) -> Iterator[Path]:
        with naming_lacks(path), making_folder(path.parent), manager(path, **options) as aside:
            yield aside

    return placed


@in_its_folder
@contextmanager
def replacing_file(path: Path, *, is_new: bool = False) -> Iterator[Path]:
    """Yield a temporary path for a file; on success it is renamed to `path`, on any error it is removed.

    What the block reads, no other process of ours changes: others that write this path wait.

    Args:
        path: the file.
        is_new: refuse where it is there, or another process is writing it.

    Raises:
        InputError: it is not new.
    """
    with claimed(path, is_new=is_new) as aside:
        new = aside / NEW
        new.touch()
        mode = stat.S_IMODE(new.stat().st_mode)  # as the umask has it, which cannot be read but by setting it
        yield new
        os.chmod(new, mode)
        if is_new:
            check_new(path)
        os.replace(new, named(path))


@in_its_folder
@contextmanager
def replacing_folder(path: Path, *, is_new: bool = False) -> Iterator[Path]:
    """Yield a new temporary folder; on success it is renamed to `path`, on any error it is removed.

    A folder already at `path` is exchanged for it at once, so that who reads there never finds none; where the system
    cannot, one after the other, and after a kill between the two renames the next process that writes there puts it
    back. Otherwise as `replacing_file`; an empty folder is new.
    """
    with claimed(path, is_new=is_new) as aside:
        new = aside / NEW
        new.mkdir()
        yield new
        if is_new:
            check_new(path)
        elif os.path.lexists(path):
            if exchanged(new, named(path)):
                return
            os.replace(named(path), aside / OLD)
        os.replace(new, named(path))


def exchanged(one: Path, other: Path) -> bool:
    """Exchange two files or folders at once; return whether the system can (Linux, most file systems)."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    sys.audit("os.rename", one, other, -1, -1)  # as Python's own renames
    return bool(rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder, which is removed afterwards; after a kill the next call removes it.

    Args:
        parent: where it is made; None for the machine's temporary files.
    """
    path = (temporary_folder() if parent is None else parent) / uuid.uuid4().hex
    with claimed(path, is_new=False, mode=0o700) as aside:  # new by its name; who holds it is cleaning up, for a moment
        (aside / NEW).mkdir()
        yield aside / NEW


def temporary_folder() -> Path:
    """Return the folder of the machine's temporary files, wherever another thread lets a library make its own."""
    folder = Path(tempfile.gettempdir())
    return next(each for each in (folder, *folder.parents) if not any(map(is_aside, each.parts)))


@contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Let libraries make their temporary files in a folder of `scratch_folder`, which after a kill goes with them."""
    with MOVING_TEMPORARY:
        before, tempfile.tempdir = tempfile.tempdir, str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before


@contextmanager
def put_back_on_error(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Put back what a folder holds under some names, or does not hold, where the block fails; no room is needed.

    Others that change the folder so wait: what they wrote is not taken for what was there before.
    """
    with claimed(folder / CHANGE, is_new=False) as scratch:
        for name in names:
            if (folder / name).is_dir():
                shutil.copytree(folder / name, scratch / name, copy_function=linked)
            elif (folder / name).exists():
                linked(str(folder / name), str(scratch / name))
        try:
            yield
        except BaseException:
            for name in names:
                now, before = folder / name, scratch / name
                if before.is_file():
                    os.replace(before, now)
                elif now.is_file():
                    now.unlink()
                elif now.is_dir():
                    shutil.rmtree(now, ignore_errors=True)
                    if before.is_dir():
                        os.replace(before, now)
            raise


def linked(source: str, target: str) -> None:
    """Hard-link a file, or copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def write_json(path: Path, data: Any) -> None:
    """Write data as indented JSON, whole or not at all."""
    change_json(path, lambda: data)


def change_json(path: Path, make: Callable[[], Any]) -> None:
    """Write as JSON what `make` returns, which may read the file: no other process of ours changes it meanwhile."""
    with replacing_file(path) as aside:
        text = json.dumps(make(), indent=2, ensure_ascii=False) + "\n"
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files that are not UTF-8


def append_line(path: Path, text: str) -> None:
    """Append a line to a file, whole or, where there is no room for it, not at all."""
    with naming_lacks(path), path.open("ab", buffering=0) as file:
        end, data = file.tell(), text.encode("utf-8", "backslashreplace") + b"\n"
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(end)
            raise


def read_json(path: Path, kind: type[InputError] = InputError, read: Callable[[Any], Any] | None = None) -> Any:
    """Read a JSON file.

    Args:
        path: of the file.
        kind: of the errors.
        read: makes something of what a file that only we write holds; whatever it fails with means a damaged file.

    Raises:
        InputError: of the given kind, where the file is missing, unreadable or not JSON as `parse_json` takes it, or
            `read` fails.
    """
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise kind(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise kind(f"{path}: must be JSON: {error}") from None
    if read is None:
        return data
    try:
        return read(data)
    except InputError as error:
        raise kind(*(f"{path}: {mistake}" for mistake in error.mistakes)) from None
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        problem = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise kind(f"{path}: must hold what cutbert writes there, got {problem}") from None


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
