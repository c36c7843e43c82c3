"""A real Ray cluster of two nodes on this machine: the same scores as here, also when a node is lost in the middle."""

from __future__ import annotations

import json
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tiny_plan import PLAN, make_plan, scores

import cutbert
from cutbert.cli.main import main
from tiny_sweeps import compute_here

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'cutbert[ray]'")
DEADLINE_SECONDS = 240
TEACHER = PLAN[: PLAN.index("[steps.student]")]


@pytest.mark.slow
def test_a_lost_node_changes_no_score(cluster: Any, tmp_path: Path) -> None:
    plan = make_plan(tmp_path, epochs=12.0, text=TEACHER)
    with pytest.MonkeyPatch.context() as patch:
        compute_here(patch)
        here = cutbert.sweep(plan, out=tmp_path / "here", set="seed=0")
    doomed = cluster.add_node(num_cpus=1)
    found: dict[str, Any] = {}

    def compute() -> None:
        options = {"engine": "ray", "ray_address": cluster.address, "set": "seed=0"}
        found.update(cutbert.sweep(plan, out=tmp_path / "there", **options).to_json())

    sweep = Thread(target=compute)
    sweep.start()
    run = tmp_path / "there" / "runs" / "teacher"
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not list(run.glob("checkpoint/*/*/position.json")):
        assert sweep.is_alive() and time.monotonic() < deadline
        time.sleep(0.02)
    assert "result" not in json.loads((run / "run.json").read_text())
    cluster.remove_node(doomed, allow_graceful=False)  # first, before the run can end
    cluster.add_node(num_cpus=1)
    sweep.join(DEADLINE_SECONDS)
    assert scores(found) == scores(here.to_json())
    assert [row["mean"] for row in found["table"]] == [row["mean"] for row in here["table"]]
    log = (tmp_path / "there" / "logs" / "teacher.log").read_text()
    assert log.count("new, untrained: classifier") == 2  # begun again, not done twice


def test_an_address_where_nothing_answers_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", str(make_plan(tmp_path)), "--engine", "ray", "--ray-address", "127.0.0.1:1"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert "--ray-address must be a Ray cluster that answers, got 127.0.0.1:1: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
