"""Two processes over gloo give one process's weights.

Not with the paper's recipe: at first its second stage imitates the very weights it trains, so that the
gradients of some layers are rounding only, which Adam blows up.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from test_methods_per_token import task_of
from tiny_task import command_words, measure_quickly, tiny_task, tiny_text, weights

import cutbert
from cutbert.shape.head import HeadSpec
from cutbert.train.checkpoint import latest_checkpoint
from tiny_runs import save_tiny, tiny_model

SCRIPT = """
import json, os, sys
import cutbert
options = json.loads(sys.argv[1])
folder, model = sys.argv[2], sys.argv[3]
assert os.environ["WORLD_SIZE"] == "2"
cutbert.finetune(model, out=f"{folder}/teacher", **options["finetune"])
cutbert.dynabert(f"{folder}/teacher", out=f"{folder}/family", **options["dynabert"])
cutbert.pretrain(model, out=f"{folder}/mlm", **options["pretrain"])
"""


def last_loss(run: Path) -> float:
    return json.loads((run / "log.jsonl").read_text().splitlines()[-1])["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classes", "tagging"])
def test_two_processes_give_one_processs_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    measure_quickly(monkeypatch)
    model = save_tiny(tmp_path / "base", tiny_model(HeadSpec("pooler")))
    task = tiny_task(tmp_path) if kind == "classes" else task_of(kind, tmp_path)
    task |= {"dropout": 0.0, "learning_rate": 5e-5}
    options: dict[str, Any] = {
        "finetune": {**task, "token_table": "rows"},
        "dynabert": {**task, "width_mult": [1.0, 0.5], "depths": [3, 1], "subnets_per_step": 0},
        "pretrain": tiny_text(tmp_path),
    }
    one = {
        "teacher": cutbert.finetune(model, out=str(tmp_path / "one" / "teacher"), **options["finetune"]),
        "family": cutbert.dynabert(
            tmp_path / "one" / "teacher", out=str(tmp_path / "one" / "family"), **options["dynabert"]
        ),
        "mlm": cutbert.pretrain(model, out=str(tmp_path / "one" / "mlm"), **options["pretrain"]),
    }
    (tmp_path / "two.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [str(tmp_path / "two.py"), json.dumps(options), str(tmp_path / "two"), str(model)]
    ended = subprocess.run(
        [*launch, *words], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    before = {f"bert.{name}": weight for name, weight in weights(model).items()}
    for name, run in one.items():
        wanted, got = weights(run.path / "model"), weights(tmp_path / "two" / name / "model")
        moved = 0.0
        for key, weight in wanted.items():
            if key.endswith("key.bias"):
                continue  # its gradient is rounding only, which Adam blows up
            # of labels per token, single weights have gradients of rounding only too
            far = (got[key] - weight).abs()
            assert far.mean() < 1e-6 and far.max() < (1e-5 if kind == "classes" else 1e-4), key
            if key in before:
                moved = max(moved, float((weight - before[key]).abs().max()))
        assert moved > 5e-5
        assert last_loss(tmp_path / "two" / name) == pytest.approx(last_loss(run.path), rel=1e-4)
        two = json.loads((tmp_path / "two" / name / "run.json").read_text())
        assert two["machine"]["processes"] == 2


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of a launch in /proc")
def test_with_one_of_two_processes_killed_the_same_command_goes_on_to_the_bit(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "base", tiny_model(HeadSpec("pooler")))
    options = {**tiny_task(tmp_path), "epochs": 8.0, "dropout": 0.1, "learning_rate": 0.003, "checkpoint_seconds": 0.0}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cutbert"]

    def words(out: str) -> list[str]:
        return [*launch, "finetune", str(model), "--out", str(tmp_path / out), *command_words(options)]

    quiet: dict[str, Any] = {"env": {**os.environ, "OMP_NUM_THREADS": "1"}, "stdout": subprocess.DEVNULL}
    stage = tmp_path / "killed" / "checkpoint" / "finetune"
    subprocess.run(words("whole"), check=True, timeout=300, **quiet)
    with subprocess.Popen(words("killed"), stderr=subprocess.PIPE, text=True, **quiet) as process:
        while (saved := latest_checkpoint(stage)) is None or int(saved.name) < 4:
            assert process.poll() is None
            time.sleep(0.005)
        os.kill(children_of(process.pid)[-1], signal.SIGKILL)
        errors = process.communicate(timeout=300)[1]
    assert process.returncode != 0 and not (tmp_path / "killed" / "model").exists()
    assert "[rank0]: Traceback" not in errors, errors
    subprocess.run(words("killed"), check=True, timeout=300, **quiet)
    wanted, got = weights(tmp_path / "whole" / "model"), weights(tmp_path / "killed" / "model")
    assert all(torch.equal(weight, got[name]) for name, weight in wanted.items())
    assert not (tmp_path / "killed" / "checkpoint").exists()
