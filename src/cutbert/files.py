"""Files written whole or not at all: write aside, then rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cutbert.errors import InputError
from cutbert.parsing import parse_json


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it is renamed to `path`, on any error it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        os.chmod(aside, 0o666 & ~current_umask())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new temporary folder beside `path`; on success it is renamed to `path`, on any error it is removed.

    A folder already at `path` is replaced, or back in its place where that is interrupted; a kill between the two
    renames leaves it under the name `.NAME.*.old`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    old = aside.with_suffix(".old")
    try:
        os.chmod(aside, 0o777 & ~current_umask())
        yield aside
        if path.exists():
            os.replace(path, old)
        os.replace(aside, path)
    finally:
        if old.exists() and not path.exists():  # interrupted between the two renames
            os.replace(old, path)
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, data: Any) -> None:
    """Write data as indented JSON, whole or not at all."""
    with replacing_file(path) as aside:
        aside.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
