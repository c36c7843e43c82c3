"""The trials of a search: what networks cost, those scored on select until trials are used up, the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cutbert.bench.latency_table import LatencyTable
from cutbert.errors import BudgetError, Mistakes, RunError
from cutbert.files import read_json, write_json
from cutbert.fronts.front import Front
from cutbert.fronts.measure import timed_table
from cutbert.fronts.score import label_scores
from cutbert.fronts.search import Problem, ScoreCache, Trial, front_of, search, widest
from cutbert.fronts.search_settings import SearchSettings
from cutbert.model.task_model import TaskModel
from cutbert.shape.budget import LATENCY
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.search_space import SearchSpace
from cutbert.shape.shape import EncoderShape
from cutbert.train.engine import default_threads
from cutbert.train.machine import package_version, processor_name
from cutbert.train.progress import counter, progress_bar
from cutbert.train.run_folder import RunFolder
from cutbert.work.objective import TaskObjective

SEARCHES = "searches"
SPARE = 2  # with --sample, the best SPARE * keep trials are scored again on all rows
TABLES = "latency"
SEARCH_DIMS = ("a", "f")
TIMED_PACKAGES = ("torch", "onnxruntime")


@dataclass(frozen=True)
class SearchRun:
    """What the parts of one search share.

    Args:
        source: the run it is in.
        run: its own folder in that run.
        settings: as given.
        objective: the supernet and its task.
        space: where it looks.
        table: of latencies; None where none is asked for.
    """

    source: RunFolder
    run: RunFolder
    settings: SearchSettings
    objective: TaskObjective
    space: SearchSpace
    table: LatencyTable | None

    @property
    def supernet(self) -> TaskModel:
        return self.objective.loaded.model

    @property
    def place(self) -> str:
        """The search's folder, as the run's front names it."""
        return str(self.run.path.relative_to(self.source.path))

    def numbers(self, shape: EncoderShape) -> dict[str, float]:
        """Return what a network costs, by the names that limits have for it."""
        return numbers_of(shape, self.supernet.head_spec, self.table)

    def excess(self, shape: EncoderShape) -> float:
        """Return by how much a network breaks the limits on cost."""
        return replace(self.settings, min_score=None).excess(self.numbers(shape))


def run_trials(search_run: SearchRun, front: Front) -> tuple[int, list[Trial]]:
    """Return the number of networks scored, and those that are worth keeping.

    Raises:
        BudgetError: no network that was scored keeps the limits.
    """
    settings, shape = search_run.settings, search_run.supernet.shape
    seeds = [entry.subnet for entry in front if entry.folder is None and entry.search is None]
    score_of = score_cache(search_run, settings.sample)
    problem = Problem(
        search_run.space,
        score_of,
        lambda subnet: search_run.numbers(subnet.shape_in(shape))[settings.cost_name],
        lambda subnet: search_run.excess(subnet.shape_in(shape)),
        settings.min_score,
    )
    with progress_bar("search", min(settings.trials, search_run.space.size)) as bar:
        advance = counter(bar)
        trials = search(
            problem,
            seeds,
            trials=settings.trials,
            seed=settings.seed,
            on_trial=lambda trial: advance(),
        )
    fitting = trials if settings.sample is None else scored_on_all(search_run, trials)
    fitting = problem.fitting(fitting)
    if not fitting:
        raise BudgetError(f"no network within the limits was found in {len(trials)} trials; loosen them or give more")
    return len(trials), widest(front_of(fitting), settings.keep)


def scored_on_all(search_run: SearchRun, trials: Sequence[Trial]) -> list[Trial]:
    """Return the best trials, scored on all rows of select: front after front, SPARE times those that are kept."""
    left, chosen = list(trials), list[Trial]()
    while left and len(chosen) < SPARE * search_run.settings.keep:
        chosen += front_of(left)
        taken = {trial.subnet for trial in chosen}
        left = [trial for trial in left if trial.subnet not in taken]
    score_of = score_cache(search_run, None)
    with progress_bar("all of select", len(chosen)) as bar:
        advance, rescored = counter(bar), []
        for trial in chosen:
            rescored.append(replace(trial, score=score_of(trial.subnet)))
            advance()
    return rescored


def score_cache(search_run: SearchRun, sample: int | None) -> ScoreCache:
    """Return what scores subnets on select or on a sample of its rows; all searches of a run share the cache."""
    data, tokens = search_run.objective.data, search_run.objective.select
    if sample is not None and sample < len(data.select):
        rows = np.sort(np.random.default_rng(0).permutation(len(data.select))[:sample])
        tokens = search_run.objective.tokenize(data.select.take(rows))
    path = (
        search_run.source.path / SEARCHES / f"scores-{'all' if tokens is search_run.objective.select else sample}.jsonl"
    )
    model = search_run.supernet
    return ScoreCache(path, lambda subnet: label_scores(model, subnet, tokens, data.metric).score)


def check_reachable(space: SearchSpace, head: HeadSpec, settings: SearchSettings, table: LatencyTable | None) -> None:
    """Raise a BudgetError where even the cheapest networks of a space break a limit on cost."""
    limits = replace(settings, min_score=None, max_latency_ms=settings.max_latency_ms if table else None)
    mistakes = Mistakes()
    least: dict[str, float] = {}
    for subnet in space.smallest:
        for name, value in numbers_of(subnet.shape_in(space.shape), head, table).items():
            least[name] = min(value, least.get(name, value))
    mistakes.extend(f"no network of this space fits the limits: {each}" for each in limits.violations(least))
    mistakes.check(BudgetError)


def numbers_of(shape: EncoderShape, head: HeadSpec, table: LatencyTable | None) -> dict[str, float]:
    """Return what a network costs: params and macs counted, latency_ms as the table says."""
    cost = cost_of(shape, head)
    numbers: dict[str, float] = {"params": cost.params, "macs": cost.macs}
    return numbers if table is None else {**numbers, LATENCY: table(shape)}


def table_of(
    source: RunFolder, model: TaskModel, lengths: Sequence[int], space: SearchSpace, settings: SearchSettings
) -> LatencyTable | None:
    """Return the run's table of latencies for a backend and thread count, measured where there is none.

    Returns:
        None where no latency is asked for.

    Raises:
        BudgetError: the limit on latency is below every network of the space; nothing is kept then.
        RunError: the table was measured on another machine, at other lengths or with other versions.
    """
    if not settings.predicts:
        return None
    threads = settings.threads or default_threads()
    path = source.path / TABLES / f"{settings.backend}-{threads}.json"
    is_there = path.exists() and not settings.remeasure
    if is_there:
        table = read_json(path, RunError, LatencyTable.from_json)
        if not settings.allow_changed:
            check_table(path, table, lengths)
    else:
        table = timed_table(model, SEARCH_DIMS, lengths, replace(settings.timing, threads=threads))
    check_reachable(space, model.head_spec, settings, table)
    if not is_there:
        write_json(path, table.to_json())
    return table


def check_table(path: Path, table: LatencyTable, lengths: Sequence[int]) -> None:
    """Raise a RunError unless a table is of a machine like this one, of the same versions and lengths."""
    then = table.measured
    here = {"processor": processor_name(), **{name: package_version(name) for name in TIMED_PACKAGES}}
    there = {"processor": then["machine"]["processor"], **then["versions"]}
    pairs: list[tuple[str, Any, Any]] = [(name, there[name], now) for name, now in here.items() if name in there]
    pairs.append(("lengths", then["lengths"], sorted(lengths)))
    mistakes = Mistakes()
    mistakes.extend(
        f"{path}: must be measured with {name} {now}, got {was}; --remeasure measures again, --allow-changed takes it"
        for name, was, now in pairs
        if was != now
    )
    mistakes.check(RunError)
