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
from test_methods_families import FAMILIES, family_model
from test_methods_per_token import task_of
from tiny_task import command_words, time_by_macs, tiny_task, tiny_text, weights

import cutbert
from cutbert.shape.head import HeadSpec
from cutbert.train.checkpoint import latest_checkpoint
from tiny_runs import save_tiny, tiny_model

SCRIPT = """
import json, os, sys
import cutbert
import cutbert.work.objective
cutbert.work.objective.sample_lengths = lambda lengths: [4, 6]  # as time_by_macs does
folder, model = sys.argv[1:3]
assert os.environ["WORLD_SIZE"] == "2"
with open(f"{folder}/options.json") as file:
    options = json.load(file)
for kind in ("classes", "tagging"):
    out = f"{folder}/two/{kind}"
    cutbert.finetune(model, out=f"{out}/teacher", **options[kind]["finetune"])
    cutbert.dynabert(f"{out}/teacher", out=f"{out}/family", **options[kind]["dynabert"])
cutbert.pretrain(model, out=f"{folder}/two/mlm", **options["pretrain"])
cutbert.finetune(model, out=f"{folder}/whole", **options["whole"])
for family, words in options["families"].items():
    cutbert.finetune(out=f"{folder}/two/{family}", **words)
"""
LAUNCH = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
KINDS = ("classes", "tagging")


def one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def last_loss(run: Path) -> float:
    return json.loads((run / "log.jsonl").read_text().splitlines()[-1])["loss"]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The options of every run, by its kind and verb."""
    folder = tmp_path_factory.mktemp("tasks")
    chosen: dict[str, Any] = {"pretrain": tiny_text(folder)}
    for kind in KINDS:
        (folder / kind).mkdir()
        task = tiny_task(folder / kind) if kind == "classes" else task_of(kind, folder / kind)
        task |= {"dropout": 0.0, "learning_rate": 5e-5}
        chosen[kind] = {
            "finetune": {**task, "token_table": "rows"},
            "dynabert": {**task, "width_mult": [1.0, 0.5], "depths": [3, 1], "subnets_per_step": 0},
        }
    chosen["whole"] = {**tiny_task(folder), "epochs": 8.0, "dropout": 0.1, "learning_rate": 0.003}
    chosen["whole"]["checkpoint_seconds"] = 0.0
    chosen["families"] = {
        family: {"model": str(save_tiny(folder / family, family_model(family))), **chosen["classes"]["finetune"]}
        for family in FAMILIES
    }
    return chosen


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("base") / "model", tiny_model(HeadSpec("pooler")))


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory, model: Path, options: dict[str, Any]) -> Path:
    """The folder of what two processes trained, all in one launch, since each takes many seconds to start."""
    folder = tmp_path_factory.mktemp("by-two")
    (folder / "two.py").write_text(SCRIPT)
    (folder / "options.json").write_text(json.dumps(options))
    words = [*LAUNCH, str(folder / "two.py"), str(folder), str(model)]
    ended = subprocess.run(words, env=one_thread(), capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return folder


def check_same(one: cutbert.api.Run, two: Path, model: Path, *, limit: float) -> None:
    """Assert that a run of two processes gave the weights and the loss of one process's."""
    before = weights(model)
    before |= {f"bert.{name}": weight for name, weight in before.items()}
    got, moved = weights(two / "model"), 0.0
    for key, weight in weights(one.path / "model").items():
        if key.endswith(("key.bias", "attn.k.bias")):
            continue  # its gradient is rounding only, which Adam blows up
        far = (got[key] - weight).abs()
        assert far.mean() < 1e-6 and far.max() < limit, key
        if key in before:
            moved = max(moved, float((weight - before[key]).abs().max()))
    assert moved > 5e-5
    assert last_loss(two) == pytest.approx(last_loss(one.path), rel=1e-4)
    assert json.loads((two / "run.json").read_text())["machine"]["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_give_one_processs_weights(
    by_two: Path, model: Path, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    time_by_macs(monkeypatch)
    limit = 1e-5 if kind == "classes" else 1e-4  # of labels per token, single weights have gradients of rounding only
    teacher = cutbert.finetune(model, out=str(tmp_path / "teacher"), **options[kind]["finetune"])
    family = cutbert.dynabert(teacher.path, out=str(tmp_path / "family"), **options[kind]["dynabert"])
    for name, run in (("teacher", teacher), ("family", family)):
        check_same(run, by_two / "two" / kind / name, model, limit=limit)


def test_two_processes_pretrain_as_one_does(by_two: Path, model: Path, options: dict[str, Any], tmp_path: Path) -> None:
    one = cutbert.pretrain(model, out=str(tmp_path / "mlm"), **options["pretrain"])
    check_same(one, by_two / "two" / "mlm", model, limit=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_train_every_family_as_one_does(
    by_two: Path, options: dict[str, Any], tmp_path: Path, family: str
) -> None:
    words = options["families"][family]
    one = cutbert.finetune(out=str(tmp_path / "one"), **words)
    check_same(one, by_two / "two" / family, Path(words["model"]), limit=1e-4)


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of a launch in /proc")
def test_with_one_of_two_processes_killed_the_same_command_goes_on_to_the_bit(
    by_two: Path, model: Path, options: dict[str, Any], tmp_path: Path
) -> None:
    words = [*LAUNCH, "-m", "cutbert", "finetune", str(model), "--out", str(tmp_path / "killed")]
    words += command_words(options["whole"])
    quiet: dict[str, Any] = {"env": one_thread(), "stdout": subprocess.DEVNULL}
    stage = tmp_path / "killed" / "checkpoint" / "finetune"
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, **quiet) as process:
        while (saved := latest_checkpoint(stage)) is None or int(saved.name) < 4:
            assert process.poll() is None
            time.sleep(0.005)
        os.kill(children_of(process.pid)[-1], signal.SIGKILL)
        errors = process.communicate(timeout=300)[1]
    assert process.returncode != 0 and not (tmp_path / "killed" / "model").exists()
    assert "[rank0]: Traceback" not in errors, errors
    subprocess.run(words, check=True, timeout=300, **quiet)
    wanted, got = weights(by_two / "whole" / "model"), weights(tmp_path / "killed" / "model")
    assert all(torch.equal(weight, got[name]) for name, weight in wanted.items())
    assert not (tmp_path / "killed" / "checkpoint").exists()
