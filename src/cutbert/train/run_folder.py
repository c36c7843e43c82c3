"""A run's folder: refuses what is not its own, locks out a second process, records, logs, resumes."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cutbert.aside import is_aside, names_in, remove_leftovers
from cutbert.errors import InputError, InterruptedRun, MissingError, RunError
from cutbert.files import append_line, change_mistakes, write_json
from cutbert.lacks import naming_lacks
from cutbert.locks import holding
from cutbert.train.machine import describe_machine, describe_versions, own_peak_bytes
from cutbert.train.run_lock import LOCK, making_locked
from cutbert.train.run_record import (
    RECORD,
    check_same,
    check_unchanged,
    differences,
    flat,
    new_record,
    now,
    read_record,
)

LOG = "log.jsonl"
CHECKPOINT = "checkpoint"
SAVE_TIMINGS_EVERY_S = 10.0


class RunFolder:
    """The folder of one run of one command with its settings.

    Opening checks and leaves nothing new; `start` creates, locks and records. Under several processes
    (accelerate sets RANK) only rank 0 writes and locks; for the others every writing method does nothing.
    """

    def __init__(
        self,
        path: Path,
        record: dict[str, Any],
        *,
        settings: Mapping[str, Any] | None = None,
        is_writer: bool,
        allow_changed: bool = False,
    ) -> None:
        self.path = path
        self.data = record
        self.settings = dict(record["settings"] if settings is None else settings)
        self.is_writer = is_writer
        self.allow_changed = allow_changed
        self._open_timings: dict[str, float] = {}
        self._saved_at = 0.0

    @classmethod
    def open(
        cls,
        out: str | Path,
        command: str,
        settings: Mapping[str, Any],
        *,
        line: str | None = None,
        allow_changed: bool = False,
    ) -> RunFolder:
        """Return the run folder at `out`, new or the same command's own.

        Of a finished one, what a kill at its very end left behind is removed.

        Args:
            out: folder that is absent, empty, or holds a run of this command with these settings.
            command: the verb.
            settings: everything the result depends on; must be JSON (tuples become lists).
            line: the whole command line, for provenance; the command where None.
            allow_changed: resume also under another machine, thread count or version.

        Raises:
            RunError: the folder is a file, cannot be written, holds something else, or a run that differs; says what
                differs.
        """
        path = Path(out)
        plain = json.loads(json.dumps(settings))
        is_writer = int(os.environ.get("RANK", "0")) == 0
        is_folder = os.path.isdir(path)
        if not is_folder and os.path.exists(path):
            raise RunError(f"{path}: --out must be a folder, got a file")
        if not is_folder or not has_content(path):
            stored = new_record(command, plain, line or command)
        else:
            stored = read_record(path)
            check_same(path, stored, command, plain)
        if is_writer and stored.get("result") is not None:
            tidy(path)
        elif is_writer and (wrong := list(change_mistakes(path))):
            raise RunError(*wrong)
        return cls(path, stored, settings=plain, is_writer=is_writer, allow_changed=allow_changed)

    @classmethod
    def read(cls, path: str | Path) -> RunFolder:
        """Return the run folder at `path`, whatever its command, for reading.

        Raises:
            RunError: there is no run of a format we know.
        """
        return cls(Path(path), read_record(Path(path)), is_writer=False)

    def unrecorded(self) -> RunFolder:
        """Return this folder for another process that works for the run: it saves stages, and writes no record."""
        return RunFolder(self.path, self.data, is_writer=False)

    @property
    def result(self) -> dict[str, Any] | None:
        """The stored result of a finished run, or None."""
        return self.data.get("result")

    @property
    def finished_result(self) -> dict[str, Any]:
        """The stored result.

        Raises:
            RunError: the run is not finished.
        """
        if self.result is None:
            raise RunError(
                f"{self.path}: the run of {self.data['command']} is not finished; the same command goes on with it"
            )
        return self.result

    @property
    def line(self) -> str:
        """The whole command line the run began with."""
        return str(self.data["line"])

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, all its resumed parts together."""
        return self._seconds("total")

    @contextmanager
    def start(self) -> Iterator[RunFolder]:
        """Create and lock the folder, record what runs where, and keep the lock until the end.

        A new folder is taken away again when the user's input is refused, or the machine lacks something, before
        anything was made.

        Raises:
            RunError: another process holds the lock, or machine, threads or versions changed since the run began.
        """
        if not self.is_writer:
            yield self
            return
        with making_locked(self.path, RECORD):
            is_new = not has_content(self.path)
            try:
                self._begin()
                with self.timing("total"), naming_lacks():
                    yield self
            except (InputError, MissingError):
                if is_new:
                    remove_if_bare(self.path)
                raise
            except (KeyboardInterrupt, InterruptedRun):
                self._save()
                raise

    def record(self, **facts: Any) -> None:
        """Store facts the result depends on (hashes of data files, ...); a resumed run must find them unchanged.

        Raises:
            RunError: a fact differs from the one stored when the run began.
        """
        stored = self.data.setdefault("facts", {})
        plain = json.loads(json.dumps(facts))
        known = stored.keys() & plain.keys()
        changes = differences({name: stored[name] for name in known}, {name: plain[name] for name in known})
        if changes:
            raise RunError(*(f"{self.path}: changed since the run began: {text}" for text in changes))
        stored.update(plain)
        self._save()

    def log(self, **values: Any) -> None:
        """Append one line to log.jsonl and flush it."""
        if not self.is_writer:
            return
        append_line(self.path / LOG, json.dumps(values, ensure_ascii=False))
        if time.monotonic() - self._saved_at > SAVE_TIMINGS_EVERY_S:
            self._save()

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add the wall time of the block to the named timing, over resumed runs too; note memory's peak by its end."""
        self._open_timings[name] = time.monotonic()
        try:
            yield
        finally:
            self.data["timings"][name] = self._seconds(name)
            del self._open_timings[name]
            peaks = self.data.setdefault("peak_bytes", {})
            peaks[name] = max(own_peak_bytes(), peaks.get(name, 0))
            self._save()

    def finish(self, result: Mapping[str, Any]) -> None:
        """Store the result, which makes the run finished, and remove checkpoint/."""
        self.data["result"] = json.loads(json.dumps(result))
        self.data["finished"] = now()
        self._save()
        if self.is_writer:
            shutil.rmtree(self.path / CHECKPOINT, ignore_errors=True)

    def _begin(self) -> None:
        """Refuse a changed machine, and what another process wrote here meanwhile, then write run.json."""
        if has_content(self.path):
            self._read_again()
        remove_leftovers(self.path, and_below=True)
        machine, versions = describe_machine(self._threads()), describe_versions()
        if "machine" in self.data and not self.allow_changed:
            check_unchanged(self.path, self.data, machine, versions)
        self.data.update(settings=self.settings, machine=machine, versions=versions)
        self._save()

    def _threads(self) -> int:
        """Return the threads the run computes with: those of its settings, else the engine's default; loads torch."""
        from cutbert.train.engine import default_threads

        given = [value for name, value in flat(self.settings).items() if name.split(".")[-1] == "threads"]
        return next((int(value) for value in given if value is not None), default_threads())

    def _read_again(self) -> None:
        """Take over what another process stored between `open` and the lock."""
        stored = read_record(self.path)
        check_same(self.path, stored, self.data["command"], self.settings)
        if stored.get("result") is not None:
            raise RunError(
                f"{self.path}: another process has just finished this run; the same command prints its result"
            )
        self.data = stored

    def _all_timings(self) -> list[str]:
        return [*self.data["timings"], *(name for name in self._open_timings if name not in self.data["timings"])]

    def _seconds(self, name: str) -> float:
        past = float(self.data["timings"].get(name, 0.0))
        begun = self._open_timings.get(name)
        return past if begun is None else past + time.monotonic() - begun

    def _save(self) -> None:
        if not self.is_writer or not self.path.is_dir():
            return
        timings = {name: self._seconds(name) for name in self._all_timings()}
        write_json(self.path / RECORD, {**self.data, "timings": timings})
        self._saved_at = time.monotonic()


def has_content(path: Path) -> bool:
    """Return whether a folder holds anything but what a kill leaves behind while its first file is written."""
    return any(name != LOCK and not is_aside(name) for name in names_in(path))


def tidy(path: Path) -> None:
    """Remove the checkpoint of a finished run and what is aside in its folder, unless a process is in there."""
    with suppress(OSError), holding(path / LOCK, patience_s=0) as is_held:
        if is_held:
            shutil.rmtree(path / CHECKPOINT, ignore_errors=True)
            remove_leftovers(path, and_below=True)


def remove_if_bare(path: Path) -> None:
    """Remove what `start` wrote, unless there is more in the folder; the lock and what was made go with the lock."""
    if set(names_in(path)) <= {LOG, RECORD, LOCK}:
        for name in (LOG, RECORD):
            (path / name).unlink(missing_ok=True)
