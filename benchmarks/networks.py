"""The scored networks of a sweep, each over all its seeds: what it answered, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from cutbert.files import read_json
from cutbert.fronts.front import Front
from cutbert.fronts.outputs import answers_of
from cutbert.fronts.paired import AnswerValues
from cutbert.shape.cost import cost_of
from cutbert.shape.folder import read_folder_shape
from cutbert.sweeps.expand import RUNS
from cutbert.sweeps.folder import StoredRun

Costs = dict[str, float]
# Name, seed, predictions and costs of a network, and predictions and costs of its teacher where it has one.
Scored = tuple[str, str, Path, Costs, tuple[Path, Costs] | None]


@dataclass
class Network:
    """One network of a step over all its seeds.

    Args:
        step: of the plan.
        group: its values on the plan's axes; only networks of one group are compared.
        own: its values on the step's own axes, and on those of the steps it uses.
        name: in its run.
        metric: primary metric.
        files: predictions by seed.
        costs: by seed: params, macs and, where measured, latency_ms and latency_share of the teacher's.
        teachers: predictions of its teacher by seed; empty where its run knows none.
        teacher_costs: likewise.
    """

    step: str
    group: tuple[tuple[str, str], ...]
    own: tuple[tuple[str, str], ...]
    name: str
    metric: str
    files: dict[str, Path] = field(default_factory=dict)
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    teachers: dict[str, Path] = field(default_factory=dict)
    teacher_costs: dict[str, dict[str, float]] = field(default_factory=dict)

    @cached_property
    def stored(self) -> dict[str, dict[str, Any]]:
        """What the predictions hold, by seed."""
        return {seed: read_json(path) for seed, path in self.files.items()}

    @cached_property
    def answers(self) -> dict[str, AnswerValues]:
        """The answer to each row of dev by seed, of a reader the score of each question; empty for plain text."""
        return {
            seed: found for seed, each in self.stored.items() if (found := row_answers(each, self.metric)) is not None
        }

    @cached_property
    def truth(self) -> AnswerValues:
        stored = next(iter(self.stored.values()))
        return np.asarray(stored["labels"] if "logits" in stored else stored[self.metric], dtype=np.float64)

    def scores(self, name: str = "score") -> list[float]:
        return [float(each[name]) for each in self.stored.values()]

    def cost(self, name: str) -> float | None:
        """Return a mean cost over seeds, None where it is not known of all."""
        found = [each[name] for each in self.costs.values() if name in each]
        return fmean(found) if found and len(found) == len(self.costs) else None

    @property
    def teacher(self) -> Network:
        """Its teacher, in the seeds in which it is known."""
        return Network("", self.group, (), "teacher", self.metric, self.teachers, self.teacher_costs)

    @property
    def select_score(self) -> float:
        return fmean(self.scores("select_score"))

    def is_meant(self, rival: str) -> bool:
        """Return whether STEP or STEP/NAME names it."""
        step, _, name = rival.partition("/")
        return self.step == step and name in ("", self.name, *dict(self.own).values())

    @property
    def title(self) -> str:
        return " ".join([self.step, *(value for _, value in self.own), self.name])


def seeds_of(run: StoredRun) -> list[str]:
    """Return the seeds of a run: those it trains with in turn, its own, or the default."""
    return [str(seed) for seed in run.options.get("seeds") or [run.options.get("seed", 0)]]


def row_answers(stored: Mapping[str, Any], metric: str) -> AnswerValues | None:
    """Return a network's answers to the rows of dev, None where none are kept."""
    if "logits" in stored:
        return answers_of(stored)
    return np.asarray(stored[metric], dtype=np.float64) if isinstance(stored.get(metric), list) else None


def networks_of(sweep: Path, runs: Sequence[StoredRun], backend: str) -> list[Network]:
    """Return every scored network of a sweep's finished runs, seeds together, with latencies of one backend."""
    networks: dict[tuple[Any, ...], Network] = {}
    for run in runs:
        labels = [(axis, value) for axis, value in run.labels.items() if axis not in run.seeds]
        group, own = (tuple(each for each in labels if ("." in each[0]) is is_own) for is_own in (False, True))
        for name, seed, path, costs, teacher in scored_in(run, sweep / RUNS / run.name, backend):
            key = (run.step, group, own, name)
            network = networks.setdefault(key, Network(run.step, group, own, name, read_json(path)["metric"]))
            network.files[seed], network.costs[seed] = path, costs
            if teacher is not None:
                network.teachers[seed], network.teacher_costs[seed] = teacher
    return list(networks.values())


def scored_in(run: StoredRun, folder: Path, backend: str) -> Iterator[Scored]:
    """Yield the networks of a run."""
    outputs = folder / "predictions"
    (seed,) = seeds_of(run) if len(seeds_of(run)) == 1 else ("",)
    if (folder / "front.json").is_file():
        front = Front.load(folder)
        known = [*([front.measured["backend"]] if front.measured else []), *front.others]
        front = front.on(backend, folder) if backend in known else front
        whole = front.teacher
        teacher_ms = whole.latency_ms if backend in known else None
        teacher = (outputs / f"{whole.name}.json", costs_of(whole.params, whole.macs, teacher_ms, teacher_ms))
        for entry in front:
            latency = entry.latency_ms if backend in known else None
            costs = costs_of(entry.params, entry.macs, latency, teacher_ms)
            yield entry.name, seed, outputs / f"{entry.name}.json", costs, teacher
    elif run.verb == "depth":
        yield from depths_in(run, folder)
    elif (outputs / "teacher.json").is_file():
        facts = read_folder_shape(folder / "model")
        cost = cost_of(facts.shape, facts.head)
        yield "model", seed, outputs / "teacher.json", costs_of(cost.params, cost.macs), None


def depths_in(run: StoredRun, folder: Path) -> Iterator[Scored]:
    """Yield the depths that a run of `depth` trained; the full model is the teacher of the others where it is there."""
    result = read_json(folder / "run.json")["result"]
    costs = {each["depth"]: costs_of(each["params"], each["macs"]) for each in result.get("series", ())}
    costs[result["chosen_depth"]] = costs_of(result["params"], result["macs"])
    full = result["num_layers"]
    if "full_params" in result:
        costs[full] = costs_of(result["full_params"], result["full_macs"])
    for depth in sorted(costs):
        for seed in seeds_of(run):
            path, whole = (folder / "predictions" / f"depth-{each}-seed-{seed}.json" for each in (depth, full))
            has_teacher = full in costs and depth != full
            yield f"depth-{depth}", seed, path, costs[depth], (whole, costs[full]) if has_teacher else None


def costs_of(params: float, macs: float, latency_ms: float | None = None, teacher_ms: float | None = None) -> Costs:
    costs = {"params": params, "macs": macs}
    if latency_ms is not None and teacher_ms is not None:
        costs |= {"latency_ms": latency_ms, "latency_share": latency_ms / teacher_ms}
    return costs
