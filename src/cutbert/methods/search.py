"""Searches a finished family beyond its grid: heads and neurons layer by layer; what is found joins the run's front."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from cutbert.bench.backends import check_backends
from cutbert.bench.latency import sample_lengths
from cutbert.bench.latency_table import LatencyTable
from cutbert.data.settings import DataSettings
from cutbert.errors import BudgetError, Mistakes, RunError
from cutbert.files import read_json, write_json
from cutbert.fronts.front import Entry, Front
from cutbert.fronts.measure import measure_again
from cutbert.fronts.score import label_scores
from cutbert.fronts.search import (
    Quest,
    Trial,
    front_of,
    hypervolume,
    search,
    widest,
)
from cutbert.fronts.search_settings import SearchSettings
from cutbert.fronts.trial_book import TrialBook
from cutbert.methods.brief import train_briefly
from cutbert.methods.meters import LATENCY, timed_table
from cutbert.methods.objectives import TaskObjective
from cutbert.methods.prepare import Prepared, check_inputs, prepare
from cutbert.model.task_model import TaskModel
from cutbert.settings import build_settings
from cutbert.shape.cost import cost_of
from cutbert.shape.folder import read_folder_shape
from cutbert.shape.head import HeadSpec
from cutbert.shape.search_space import SearchSpace, search_space
from cutbert.shape.shape import EncoderShape
from cutbert.shape.space import GridPoint
from cutbert.shape.subnet import Subnet
from cutbert.train.counting import counter
from cutbert.train.engine import default_threads
from cutbert.train.machine import package_version, processor_name
from cutbert.train.progress import progress_bar
from cutbert.train.run_folder import RunFolder
from cutbert.train.run_lock import locked
from cutbert.train.settings import TrainSettings

SEARCHES = "searches"
TABLES = "latency"
DIMS = ("a", "f")
TIMED_PACKAGES = ("torch", "onnxruntime")
SPARE = 2  # times as many as are kept are scored on all rows, where trials are scored on a sample


@dataclass(frozen=True)
class Hunt:
    """What the parts of one search share.

    Args:
        source: the run it is in.
        run: its own folder in that run.
        settings: as given.
        prepared: the supernet and its task.
        space: where it looks.
        max_length: longest input in tokens.
        table: of latencies; None where none is asked for.
    """

    source: RunFolder
    run: RunFolder
    settings: SearchSettings
    prepared: Prepared
    space: SearchSpace
    max_length: int
    table: LatencyTable | None

    @property
    def supernet(self) -> TaskModel:
        return self.prepared.loaded.model

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


def search_family(source: RunFolder, settings: SearchSettings, line: str) -> dict[str, Any]:
    """Search the supernet of a finished run, and add what is found to the run's front.

    Args:
        source: a finished run of dynabert on a task.
        settings: where to search and for how long.
        line: the command line, for provenance.

    Returns:
        The result with the keys trials, subnets (the front that was found), teacher, metric, and what was measured.

    Raises:
        InputError: mistakes in settings, run or data, or limits that nothing keeps, before anything is made.
        MissingError: what the backend needs is not installed.
    """
    data = check_source(source, settings)
    dataset = check_inputs(data, settings, models=(str(source.path),))
    check_same_data(source, dataset.files)
    facts, front = read_folder_shape(source.path), Front.load(source.path)
    space = search_space(facts.shape, settings.space, [each.subnet for each in front if each.folder is None])
    check_reachable(space, facts.head, settings, None)
    check_backends([settings.backend])
    run = open_search(source, settings, data, line)
    if run.result is not None:
        return run.result
    with locked(source.path), run.start():
        train = train_settings(settings)
        prepared = prepare(str(source.path), dataset, data.length_limit, train, run)
        lengths = front.measured["lengths"] if front.measured else sample_lengths(prepared.dev.lengths)
        with run.timing("table"):
            table = table_of(source, prepared.loaded.model, lengths, space, settings)
        hunt = Hunt(source, run, settings, prepared, space, data.length_limit, table)
        with run.timing("search"):
            trials, found = hunted(hunt, front)
        with run.timing("score"):
            entries = scored(hunt, front, found, train)
        with run.timing("latency"):
            front = measure_again(source.path, front.extended(entries), settings.timing)
        run.finish(result_of(hunt, front, trials, [entry.name for entry in entries]))
    return RunFolder.read(run.path).result or {}


def check_source(source: RunFolder, settings: SearchSettings) -> DataSettings:
    """Return the data of a run whose subnets were trained together.

    Raises:
        RunError: a run of another command, or one on plain text.
    """
    path, command = source.path, source.data["command"]
    if command != "dynabert":
        raise RunError(f"{path}: must be a run of dynabert, which trains subnets of one network; got one of {command}")
    if source.settings["dynabert"].get("objective", "task") != "task":
        raise RunError(f"{path}: must be a run on a task to be searched, got one on plain text (--objective mlm)")
    stored: dict[str, Any] = dict(source.settings["data"])
    if settings.data_dir is not None:
        stored["data_dir"] = settings.data_dir
    (data,) = build_settings(stored, DataSettings)
    assert isinstance(data, DataSettings)
    return data


def check_same_data(source: RunFolder, files: Mapping[str, str]) -> None:
    """Raise a RunError unless data files are what the run was trained on, wherever they lie."""
    then, now = sorted(source.data["facts"]["data"].values()), sorted(files.values())
    if then != now:
        raise RunError(f"{source.path}: data files must be those of the run, got others: {', '.join(files)}")


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


def open_search(source: RunFolder, settings: SearchSettings, data: DataSettings, line: str) -> RunFolder:
    """Return the search's own folder in the run, by a name made of its settings."""
    own = {name: value for name, value in asdict(settings).items() if name not in ("allow_changed", "remeasure")}
    every = {"data": asdict(data), "search": own}
    binding = json.dumps({**every, "search": {**own, "threads": None}}, sort_keys=True)
    name = hashlib.sha256(binding.encode()).hexdigest()[:8]
    return RunFolder.open(
        source.path / SEARCHES / name, "search", every, line=line, allow_changed=settings.allow_changed
    )


def train_settings(settings: SearchSettings) -> TrainSettings:
    return TrainSettings(
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        seed=settings.seed,
        device=settings.timing.engine_device,
        precision=settings.precision,
        threads=settings.threads,
    )


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
        table = LatencyTable.from_json(read_json(path, RunError))
        if not settings.allow_changed:
            check_table(path, table, lengths)
    else:
        table = timed_table(model, DIMS, lengths, replace(settings.timing, threads=threads))
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
        f"{path}: must be measured with {name} {now}, got {was}; --remeasure measures anew, --allow-changed takes it"
        for name, was, now in pairs
        if was != now
    )
    mistakes.check(RunError)


def hunted(hunt: Hunt, front: Front) -> tuple[int, list[Trial]]:
    """Return how many networks were scored, and those that are worth to be kept.

    Raises:
        BudgetError: no network that was scored keeps the limits.
    """
    settings, shape = hunt.settings, hunt.supernet.shape
    seeds = [entry.subnet for entry in front if entry.folder is None and entry.search is None]
    score_of = book_of(hunt, settings.sample)
    quest = Quest(
        hunt.space,
        score_of,
        lambda subnet: hunt.numbers(subnet.shape_in(shape))[settings.cost_name],
        lambda subnet: hunt.excess(subnet.shape_in(shape)),
        settings.min_score,
    )
    with progress_bar("search", min(settings.trials, hunt.space.size)) as bar:
        advance = counter(bar)
        trials = search(
            quest,
            seeds,
            trials=settings.trials,
            seed=settings.seed,
            on_trial=lambda trial: advance(),
        )
    fitting = trials if settings.sample is None else scored_on_all(hunt, trials)
    fitting = quest.fitting(fitting)
    if not fitting:
        raise BudgetError(f"no network within the limits was found in {len(trials)} trials; loosen them or give more")
    return len(trials), widest(front_of(fitting), settings.keep)


def scored_on_all(hunt: Hunt, trials: Sequence[Trial]) -> list[Trial]:
    """Return the best trials with their scores on all rows of select: front after front, as many as may be spared."""
    left, chosen = list(trials), list[Trial]()
    while left and len(chosen) < SPARE * hunt.settings.keep:
        chosen += front_of(left)
        taken = {trial.subnet for trial in chosen}
        left = [trial for trial in left if trial.subnet not in taken]
    score_of = book_of(hunt, None)
    with progress_bar("all of select", len(chosen)) as bar:
        advance, found = counter(bar), []
        for trial in chosen:
            found.append(replace(trial, score=score_of(trial.subnet)))
            advance()
    return found


def book_of(hunt: Hunt, sample: int | None) -> TrialBook:
    """Return what scores subnets on select or on a sample of its rows; all searches of a run share the book."""
    data, tokens = hunt.prepared.data, hunt.prepared.select
    if sample is not None and sample < len(data.select):
        rows = np.sort(np.random.default_rng(0).permutation(len(data.select))[:sample])
        tokens = hunt.prepared.tokenize(data.select.take(rows), hunt.max_length)
    path = hunt.source.path / SEARCHES / f"scores-{'all' if tokens is hunt.prepared.select else sample}.jsonl"
    model = hunt.supernet
    return TrialBook(path, lambda subnet: label_scores(model, subnet, tokens, data.metric).score)


def scored(hunt: Hunt, front: Front, found: Sequence[Trial], train: TrainSettings) -> list[Entry]:
    """Return the entries of the networks found: those the run has already, and new ones scored on select and dev."""
    known = {entry.subnet: entry for entry in front if entry.folder is None}
    entries = []
    with progress_bar("found", len(found)) as bar:
        advance = counter(bar)
        for trial in found:
            is_known = trial.subnet in known and not hunt.settings.train_steps
            entries.append(known[trial.subnet] if is_known else new_entry(hunt, trial.subnet, train))
            advance()
    return entries


def new_entry(hunt: Hunt, subnet: Subnet, train: TrainSettings) -> Entry:
    """Return the entry of a network that was found, trained for some steps where this is asked for."""
    objective, owner = TaskObjective(hunt.prepared), RunFolder(hunt.source.path, hunt.source.data, is_writer=True)
    point = GridPoint(name_of(subnet), 1.0, 1.0, None, 1.0, subnet)
    if hunt.settings.train_steps:
        entry = train_briefly(hunt.run, owner, objective, point, hunt.settings.train_steps, train)
    else:
        entry = objective.score(owner, hunt.supernet, [point])[0]
    return replace(entry, head_mult=None, ffn_mult=None, width_mult=None, depth_mult=None, search=hunt.place)


def name_of(subnet: Subnet) -> str:
    """Return a short name made of what is kept, so that two searches that find the same call it the same."""
    return "s" + hashlib.sha256(json.dumps(subnet.to_json()).encode()).hexdigest()[:8]


def result_of(hunt: Hunt, front: Front, trials: int, names: Sequence[str]) -> dict[str, Any]:
    """Return the result: the front that was found as the run's front has it now, and how well times were foretold."""
    found = [front[name] for name in names]
    result: dict[str, Any] = {
        "out": str(hunt.source.path),
        "search": hunt.place,
        "metric": front.metric,
        "select_is_dev": front.select_is_dev,
        "trials": trials,
        "teacher": front.teacher.to_json(),
        "subnets": [entry.to_json() for entry in found],
        "measured": front.measured,
        "hypervolume": areas(hunt, front, found),
        "seconds": hunt.run.seconds,
    }
    if hunt.table is not None:
        errors = [abs(hunt.table(entry.shape) / entry.latency_ms - 1) for entry in found if entry.latency_ms]
        result["latency_error"] = median(errors)
    return result


def areas(hunt: Hunt, front: Front, found: Sequence[Entry]) -> dict[str, Any]:
    """Return the share of the area below score 1 and the largest cost that each front dominates, by select score."""
    name = hunt.settings.cost_name

    def share(entries: Sequence[Entry]) -> float:
        points = [(entry.select_score, hunt.numbers(entry.shape)[name] / most) for entry in entries]
        return hypervolume(points, 0.0, 1.0)

    most = hunt.numbers(hunt.supernet.shape)[name]
    grid = [entry for entry in front if entry.search is None and not hunt.excess(entry.shape)]
    return {"cost": name, "grid": share(grid), "found": share([*grid, *found])}
