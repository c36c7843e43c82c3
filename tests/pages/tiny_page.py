"""Finished runs for pages, written as JSON in a moment: no model is made and none is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cutbert.files import read_json, write_json
from cutbert.fronts.entry import Entry
from cutbert.fronts.front import Front
from cutbert.shape.cost import cost_of
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.subnet import KeptLayer, Subnet
from tiny_runs import tiny_leaderboard

WHOLE = LayerShape(4, 6, 6, 32)
UNCUT = EncoderShape(hidden_size=24, layers=(WHOLE,) * 3, vocab_size=20, num_positions=16)
# name -> kept layers with what is left of each, select score, latency in ms
FAMILY: dict[str, tuple[dict[int, LayerShape], float, float]] = {
    "w1.0-d1.0": (dict.fromkeys(range(3), WHOLE), 0.9, 3.0),
    "w0.5-d1.0": (dict.fromkeys(range(3), LayerShape(2, 6, 6, 16)), 0.91, 2.0),
    "w1.0-d0.67": ({0: WHOLE, 2: WHOLE}, 0.8, 2.1),
    "bare": ({0: LayerShape(2, 6, 4, 0), 1: LayerShape(0, 0, 0, 8)}, 0.7, 1.0),
}
MEASURED = {
    "backend": "torch",
    "device": "cpu",
    "threads": 2,
    "lengths": [5, 9],
    "throughput_batch_size": 32,
    "throughput_length": 7,
    "machine": {"processor": "Z80"},
}


def entry(name: str, layers: dict[int, LayerShape], select_score: float, latency_ms: float | None) -> Entry:
    """Return a scored network that keeps some layers."""
    shape = EncoderShape(hidden_size=24, layers=tuple(layers.values()), vocab_size=20, num_positions=16)
    cost = cost_of(shape)
    return Entry(
        name=name, shape=shape, subnet=Subnet(tuple(KeptLayer(i, layer) for i, layer in layers.items()), 24),
        params=cost.params, macs=cost.macs, score=select_score - 0.05, select_score=select_score, metrics={},
        latency_ms=latency_ms,
    )  # fmt: skip


def tiny_front(*, shift: float = 0.0, is_measured: bool = True) -> Front:
    """Return a front of FAMILY, its scores moved."""

    def made(name: str, layers: dict[int, LayerShape], score: float, ms: float) -> Entry:
        return entry(name, layers, score + shift, ms if is_measured else None)

    return Front(
        metric="accuracy",
        teacher=made("teacher", dict.fromkeys(range(3), WHOLE), 0.92, 3.1),
        subnets=tuple(made(name, *given) for name, given in FAMILY.items()),
        measured=MEASURED if is_measured else None,
    )


def write_run(path: Path, result: dict[str, Any] | None, *, command: str = "dynabert", seed: int = 0) -> Path:
    """Write the record and the log of a run; without a result it is not finished."""
    path.mkdir(parents=True)
    settings = {"model": f"teacher-{seed}", "train": {"seed": seed}, "data": {"task": "sst2", "max_eval_samples": None}}
    line = f"cutbert {command} teacher-{seed} --out {path.name} --seed {seed}"
    record = {"format_version": 1, "command": command, "line": line, "settings": settings, "timings": {}}
    write_json(path / "run.json", record if result is None else {**record, "result": result})
    steps = [{"stage": "distil", "step": i, "loss": 2.0 / i, "hidden": 1.0 / i} for i in range(1, 20)]
    (path / "log.jsonl").write_text("".join(json.dumps(each) + "\n" for each in steps))
    return path


def write_family(path: Path, *, seed: int = 0, shift: float = 0.0, is_measured: bool = True) -> Path:
    """Write a finished run of dynabert with a front."""
    front = tiny_front(shift=shift, is_measured=is_measured)
    run = write_run(path, front.to_json(), seed=seed)
    front.save(run)
    return run


def write_teacher(path: Path, seed: int = 0) -> Path:
    """Write a finished fine-tuning, its model without weights."""
    run = write_run(path, {"metric": "accuracy", "score": 0.83, "select_score": 0.84}, command="finetune", seed=seed)
    (run / "model").mkdir()
    write_json(run / "model" / "shape.json", UNCUT.to_json())
    return run


def write_fit(path: Path) -> Path:
    """Write a finished run of fit with a leaderboard."""
    board = tiny_leaderboard()
    result = {"out": str(path), "metric": board.metric, "leaderboard": [entry.to_json() for entry in board]}
    run = write_run(path, result, command="fit")
    record = read_json(run / "run.json")
    write_json(run / "run.json", {**record, "timings": {"teacher": 30.0, "race": 60.0, "total": 95.0}})
    board.save(run)
    return run


def write_predictions(run: Path, rows: int = 200) -> Path:
    """Write outputs on dev for every network of a front, as right as its score says, the first rows right."""
    front = Front.load(run)
    for each in (front.teacher, *front):
        labels = [i % 2 for i in range(rows)]
        said = [label if i < each.score * rows else 1 - label for i, label in enumerate(labels)]
        logits = [[1.0, 0.0] if label == 0 else [0.0, 1.0] for label in said]
        data = {"score": each.score, "labels": labels, "logits": logits}
        write_json(run / "predictions" / f"{each.name}.json", data)
    return run
