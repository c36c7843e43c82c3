"""Where the runs of a sweep are computed: what an engine must do, and the engine of this machine."""

from __future__ import annotations

from typing import Protocol

from cutbert.sweeps.job import Ended, Job, Process


class Engine(Protocol):
    """Places jobs on machines; everything else is the sweep's."""

    def share(self, wanted: int | None) -> int:
        """Return the cores a job gets that wants so many, or leaves it to the engine."""

    def has_room(self) -> bool:
        """Return whether another job may be handed in."""

    def begin(self, job: Job) -> None:
        """Take a job, to be computed now or when there is room."""

    def ended(self) -> list[Ended]:
        """Return the jobs that ended since the last call, without waiting."""

    def stop(self) -> None:
        """Ask all jobs to save and end; they still come out of `ended`."""


class LocalEngine:
    """Runs jobs on this machine, so many at a time.

    Args:
        jobs: at a time.
        cores: that each may have.
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

    def ended(self) -> list[Ended]:
        found = []
        for process in list(self._running):
            end = process.poll()
            if end is not None:
                self._running.remove(process)
                found.append(end)
        return found

    def stop(self) -> None:
        for process in self._running:
            process.stop()
