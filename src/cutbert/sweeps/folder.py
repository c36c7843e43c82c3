"""A sweep's folder: refused where it belongs to another plan, locked against a second sweep, with each run's state."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from cutbert.aside import remove_leftovers
from cutbert.checks import COUNT, OBJECT, PLACE, TEXT, TEXTS, Check, are, check_values, has, is_text, list_of
from cutbert.errors import Mistakes, RunError
from cutbert.files import change_mistakes, read_json, write_json
from cutbert.folders.provenance import FILE_NAME as PROVENANCE
from cutbert.sweeps.expand import RUNS, PlannedRun
from cutbert.train.run_folder import RunFolder, has_content
from cutbert.train.run_lock import is_locked, making_locked
from cutbert.train.run_record import RECORD

SWEEP = "sweep.json"
LOGS = "logs"
TAKEN = "--out must be new, empty or this plan's sweep, but it is not empty"
FORMAT_VERSION = 1
# Options that may differ between two calls of a sweep: they change where and how fast it runs, not its result.
FREE_OPTIONS = ("threads", "checkpoint_seconds", "allow_changed", "device")

Status = Literal["finished", "failed", "not run", "running", "begun", "waiting"]


@dataclass(frozen=True)
class StoredRun:
    """A run as stored in sweep.json.

    Args:
        name, step, verb, labels, seeds, model, after: as in `PlannedRun`.
        options: of its command.
    """

    name: str
    step: str
    verb: str
    labels: Mapping[str, str]
    seeds: tuple[str, ...]
    model: str
    after: tuple[str, ...]
    options: Mapping[str, Any]

    @classmethod
    def of(cls, run: PlannedRun) -> StoredRun:
        options = json.loads(json.dumps(dict(run.options)))
        return cls(
            run.name, run.step, run.verb, dict(run.labels), tuple(sorted(run.seeds)), run.model, run.after, options
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StoredRun:
        return cls(**{**data, "seeds": tuple(data["seeds"]), "after": tuple(data["after"])})

    def binding(self) -> dict[str, Any]:
        """Return what must not change between calls: verb, model and options but the free ones."""
        options = {name: value for name, value in self.options.items() if name not in FREE_OPTIONS}
        return {"verb": self.verb, "model": self.model, **options}


TEXTS_BY_NAME = are(is_text)
IS_RUN, _ = has(
    {
        "name": PLACE,
        **dict.fromkeys(("step", "verb", "model"), TEXT),
        "labels": (TEXTS_BY_NAME, "texts"),
        **dict.fromkeys(("seeds", "after"), TEXTS),
        "options": OBJECT,
    }
)
SWEEP_CHECKS: dict[str, Check] = {
    "identity": TEXT,
    "failures": (TEXTS_BY_NAME, "a JSON object of texts"),
    "runs": (
        list_of(lambda value: IS_RUN(value) and value.keys() == {each.name for each in fields(StoredRun)}),
        "a list of runs as cutbert sweep writes them",
    ),
}


@dataclass(frozen=True)
class RunState:
    """The state of a run.

    Args:
        status: finished; failed; not run, because a run it uses failed; running; begun but not finished; waiting.
        error: of a failed run.
        result: of a finished run.
        seconds: it has taken so far, over all resumptions.
        threads: it was started with.
    """

    status: Status
    error: str | None = None
    result: Mapping[str, Any] | None = None
    seconds: float | None = None
    threads: int | None = None


class SweepFolder:
    """The folder of one sweep. Opening it checks and leaves nothing new; `start` creates, locks and records."""

    def __init__(self, path: Path, runs: Sequence[StoredRun], failures: Mapping[str, str], identity: str) -> None:
        self.path = path
        self.runs = tuple(runs)
        self._by_name = {run.name: run for run in runs}
        self.failures = dict(failures)
        self.identity = identity
        self._finished: dict[str, RunState] = {}

    @classmethod
    def open(cls, out: Path, runs: Sequence[PlannedRun]) -> SweepFolder:
        """Return the folder of a sweep over these runs: a new one, or that of the same plan, which may have grown.

        Raises:
            RunError: it is a file, cannot be written, has other contents, or a sweep with runs that the plan does not
                have.
        """
        new = [StoredRun.of(run) for run in runs]
        if os.path.exists(out) and not os.path.isdir(out):
            raise RunError(f"{out}: --out must be a folder, got a file")
        if wrong := list(change_mistakes(out)):
            raise RunError(*wrong)
        if not (out / SWEEP).is_file():
            if out.is_dir() and has_content(out):
                raise RunError(f"{out}: {TAKEN}")
            return cls(out, new, {}, uuid.uuid4().hex)
        stored = cls.read(out)
        planned = {run.name: run for run in new}
        wrong = []
        for run in stored.runs:
            if run.name not in planned:
                wrong.append(f"{run.name} is not a run of this plan")
            elif run.binding() != planned[run.name].binding():
                wrong.append(f"{run.name} was {described(run)}, now {described(planned[run.name])}")
        if wrong:
            raise RunError(
                f"{out}: --out holds the sweep of another plan; a plan may grow, not change: give another --out",
                *(f"{out}: {text}" for text in wrong),
            )
        return cls(out, new, stored.failures, stored.identity)

    @classmethod
    def read(cls, path: Path) -> SweepFolder:
        """Return the sweep in a folder, to read it.

        Raises:
            RunError: there is no sweep, or it has another format.
        """
        if not (path / SWEEP).is_file():
            raise RunError(f"{path}: must be the folder of a sweep (with {SWEEP})")
        data = read_json(path / SWEEP, RunError)
        version = data.get("format_version") if isinstance(data, dict) else None
        if version != FORMAT_VERSION:
            raise RunError(f"{path / SWEEP}: format_version must be {FORMAT_VERSION}, got {version!r}")
        mistakes = Mistakes()
        check_values(mistakes, str(path / SWEEP), data, required=SWEEP_CHECKS, optional={"format_version": COUNT})
        mistakes.check(RunError)
        return cls(path, [StoredRun.from_json(each) for each in data["runs"]], data["failures"], data["identity"])

    @contextmanager
    def start(self) -> Iterator[None]:
        """Create and lock the folder, and record the runs; failed runs will be tried again.

        Raises:
            RunError: another sweep is running in the folder, or has begun there since it was opened.
        """
        with making_locked(self.path, SWEEP):
            if (self.path / SWEEP).is_file():
                if self.read(self.path).identity != self.identity:
                    raise RunError(f"{self.path}: another process has just begun a sweep in this folder; try again")
            elif has_content(self.path):
                raise RunError(f"{self.path}: {TAKEN}")
            remove_leftovers(self.path / RUNS)
            self.failures = {}
            self._save()
            yield

    def fail(self, name: str, error: str) -> None:
        """Record that a run failed."""
        self.failures[name] = error
        self._save()

    def state(self, name: str) -> RunState:
        """Return the state of a run, read from its files."""
        run = self._by_name[name]
        if run.name in self._finished:
            return self._finished[run.name]
        folder = self.path / RUNS / run.name
        if (folder / PROVENANCE).is_file():  # a picked network: a model folder, written whole or not at all
            return RunState("finished", result={})
        began = RunFolder.read(folder) if (folder / RECORD).is_file() else None
        seconds = None if began is None else began.data["timings"].get("total")
        threads = None if began is None else began.data.get("machine", {}).get("threads")
        if began is not None and began.result is not None:
            state = RunState("finished", result=began.result, seconds=seconds, threads=threads)
            self._finished[run.name] = state
            return state
        if is_locked(folder):
            return RunState("running", seconds=seconds, threads=threads)
        if run.name in self.failures:
            return RunState("failed", self.failures[run.name], seconds=seconds, threads=threads)
        if any(name in self.lost() for name in run.after):
            return RunState("not run")
        return RunState("waiting" if began is None else "begun", seconds=seconds, threads=threads)

    def lost(self) -> set[str]:
        """Return the runs that failed and those that use them, directly or indirectly."""
        lost = set(self.failures)
        for run in self.runs:  # in an order in which each comes after those it uses
            if lost & set(run.after):
                lost.add(run.name)
        return lost

    def states(self) -> dict[str, RunState]:
        """Return the state of every run, by name, in the plan's order."""
        return {run.name: self.state(run.name) for run in self.runs}

    def log(self, name: str) -> Path:
        return self.path / LOGS / f"{name}.log"

    def _save(self) -> None:
        data = {
            "format_version": FORMAT_VERSION,
            "identity": self.identity,
            "runs": [vars(run) for run in self.runs],
            "failures": self.failures,
        }
        write_json(self.path / SWEEP, data)


def described(run: StoredRun) -> str:
    """Return what must not change of a run, as text."""
    return ", ".join(f"{name} {value!r}" for name, value in run.binding().items())
