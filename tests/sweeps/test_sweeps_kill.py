"""A sweep of real commands, killed without warning again and again: no run is lost, none is done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_plan import make_plan, scores

import cutbert
from cutbert.sweeps.engines import Job, Process, error_of
from cutbert.train.run_folder import RunFolder
from tiny_sweeps import compute_here

KILLS = 2
DEADLINE_SECONDS = 300


def job_of(folder: Path, *words: str) -> Job:
    return Job("a", words, folder / "run", folder / "a.log", 1, folder, {"CUTBERT_X": "1"}, 1)


def wait_for(process: Process) -> object:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (ended := process.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return ended


def records(out: Path) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in out.glob("runs/*/run.json")}


@pytest.mark.slow
def test_killed_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(tmp_path, epochs=6.0)
    sets = ["steps.student.grid.learning_rate=[0.001]", "seed=0"]
    out = tmp_path / "out"
    words = [sys.executable, "-m", "cutbert", "sweep", str(plan), "--out", str(out)]
    words += [word for each in sets for word in ("--set", each)]
    finished: dict[str, str] = {}
    for _ in range(KILLS):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + DEADLINE_SECONDS
        known = set(out.glob("runs/*/checkpoint/*/*/position.json"))
        while process.poll() is None and not set(out.glob("runs/*/checkpoint/*/*/position.json")) - known:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for name, record in records(out).items():
            if "finished" in record:
                assert finished.setdefault(name, record["finished"]) == record["finished"]
    compute_here(monkeypatch)
    done = cutbert.sweep(plan, out=out, set=sets)
    assert [run["status"] for run in done["runs"]] == ["finished"] * 2
    assert all(record["finished"] == finished.get(name, record["finished"]) for name, record in records(out).items())
    # Each run began once from new weights: what was killed went on, and what was finished was left alone.
    whole = cutbert.sweep(plan, out=tmp_path / "whole", set=sets)
    assert scores(done.to_json()) == scores(whole.to_json())


def test_a_run_left_over_from_a_killed_sweep_is_waited_for(tmp_path: Path) -> None:
    process = Process(job_of(tmp_path, "cost", "a", "b"))
    run = RunFolder.open(tmp_path / "run", "finetune", {})
    with run.start():
        assert process.poll() is None and not (tmp_path / "a.log").exists()
    ended = wait_for(process)
    assert "cost takes MODEL" in str(ended.error) and not ended.was_stopped  # type: ignore[attr-defined]


def test_a_job_dies_with_its_parent(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells a process of its parent's death")
    gone = subprocess.run([sys.executable, "-m", "cutbert.sweeps.child", str(os.getppid()), "--version"])
    assert gone.returncode == 130
    here = [sys.executable, "-m", "cutbert.sweeps.child", str(os.getpid()), "--version"]
    assert subprocess.run(here, capture_output=True, text=True).stdout.strip() == cutbert.__version__


def test_a_stopped_job_is_no_failure(tmp_path: Path) -> None:
    process = Process(job_of(tmp_path, "demo", "--help"))
    process.stop()
    assert process.poll().was_stopped  # type: ignore[union-attr]


def test_why_a_job_failed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("cutbert: error: of an earlier try\n")
    begins = log.stat().st_size
    assert error_of(log, begins, 3) == "exit code 3"
    log.write_text(log.read_text() + "Traceback\n\nRuntimeError: broken\n\n")
    assert error_of(log, begins, 1) == "RuntimeError: broken"
    assert error_of(log, begins, -signal.SIGKILL) == "killed by SIGKILL"
    log.write_text(log.read_text() + "cutbert: error: one\ncutbert: error: two\n")
    assert error_of(log, begins, 2) == "two"
