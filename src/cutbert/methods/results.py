"""What methods that end with one network do with it and those before it: score, store, time beside the uncut one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cutbert.bench.settings import LatencySettings
from cutbert.files import write_json
from cutbert.fronts.front import Entry, Front
from cutbert.fronts.measure import measure_front, num_rounds
from cutbert.fronts.pick import pick_facts
from cutbert.fronts.score import whole_point
from cutbert.hub.card import write_card
from cutbert.hub.provenance import FILE_NAME, extend_provenance, read_provenance
from cutbert.methods.objectives import Objective
from cutbert.model.task_model import TaskModel
from cutbert.train.counting import counter
from cutbert.train.progress import progress_bar
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings

Found = tuple[TaskModel, Entry]


def scored(run: RunFolder, objective: Objective, model: TaskModel, name: str, *, is_last: bool) -> Found:
    """Score a network, and store it: the last as the run's model/, those before it in rounds/."""
    folder = "model" if is_last else f"rounds/{name}"
    entry = score_whole(run, objective, model, name)
    if objective.engine.is_main:
        objective.save(run, model, entry, folder)
    return model, entry if is_last else replace(entry, folder=folder)


def score_whole(run: RunFolder, objective: Objective, model: TaskModel, name: str) -> Entry:
    """Score a network that is no cut of a grid."""
    with run.timing("score"):
        entry = objective.score(run, model, [whole_point(model.shape, name)])[0]
    return replace(entry, head_mult=None, ffn_mult=None, width_mult=None, depth_mult=None)


def finish(run: RunFolder, objective: Objective, latency: LatencySettings, found: Sequence[Found], **more: Any) -> None:
    """Score the uncut model, time everything side by side, store front and result.

    Args:
        run, objective: of the method.
        latency: how networks are timed.
        found: networks and their scores, the result last.
        more: further keys of the result.
    """
    if not objective.engine.is_main:
        return
    uncut = objective.loaded.model
    with run.timing("score"):
        whole = objective.score(run, uncut, [whole_point(uncut.shape)])[0]
    front = Front(objective.metric, whole, tuple(entry for _, entry in found), objective.select_is_dev)
    with run.timing("latency"), progress_bar("latency", num_rounds(latency)) as bar:
        models = {entry.folder: model for model, entry in found}
        front = measure_front(front, models, uncut, objective.lengths, latency, on_round=counter(bar))
    front.save(run.path)
    record_facts(run.path, front, front[found[-1][1].name])
    run.finish({"out": str(run.path), **more, **front.to_json(), "seconds": run.seconds})


def record_facts(run: Path, front: Front, entry: Entry) -> None:
    """Write into cutbert.json and card of a run's model what the run knows of it besides."""
    folder = run / "model"
    write_json(folder / FILE_NAME, extend_provenance(read_provenance(folder), facts=pick_facts(run, front, entry)))
    write_card(folder)


def latency_settings(train: TrainSettings) -> LatencySettings:
    """Return how networks are timed under training flags."""
    return LatencySettings(threads=train.threads, device=train.device, seed=train.seed)
