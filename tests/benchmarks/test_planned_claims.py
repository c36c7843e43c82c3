"""Every claim can be read from the record of its plan: studies of made-up answers, compared as `everything.py` asks."""

from __future__ import annotations

import itertools
import json
import shlex
from argparse import Namespace
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from benchmark_modules import BENCHMARKS, importable

from cutbert.api.sweeps import SWEPT
from cutbert.fronts import paired
from cutbert.methods.schubert_recipes import RECIPES
from cutbert.sweeps.expand import PlannedRun, read_runs

NAMES = ("results", "everything", "claim_rows", "planned_rows", "studies", "findings", "evidence", "study", "networks")
ROWS, LAYER = 8, {"num_heads": 4, "key_dim": 2, "value_dim": 2}
FRONTS = {  # names of the networks of a run, and their shares of the whole, by verb
    "dynabert": {"w1.0-d1.0": 1.0, "w0.5-d1.0": 0.5},
    "undivided": {"kept": 0.5},
    "finetune": {"model": 0.5},
    "depth": {f"depth-{depth}": depth / 6 for depth in range(1, 7)},
}


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    with importable():
        yield {name: import_module(name) for name in NAMES}


def front_of(run: PlannedRun) -> dict[str, float]:
    """Return the names of a run's networks and their shares of the whole; of rounds the last."""
    if run.verb == "schubert":
        rounds = run.options.get("rounds") or RECIPES[run.options.get("recipe", "default")].rounds
        return {f"round-{rounds}": 0.5}
    fewer = run.step == "layers" and {"w1.0": 1.0}
    return fewer or FRONTS.get(run.verb, {})


def share_of(run: PlannedRun, name: str, share: float) -> float:
    """Return a network's share of the whole one's costs; of fewer layers by their number."""
    depths = [value for axis, value in run.labels.items() if axis.endswith(".depths")]
    return int(depths[0]) / 6 if depths else share


def made_networks(scripts: dict[str, ModuleType], runs: list[PlannedRun], folder: Path) -> list[Any]:
    """Return the networks of a plan's runs, which answer a few rows at random."""
    draw, networks = np.random.default_rng(0), {}
    for run in runs:
        group = tuple((axis, value) for axis, value in run.labels.items() if axis not in run.seeds and "." not in axis)
        own = tuple((axis, value) for axis, value in run.labels.items() if axis not in run.seeds and "." in axis)
        for name, share in front_of(run).items():
            key = (run.step, group, own, name)
            network = networks.setdefault(key, scripts["networks"].Network(*key, "accuracy"))
            for seed in run.options.get("seeds") or [run.options.get("seed", 0)]:
                logits = draw.normal(size=(ROWS, 2))
                path = folder / f"{len(networks)}-{seed}.json"
                stored = {"labels": [0, 1] * (ROWS // 2), "logits": logits.tolist(), "score": 0.5, "select_score": 0.5}
                path.write_text(json.dumps(stored))
                cost = dict.fromkeys(("macs", "params", "latency_ms", "latency_share"), share_of(run, name, share))
                network.files[str(seed)], network.costs[str(seed)] = path, cost
                network.teachers[str(seed)] = path
                network.teacher_costs[str(seed)] = dict.fromkeys(cost, 1.0)
    return list(networks.values())


def made_record(scripts: dict[str, ModuleType], job: Any, line: str, folder: Path) -> dict[str, Any]:
    """Return the record of one command of `study.py`, of made-up runs of the job's plan."""
    study, words = scripts["study"], shlex.split(line)
    options = list(itertools.pairwise(words))
    against = [value for name, value in options if name == "--against"]
    cost = [value for name, value in options if name == "--cost"]
    args = Namespace(against=against, cost=cost[-1] if cost else "macs", shares=[])
    runs = list(read_runs(BENCHMARKS / "plans" / f"{job.name}.toml", (), SWEPT, Path("out")))
    networks = made_networks(scripts, runs, folder)
    shape = {"layers": [{**LAYER, "intermediate_size": size} for size in (5, 4, 3)]}
    return {
        "seeds": [0, 1, 2],
        "commit": "0" * 40,
        "command": line,
        "networks": [study.describe(network, networks, args) for network in networks],
        "mean_over_groups": study.over_groups(networks, args),
        "mean_over_names": study.over_names(networks, args),
        "runs": [{"name": run.name, "shape": shape, "result": {"chosen_depth": 4}} for run in runs],
        "unfinished": ["one"],
    }


def test_every_planned_claim_is_read_from_its_record(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(paired, "RESAMPLES", 5)
    planned, results = scripts["planned_rows"].PLANNED, scripts["results"]
    measured = {"fit_int8", "representations", "fit_base_more"}  # not studied
    wanted = {plan.record for plans in planned.values() for plan in plans} - measured
    for job in scripts["everything"].JOBS:
        lines = {dict(itertools.pairwise(words)).get("--name"): line for line in job.commands
                 for words in [shlex.split(line)]}  # fmt: skip
        for name in wanted & set(lines):
            folder = tmp_path / name
            folder.mkdir()
            record = made_record(scripts, job, lines[name], folder)
            (tmp_path / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")
    made = {path.stem for path in tmp_path.glob("*.json")}
    assert wanted == made
    monkeypatch.setattr(results, "_folders", [tmp_path, *results._folders])
    results.read_record.cache_clear()
    try:
        claims = [claim for claims in scripts["claim_rows"].PAPERS.values() for claim in claims]
        assert set(planned) <= {claim.name for claim in claims}
        read = 0
        for claim in claims:
            records = [plan.record for plan in planned.get(claim.name, ())]
            if records and records[0] in made:
                now = scripts["planned_rows"].as_planned(claim)
                assert now.records == (records[0],) and now.found() and now.verdict != "not run yet", claim.name
                read += 1
        assert scripts["evidence"].claims_table().count("runs not finished") >= read > 15
    finally:
        results.read_record.cache_clear()


def test_networks_of_the_same_answers_have_an_interval(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The exact bound of a share that was 0 in the rows, which the bootstrap alone would give no width."""
    monkeypatch.setattr(paired, "RESAMPLES", 5)
    study, path = scripts["study"], tmp_path / "answers.json"
    path.write_text(json.dumps({"labels": [0, 1] * (ROWS // 2), "logits": [[0.0, 1.0]] * ROWS}))
    one, other = (scripts["networks"].Network("a", (), (), name, "accuracy", {"0": path}) for name in "bc")
    whole, half = (1 - 0.025 ** (1 / rows) for rows in (ROWS, 2 * ROWS))
    for found, least in (
        (study.difference(one, other), whole),
        (study.mean_of_front([(one, other)] * 2), whole),
        (study.mean_of({"sst2": (one, other), "cola": (one, other)}), half),
    ):
        assert (found["low"], found["difference"], found["high"]) == pytest.approx((-least, 0.0, least))


def test_a_record_answers_its_job(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    (job,) = (each for each in scripts["everything"].JOBS if each.name == "cuts")
    assert job.records == ("cuts", "cuts_params") and not job.is_answered(tmp_path)
    for name in job.records:
        (tmp_path / f"{name}.json").write_text('{"unfinished": []}')
    assert job.is_answered(tmp_path)
    (tmp_path / "cuts.json").write_text('{"unfinished": ["cut"]}')
    assert not job.is_answered(tmp_path)
