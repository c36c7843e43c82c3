"""Killed at any moment and started again with the same command: the weights of an unbroken run, to the bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny_task import command_words, tiny_task, weights

from cutbert.shape.head import HeadSpec
from cutbert.train.checkpoint import latest_checkpoint
from tiny_runs import save_tiny, tiny_model

COMMAND = """
import sys

import pytest
from tiny_task import time_by_macs

from cutbert.cli.main import main

time_by_macs(pytest.MonkeyPatch())
sys.exit(main(sys.argv[1:]))
"""


def position(run: Path, stage: str) -> int:
    """Return the step of the last checkpoint of a stage, 0 where there is none."""
    saved = latest_checkpoint(run / "checkpoint" / stage)
    return 0 if saved is None else int(saved.name)


def start(words: list[str]) -> subprocess.Popen[str]:
    """Start a command in a process of its own: what other tests did to this one is no part of its bits."""
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_whole(words: list[str]) -> None:
    """Run a command to its end."""
    process = start(words)
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors[-3000:]


def kill_in(stage: str, words: list[str], run: Path) -> None:
    """Start a command and kill it without warning some steps into a stage."""
    process = start(words)
    deadline = time.monotonic() + 300
    while position(run, stage) < 4:
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline, f"no checkpoint of stage {stage}"
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not (run / "model").exists()


@pytest.mark.slow
def test_killed_twice_and_resumed_to_the_bit(tmp_path: Path) -> None:
    model = str(save_tiny(tmp_path / "base", tiny_model(HeadSpec("pooler"))))
    options = {
        **tiny_task(tmp_path),
        "epochs": 6.0,
        "width_mult": [1.0, 0.5],
        "depths": [3, 1],
        "dropout": 0.1,
        "learning_rate": 0.003,
        "token_table": "rows",
        "seed": 5,
    }
    words = ["dynabert", model, *command_words(options)]
    whole, run = tmp_path / "whole", tmp_path / "run"
    run_whole([*words, "--out", str(whole), "--checkpoint-seconds", "60"])
    stages = list(dict.fromkeys(json.loads(line)["stage"] for line in (whole / "log.jsonl").open()))
    assert len(stages) == 2 and stages[0] == "teacher"
    words += ["--out", str(run), "--checkpoint-seconds", "0"]
    for stage in stages:
        kill_in(stage, words, run)
    run_whole(words)
    for part in ("teacher", "model"):
        wanted = weights(whole / part)
        assert [name for name, weight in weights(run / part).items() if not torch.equal(weight, wanted[name])] == []
    scores = [
        [entry["score"] for entry in json.loads((folder / "front.json").read_text())["subnets"]]
        for folder in (whole, run)
    ]
    assert scores[0] == scores[1] and not (run / "checkpoint").exists()
