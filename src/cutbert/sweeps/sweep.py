"""Computes the runs of a plan on an engine, each after those it uses; skips finished runs, goes on after failures."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from cutbert.errors import InterruptedRun
from cutbert.sweeps.engines import Job, JobEngine, LocalEngine
from cutbert.sweeps.expand import RUNS, PlannedRun, read_runs
from cutbert.sweeps.folder import RunState, StoredRun, SweepFolder
from cutbert.sweeps.options import Verbs
from cutbert.sweeps.settings import SweepSettings
from cutbert.sweeps.table import main_score, table_rows, write_tables
from cutbert.sweeps.view import sweep_view
from cutbert.train.interrupts import answering_stops
from cutbert.train.machine import usable_cores

POLL_SECONDS = 0.1
SHOW_SECONDS = 1.0
PASSED_ON = ("CUTBERT_", "HF_")  # prefixes of environment variables passed to runs on other machines
ENDS = ("finished", "failed", "not run")


def sweep(plan: Path, verbs: Verbs, settings: SweepSettings) -> dict[str, Any]:
    """Compute the runs of a plan that are not finished; return the sweep's result.

    Args:
        plan: plan file.
        verbs: the verbs its steps may run.
        settings: checked.

    Raises:
        InputError: mistakes in the plan, all together, before anything is made.
        MissingError: the engine is not available.
        InterruptedRun: Ctrl-C or SIGTERM; running runs have saved their state.
    """
    # Absolute, so that the runs' recorded commands are the same wherever the sweep is called from.
    out = Path(settings.out or "").absolute()
    runs = read_runs(plan, settings.set, verbs, out)
    folder = SweepFolder.open(out, runs)
    with engine_of(settings, folder) as engine, folder.start():
        Sweep(folder, {run.name: run for run in runs}, engine).compute()
    return result_of(folder, str(settings.out))


def show(path: str) -> dict[str, Any]:
    """Return the present result of a sweep, finished or not.

    Raises:
        RunError: there is no sweep.
    """
    return result_of(SweepFolder.read(Path(path)), path)


@contextmanager
def engine_of(settings: SweepSettings, folder: SweepFolder) -> Iterator[JobEngine]:
    """Yield the engine the settings name.

    Raises:
        MissingError: it is not available.
        InputError: it cannot be used for this sweep.
    """
    if settings.engine == "ray":
        from cutbert.sweeps.ray_engine import ray_engine

        with ray_engine(settings.ray_address, folder.path, folder.identity) as engine:
            yield engine
    else:
        cores = settings.threads or usable_cores()
        yield LocalEngine(settings.jobs, max(1, cores // settings.jobs))


class Sweep:
    """One call of `sweep`: the state of each run, and which runs the engine has now."""

    def __init__(self, folder: SweepFolder, runs: Mapping[str, PlannedRun], engine: JobEngine) -> None:
        self.folder = folder
        self.runs = runs
        self.engine = engine
        self.states = folder.states()
        self.begun_at: dict[str, float] = {}
        self.stops = 0

    def compute(self) -> None:
        """Run everything that is not finished; write the table whenever a run ends.

        Raises:
            InterruptedRun: stopped before all runs had ended.
        """
        self._write_tables()
        shown_at, stops_passed_on = 0.0, 0
        with sweep_view() as view, answering_stops(self._count_stop):
            while True:
                if self.stops > stops_passed_on:
                    stops_passed_on = self.stops
                    self.engine.stop()
                changed = self._take_ended() | self._begin_ready()
                if changed or time.monotonic() - shown_at > SHOW_SECONDS:
                    view(self._with_seconds())
                    shown_at = time.monotonic()
                if not self.begun_at:
                    break
                time.sleep(POLL_SECONDS)
        if any(state.status not in ENDS for state in self.states.values()):
            raise InterruptedRun("interrupted; the runs have saved their state, the same command resumes them")

    def _take_ended(self) -> bool:
        """Record the results and failures of the jobs that ended; return whether there were any."""
        ended = self.engine.ended()
        for each in ended:
            del self.begun_at[each.name]
            state = self.folder.state(each.name)
            # A run that somebody else has begun by its own command goes on, and is waited for.
            if state.status not in ("finished", "running") and not each.was_stopped:
                self.folder.fail(each.name, each.error or "it ended without a result")
        if ended:
            self.states |= {name: self.folder.state(name) for name in self.states.keys() - self.begun_at.keys()}
            self._write_tables()
        return bool(ended)

    def _begin_ready(self) -> bool:
        """Submit the runs that are ready; return whether there were any."""
        has_begun = False
        for name, run in self.runs.items():
            if self.stops or not self.engine.has_room():
                break
            state = self.states[name]
            is_open = state.status not in ENDS and name not in self.begun_at
            if is_open and all(self.states[each].status == "finished" for each in run.after):
                self.engine.begin(self._job(run, state))
                self.begun_at[name] = time.monotonic()
                self.states[name] = replace(state, status="running")
                has_begun = True
        return has_begun

    def _job(self, run: PlannedRun, state: RunState) -> Job:
        """Return a run as a job; one that resumes keeps its number of threads, since its results depend on it."""
        threads = run.options.get("threads")
        cores = self.engine.share(run.needs.cores or threads)
        return Job(
            name=run.name,
            words=run.words,
            folder=self.folder.path / RUNS / run.name,
            log=self.folder.log(run.name),
            threads=state.threads or threads or cores,
            place=Path.cwd(),
            environment={name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)},
            cores=cores,
            gpus=run.needs.gpus,
            memory_gib=run.needs.memory_gib,
        )

    def _with_seconds(self) -> dict[str, RunState]:
        now = time.monotonic()
        elapsed = {name: now - start for name, start in self.begun_at.items()}
        return {
            name: replace(state, seconds=(state.seconds or 0.0) + elapsed[name]) if name in elapsed else state
            for name, state in self.states.items()
        }

    def _write_tables(self) -> None:
        write_tables(self.folder.path, table_rows(self.folder.runs, self.states))

    def _count_stop(self, signum: int, frame: FrameType | None) -> None:
        """Count Ctrl-C and SIGTERM; the loop passes them on to the jobs."""
        self.stops += 1


def result_of(folder: SweepFolder, out: str) -> dict[str, Any]:
    """Return the --json object of a sweep: out, runs, table."""
    states = folder.states()
    runs = [run_json(run, states[run.name], str(folder.path / RUNS / run.name)) for run in folder.runs]
    table = [without_nothing(row) for row in table_rows(folder.runs, states)]
    return {"out": out, "runs": runs, "table": table}


def run_json(run: StoredRun, state: RunState, out: str) -> dict[str, Any]:
    """Return one run in the --json object of a sweep; what does not apply is left out."""
    result = state.result or {}
    data = {
        "name": run.name,
        "status": state.status,
        "out": out,
        "step": run.step,
        "verb": run.verb,
        "values": dict(run.labels),
        "score": main_score(run.verb, result) if result else None,
        "metric": result.get("metric"),
        "seconds": state.seconds,
        "error": state.error,
    }
    return without_nothing(data)


def without_nothing(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return data without keys that do not apply."""
    return {name: value for name, value in data.items() if value is not None}
