"""Killed in mid-training and started again with the same command: the weights of an unbroken run, to the bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_task import command_words, tiny_task, weights

from cutbert.shape.head import HeadSpec
from cutbert.train.checkpoint import latest_checkpoint
from tiny_runs import save_tiny, tiny_model

COMMAND = """
import os
import signal
import sys
from pathlib import Path

import pytest
from tiny_task import time_by_macs

from cutbert.cli.main import main

stage = sys.argv.pop(1)


def kill(event, arguments):
    if event == "os.rename":
        path = Path(os.fspath(arguments[1]))
        if path.parent.name == stage and path.name.isdigit() and int(path.name) > 3:
            os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(kill)
time_by_macs(pytest.MonkeyPatch())
sys.exit(main(sys.argv[1:]))
"""
NO_STAGE = "-"


def run_in_process(words: list[str], killed_in: str = NO_STAGE) -> tuple[int, str]:
    """Run a command in a process of its own: what other tests did to this one is no part of its bits.

    Args:
        words: of the command.
        killed_in: a stage; the process kills itself without warning as it puts the fourth checkpoint in its place.

    Returns:
        Its exit code and what it said at its end.
    """
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, killed_in, *words],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return done.returncode, done.stderr[-3000:]


@pytest.mark.slow
def test_killed_twice_and_resumed_to_the_bit(tmp_path: Path) -> None:
    model = str(save_tiny(tmp_path / "base", tiny_model(HeadSpec("pooler"))))
    options = {
        **tiny_task(tmp_path),
        "epochs": 2.0,
        "width_mult": [1.0, 0.5],
        "depths": [3, 1],
        "dropout": 0.1,
        "learning_rate": 0.003,
        "token_table": "rows",
        "seed": 5,
    }
    words = ["dynabert", model, *command_words(options)]
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert run_in_process([*words, "--out", str(whole), "--checkpoint-seconds", "60"])[0] == 0
    stages = list(dict.fromkeys(json.loads(line)["stage"] for line in (whole / "log.jsonl").open()))
    assert len(stages) == 2 and stages[0] == "teacher"
    words += ["--out", str(run), "--checkpoint-seconds", "0"]
    for stage in stages:
        assert run_in_process(words, killed_in=stage)[0] == -signal.SIGKILL
        saved = latest_checkpoint(run / "checkpoint" / stage)
        assert saved is not None and int(saved.name) == 3 and not (run / "model").exists()
    code, errors = run_in_process(words)
    assert code == 0, errors
    for part in ("teacher", "model"):
        wanted = weights(whole / part)
        assert [name for name, weight in weights(run / part).items() if not torch.equal(weight, wanted[name])] == []
    scores = [
        [entry["score"] for entry in json.loads((folder / "front.json").read_text())["subnets"]]
        for folder in (whole, run)
    ]
    assert scores[0] == scores[1] and not (run / "checkpoint").exists()
