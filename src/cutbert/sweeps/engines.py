"""Engines, which compute the runs of a sweep: jobs, the interface of an engine, and the engine of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cutbert.printable import printable
from cutbert.train.run_lock import is_locked

STOPPED = 130
ERROR = "cutbert: error: "


@dataclass(frozen=True)
class Job:
    """A run as an engine gets it.

    Args:
        name: of the run.
        words: its command without `cutbert`.
        folder: of the run.
        log: file that its output is appended to.
        threads: number of threads it computes with.
        place: working folder, to which relative paths in its command refer.
        environment: variables it must have on any machine.
        cores, gpus, memory_gib: what it needs of a machine.
    """

    name: str
    words: tuple[str, ...]
    folder: Path
    log: Path
    threads: int
    place: Path
    environment: Mapping[str, str]
    cores: int
    gpus: float = 0.0
    memory_gib: float | None = None


@dataclass(frozen=True)
class JobEnd:
    """How a job ended.

    Args:
        name: of the run.
        error: what went wrong, or None.
        was_stopped: whether it was asked to stop; it resumes when it is started again.
    """

    name: str
    error: str | None = None
    was_stopped: bool = False


class JobEngine(Protocol):
    """Runs jobs on machines; the sweep does everything else."""

    def share(self, wanted: int | None) -> int:
        """Return the number of cores for a job that wants `wanted`; None leaves it to the engine."""

    def has_room(self) -> bool:
        """Return whether another job may be submitted."""

    def begin(self, job: Job) -> None:
        """Submit a job, to run now or when there is room."""

    def ended(self) -> list[JobEnd]:
        """Return the jobs that ended since the last call, without waiting."""

    def stop(self) -> None:
        """Ask all jobs to save and end; `ended` still returns them."""


class LocalEngine:
    """Runs jobs on this machine, `jobs` at a time.

    Args:
        jobs: number of jobs at a time.
        cores: largest number of cores for each.
    """

    def __init__(self, jobs: int, cores: int) -> None:
        self.jobs = jobs
        self.cores = cores
        self._running: list[Process] = []

    def share(self, wanted: int | None) -> int:
        return min(wanted or self.cores, self.cores)

    def has_room(self) -> bool:
        return len(self._running) < self.jobs

    def begin(self, job: Job) -> None:
        self._running.append(Process(job))

    def ended(self) -> list[JobEnd]:
        ends = []
        for process in list(self._running):
            end = process.poll()
            if end is not None:
                self._running.remove(process)
                ends.append(end)
        return ends

    def stop(self) -> None:
        for process in self._running:
            process.stop()


class Process:
    """A job on this machine. It is started, and its end is noticed, only when it is polled.

    Where a process left over from a killed sweep still runs in the run's folder, it waits for that.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._is_stopping = False

    def poll(self) -> JobEnd | None:
        """Start the job if it has not started; return how it ended, None while it runs."""
        if self._child is None:
            if self._is_stopping:
                return JobEnd(self.job.name, was_stopped=True)
            if not is_locked(self.job.folder):
                self._start()
            return None
        code = self._child.poll()
        return None if code is None else self._ended(code)

    def stop(self) -> None:
        """Ask the job to save and end; called a second time, it ends at once."""
        self._is_stopping = True
        if self._child is not None:
            self._child.send_signal(signal.SIGTERM)

    def _start(self) -> None:
        words = (*self.job.words, "--threads", str(self.job.threads))
        child = [sys.executable, "-m", "cutbert.sweeps.child", str(os.getpid()), *words]
        self.job.log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **self.job.environment, "OMP_NUM_THREADS": str(self.job.threads)}
        with self.job.log.open("ab") as log:
            self._log_start = log.tell()
            # In its own session, so that Ctrl-C in a terminal reaches only the sweep, which asks its jobs once.
            self._child = subprocess.Popen(
                child,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.job.place,
                env=environment,
                start_new_session=True,
            )

    def _ended(self, code: int) -> JobEnd:
        if code == 0:
            return JobEnd(self.job.name)
        if self._is_stopping or code == STOPPED:
            return JobEnd(self.job.name, was_stopped=True)
        return JobEnd(self.job.name, error=error_of(self.job.log, self._log_start, code))


def error_of(log: Path, start: int, code: int) -> str:
    """Return in one line why a job failed: its last error line, or else its last line.

    Args:
        log: file with its output.
        start: byte of the log where this job's output begins.
        code: its exit code, negative for a signal.
    """
    with log.open("rb") as file:
        file.seek(start)
        text = printable(file.read().decode("utf-8", "replace"), many_lines=True)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    if errors:
        return errors[-1]
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return lines[-1] if lines else f"exit code {code}"
