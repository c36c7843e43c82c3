"""Searches a finished family beyond its grid: heads and neurons layer by layer; new networks join the run's front."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import Any

from cutbert.aside import remove_leftovers
from cutbert.bench.latency import sample_lengths
from cutbert.data.settings import DataSettings
from cutbert.errors import ModelError, RunError
from cutbert.fronts.entry import LATENCIES, Entry
from cutbert.fronts.front import Front
from cutbert.fronts.measure import measure_again
from cutbert.fronts.score import whole_point
from cutbert.fronts.search import Trial, hypervolume
from cutbert.fronts.search_settings import SearchSettings
from cutbert.methods.dynabert import distill_subnet
from cutbert.methods.search_trials import SEARCHES, SearchRun, check_reachable, run_trials, table_of
from cutbert.model.task_model import TaskModel
from cutbert.shape.pooling import READS, fits_pooling
from cutbert.shape.search_space import SearchSpace, search_space
from cutbert.shape.source import Models, ModelSource, find_model
from cutbert.shape.space import GridPoint
from cutbert.shape.stock_config import STOCK_POOLING
from cutbert.shape.subnet import Subnet
from cutbert.train.progress import counter, progress_bar, say
from cutbert.train.run_folder import RunFolder
from cutbert.train.run_lock import locked
from cutbert.train.settings import TrainSettings
from cutbert.train.vectors import FOLDER
from cutbert.work.inputs import check_inputs
from cutbert.work.objective import TaskObjective
from cutbert.work.repaired import ROWS, repaired_subnet
from cutbert.work.run_data import check_same_data, data_of

NETWORKS = "networks"


def search_family(source: RunFolder, settings: SearchSettings, line: str) -> dict[str, Any]:
    """Search the supernet of a finished run, and add the best networks to the run's front.

    Args:
        source: a finished run of dynabert on a task.
        settings: where to search and for how long.
        line: the command line, for provenance.

    Returns:
        The result with the keys trials, subnets (the front of the search), teacher, metric, and what was measured.

    Raises:
        InputError: mistakes in settings, run or data, or limits that no network meets, before anything is made.
    """
    data = check_source(source, settings)
    inputs = check_inputs(Models(find_model(source.path)), data, settings)
    assert inputs.dataset is not None
    check_same_data(source, inputs.dataset.files)
    front, model = Front.load(source.path), inputs.model
    check_space(model, settings)
    run = open_search(source, settings, data, line)
    check_reachable(space_of(model, front, settings, run), model.head, settings, None)
    if run.result is not None:
        put_back(source, run.result)
        return run.result
    with locked(source.path), run.start():
        remove_leftovers(source.path, and_below=True)
        front = Front.load(source.path)  # another search may have ended since
        space = space_of(model, front, settings, run)
        train = train_settings(settings)
        objective = TaskObjective.prepare(inputs, train, run, source.path / FOLDER)
        lengths = front.measured["lengths"] if front.measured else sample_lengths(objective.dev.lengths)
        with run.timing("table"):
            table = table_of(source, objective.loaded.model, lengths, space, settings)
        search_run = SearchRun(source, run, settings, objective, space, table)
        with run.timing("search"):
            num_trials, best = run_trials(search_run, front)
        with run.timing("score"):
            entries = scored(search_run, front, best, train)
        with run.timing("latency"):
            front = measure_again(source.path, front.extended(entries), settings.timing)
        run.finish(result_of(search_run, front, num_trials, [entry.name for entry in entries]))
    return RunFolder.read(run.path).result or {}


def put_back(source: RunFolder, result: Mapping[str, Any]) -> None:
    """Add to a run's front what a finished search found and the front has lost.

    Latencies stay where they were measured under the same conditions as the front's; else there are none.
    """
    if not missing_of(result, Front.load(source.path)):
        return
    with locked(source.path):
        front = Front.load(source.path)
        missing = missing_of(result, front)
        measured = result["measured"]
        is_known = measured is not None and measured["backend"] in front.backends
        at_same = front.on(measured["backend"], source.path) if is_known else front
        if at_same.measured == measured:
            at_same.extended(missing).save(source.path)
        else:
            unknown: dict[str, Any] = dict.fromkeys(LATENCIES)
            front.extended([replace(entry, **unknown) for entry in missing]).save(source.path)
    names = ", ".join(entry.name for entry in missing)
    say(f"the front of {source.path} had lost {names}; they are back")


def missing_of(result: Mapping[str, Any], front: Front) -> list[Entry]:
    """Return the networks of a finished search that are not on its run's front."""
    known = {entry.name for entry in front}
    entries = (Entry.from_json(each) for each in result["subnets"])
    return [entry for entry in entries if entry.name not in known]


def check_source(source: RunFolder, settings: SearchSettings) -> DataSettings:
    """Return the data of a run whose subnets were trained together.

    Raises:
        RunError: a run of another command, on plain text, or of another objective than is asked for.
    """
    path, command = source.path, source.data["command"]
    if command != "dynabert":
        raise RunError(f"{path}: must be a run of dynabert, which trains subnets of one network; got one of {command}")
    if source.settings["dynabert"].get("objective", "task") == "mlm":
        raise RunError(f"{path}: must be a run on a task to be searched, got one on plain text (--objective mlm)")
    data = data_of(source, settings.data_dir)
    if settings.objective not in (None, data.objective):
        raise RunError(f"--objective must be what {path} learned, {data.objective}, got {settings.objective}")
    return data


def check_space(model: ModelSource, settings: SearchSettings) -> None:
    """Raise a ModelError where stock networks are asked for and the family's head is in no stock class."""
    pooling = model.style_data["pooling"]
    if settings.space == "stock" and model.head.is_sequence and not fits_pooling(model.shape, pooling):
        raise ModelError(
            f"--space stock must have a head that reads {READS[STOCK_POOLING]}, as plain transformers' classes do, and "
            f"that of {model} reads {READS[pooling]}; use --space free"
        )


def space_of(model: ModelSource, front: Front, settings: SearchSettings, run: RunFolder) -> SearchSpace:
    """Return where a search looks: also at sizes of subnets on the front, but for those that it added itself."""
    own = f"{SEARCHES}/{run.path.name}"
    subnets = [entry.subnet for entry in front if entry.folder is None and entry.search != own]
    return search_space(model.shape, settings.space, subnets)


def open_search(source: RunFolder, settings: SearchSettings, data: DataSettings, line: str) -> RunFolder:
    """Return the search's own folder in the run, by a name made of its settings."""
    without = ("allow_changed", "remeasure", "objective")  # which change nothing of what is found
    own = {name: value for name, value in asdict(settings).items() if name not in without}
    every = {"data": asdict(data), "search": own}
    binding = json.dumps({**every, "search": {**own, "threads": None}}, sort_keys=True)
    name = hashlib.sha256(binding.encode()).hexdigest()[:8]
    return RunFolder.open(
        source.path / SEARCHES / name, "search", every, line=line, allow_changed=settings.allow_changed
    )


def train_settings(settings: SearchSettings) -> TrainSettings:
    """Return the settings of the distillation of what a search found."""
    return TrainSettings(
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        seed=settings.seed,
        device=settings.timing.engine_device,
        precision=settings.precision,
        threads=settings.threads,
    )


def scored(search_run: SearchRun, front: Front, best: Sequence[Trial], train: TrainSettings) -> list[Entry]:
    """Return the entries of the best networks: those the run has already, and new ones scored on select and dev."""
    known = {entry.subnet: entry for entry in front if entry.folder is None}
    settings, entries = search_run.settings, []
    with progress_bar("best networks", len(best)) as bar:
        advance = counter(bar)
        for trial in best:
            entry = repaired_entry(search_run, trial.subnet) if settings.repair else None
            if entry is None and not settings.train_steps:
                entry = known.get(trial.subnet)
            entries.append(entry or new_entry(search_run, trial.subnet, train))
            advance()
    return entries


def new_entry(search_run: SearchRun, subnet: Subnet, train: TrainSettings) -> Entry:
    """Return the entry of a new network, trained for some steps where this is asked for."""
    objective, run, steps = search_run.objective, search_run.run, search_run.settings.train_steps
    point = GridPoint(name_of(subnet), 1.0, 1.0, None, 1.0, subnet)
    if steps:
        name = f"{point.name}-t{steps}-{run.path.name[:4]}"
        return stored_entry(search_run, distill_subnet(objective, point, name, steps, train, run), name)
    return of_search(search_run, objective.score(owner_of(search_run), search_run.supernet, [point])[0])


def repaired_entry(search_run: SearchRun, subnet: Subnet) -> Entry | None:
    """Return the entry of a subnet that was repaired and stored as a model folder; None where that did not help."""
    objective, supernet = search_run.objective, search_run.supernet
    if subnet == Subnet.full(supernet.shape):
        return None
    batches = objective.sample(supernet, ROWS, search_run.settings.seed)
    repaired = repaired_subnet(supernet, subnet, batches, objective.select)
    if not repaired.is_repaired:
        return None
    return stored_entry(search_run, repaired.network, f"{name_of(subnet)}-repaired-{search_run.run.path.name[:4]}")


def name_of(subnet: Subnet) -> str:
    """Return a short name made from what is kept, so that two searches give the same network the same name."""
    return "s" + hashlib.sha256(json.dumps(subnet.to_json()).encode()).hexdigest()[:8]


def stored_entry(search_run: SearchRun, network: TaskModel, name: str) -> Entry:
    """Return the entry of a network with weights of its own, stored as a model folder in the search's folder."""
    objective, run, owner = search_run.objective, search_run.run, owner_of(search_run)
    entry = objective.score(owner, network, [whole_point(network.shape, name)])[0]
    folder = run.path / NETWORKS / name
    objective.save(run, network, entry, f"{NETWORKS}/{name}")
    return of_search(search_run, replace(entry, folder=str(folder.relative_to(owner.path))))


def owner_of(search_run: SearchRun) -> RunFolder:
    """Return the run that is searched, whose folder receives predictions/NAME.json."""
    return RunFolder(search_run.source.path, search_run.source.data, is_writer=True)


def of_search(search_run: SearchRun, entry: Entry) -> Entry:
    """Return an entry as one that a search adds to the run's front."""
    return replace(entry.off_grid(), search=search_run.place)


def result_of(search_run: SearchRun, front: Front, num_trials: int, names: Sequence[str]) -> dict[str, Any]:
    """Return the result: the search's networks as the run's front has them now, and how well times were predicted."""
    own = [front[name] for name in names]
    result: dict[str, Any] = {
        "out": str(search_run.source.path),
        "search": search_run.place,
        "metric": front.metric,
        "select_is_dev": front.select_is_dev,
        "trials": num_trials,
        "teacher": front.teacher.to_json(),
        "subnets": [entry.to_json() for entry in own],
        "measured": front.measured,
        "hypervolume": areas(search_run, front, own),
        "seconds": search_run.run.seconds,
    }
    if search_run.table is not None:
        errors = [abs(search_run.table(entry.shape) / entry.latency_ms - 1) for entry in own if entry.latency_ms]
        result["latency_error"] = median(errors)
    return result


def areas(search_run: SearchRun, front: Front, own: Sequence[Entry]) -> dict[str, Any]:
    """Return the share of the area below score 1 and the largest cost that each front dominates, by select score."""
    name = search_run.settings.cost_name

    def share(entries: Sequence[Entry]) -> float:
        points = [(entry.select_score, search_run.numbers(entry.shape)[name] / most) for entry in entries]
        return hypervolume(points, 0.0, 1.0)

    most = search_run.numbers(search_run.supernet.shape)[name]
    grid = [entry for entry in front if entry.search is None and not search_run.excess(entry.shape)]
    return {"cost": name, "grid": share(grid), "found": share([*grid, *own])}
