"""A run's folder: refuses what is not its own, locks out a second process, records, logs, resumes."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cutbert.errors import InputError, InterruptedRun, MissingError, RunError
from cutbert.files import read_json, write_json
from cutbert.train.machine import describe_machine, describe_versions

FORMAT_VERSION = 1
LOCK = ".lock"
RECORD = "run.json"
LOG = "log.jsonl"
RECORD_KEYS = {"command": str, "line": str, "settings": dict, "timings": dict}
SAVE_TIMINGS_EVERY_S = 10.0
SAME_VERSIONS = ("cutbert", "torch", "transformers")
SAME_MACHINE = ("processor", "threads", "processes", "accelerator")
FREE_SETTINGS = ("threads", "checkpoint_seconds")


class RunFolder:
    """The folder of one run of one command with its settings.

    Opening checks and creates nothing; `start` creates, locks and records. Under several processes
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

        Args:
            out: folder that is absent, empty, or holds a run of this command with these settings.
            command: the verb.
            settings: everything the result depends on; must be JSON (tuples become lists).
            line: the whole command line, for provenance; the command where None.
            allow_changed: resume also under another machine, thread count or version.

        Raises:
            RunError: the folder is a file, holds something else, or a run that differs; says what differs.
        """
        path = Path(out)
        plain = json.loads(json.dumps(settings))
        is_writer = int(os.environ.get("RANK", "0")) == 0
        if path.exists() and not path.is_dir():
            raise RunError(f"{path}: --out must be a folder, got a file")
        if not path.is_dir() or not has_content(path):
            return cls(
                path, new_record(command, plain, line or command), is_writer=is_writer, allow_changed=allow_changed
            )
        stored = read_record(path)
        check_same(path, stored, command, plain)
        return cls(path, stored, settings=plain, is_writer=is_writer, allow_changed=allow_changed)

    @classmethod
    def read(cls, path: str | Path) -> RunFolder:
        """Return the run folder at `path`, whatever its command, for reading.

        Raises:
            RunError: there is no run of a format we know.
        """
        return cls(Path(path), read_record(Path(path)), is_writer=False)

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

        A new folder is taken away again when the user's input is refused before anything was made.

        Raises:
            RunError: another process holds the lock, or machine, threads or versions changed since the run began.
        """
        if not self.is_writer:
            yield self
            return
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        is_new = bool(made) or not has_content(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path):
            try:
                self._begin()
                with self.timing("total"):
                    yield self
            except (InputError, MissingError):
                if is_new:
                    remove_if_bare(self.path, made)
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
        found = differences({name: stored[name] for name in known}, {name: plain[name] for name in known})
        if found:
            raise RunError(*(f"{self.path}: changed since the run began: {text}" for text in found))
        stored.update(plain)
        self._save()

    def log(self, **values: Any) -> None:
        """Append one line to log.jsonl and flush it."""
        if not self.is_writer:
            return
        with (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values, ensure_ascii=False) + "\n")
        if time.monotonic() - self._saved_at > SAVE_TIMINGS_EVERY_S:
            self._save()

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add the wall time of the block to the named timing; adds up over resumed runs."""
        self._open_timings[name] = time.monotonic()
        try:
            yield
        finally:
            self.data["timings"][name] = self._seconds(name)
            del self._open_timings[name]
            self._save()

    def finish(self, result: Mapping[str, Any]) -> None:
        """Store the result, which makes the run finished, and remove checkpoint/."""
        self.data["result"] = json.loads(json.dumps(result))
        self.data["finished"] = now()
        self._save()
        if self.is_writer:
            shutil.rmtree(self.path / "checkpoint", ignore_errors=True)

    def _begin(self) -> None:
        """Refuse a changed machine, then write run.json."""
        if (self.path / RECORD).exists():
            self._read_again()
        for leftover in self.path.glob(".*.part"):
            leftover.unlink() if leftover.is_file() else shutil.rmtree(leftover)
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


def new_record(command: str, settings: dict[str, Any], line: str) -> dict[str, Any]:
    seeds = [value for name, value in flat(settings).items() if name.split(".")[-1] == "seed"]
    record: dict[str, Any] = {"format_version": FORMAT_VERSION, "command": command, "line": line}
    record["settings"] = settings
    if seeds:
        record["seed"] = seeds[0]
    return {**record, "started": now(), "timings": {}}


def read_record(path: Path) -> dict[str, Any]:
    """Read run.json.

    Raises:
        RunError: the folder holds no run, or one of an unknown format.
    """
    if not (path / RECORD).is_file():
        state = "is not empty and holds no run" if path.is_dir() else "is no folder with a run"
        raise RunError(f"{path}: must be a run folder (with {RECORD}), but {state}")
    data = read_json(path / RECORD, RunError)
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != FORMAT_VERSION:
        raise RunError(f"{path / RECORD}: format_version must be {FORMAT_VERSION}, got {version!r}")
    missing = [name for name, kind in RECORD_KEYS.items() if not isinstance(data.get(name), kind)]
    if missing:
        raise RunError(f"{path / RECORD}: must have {', '.join(missing)} as a run writes them; give another --out")
    return dict(data)


def check_same(path: Path, stored: Mapping[str, Any], command: str, settings: Mapping[str, Any]) -> None:
    """Raise unless the stored run is one of this command with these settings."""
    if stored["command"] != command:
        raise RunError(f"{path}: --out must be new or a run of {command}, got a run of {stored['command']}")
    found = differences(binding(stored["settings"]), binding(settings))
    if found:
        raise RunError(
            f"{path}: --out holds a run of {command} with other settings; repeat them or give another --out",
            *(f"{path}: {text}" for text in found),
        )


def check_unchanged(
    path: Path, stored: Mapping[str, Any], machine: Mapping[str, Any], versions: Mapping[str, str]
) -> None:
    """Raise where something that bits depend on differs from when the unfinished run last ran."""
    then = {name: stored["machine"].get(name) for name in SAME_MACHINE}
    now_ = {name: machine.get(name) for name in SAME_MACHINE}
    found = differences(then, now_)
    then_versions = {name: stored["versions"].get(name) for name in SAME_VERSIONS}
    found += differences(then_versions, {name: versions.get(name) for name in SAME_VERSIONS})
    if found:
        raise RunError(
            f"{path}: cannot resume to the bit, since the machine changed; --allow-changed resumes all the same",
            *(f"{path}: {text}" for text in found),
        )


def binding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings flat, without those that may change between the parts of one run.

    Threads are compared as the machine's, which counts those really used.
    """
    return {name: value for name, value in flat(settings).items() if name.split(".")[-1] not in FREE_SETTINGS}


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return one line per value that differs, with its dotted name."""
    before, after = flat(then), flat(now)
    names = sorted(before.keys() | after.keys())
    return [
        f"{name} was {before.get(name)!r}, now {after.get(name)!r}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one mapping with dotted names."""
    result: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[f"{prefix}{name}"] = value
    return result


def has_content(path: Path) -> bool:
    """Return whether a folder holds anything but what a kill during `start` leaves behind."""
    return any(entry.name != LOCK and not entry.name.startswith(f".{RECORD}.") for entry in path.iterdir())


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


def remove_if_bare(path: Path, made: Sequence[Path]) -> None:
    """Remove what `start` made, unless there is more in the folder than it made.

    Args:
        path: the run's folder.
        made: it and its parents as far as `start` made them, innermost first; parents that hold more stay.
    """
    ours = {LOCK, RECORD, LOG}
    if {entry.name for entry in path.iterdir()} <= ours:
        for name in ours:
            (path / name).unlink(missing_ok=True)
        for folder in made:
            if any(folder.iterdir()):
                return
            folder.rmdir()


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
