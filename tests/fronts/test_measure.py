"""Measuring a front runs every subnet cut out, and says under which conditions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cutbert.bench.settings import LatencySettings
from cutbert.errors import RunError
from cutbert.fronts.front import Front
from cutbert.fronts.measure import cut_out, measure_again, measure_front, num_rounds
from cutbert.surgery.extract import extract
from tiny_runs import SHAPE, make_run, tiny_grid, tiny_model

QUICK = LatencySettings(rounds=2, throughput_batch_size=2, threads=1)


def test_every_entry_gets_its_times(tmp_path: Path) -> None:
    front = Front.load(make_run(tmp_path).path)
    rounds: list[None] = []
    model = tiny_model()
    measured = measure_front(front, {None: model}, model, [4, 8], QUICK, on_round=lambda: rounds.append(None))
    assert len(rounds) == num_rounds(QUICK)
    for entry in (measured.teacher, *measured):
        assert entry.latency_ms and entry.latency_q1_ms and entry.latency_q3_ms and entry.latency_p95_ms
        assert entry.latency_q1_ms <= entry.latency_ms <= entry.latency_q3_ms <= entry.latency_p95_ms
        assert entry.throughput_per_s and entry.throughput_per_s > 0
    assert measured.measured is not None
    assert measured.measured["lengths"] == [4, 8] and measured.measured["threads"] == 1
    # What serves the uncut model in int8 is timed beside them; on that backend the uncut model's own entry is it.
    assert measured.teacher_int8 is not None and measured.teacher_int8["latency_ms"] > 0
    in_int8 = measure_front(measured, {None: model}, model, [4], replace(QUICK, backend="onnx-int8"))
    assert in_int8.teacher_int8 is None and in_int8.teacher.latency_ms
    assert in_int8.on("torch", tmp_path) == replace(measured, others=in_int8.on("torch", tmp_path).others)
    measured.save(tmp_path)
    assert Front.load(tmp_path) == measured
    assert any("ms in int8 (onnx-int8)" in str(part) for part in measured.view())
    assert measured.measured["device"] == "cpu" and "processor" in measured.measured["machine"]


def test_a_cut_out_network_shares_the_tables_and_answers_the_same() -> None:
    model, subnet = tiny_model(), tiny_grid()[-1].subnet
    network, ids = cut_out(model, subnet), torch.tensor([[2, 5, 6, 3]])
    assert network.encoder.embeddings is model.encoder.embeddings
    torch.testing.assert_close(network(ids).logits, extract(model, subnet)(ids).logits)


def test_measured_again_and_stored(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    measured = measure_again(run.path, Front.load(run.path), LatencySettings(rounds=1, length=6, threads=1))
    assert Front.load(run.path) == measured and measured.measured is not None
    assert set(measured.measured["lengths"]) == {6}
    later = measure_again(run.path, measured, QUICK)
    assert later.measured is not None and later.measured["lengths"] == measured.measured["lengths"]
    assert later.teacher.shape == SHAPE


def test_a_length_beyond_the_positions_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    before = (run.path / "front.json").read_bytes()
    with pytest.raises(RunError, match=r"--length must be at most 128, the positions of .*, got 129"):
        measure_again(run.path, Front.load(run.path), LatencySettings(rounds=1, length=129, threads=1))
    assert (run.path / "front.json").read_bytes() == before
