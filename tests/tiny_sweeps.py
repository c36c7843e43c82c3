"""Sweeps that compute their runs in the test's own process: what starting Python costs is spared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cutbert.cli.main import main
from cutbert.sweeps import sweep as module
from cutbert.sweeps.engines import Job, JobEnd


class Here:
    """An engine that computes a run in this very process."""

    def __init__(self) -> None:
        self._ended: list[JobEnd] = []

    def share(self, wanted: int | None) -> int:
        return 1

    def has_room(self) -> bool:
        return True

    def begin(self, job: Job) -> None:
        code = main([*job.words, "--threads", str(job.threads)])
        self._ended.append(JobEnd(job.name, f"exit code {code}" if code else None))

    def ended(self) -> list[JobEnd]:
        found, self._ended = self._ended, []
        return found

    def stop(self) -> None: ...


def compute_here(patch: pytest.MonkeyPatch) -> None:
    """Let sweeps compute in this process."""
    run_on(patch, Here())


def run_on(patch: pytest.MonkeyPatch, engine: Any) -> None:
    """Let sweeps run on an engine made for a test."""

    @contextmanager
    def engine_of(*args: Any) -> Iterator[Any]:
        yield engine

    patch.setattr(module, "engine_of", engine_of)
