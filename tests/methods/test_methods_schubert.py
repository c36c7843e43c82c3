"""schuBERT end to end on a tiny task: budgets kept, rounds stored, runs resumed, choices refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_task import time_by_macs, tiny_task, weights

import cutbert
from cutbert.bench.measure_table import table_of
from cutbert.data.batches import plan_batches
from cutbert.errors import BudgetError, InputError
from cutbert.files import read_json
from cutbert.folders.load import load_model
from cutbert.shape.budget import Budget
from cutbert.shape.cost import cost_of
from cutbert.shape.folder import read_folder_shape
from cutbert.shape.paper_shapes import PAPER_SHAPES
from cutbert.shape.shape import EncoderShape
from cutbert.shape.units import DIMS, places_of, size_at, unit_prices
from cutbert.work.cost_limit import counted_limit
from kills import killed_as_it_says
from known_times import take_known_times
from tiny_runs import HEAD, SHAPE, SPECIAL, WORDS, save_tiny

QUICK: dict[str, Any] = {"rounds": 2, "gate_steps": 3, "multiple_of": 1, "gate_learning_rate": 0.1}
IDS = torch.tensor([[2, 5, 4, 7, 3], [2, 9, 4, 5, 3], [2, 12, 8, 14, 3]])


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tiny_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("teacher") / "model"))


@pytest.fixture(autouse=True)
def quick_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    time_by_macs(monkeypatch)


def schubert(teacher: str, out: Path, task: dict[str, Any], **options: Any) -> cutbert.api.Run:
    return cutbert.schubert(teacher, out=out, **task, **{**QUICK, **options})


def shapes(run: cutbert.api.Run) -> list[EncoderShape]:
    return [entry.shape for entry in run.front]


def sizes_cut(shape: EncoderShape) -> set[str]:
    """Return the dimensions in which a shape is smaller than the uncut one."""
    return {p.dim for p in places_of(SHAPE, tuple(DIMS)) if size_at(shape, p) < size_at(SHAPE, p)}


@pytest.mark.parametrize("name", ["params", "params_encoder", "macs", "bytes"])
def test_the_result_keeps_the_budget_and_little_below(
    teacher: str, tmp_path: Path, task: dict[str, Any], name: str
) -> None:
    run = schubert(teacher, tmp_path / "run", task, budget=f"{name}=0.6")
    head = load_model(teacher).model.head_spec
    uncut = getattr(cost_of(SHAPE, head), name)
    first, last = (getattr(cost_of(shape, head), name) for shape in shapes(run))
    assert 0.5 * uncut < last <= 0.6 * uncut < first <= 0.8 * uncut
    stored = read_folder_shape(tmp_path / "run" / "model")
    assert stored.shape == shapes(run)[-1]
    assert [entry.folder for entry in run.front] == ["rounds/round-1", None]


def test_a_budget_of_bytes_is_priced_as_one_of_parameters(teacher: str) -> None:
    head = load_model(teacher).model.head_spec
    params, in_bytes = (
        counted_limit(Budget.parse(f"{name}=0.5"), tuple(DIMS), 8, SHAPE, head) for name in ("params", "bytes")
    )
    assert in_bytes.price(SHAPE) / in_bytes.uncut == pytest.approx(params.price(SHAPE) / params.uncut)


def test_sizes_that_are_given_have_gates_closed_place_by_place(
    teacher: str, tmp_path: Path, task: dict[str, Any]
) -> None:
    options = {"budget": "macs=0.5", "uniform": True, "rounds": 1, "gate_steps": 100, "gate_learning_rate": 0.05}
    run = schubert(teacher, tmp_path / "run", task, **options)
    closed = closed_gates(run)
    neurons = shapes(run)[-1].layers[0].intermediate_size / SHAPE.layers[0].intermediate_size
    assert closed["f"] == pytest.approx(1 - neurons, abs=0.15)


def test_absolute_budgets_and_single_dimensions(teacher: str, tmp_path: Path, task: dict[str, Any]) -> None:
    limit = 12_000
    only = schubert(teacher, tmp_path / "f", task, budget=f"params_encoder={limit}", dims=["f"])
    assert sizes_cut(shapes(only)[-1]) == {"f"}
    assert cost_of(shapes(only)[-1]).params_encoder <= limit
    hidden = schubert(teacher, tmp_path / "h", task, budget="params=0.7", dims=["h"], rounds=1)
    assert sizes_cut(shapes(hidden)[-1]) == {"h"} and len(shapes(hidden)) == 1


def test_uniform_sizes_are_the_same_in_every_layer(teacher: str, tmp_path: Path, task: dict[str, Any]) -> None:
    run = schubert(teacher, tmp_path / "run", task, budget="macs=0.4", uniform=True)
    last = shapes(run)[-1]
    assert len(set(last.layers)) == 1 and sizes_cut(last) == set(DIMS)


def test_an_architecture_of_the_paper_is_cut_to(
    teacher: str, tmp_path: Path, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [
        replace(layer, num_heads=2 + i % 2, value_dim=4, intermediate_size=9) for i, layer in enumerate(SHAPE.layers)
    ]
    found = replace(SHAPE, hidden_size=20, layers=tuple(layers), vocab_size=SHAPE.vocab_size + 7)
    monkeypatch.setitem(PAPER_SHAPES, "33M", found)
    first, last = shapes(schubert(teacher, tmp_path / "run", task, from_paper="33M", multiple_of=None))
    assert last == replace(found, vocab_size=SHAPE.vocab_size)  # its own tables stay
    assert first.hidden_size == (SHAPE.hidden_size + 20) // 2


def test_sizes_are_multiples(teacher: str, tmp_path: Path, task: dict[str, Any]) -> None:
    last = shapes(schubert(teacher, tmp_path / "run", task, budget="macs=0.5", multiple_of=4))[-1]
    assert last.hidden_size % 4 == 0
    assert all(layer.intermediate_size % 4 == 0 for layer in last.layers)


def ms_of(shape: EncoderShape, length: int) -> float:
    """Return 10 ms for the uncut network and a text of 5 tokens, and for others what their multiply-adds say."""
    return 10 * cost_of(shape, HEAD, length).macs / cost_of(SHAPE, HEAD, 5).macs


def is_cut(shape: EncoderShape) -> bool:
    """Whether a network is a smaller whole one, not one of the stacks of equal sub-layers that a table is made of."""
    return shape != SHAPE and any(layer.has_attention and layer.has_feed_forward for layer in shape.layers)


def test_latency_is_cut_to_what_is_measured(
    teacher: str,
    tmp_path: Path,
    task: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A cut takes an eighth more than its parts foretell, so the first is too slow, and is cut further."""
    take_known_times(monkeypatch, lambda shape, length: ms_of(shape, length) * (1.125 if is_cut(shape) else 1))
    run = schubert(teacher, tmp_path / "run", task, budget="latency_ms=0.8")
    assert "cutting further" in capsys.readouterr().err
    assert 5 < list(run.front)[-1].latency_ms <= 0.97 * 0.8 * run.front.teacher.latency_ms
    assert run.front.teacher.latency_ms == pytest.approx(10, rel=0.02)


def test_a_latency_that_measurement_never_confirms(
    teacher: str, tmp_path: Path, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    take_known_times(monkeypatch, lambda shape, length: 9 if is_cut(shape) else ms_of(shape, 5))
    wanted = r"reachable by measurement, got 0\.8, the last cut took 9\.000 ms, the uncut model 10\.000"
    with pytest.raises(BudgetError, match="--budget latency_ms must be " + wanted):
        schubert(teacher, tmp_path / "run", task, budget="latency_ms=0.8", dims=["f"])


def test_milliseconds_are_held_to_what_is_measured_not_foretold(
    teacher: str,
    tmp_path: Path,
    task: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where the uncut network, since it was measured for the table, has become five times as slow."""
    table = tmp_path / "run" / "checkpoint" / "latency.json"

    def slower(shape: EncoderShape, length: int) -> float:
        return ms_of(shape, length) * (1.125 if is_cut(shape) else 5 if table.exists() else 1)

    take_known_times(monkeypatch, slower)
    run = schubert(teacher, tmp_path / "run", task, budget="latency_ms=8")
    assert "wanted at most 7.760: cutting further" in capsys.readouterr().err
    assert 5 < list(run.front)[-1].latency_ms <= 0.97 * 8


def test_milliseconds_of_another_backend_at_a_fixed_length(
    teacher: str, tmp_path: Path, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = take_known_times(monkeypatch, ms_of)
    run = schubert(
        teacher, tmp_path / "run", task, budget="latency_ms=0.8", backend="onnx", length=7, rounds=1, dims=["f"]
    )
    assert {(each.backend, each.length) for each in timed} == {("onnx", 7), ("onnx-int8", 7)}
    assert {each.shape for each in timed if each.backend == "onnx-int8"} == {SHAPE}  # the uncut model beside the front
    assert run.front.measured["backend"] == "onnx" and set(run.front.measured["lengths"]) == {7}


def test_one_dimension_by_real_latency(teacher: str, tmp_path: Path, task: dict[str, Any]) -> None:
    """Heads may seem to cost nothing in a noisy table."""
    times = {("base", SHAPE.hidden_size, 0.0): 0.1, ("feed_forward", SHAPE.hidden_size, 32.0): 0.4}
    times |= {("attention", SHAPE.hidden_size, float(size)): 0.1 for size in (12, 48)}
    times |= {("feed_forward", SHAPE.hidden_size, 8.0): 0.2}
    prices = unit_prices(SHAPE, table_of(SHAPE, times, 1.0, {}), ("f",))
    assert all(price > 0 for price in prices.values())


def test_gates_decide_which_units_stay(teacher: str, tmp_path: Path, task: dict[str, Any]) -> None:
    """Neurons without any effect go first."""
    model = load_model(teacher).model
    idle = {0: [1, 5, 30], 2: list(range(20))}
    with torch.no_grad():
        for layer, neurons in idle.items():
            model.encoder.layers[layer].feed_forward.down.weight[:, neurons] = 0
            model.encoder.layers[layer].feed_forward.up.weight[neurons] = 0
            model.encoder.layers[layer].feed_forward.up.bias[neurons] = 0
    source = save_tiny(tmp_path / "source", model)
    cost = cost_of(SHAPE, model.head_spec).params - 23 * (2 * 24 + 1)
    options = {"budget": f"params={cost}", "dims": ["f"], "rounds": 1, "gate_steps": 40}
    run = schubert(str(source), tmp_path / "run", task, **options, gate_learning_rate=0.05)
    assert [layer.intermediate_size for layer in shapes(run)[-1].layers] == [29, 32, 12]


def test_gates_really_close_so_that_the_cut_hurts_little(teacher: str, tmp_path: Path, task: dict[str, Any]) -> None:
    """Of some seeds together: what one of them does hangs on the last bits of the processor's sums."""
    seeds = range(3)
    runs = {
        (steps, seed): schubert(
            teacher, tmp_path / f"{steps}-{seed}", {**task, "epochs": 0.0, "seed": seed}, budget="macs=0.5", rounds=1,
            gate_steps=steps, gate_learning_rate=0.02,
        )
        for steps in (1, 60) for seed in seeds
    }  # fmt: skip
    dims = {dim: places_of(SHAPE, (dim,)) for dim in DIMS}
    whole = {dim: sum(size_at(SHAPE, place) for place in places) for dim, places in dims.items()}
    stayed = {dim: sum(size_at(shapes(runs[60, 0])[-1], place) for place in places) for dim, places in dims.items()}
    closed = sum(share * whole[dim] for dim, share in closed_gates(runs[60, 0]).items())
    gone = sum(whole.values()) - sum(stayed.values())
    assert 0.5 * gone < closed < 1.2 * gone
    trained, untrained = (sum(distance(runs[steps, seed], teacher) for seed in seeds) for steps in (60, 1))
    assert trained < 0.7 * untrained


def closed_gates(run: cutbert.api.Run) -> dict[str, float]:
    """Return the share of the gates of each dimension that were closed in the one round of a run."""
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    (closed,) = [line["closed"] for line in lines if "closed" in line]
    return closed


def distance(run: cutbert.api.Run, teacher: str) -> float:
    """Return how far a network's log-probabilities are from its teacher's."""
    ours, theirs = (load_model(path).model(IDS).logits.detach().log_softmax(-1) for path in (run.path, teacher))
    return float((ours - theirs).abs().mean())


def test_stages_read_on_where_the_last_one_ended(teacher: str, tmp_path: Path, task: dict[str, Any]) -> None:
    """All stages of all rounds together make passes over the rows; none begins anew.

    Every row has a word of its own, and only words that were read in a healing are another vector after it.
    """
    lines = "".join(f"{word}\t{('neg', 'pos')[i % 2]}\n" for i, word in enumerate(WORDS))
    (tmp_path / "train.tsv").write_text("text\tlabel\n" + lines)
    quick = {"epochs": 1.2, "batch_size": 2, "warmup_ratio": 0.0, "token_table": "rows", "learning_rate": 1e-3}
    options = {"budget": "macs=0.9", "dims": ["f"], "gate_steps": 1, "last_share": 0.5}
    run = schubert(teacher, tmp_path / "run", {**task, "train": str(tmp_path / "train.tsv"), **quick}, **options)
    models = [load_model(folder).model for folder in (teacher, run.path / "rounds" / "round-1", run.path / "model")]
    tables = [model.encoder.embeddings.token.weight for model in models]
    steps = [rows for epoch in range(3) for rows in plan_batches(np.full(len(WORDS), 3), 2, 0, epoch)]
    for before, after, healed in zip(tables, tables[1:], (steps[1:4], steps[5:8]), strict=False):
        words = [int(word) - len(SPECIAL) for word in (before != after).any(1).nonzero().flatten()]
        assert [word for word in words if word >= 0] == sorted(int(row) for rows in healed for row in rows)


def test_the_papers_recipe_keeps_the_budget_in_equal_rounds(teacher: str, tmp_path: Path, task: dict[str, Any]) -> None:
    run = cutbert.schubert(
        teacher, out=tmp_path / "run", recipe="paper", gamma=0.01, gate_steps=3, budget="params_encoder=0.4", **task
    )
    entries, head = list(run.front), load_model(teacher).model.head_spec
    shares = [cost_of(entry.shape, head).params_encoder / cost_of(SHAPE, head).params_encoder for entry in entries]
    assert (
        len(shares) == 3 and [share <= most for share, most in zip(shares, (0.8, 0.6, 0.4), strict=True)] == [True] * 3
    )
    assert shares[-1] > 0.36  # units go one by one, so little is cut beyond the limit
    log = [json.loads(line) for line in (run.path / "log.jsonl").open()]
    last_steps = {line["stage"]: line["step"] for line in log if "loss" in line}
    assert len({last_steps[f"round-{i}"] for i in (1, 2, 3)}) == 1  # every round is healed equally long


def test_gamma_decides_which_units_the_papers_gates_give_up(teacher: str, tmp_path: Path, task: dict[str, Any]) -> None:
    runs = [
        cutbert.schubert(
            teacher, out=tmp_path / str(gamma), recipe="paper", rounds=1, gamma=gamma, gate_steps=6,
            budget="params_encoder=0.5", **{**task, "epochs": 0.0},
        )
        for gamma in (1e-6, 10.0)
    ]  # fmt: skip
    assert shapes(runs[0]) != shapes(runs[1])


def test_every_round_can_be_picked_and_measured(teacher: str, tmp_path: Path, task: dict[str, Any]) -> None:
    run = schubert(teacher, tmp_path / "run", task, budget="macs=0.5")
    first, last = run.front
    for entry in (first, last):
        picked = cutbert.pick(run.path, max_macs=entry.macs, min_score=entry.select_score)
        picked.save_pretrained(tmp_path / f"for-{entry.name}")
        assert load_model(tmp_path / f"for-{entry.name}").model.shape == picked.entry.shape
    again = cutbert.front(run.path, measure=True, length=5, rounds=1)
    assert all(entry.latency_ms for entry in again)
    kept = load_model(run.path / "rounds" / "round-1").model
    assert kept.shape == first.shape and kept.shape != last.shape


def test_a_stopped_run_ends_with_the_same_bits(teacher: str, tmp_path: Path, task: dict[str, Any]) -> None:
    whole = schubert(teacher, tmp_path / "whole", task, budget="macs=0.5")
    for stage in ("round-1-gates", "round-1", "round-2-gates", "round-2"):
        with killed_as_it_says(f"{stage}: 1/"):
            schubert(teacher, tmp_path / "parts", task, budget="macs=0.5")
    parts = schubert(teacher, tmp_path / "parts", task, budget="macs=0.5")
    assert shapes(parts) == shapes(whole)
    for name in ("model", "rounds/round-1"):
        got, wanted = weights(tmp_path / "parts" / name), weights(tmp_path / "whole" / name)
        assert all(torch.equal(got[key], wanted[key]) for key in wanted)
    assert not (tmp_path / "parts" / "checkpoint").exists()


def test_it_can_be_the_full_net_of_a_family(teacher: str, tmp_path: Path, task: dict[str, Any]) -> None:
    cut = schubert(teacher, tmp_path / "cut", task, budget="macs=0.6")
    family = cutbert.dynabert(
        cut.path, out=tmp_path / "family", width_mult=(1.0, 0.5), depths=[3, 1], importance_samples=8, **task
    )
    assert family.front.teacher.shape == shapes(cut)[-1]
    assert all(entry.macs <= family.front.teacher.macs for entry in family.front)


def test_a_run_folder_tells_its_stages(teacher: str, tmp_path: Path, task: dict[str, Any]) -> None:
    run = schubert(teacher, tmp_path / "run", task, budget="macs=0.5")
    record = read_json(tmp_path / "run" / "run.json")
    assert {"gates", "heal", "score", "latency", "total"} <= record["timings"].keys()
    data = run.to_json()
    assert {"out", "metric", "teacher", "subnets", "seconds"} <= data.keys()
    assert "width_mult" not in data["subnets"][-1] and data["subnets"][-1]["name"] == "round-2"
    shutil.rmtree(tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "schubert must have one of --budget NAME=X and --from-paper NAME"),
        (
            {"budget": "macs=0.001"},
            "--budget macs must be at least .* \\(the uncut model\\), or as a share at least 0.* below 1",
        ),
        ({"budget": "params=10000000000"}, "--budget params must be at least"),
        ({"budget": "latency_ms=0.5", "length": 900}, "--length must be at most .* got 900"),
        ({"from_paper": "99M", "multiple_of": None}, "num_layers must be 12 for --from-paper 99M, got 3"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_made(
    teacher: str, tmp_path: Path, task: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        schubert(teacher, tmp_path / "run", task, **options)
    assert not (tmp_path / "run").exists()


def test_a_latency_out_of_reach_leaves_nothing(teacher: str, tmp_path: Path, task: dict[str, Any]) -> None:
    with pytest.raises(BudgetError, match="--budget latency_ms must be at least"):
        schubert(teacher, tmp_path / "run", task, budget="latency_ms=0.0001")
    assert not (tmp_path / "run").exists()
