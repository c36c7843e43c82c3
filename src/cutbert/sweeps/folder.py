"""A sweep's folder: refuses what is not its own, locks out a second sweep, tells what has become of each run."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cutbert.errors import RunError
from cutbert.files import read_json, write_json
from cutbert.hub.provenance import FILE_NAME as PROVENANCE
from cutbert.sweeps.expand import RUNS, Run
from cutbert.train.run_folder import RunFolder
from cutbert.train.run_lock import LOCK, is_locked, locked
from cutbert.train.run_record import RECORD

SWEEP = "sweep.json"
LOGS = "logs"
FORMAT_VERSION = 1
# Options that may differ between two calls of a sweep: where and how fast, not what.
FREE_OPTIONS = ("threads", "checkpoint_seconds", "allow_changed", "device")

Status = Literal["finished", "failed", "not run", "running", "begun", "waiting"]


@dataclass(frozen=True)
class Stored:
    """A run as sweep.json holds it.

    Args:
        name, step, verb, labels, seeds, model, after: as of a Run.
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
    def of(cls, run: Run) -> Stored:
        options = json.loads(json.dumps(dict(run.options)))
        return cls(
            run.name, run.step, run.verb, dict(run.labels), tuple(sorted(run.seeds)), run.model, run.after, options
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Stored:
        return cls(**{**data, "seeds": tuple(data["seeds"]), "after": tuple(data["after"])})

    def binding(self) -> dict[str, Any]:
        """Return what makes it this run and no other."""
        options = {name: value for name, value in self.options.items() if name not in FREE_OPTIONS}
        return {"verb": self.verb, "model": self.model, **options}


@dataclass(frozen=True)
class State:
    """What has become of a run.

    Args:
        status: finished; failed; not run, since one it uses failed; running; begun and not finished; waiting.
        error: of a failed one.
        result: of a finished one.
        seconds: it took so far, all its parts together.
        threads: it began with.
    """

    status: Status
    error: str | None = None
    result: Mapping[str, Any] | None = None
    seconds: float | None = None
    threads: int | None = None


class SweepFolder:
    """The folder of one sweep. Opening checks and creates nothing; `start` creates, locks and records."""

    def __init__(self, path: Path, runs: Sequence[Stored], failures: Mapping[str, str], identity: str) -> None:
        self.path = path
        self.runs = tuple(runs)
        self._by_name = {run.name: run for run in runs}
        self.failures = dict(failures)
        self.identity = identity
        self._finished: dict[str, State] = {}

    @classmethod
    def open(cls, out: Path, runs: Sequence[Run]) -> SweepFolder:
        """Return the folder of a sweep over these runs: new, or the same plan's, which may have grown.

        Raises:
            RunError: the folder is a file, holds something else, or a sweep with runs that the plan has not.
        """
        new = [Stored.of(run) for run in runs]
        if out.exists() and not out.is_dir():
            raise RunError(f"{out}: --out must be a folder, got a file")
        if not (out / SWEEP).is_file():
            if out.is_dir() and any(entry.name != LOCK for entry in out.iterdir()):
                raise RunError(f"{out}: --out must be new, empty or this plan's sweep, but it is not empty")
            return cls(out, new, {}, uuid.uuid4().hex)
        stored = cls.read(out)
        planned = {run.name: run for run in new}
        wrong = []
        for run in stored.runs:
            if run.name not in planned:
                wrong.append(f"{run.name} is no run of this plan")
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
        """Return the sweep in a folder, for looking at.

        Raises:
            RunError: there is none, or one of another format.
        """
        if not (path / SWEEP).is_file():
            raise RunError(f"{path}: must be the folder of a sweep (with {SWEEP})")
        data = read_json(path / SWEEP, RunError)
        version = data.get("format_version") if isinstance(data, dict) else None
        if version != FORMAT_VERSION:
            raise RunError(f"{path / SWEEP}: format_version must be {FORMAT_VERSION}, got {version!r}")
        return cls(path, [Stored.from_json(each) for each in data["runs"]], data["failures"], data["identity"])

    @contextmanager
    def start(self) -> Iterator[None]:
        """Create and lock the folder, and record the runs; what failed before gets another chance.

        Raises:
            RunError: another sweep is running in the folder.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path):
            self.failures = {}
            self._save()
            yield

    def fail(self, name: str, error: str) -> None:
        """Remember that a run failed."""
        self.failures[name] = error
        self._save()

    def state(self, name: str) -> State:
        """Return what has become of a run, as the files say."""
        run = self._by_name[name]
        if run.name in self._finished:
            return self._finished[run.name]
        folder = self.path / RUNS / run.name
        if (folder / PROVENANCE).is_file():  # a picked network: a model folder, written whole or not at all
            return State("finished", result={})
        began = RunFolder.read(folder) if (folder / RECORD).is_file() else None
        seconds = None if began is None else began.data["timings"].get("total")
        threads = None if began is None else began.data.get("machine", {}).get("threads")
        if began is not None and began.result is not None:
            found = State("finished", result=began.result, seconds=seconds, threads=threads)
            self._finished[run.name] = found
            return found
        if began is not None and is_locked(folder):
            return State("running", seconds=seconds, threads=threads)
        if run.name in self.failures:
            return State("failed", self.failures[run.name], seconds=seconds, threads=threads)
        if any(name in self.lost() for name in run.after):
            return State("not run")
        return State("waiting" if began is None else "begun", seconds=seconds, threads=threads)

    def lost(self) -> set[str]:
        """Return the runs that failed and those that use them, directly or not."""
        lost = set(self.failures)
        for run in self.runs:  # each after those it uses
            if lost & set(run.after):
                lost.add(run.name)
        return lost

    def states(self) -> dict[str, State]:
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


def described(run: Stored) -> str:
    """Return in words what binds a run."""
    return ", ".join(f"{name} {value!r}" for name, value in run.binding().items())
