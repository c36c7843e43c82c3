"""The sweep's own work with a made-up engine: order, skipping, failures, interrupts, growing plans, the table."""

from __future__ import annotations

import csv
import json
import os
import signal
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

import cutbert
from cutbert.cli.main import main
from cutbert.errors import InputError, InterruptedRun, RunError
from cutbert.sweeps import sweep as module
from cutbert.sweeps.engines import Job, JobEnd
from cutbert.sweeps.table import main_score, table_rows
from cutbert.train.run_folder import RunFolder
from tiny_sweeps import run_on

PLAN = """
[defaults]
task = "sst2"
[grid]
seed = [0, 1]
[steps.teacher]
verb = "finetune"
model = "m"
[steps.student]
verb = "finetune"
model = "{teacher}"
grid.learning_rate = [1e-3, 1e-4]
needs.cores = 3
"""
SCORES = {"teacher-seed=0": 0.5, "teacher-seed=1": 0.75}


class MadeUp:
    """An engine that finishes a run by writing its record, or lets it fail."""

    def __init__(self, fail: tuple[str, ...] = (), then: Callable[[str], None] = lambda name: None) -> None:
        self.fail, self.then = fail, then
        self.jobs: list[Job] = []
        self._ended: list[JobEnd] = []

    def share(self, wanted: int | None) -> int:
        return wanted or 2

    def has_room(self) -> bool:
        return not self._ended

    def begin(self, job: Job) -> None:
        self.jobs.append(job)
        error = "no luck" if job.name in self.fail else None
        if error is None:
            finish(job.folder, SCORES.get(job.name, 0.25))
        self._ended.append(JobEnd(job.name, error))
        self.then(job.name)

    def ended(self) -> list[JobEnd]:
        found, self._ended = self._ended, []
        return found

    def stop(self) -> None:
        self._ended = [JobEnd(each.name, was_stopped=True) for each in self._ended]


def finish(folder: Path, score: float) -> None:
    run = RunFolder.open(folder, "finetune", {"seed": 0})
    folder.mkdir(parents=True)
    run.finish({"score": score, "select_score": score / 2, "metric": "accuracy", "metrics": {}, "seconds": 1.0})


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(PLAN, encoding="utf-8")
    return path


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[MadeUp], MadeUp]:
    """Let sweeps run on a made-up engine."""

    def replace(engine: MadeUp) -> MadeUp:
        run_on(monkeypatch, engine)
        return engine

    return replace


def statuses(data: Any) -> dict[str, str]:
    return {run["name"]: run["status"] for run in data["runs"]}


def test_runs_come_after_what_they_use_and_only_once(plan: Path, tmp_path: Path, use: Any) -> None:
    engine = use(MadeUp())
    out = tmp_path / "out"
    done = cutbert.sweep(plan, out=out)
    names = [job.name for job in engine.jobs]
    assert len(set(names)) == len(names) == 6 and names[:2] == ["teacher-seed=0", "teacher-seed=1"]
    assert set(statuses(done).values()) == {"finished"}
    assert [(job.threads, job.cores) for job in engine.jobs] == [(2, 2)] * 2 + [(3, 3)] * 4
    again = use(MadeUp())
    assert cutbert.sweep(plan, out=out).to_json() == done.to_json() and not again.jobs
    assert cutbert.sweep(show=out)["table"] == done["table"]


def test_a_failure_stops_only_what_uses_it(
    plan: Path, tmp_path: Path, use: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    use(MadeUp(fail=("teacher-seed=1",)))
    out = str(tmp_path / "out")
    assert main(["sweep", str(plan), "--out", out, "--json"]) == 2
    printed, told = capsys.readouterr()
    data = json.loads(printed.splitlines()[-1])
    found = statuses(data)
    assert found.pop("teacher-seed=1") == "failed" and data["runs"][1]["error"] == "no luck"
    assert {name for name, status in found.items() if status == "not run"} == {
        "student-seed=1-student.learning_rate=0.001",
        "student-seed=1-student.learning_rate=0.0001",
    }
    assert "cutbert: error: run teacher-seed=1 failed: no luck\n" in told
    assert main(["sweep", "--show", out]) == 2
    assert "failed" in capsys.readouterr().out
    engine = use(MadeUp())
    assert set(statuses(cutbert.sweep(plan, out=out)).values()) == {"finished"}
    assert engine.jobs[0].name == "teacher-seed=1" and len(engine.jobs) == 3


def test_an_interrupt_stops_the_jobs_and_the_same_call_goes_on(plan: Path, tmp_path: Path, use: Any) -> None:
    def interrupt(name: str) -> None:
        if name == "teacher-seed=1":
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    use(MadeUp(then=interrupt))
    out = tmp_path / "out"
    with pytest.raises(InterruptedRun, match="the same command resumes"):
        cutbert.sweep(plan, out=out)
    assert signal.getsignal(signal.SIGTERM) == before
    engine = use(MadeUp())
    cutbert.sweep(plan, out=out)
    assert not {"teacher-seed=0"} & {job.name for job in engine.jobs}


def test_a_plan_may_grow_but_not_change(plan: Path, tmp_path: Path, use: Any) -> None:
    use(MadeUp())
    out = tmp_path / "out"
    cutbert.sweep(plan, out=out)
    with pytest.raises(RunError, match="holds the sweep of another plan; a plan may grow, not change") as found:
        cutbert.sweep(plan, out=out, set=["epochs=7", "grid.seed=[1]"])
    assert any("teacher-seed=0 is not a run of this plan" in each for each in found.value.mistakes)
    assert any("epochs 7.0" in each for each in found.value.mistakes)
    engine = use(MadeUp())
    cutbert.sweep(plan, out=out, set=["grid.seed=[0,1,2]", "threads=1"])
    assert engine.jobs[0].name == "teacher-seed=2" and len(engine.jobs) == 3


def test_refused_calls_create_nothing(plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["sweep", str(plan), "--out", str(out), "--set", "epochs=many"]) == 2
    assert "--set epochs: --epochs must be a number, got 'many'" in capsys.readouterr().err
    assert main(["sweep", "--out", str(out), "--jobs", "0", "--ray-address", "auto"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "cutbert: error: sweep must have one of PLAN and --show FOLDER",
        "cutbert: error: --jobs must be at least 1, got 0",
        "cutbert: error: --ray-address must come with --engine ray",
    ]
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["p.toml"], "--out must be given with a plan"),
        (["--show", "x", "--out", "y"], "--out must not be given with --show"),
        (["--show", "nothing"], "must be the folder of a sweep (with sweep.json)"),
        (["p.toml", "--out", "y", "--engine", "ray", "--jobs", "2", "--threads", "1"], "--jobs is for --engine local"),
        (["p.toml", "--out", "y", "--engine", "ray", "--threads", "1"], "--threads is for --engine local"),
        (["p.toml", "q.toml", "--out", "y"], "sweep takes PLAN, got more: q.toml"),
    ],
)
def test_refused_words(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *words]) == 2
    assert message in capsys.readouterr().err


def test_folders_that_are_no_sweeps(plan: Path, tmp_path: Path, use: Any) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="--out must be a folder, got a file"):
        cutbert.sweep(plan, out=tmp_path / "file")
    with pytest.raises(RunError, match="--out must be new, empty or this plan's sweep, but it is not empty"):
        cutbert.sweep(plan, out=tmp_path)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "sweep.json").write_text('{"format_version": 9}')
    with pytest.raises(RunError, match="format_version must be 1, got 9"):
        cutbert.sweep(show=tmp_path / "old")
    (tmp_path / "old" / "sweep.json").write_text('{"format_version": 1, "runs": [{}], "failures": {}, "identity": "x"}')
    with pytest.raises(RunError, match="runs must be a list of runs as cutbert sweep writes them"):
        cutbert.sweep(show=tmp_path / "old")

    def second(name: str) -> None:
        with pytest.raises(InputError, match="another process is running in this folder"):
            cutbert.sweep(plan, out=tmp_path / "out")

    use(MadeUp(then=second))
    cutbert.sweep(plan, out=tmp_path / "out")


def test_the_table_has_mean_and_spread_over_seeds(plan: Path, tmp_path: Path, use: Any) -> None:
    use(MadeUp())
    out = tmp_path / "out"
    table = cutbert.sweep(plan, out=out)["table"]
    dev = table[0]
    wanted = {"step": "teacher", "network": "model", "metric": "accuracy", "split": "dev", "runs": 2}
    assert {name: dev[name] for name in wanted} == wanted
    assert (
        dev["mean"] == 0.625 and dev["std"] == statistics.stdev([0.5, 0.75]) and (dev["min"], dev["max"]) == (0.5, 0.75)
    )
    assert [row.get("student.learning_rate") for row in table[::2]] == [None, "0.001", "0.0001"]
    with (out / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mean"]) for row in rows] == [row["mean"] for row in table]
    assert parquet.read_table(out / "table.parquet").to_pylist()[0]["std"] == dev["std"]
    assert (
        "| teacher |  | model | accuracy | dev | 2 | 62.50 | 17.68 | 50.00 | 75.00 |" in (out / "table.md").read_text()
    )


def test_every_network_of_a_front_is_a_row() -> None:
    entries = [
        {"name": name, "score": score, "select_score": 0.1, "params": params, "macs": 5}
        for name, score, params in (("teacher", 0.9, 9), ("small", 0.4, 1), ("large", 0.8, 7))
    ]
    result = {"metric": "matthews", "teacher": entries[0], "subnets": entries[1:]}
    run = module.StoredRun("f", "f", "dynabert", {}, (), "m", (), {})
    rows = table_rows([run], {"f": module.RunState("finished", result=result, seconds=3.0)})
    assert [(row["network"], row["split"], row["mean"]) for row in rows][::2] == [
        ("teacher", "dev", 0.9), ("small", "dev", 0.4), ("large", "dev", 0.8),
    ]  # fmt: skip
    assert rows[0]["std"] is None and rows[2]["params"] == 1
    assert main_score("dynabert", result) == 0.8 and main_score("schubert", {**result, "subnets": entries[:2]}) == 0.4
    new = {"metric": "accuracy", "subnets": entries[1:2]}  # from scratch, as undivided makes it: nothing was cut
    assert {row["network"] for row in table_rows([run], {"f": module.RunState("finished", result=new)})} == {"small"}
    text = table_rows([run], {"f": module.RunState("finished", result={"loss": 1.0, "perplexity": 2.5})})
    assert (text[0]["metric"], text[0]["mean"]) == ("perplexity", 2.5) and main_score("pretrain", {"loss": 1.0}) is None


def test_one_name_under_two_limits_of_a_fit_is_two_networks() -> None:
    run = module.StoredRun("f", "f", "fit", {}, (), "m", (), {})
    tried = (("uncut", None, 0.9), ("layers-0", "4 ms", 0.8), ("layers-0", "2 ms", 0.5))
    board = [
        {
            "name": name,
            "backend": "onnx",
            "score": score,
            "chosen": limit is not None,
            **({"limit": limit} if limit else {}),
        }
        for name, limit, score in tried
    ]
    result = {"metric": "accuracy", "leaderboard": board}
    rows = table_rows([run], {"f": module.RunState("finished", result=result)})
    assert [(row["network"], row["runs"], row["mean"]) for row in rows] == [
        ("uncut onnx", 1, 0.9), ("layers-0 onnx at 4 ms", 1, 0.8), ("layers-0 onnx at 2 ms", 1, 0.5),
    ]  # fmt: skip
    assert main_score("fit", result) == 0.8
