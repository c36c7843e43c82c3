"""Kills what runs at a moment that its user can see: as it says a line, or as it puts a file in its place."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

LOGGER = logging.getLogger("cutbert")
_before_rename: list[Callable[[str], None]] = []  # what is called with the new name of any file, while a test asks


@contextmanager
def killed_as_it_says(start: str) -> Iterator[None]:
    """Kill what runs within the block as it says a message that begins so; fail where it ends without.

    Progress bars say lines such as "round-1: 2/6": their title and the units done, once in ten percent.
    """

    class Killer(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith(start):
                raise KeyboardInterrupt

    killer, level = Killer(), LOGGER.level
    LOGGER.addHandler(killer)
    LOGGER.setLevel(logging.INFO)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        LOGGER.removeHandler(killer)
        LOGGER.setLevel(level)


@contextmanager
def killed_before(path: Path | str, *, after: Path | None = None) -> Iterator[None]:
    """Kill what runs within the block before this file or folder is in its place; fail where it ends without.

    All files are written aside and then renamed; renaming is what an audit hook of Python sees.

    Args:
        path: the file or folder, or a pattern of its path's end.
        after: a file or folder that must be in its place already; None for no such condition.
    """

    killed: list[str] = []  # once, since what cleans up may rename too

    def kill(name: str) -> None:
        if not killed and Path(name).match(str(path)) and (after is None or after.exists()):
            killed.append(name)
            raise KeyboardInterrupt

    _install()
    _before_rename.append(kill)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        _before_rename.remove(kill)


@cache  # once: Python has no way to remove a hook
def _install() -> None:
    def on_event(event: str, arguments: Any) -> None:
        if event == "os.rename":
            for each in tuple(_before_rename):
                each(os.fspath(arguments[1]))

    sys.addaudithook(on_event)
