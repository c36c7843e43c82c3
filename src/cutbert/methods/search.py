"""Searches a finished family beyond its grid: heads and neurons layer by layer; what is found joins the run's front."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import Any

from cutbert.bench.backends import check_backends
from cutbert.bench.latency import sample_lengths
from cutbert.data.settings import DataSettings
from cutbert.errors import RunError
from cutbert.fronts.front import Entry, Front
from cutbert.fronts.measure import measure_again
from cutbert.fronts.search import Trial, hypervolume
from cutbert.fronts.search_settings import SearchSettings
from cutbert.methods.brief import train_briefly
from cutbert.methods.objectives import TaskObjective
from cutbert.methods.prepare import check_inputs, prepare
from cutbert.methods.search_costs import check_reachable, table_of
from cutbert.methods.search_trials import SEARCHES, Hunt, hunted
from cutbert.settings import build_settings
from cutbert.shape.folder import read_folder_shape
from cutbert.shape.search_space import search_space
from cutbert.shape.space import GridPoint
from cutbert.shape.subnet import Subnet
from cutbert.train.counting import counter
from cutbert.train.progress import progress_bar
from cutbert.train.run_folder import RunFolder
from cutbert.train.run_lock import locked
from cutbert.train.settings import TrainSettings


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
