"""A run folder refuses, locks, records, resumes and finishes as it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cutbert.errors import InputError, InterruptedRun, RunError
from cutbert.train import run_folder
from cutbert.train.run_folder import RunFolder

SETTINGS = {"model": "m", "train": {"epochs": 3.0, "seed": 7, "threads": 2}, "depths": (6, 3)}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A machine that tests can change."""
    facts = {"processor": "P", "processes": 1, "cores": 2}
    monkeypatch.setattr(run_folder, "describe_machine", lambda threads: {**facts, "threads": threads})
    return facts


def started(out: Path, settings: dict[str, Any] = SETTINGS) -> RunFolder:
    """Return an unfinished run."""
    run = RunFolder.open(out, "dynabert", settings)
    with run.start():
        run.log(step=1)
    return run


def record(out: Path) -> dict[str, Any]:
    return json.loads((out / "run.json").read_text())


def test_opening_creates_nothing(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "run", "dynabert", SETTINGS)
    assert run.result is None and not (tmp_path / "run").exists()


def test_start_records_what_runs_where(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "run"
    run = RunFolder.open(out, "dynabert", SETTINGS, line="cutbert dynabert m")
    with run.start():
        assert record(out)["command"] == "dynabert"
    data = record(out)
    assert data["settings"] == {**SETTINGS, "depths": [6, 3]}
    assert data["seed"] == 7 and data["line"] == run.line == "cutbert dynabert m"
    assert data["machine"]["threads"] == 2 and "torch" in data["versions"]
    assert data["timings"]["total"] > 0


def test_same_settings_resume_and_timings_add_up(tmp_path: Path) -> None:
    started(tmp_path)
    first = record(tmp_path)["timings"]["total"]
    run = RunFolder.open(tmp_path, "dynabert", SETTINGS)
    with run.start():
        with run.timing("train"):
            assert record(tmp_path)["timings"]["total"] >= first
        run.log(step=2)
        assert run.seconds > first
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2]
    assert record(tmp_path)["timings"]["total"] > first and "train" in record(tmp_path)["timings"]


def test_a_stage_notes_the_memory_held_so_far(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path, "dynabert", SETTINGS)
    with run.start():
        with run.timing("small"):
            pass
        with run.timing("large"):
            held = bytearray(b"x" * 300_000_000)
            del held
    peaks = record(tmp_path)["peak_bytes"]
    assert 0 < peaks["small"] <= peaks["large"] == peaks["total"]
    assert peaks["large"] >= 300_000_000


def test_finished_run_keeps_its_result_and_drops_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("cutbert.train.run_folder.time", SimpleNamespace(monotonic=lambda: now[0]))
    run = RunFolder.open(tmp_path, "dynabert", SETTINGS)
    with run.start():
        (tmp_path / "checkpoint" / "deep").mkdir(parents=True)
        now[0] += 7
        run.finish({"score": 0.5, "seconds": run.seconds})
        now[0] += 1
    assert not (tmp_path / "checkpoint").exists()
    stored = record(tmp_path)
    assert stored["result"]["seconds"] == 7 and stored["timings"]["total"] == 8
    again = RunFolder.open(tmp_path, "dynabert", {**SETTINGS, "train": {**SETTINGS["train"], "threads": 9}})
    assert again.result is not None and again.result["score"] == 0.5
    assert RunFolder.read(tmp_path).result == again.result


def test_other_contents_are_refused(tmp_path: Path) -> None:
    started(tmp_path / "run")
    with pytest.raises(RunError, match="with other settings"):
        RunFolder.open(tmp_path / "run", "dynabert", {**SETTINGS, "model": "n"})
    with pytest.raises(RunError, match="must be new or a run of finetune"):
        RunFolder.open(tmp_path / "run", "finetune", SETTINGS)
    with pytest.raises(RunError, match="is not empty and holds no run"):
        RunFolder.open(tmp_path, "dynabert", SETTINGS)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="--out must be a folder, got a file"):
        RunFolder.open(tmp_path / "file", "dynabert", SETTINGS)
    with pytest.raises(RunError, match="is no folder with a run"):
        RunFolder.read(tmp_path / "nowhere")


def test_changed_machine_threads_or_versions_are_refused(tmp_path: Path, machine: dict[str, Any]) -> None:
    started(tmp_path)
    data = record(tmp_path)
    data["versions"]["torch"] = "1.0"
    (tmp_path / "run.json").write_text(json.dumps(data))
    machine["processor"] = "Q"
    fewer = {**SETTINGS, "train": {**SETTINGS["train"], "threads": 1}}
    run = RunFolder.open(tmp_path, "dynabert", fewer)
    with pytest.raises(RunError) as caught, run.start():
        raise AssertionError("must not run")
    head, *lines = caught.value.mistakes
    assert "--allow-changed resumes all the same" in head
    assert [line.split(": ")[1] for line in lines[:2]] == ["processor was 'P', now 'Q'", "threads was 2, now 1"]
    assert "torch was '1.0'" in lines[2] and len(lines) == 3
    assert record(tmp_path)["machine"]["threads"] == 2
    with RunFolder.open(tmp_path, "dynabert", fewer, allow_changed=True).start():
        pass
    assert record(tmp_path)["machine"]["threads"] == record(tmp_path)["settings"]["train"]["threads"] == 1


def test_a_second_process_is_locked_out(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path, "dynabert", SETTINGS)
    with run.start():
        second = RunFolder.open(tmp_path, "dynabert", SETTINGS)
        with pytest.raises(RunError, match="another process is running in this folder"), second.start():
            raise AssertionError("must not run")
        assert record(tmp_path)["command"] == "dynabert"
    with RunFolder.open(tmp_path, "dynabert", SETTINGS).start():
        pass


def test_a_run_finished_between_open_and_lock_is_not_run_again(tmp_path: Path) -> None:
    late = RunFolder.open(tmp_path, "dynabert", SETTINGS)
    run = RunFolder.open(tmp_path, "dynabert", SETTINGS)
    with run.start():
        run.finish({"score": 1.0})
    with pytest.raises(RunError, match="another process has just finished this run"), late.start():
        raise AssertionError("must not run")
    assert record(tmp_path)["result"] == {"score": 1.0}


@pytest.mark.parametrize("there", [True, False])
def test_a_command_refused_at_the_start_leaves_nothing(tmp_path: Path, there: bool) -> None:
    out = tmp_path / "run"
    if there:
        out.mkdir()
    run = RunFolder.open(out, "dynabert", SETTINGS)
    with pytest.raises(InputError, match="bad"), run.start():
        raise InputError("bad")
    assert out.exists() == there and (not there or not list(out.iterdir()))


def test_a_resumed_or_interrupted_run_is_never_removed(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path, "dynabert", SETTINGS)
    with pytest.raises(InterruptedRun), run.start():
        raise InterruptedRun("stopped")
    with pytest.raises(InputError), RunFolder.open(tmp_path, "dynabert", SETTINGS).start():
        raise InputError("bad")
    assert record(tmp_path)["timings"]["total"] > 0


def test_what_a_kill_at_the_start_leaves_is_no_content(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".run.json.cutbert.part").mkdir()
    with RunFolder.open(tmp_path, "dynabert", SETTINGS).start():
        pass
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "run.json"}


def test_facts_must_stay_the_same(tmp_path: Path) -> None:
    run = started(tmp_path)
    with run.start():
        run.record(data={"train.tsv": "aa"}, seed=1)
        run.record(data={"train.tsv": "aa"})
    run = RunFolder.open(tmp_path, "dynabert", SETTINGS)
    with (
        pytest.raises(RunError, match=r"changed since the run began: data.train.tsv was 'aa', now 'bb'"),
        run.start(),
    ):
        run.record(data={"train.tsv": "bb"})


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    run = RunFolder.open(tmp_path / "run", "dynabert", SETTINGS)
    with run.start(), run.timing("train"):
        run.log(step=1)
        run.record(data="aa")
        run.finish({"score": 1.0})
    assert not (tmp_path / "run").exists()


def test_a_kill_leaves_a_run_that_resumes(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from cutbert.train import run_folder\n"
        "run_folder.describe_machine = lambda threads: {'processor': 'P', 'threads': threads, 'processes': 1}\n"
        "run = run_folder.RunFolder.open(sys.argv[1], 'dynabert', {})\n"
        "with run.start():\n"
        "    run.log(step=1)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)])
    assert done.returncode == -9
    with RunFolder.open(tmp_path, "dynabert", {}).start() as run:
        assert run.data["command"] == "dynabert"
