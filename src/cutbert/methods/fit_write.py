"""What `fit` leaves behind of a network that it takes: a folder with the file that was measured, origin and card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from cutbert.bench.backends import BACKENDS, OnnxBackend
from cutbert.exporters.folder import add_files
from cutbert.exporters.trimming import trim_words
from cutbert.files import change_json
from cutbert.folders.card import write_card
from cutbert.folders.provenance import FILE_NAME, TRIMMED, extend_provenance, read_provenance
from cutbert.fronts.entry import Entry
from cutbert.fronts.leaderboard import LeaderboardEntry
from cutbert.fronts.outputs import chance_fact
from cutbert.fronts.pick import beside_uncut, latency_facts
from cutbert.methods.fit_choice import Finalist
from cutbert.methods.fit_run import Fitting
from cutbert.methods.fit_served import Served
from cutbert.model.task_model import TaskModel
from cutbert.shape.subnet import Subnet
from cutbert.train.progress import say


def write_model(
    fitting: Fitting,
    each: Served,
    finalist: Finalist,
    uncut: tuple[Served, LeaderboardEntry],
    measured: Mapping[str, Any],
    folder: str,
) -> None:
    """Write a chosen network with the file that was measured, its origin and its card.

    Args:
        fitting: of the run.
        each, finalist: the network, and what was measured of it.
        uncut: the uncut model on the same backend, and its line on the leaderboard.
        measured: the conditions of latencies.
        folder: in the run.
    """
    run, part, entry, network = fitting.plan.run, each.part, finalist.entry, each.network(fitting)
    as_entry = Entry(
        name=each.name,
        shape=network.shape,
        subnet=Subnet.full(network.shape),
        params=entry.params,
        macs=entry.macs,
        score=entry.score,
        select_score=entry.select_score,
        metrics=entry.metrics,
    )
    part.objective.save(run, network, as_entry, folder)
    path, backend = run.path / folder, BACKENDS[each.backend]
    files = {}
    if isinstance(backend, OnnxBackend):
        files[backend.stored(path).name] = backend.graph(network)
    # The folder's own origin: its longest input, at which the example cuts, is this run's.
    loaded = replace(part.objective.loaded, model=network, provenance=read_provenance(path))
    add_files(path, loaded, files, part.objective.sentence)
    whole, line = uncut
    near_chance = partial(chance_fact, run.path, metric=fitting.objective.metric)
    facts: dict[str, Any] = {
        "cut_from": beside_uncut(entry, line, entry.difference) | near_chance(whole.outputs_name),
        "latency": latency_facts(entry, each.backend, measured),
        **near_chance(each.outputs_name),
    }
    if each.trimming is not None:
        facts[TRIMMED] = trimming_facts(fitting, each, network)
        say(f"{each.name}: {trim_words(facts[TRIMMED])}")
    if entry.interval is not None:
        facts["score_interval"] = list(entry.interval)
    change_json(path / FILE_NAME, lambda: extend_provenance(read_provenance(path), facts=facts))
    write_card(path)


def trimming_facts(fitting: Fitting, each: Served, network: TaskModel) -> dict[str, Any]:
    """Return what trimming a network's vocabulary changed."""
    assert each.trimming is not None and each.entrant is not None
    whole, own = fitting.part_of(each.entrant.candidate).objective, each.part.objective
    splits = {"select": (whole.select, own.select), "dev": (whole.dev, own.dev)}
    networks = (each.whole_network(fitting), network)
    return each.trimming.facts(own.data, splits, networks, fitting.costs.bytes_per_param)
