"""The demo runs from end to end on a tiny model, goes on where it stopped, and refuses early."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from cutbert.demo_data import weights
from cutbert.errors import InputError, MissingError
from cutbert.methods import demo as module
from cutbert.methods.demo import demo
from cutbert.methods.demo_settings import DemoSettings
from kills import killed_before
from known_times import take_times_of_thread
from tiny_runs import save_tiny


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DemoSettings:
    """A demo of seconds; half a tiny model's latency may be out of reach, so any latency will do."""
    monkeypatch.setattr(module, "LATENCY_SHARE", 1.0)
    monkeypatch.setattr("cutbert.methods.fit_plan.Clock.left_with", lambda self, candidates: 1.5)
    take_times_of_thread(monkeypatch)
    model = save_tiny(tmp_path / "tiny")
    return DemoSettings(
        model=str(model), out=str(tmp_path / "out"), max_train_samples=48, max_eval_samples=20, threads=1, time=300.0
    )


def test_demo_runs_and_goes_on(settings: DemoSettings) -> None:
    out = Path(settings.out)
    with killed_before(out / "fit" / "model"):
        demo(settings)
    assert (out / "fit" / "model").is_dir()  # Ctrl-C in the end exports the best so far
    assert "result" not in json.loads((out / "fit" / "run.json").read_text())
    result = demo(settings)

    assert result["out"] == str(out)
    chosen = next(entry for entry in result["leaderboard"] if entry["chosen"])
    assert chosen["latency_ms"] <= result["max_latency_ms"]
    assert list((out / "fit" / "model" / "onnx").glob("model_qint8*.onnx"))
    assert len(result["texts"]) == 5
    assert all({each["label"], each["predicted"]} <= {"negative", "positive"} for each in result["texts"])
    assert demo(settings) == result == json.loads((out / "run.json").read_text())["result"]


def test_task_with_pairs(settings: DemoSettings, tmp_path: Path) -> None:
    task = tmp_path / "glue" / "RTE"
    task.mkdir(parents=True)
    for name in ("train", "dev"):
        rows = [f"{i}\ta {name} film {i}\tgood {i}\t{('entailment', 'not_entailment')[i % 2]}" for i in range(40)]
        (task / f"{name}.tsv").write_text("\n".join(["index\tsentence1\tsentence2\tlabel", *rows, ""]))
    given = {"model": settings.model, "threads": 1, "time": 300.0, "task": "rte", "data_dir": str(tmp_path / "glue")}
    result = demo(DemoSettings(out=str(tmp_path / "pairs"), **given))
    first = result["texts"][0]
    assert (first["text"], first["text_pair"], first["label"]) == ("a dev film 0", "good 0", "entailment")


def test_mistakes_come_together_and_make_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError) as caught:
        demo(DemoSettings(data_dir="glue", seed=-1, max_train_samples=0, out=str(out)))
    assert caught.value.mistakes == (
        "--seed must lie in 0..4294967295, got -1",
        "--max-train-samples must be at least 1, got 0",
        "--data-dir must come with --task",
    )
    assert not out.exists()


def test_several_processes_are_refused(settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="demo must run in one process; cutbert finetune and cutbert dynabert take"):
        demo(settings)
    assert not Path(settings.out).exists()


def test_missing_weights_make_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, weights.MODULE, None)
    with pytest.raises(MissingError, match="--model FOLDER"):
        demo(DemoSettings(out=str(tmp_path / "out")))
    assert os.listdir(tmp_path) == []


def test_missing_model_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="nowhere"):
        demo(DemoSettings(model=str(tmp_path / "nowhere"), out=str(tmp_path / "out")))
    assert os.listdir(tmp_path) == [] and not capsys.readouterr().err
