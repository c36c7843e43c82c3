"""Killed at any moment and started again with the same command: the weights of an unbroken run, to the bit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny_task import command_words, time_by_macs, tiny_task, weights

import cutbert
from cutbert.shape.head import HeadSpec
from cutbert.train.checkpoint import latest_checkpoint
from tiny_runs import save_tiny, tiny_model


def position(run: Path, stage: str) -> int:
    """Return the step of the last checkpoint of a stage, 0 where there is none."""
    saved = latest_checkpoint(run / "checkpoint" / stage)
    return 0 if saved is None else int(saved.name)


def kill_in(stage: str, words: list[str], run: Path) -> None:
    """Start a command and kill it without warning some steps into a stage."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cutbert", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while position(run, stage) < 4:
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline, f"no checkpoint of stage {stage}"
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not (run / "model").exists()


@pytest.mark.slow
def test_killed_twice_and_resumed_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time_by_macs(monkeypatch)
    model = str(save_tiny(tmp_path / "base", tiny_model(HeadSpec("pooler"))))
    options = {
        **tiny_task(tmp_path),
        "epochs": 12.0,
        "width_mult": [1.0, 0.5],
        "depths": [3, 1],
        "dropout": 0.1,
        "learning_rate": 0.003,
        "token_table": "rows",
        "checkpoint_seconds": 0.0,
        "seed": 5,
    }
    whole = cutbert.dynabert(model, out=str(tmp_path / "whole"), **{**options, "checkpoint_seconds": 60.0})
    stages = list(dict.fromkeys(json.loads(line)["stage"] for line in (whole.path / "log.jsonl").open()))
    assert len(stages) == 2 and stages[0] == "teacher"
    run = tmp_path / "run"
    words = ["dynabert", model, "--out", str(run), *command_words(options)]
    for stage in stages:
        kill_in(stage, words, run)
    resumed = cutbert.dynabert(model, out=str(run), **options)
    for part in ("teacher", "model"):
        wanted = weights(whole.path / part)
        assert all(torch.equal(weight, wanted[name]) for name, weight in weights(run / part).items())
    scores = [[entry["score"] for entry in each["subnets"]] for each in (whole, resumed)]
    assert scores[0] == scores[1] and not (run / "checkpoint").exists()
