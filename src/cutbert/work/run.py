"""A run, once for all methods: prepare, run the method, score networks, time them side by side, store the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from cutbert.bench.settings import BackendName, LatencySettings
from cutbert.files import change_json
from cutbert.folders.card import write_card
from cutbert.folders.provenance import FILE_NAME, extend_provenance, read_provenance
from cutbert.fronts.entry import Entry
from cutbert.fronts.front import Front
from cutbert.fronts.measure import measure_front, num_rounds
from cutbert.fronts.outputs import chance_note
from cutbert.fronts.pick import pick_facts
from cutbert.fronts.score import whole_point
from cutbert.model.task_model import TaskModel
from cutbert.train.progress import counter, progress_bar, say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings
from cutbert.work.inputs import Inputs, weight_hashes
from cutbert.work.objective import Objective, TaskObjective
from cutbert.work.text_objective import TextObjective


def prepare(inputs: Inputs, train: TrainSettings, run: RunFolder) -> Objective:
    """Load the model with a head that fits the data, and turn the data into tokens."""
    return (TextObjective if inputs.is_text else TaskObjective).prepare(inputs, train, run)


class Scored(NamedTuple):
    """A network and its scores."""

    model: TaskModel
    entry: Entry


def carry_out(
    inputs: Inputs, train: TrainSettings, run: RunFolder, method: Callable[[Objective], None]
) -> dict[str, Any]:
    """Prepare the objective, run the method, and return the result that it stored; a run that was stopped goes on.

    Args:
        inputs: found and checked.
        train: training flags.
        run: opened run folder.
        method: trains, scores, and stores the result in the main process.
    """
    with run.start():
        objective = prepare(inputs, train, run)
        if inputs.models.others:
            run.record(other_weights=weight_hashes(*inputs.models.others.values()))
        method(objective)
        objective.engine.accelerator.wait_for_everyone()
    return RunFolder.read(run.path).result or {}


def score_and_save(run: RunFolder, objective: Objective, model: TaskModel, name: str, *, is_last: bool) -> Scored:
    """Score a network, and store it: the last as the run's model/, those before it in rounds/."""
    folder = "model" if is_last else f"rounds/{name}"
    entry = score_whole(run, objective, model, name)
    if objective.engine.is_main:
        objective.save(run, model, entry, folder)
    return Scored(model, entry if is_last else replace(entry, folder=folder))


def score_whole(run: RunFolder, objective: Objective, model: TaskModel, name: str) -> Entry:
    """Score a network that is not part of a grid."""
    with run.timing("score"):
        return objective.score(run, model, [whole_point(model.shape, name)])[0].off_grid()


def store_front(
    run: RunFolder,
    objective: Objective,
    entries: Sequence[Entry],
    models: Mapping[str | None, TaskModel],
    latency: LatencySettings,
    result: Mapping[str, Any],
    *,
    stored: str | None = None,
) -> None:
    """Score the uncut model, time all networks beside it, store front and result; for the main process alone.

    Args:
        run, objective: of the method.
        entries: scored networks.
        models: by an entry's folder, the network that it is a part of.
        latency: how networks are timed.
        result: further keys of the result.
        stored: name of the network that model/ holds; None where it holds a supernet.
    """
    uncut = objective.loaded.model
    with run.timing("score"):
        whole = objective.score(run, uncut, [whole_point(uncut.shape)])[0]
    note = chance_note(run.path, whole.name, objective.metric)
    if note is not None:
        say(f"the uncut model: {note}")
    front = Front(
        objective.metric,
        whole,
        tuple(entries),
        objective.select_is_dev,
        near_chance=note,
        own_select_metric=own_select_metric(objective),
    )
    with run.timing("latency"), progress_bar("latency", num_rounds(latency)) as bar:
        front = measure_front(front, models, uncut, objective.lengths, latency, on_round=counter(bar))
    front.save(run.path)
    if stored is not None:
        describe_model(run.path, front, front[stored])
    run.finish({"out": str(run.path), **result, **front.to_json(), "seconds": run.seconds})


def store_networks(
    run: RunFolder,
    objective: Objective,
    networks: Sequence[Scored],
    latency: LatencySettings,
    result: Mapping[str, Any],
) -> None:
    """Store the front of a method that ends with one network, the last. Arguments as in `store_front`."""
    if objective.engine.is_main:
        models: dict[str | None, TaskModel] = {entry.folder: model for model, entry in networks}
        entries = [entry for _, entry in networks]
        store_front(run, objective, entries, models, latency, result, stored=entries[-1].name)


def describe_model(run: Path, front: Front, entry: Entry) -> None:
    """Add what was given up, latency and score interval to cutbert.json and the model card of a run's model/."""
    folder = run / "model"
    facts = pick_facts(run, front, entry)
    change_json(folder / FILE_NAME, lambda: extend_provenance(read_provenance(folder), facts=facts))
    write_card(folder)


def latency_settings(train: TrainSettings, backend: BackendName, length: int | None = None) -> LatencySettings:
    """Return how networks are timed under training flags; ONNX Runtime runs on the CPU wherever training does.

    Args:
        train: threads, device and seed.
        backend: what runs the networks.
        length: of every text in tokens; None for the lengths of dev.
    """
    device = "cpu" if backend.startswith("onnx") else train.device
    return LatencySettings(backend=backend, length=length, threads=train.threads, device=device, seed=train.seed)


def own_select_metric(objective: Objective) -> str | None:
    """Return what select is scored by, where that is another metric than dev's."""
    return None if objective.select_metric == objective.metric else objective.select_metric
