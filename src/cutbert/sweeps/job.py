"""One run as a process: waits for the run's folder, writes a log, says how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cutbert.train.run_lock import is_locked

STOPPED = 130
ERROR = "cutbert: error: "


@dataclass(frozen=True)
class Job:
    """A run as an engine takes it.

    Args:
        name: of the run.
        words: its command without `cutbert`.
        folder: the run's.
        log: file that its output is added to.
        threads: it computes with.
        place: working folder, from which relative paths of its command start.
        environment: variables it must see on whatever machine.
        cores, gpus, memory_gib: what it wants of a machine.
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
class Ended:
    """How a job ended.

    Args:
        name: of the run.
        error: what went wrong, None where nothing did.
        was_stopped: whether it was asked to stop; it goes on when it is started again.
    """

    name: str
    error: str | None = None
    was_stopped: bool = False


class Process:
    """A job on this machine. Does nothing but when it is polled.

    A process that still runs in the run's folder, left over from a sweep that was killed, is waited for.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._child: subprocess.Popen[bytes] | None = None
        self._log_begins = 0
        self._is_stopping = False

    def poll(self) -> Ended | None:
        """Start the job where it waits; return how it ended, None while it has not."""
        if self._child is None:
            if self._is_stopping:
                return Ended(self.job.name, was_stopped=True)
            if not is_locked(self.job.folder):
                self._start()
            return None
        code = self._child.poll()
        return None if code is None else self._ended(code)

    def stop(self) -> None:
        """Ask the job to save and end; the second time it ends at once."""
        self._is_stopping = True
        if self._child is not None:
            self._child.send_signal(signal.SIGTERM)

    def _start(self) -> None:
        words = (*self.job.words, "--threads", str(self.job.threads))
        child = [sys.executable, "-m", "cutbert.sweeps.child", str(os.getpid()), *words]
        self.job.log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **self.job.environment, "OMP_NUM_THREADS": str(self.job.threads)}
        with self.job.log.open("ab") as log:
            self._log_begins = log.tell()
            # A session of its own: Ctrl-C in a terminal reaches the sweep alone, which asks its jobs once.
            self._child = subprocess.Popen(
                child,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.job.place,
                env=environment,
                start_new_session=True,
            )

    def _ended(self, code: int) -> Ended:
        if code == 0:
            return Ended(self.job.name)
        if self._is_stopping or code == STOPPED:
            return Ended(self.job.name, was_stopped=True)
        return Ended(self.job.name, error=error_of(self.job.log, self._log_begins, code))


def error_of(log: Path, begins: int, code: int) -> str:
    """Return in one line why a job failed: its last error line, or else its last line.

    Args:
        log: its output.
        begins: byte of the log where this job's output begins.
        code: its exit code, negative for a signal.
    """
    with log.open("rb") as file:
        file.seek(begins)
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    if errors:
        return errors[-1]
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return lines[-1] if lines else f"exit code {code}"
