"""schuBERT end to end on a tiny task: budgets kept, rounds stored, runs resumed, choices refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pytest
import torch
from tiny_task import tiny_task, weights

import cutbert
from cutbert.bench.latency_table import LatencyTable, part_shapes, table_of
from cutbert.errors import BudgetError, InputError, InterruptedRun
from cutbert.files import read_json
from cutbert.hub.load import load_model
from cutbert.shape.budget import Budget
from cutbert.shape.cost import cost_of
from cutbert.shape.folder import read_folder_shape
from cutbert.shape.paper_shapes import PAPER_SHAPES
from cutbert.shape.shape import EncoderShape
from cutbert.shape.units import DIMS, places_of, size_at, unit_prices
from cutbert.work.cost_limit import Times, counted_limit
from tiny_runs import SHAPE, save_tiny

QUICK: dict[str, Any] = {"rounds": 2, "gate_steps": 3, "multiple_of": 1, "gate_learning_rate": 0.1}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tiny_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("teacher") / "model"))


@pytest.fixture(autouse=True)
def quick_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutbert.work.objective.sample_lengths", lambda lengths: [4, 6])


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
    options = {"budget": "macs=0.5", "uniform": True, "rounds": 1, "gate_steps": 40, "gate_learning_rate": 0.02}
    run = schubert(teacher, tmp_path / "run", task, **options)
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    (closed,) = [line["closed"] for line in lines if "closed" in line]
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


def table_of_rates(rate: float) -> LatencyTable:
    """Return a table in which every multiply-add of a text of 5 tokens takes as many milliseconds."""
    times = {key: rate * cost_of(shape, None, 5).macs for key, shape in part_shapes(SHAPE, tuple(DIMS)).items()}
    return table_of(SHAPE, times, rate * cost_of(SHAPE, None, 5).macs, {})


def test_latency_is_cut_to_what_is_measured(
    teacher: str, tmp_path: Path, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_macs = table_of_rates(1e-6)
    monkeypatch.setattr("cutbert.fronts.measure.measure_table", lambda *of, **how: by_macs)
    times = iter([Times(9.0, 10.0), Times(7.0, 10.0)])
    monkeypatch.setattr("cutbert.methods.schubert.time_cut", lambda *of: next(times))
    run = schubert(teacher, tmp_path / "run", task, budget="latency_ms=0.8")
    assert next(times, None) is None, "the first cut was too slow by measurement, so it was cut further"
    share = by_macs(shapes(run)[-1]) / by_macs(SHAPE)
    assert 0.5 < share <= 0.8 * 0.97 * 0.97 * 0.8 / 0.9


def test_a_latency_that_measurement_never_confirms(
    teacher: str, tmp_path: Path, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_macs = table_of_rates(1e-6)
    monkeypatch.setattr("cutbert.fronts.measure.measure_table", lambda *of, **how: by_macs)
    monkeypatch.setattr("cutbert.methods.schubert.time_cut", lambda *of: Times(9.0, 10.0))
    wanted = r"--budget latency_ms must be reachable by measurement, got 0\.8, the last cut took 9\.000 ms"
    with pytest.raises(BudgetError, match=wanted):
        schubert(teacher, tmp_path / "run", task, budget="latency_ms=0.8", dims=["f"])


def test_milliseconds_are_held_to_what_is_measured_not_foretold(
    teacher: str, tmp_path: Path, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_macs = table_of_rates(1e-3)
    monkeypatch.setattr("cutbert.fronts.measure.measure_table", lambda *of, **how: by_macs)
    limit = 0.8 * by_macs(SHAPE)
    times = iter([Times(1.1 * limit, 5 * limit), Times(0.9 * limit, 5 * limit)])
    monkeypatch.setattr("cutbert.methods.schubert.time_cut", lambda *of: next(times))
    schubert(teacher, tmp_path / "run", task, budget=f"latency_ms={limit}")
    assert limit > 1 and next(times, None) is None


def test_milliseconds_of_another_backend_at_a_fixed_length(
    teacher: str, tmp_path: Path, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    by_macs = table_of_rates(1e-6)
    monkeypatch.setattr("cutbert.fronts.measure.measure_table", lambda *of, **how: by_macs)
    seen = []

    def time_networks(networks: Any, lengths: Any, settings: Any) -> Any:
        seen.append((settings.backend, list(lengths)))
        return {"uncut": Spent(10.0), "cut": Spent(5.0)}

    monkeypatch.setattr("cutbert.work.cost_limit.time_networks", time_networks)
    run = schubert(
        teacher, tmp_path / "run", task, budget="latency_ms=0.8", backend="onnx", length=7, rounds=1, dims=["f"]
    )
    assert seen == [("onnx", [7] * 16)]
    assert run.front.measured["backend"] == "onnx" and set(run.front.measured["lengths"]) == {7}


class Spent(NamedTuple):
    """A time, as `time_networks` gives it."""

    latency_ms: float


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


def test_gates_really_close_so_that_the_cut_hurts_little(
    teacher: str, tmp_path: Path, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import cutbert.methods.schubert as method

    plain, seen = method.kept_units, []

    def kept_units(job: Any, folded: Any, scores: Any, number: int) -> Any:
        kept = plain(job, folded, scores, number)
        gone = [float(v) for place, values in scores.items() for v in values[unkept(kept[place], values)]]
        seen.append((gone, [float(v) for place, values in scores.items() for v in values[kept[place]]]))
        return kept

    monkeypatch.setattr(method, "kept_units", kept_units)
    schubert(teacher, tmp_path / "run", task, budget="macs=0.5", rounds=1, gate_steps=60, gate_learning_rate=0.02)
    gone, stayed = seen[0]
    assert median(gone) < 0.05 and median(stayed) > 0.5


def unkept(kept: list[int], values: torch.Tensor) -> list[int]:
    return [i for i in range(len(values)) if i not in kept]


def test_stages_read_on_where_the_last_one_ended(
    teacher: str, tmp_path: Path, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All stages of all rounds together make passes over the rows; none begins anew."""
    from cutbert.train import loop

    plain, read = loop.Trainer._collate, []

    def collate(self: Any, rows: Any) -> Any:
        read.append((self.plan.name, rows.tolist()))
        return plain(self, rows)

    monkeypatch.setattr(loop.Trainer, "_collate", collate)
    schubert(teacher, tmp_path / "run", {**task, "epochs": 2.0}, budget="macs=0.5", gate_steps=2)
    rows = [row for _, batch in read for row in batch]
    count = max(rows) + 1
    assert {name for name, _ in read} == {"round-1-gates", "round-1", "round-2-gates", "round-2"}
    assert sorted(rows[:count]) == list(range(count)) and sorted(rows[count : 2 * count]) == list(range(count))


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
    healing = [line["step"] for line in log if line["stage"] in ("round-1", "round-2", "round-3") and "loss" in line]
    assert len(set(healing)) == 1  # every round is healed equally long


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


def test_a_stopped_run_ends_with_the_same_bits(
    teacher: str, tmp_path: Path, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = schubert(teacher, tmp_path / "whole", task, budget="macs=0.5")
    import cutbert.methods.schubert as method

    for stage in ("round-1-gates", "round-1", "round-2-gates", "round-2"):
        plain = method.train_stage

        def stopping(model: Any, work: Any, *more: Any, stage: str = stage, plain: Any = plain) -> Any:
            if work.plan.name == stage:
                raise InterruptedRun("stopped")
            return plain(model, work, *more)

        monkeypatch.setattr(method, "train_stage", stopping)
        with pytest.raises(InterruptedRun):
            schubert(teacher, tmp_path / "parts", task, budget="macs=0.5")
        monkeypatch.setattr(method, "train_stage", plain)
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
        ({"budget": "macs=0.5", "rounds": 0}, "--rounds must be at least 1, got 0"),
        ({"budget": "latency_ms=0.5", "length": 900}, "--length must be at most .* got 900"),
        ({"budget": "macs=0.5", "dims": ["f", "x"]}, "--dims must be one of h, f, a, k, v, got 'x'"),
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
