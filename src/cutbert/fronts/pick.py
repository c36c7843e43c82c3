"""Picking: the best subnet of a front under limits, cut out into its own model folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutbert.errors import BudgetError, RunError
from cutbert.fronts.entry import Entry
from cutbert.fronts.front import Front
from cutbert.fronts.view import noise_warning, quality_of
from cutbert.shape.budget import Limits
from cutbert.train.machine import processor_name
from cutbert.train.run_folder import RunFolder

if TYPE_CHECKING:
    from cutbert.fronts.leaderboard import LeaderboardEntry
    from cutbert.model.task_model import TaskModel

PICK_KEYS = ("name", "params", "macs", "score", "select_score", "latency_ms")


def choose(front: Front, limits: Limits, *, stock: bool = False) -> Entry:
    """Return the subnet with the best select_score within the limits; of equal scores the one with the fewest MACs.

    Of equal scores and MACs it is the later one: in a run of rounds, that which was trained after the cut.

    Args:
        front: scored subnets; measured ones where a latency is limited.
        limits: to meet.
        stock: consider only networks that transformers' own classes can hold.

    Raises:
        BudgetError: nothing fits; names the nearest subnet and what it misses.
    """
    candidates = [entry for entry in front if entry.is_stock or not stock]
    if not candidates and any(entry.shape.is_stock for entry in front):
        raise BudgetError(
            "no subnet of this run loads in plain transformers, whose classes read the first token: the heads of this "
            "run read the mean over tokens; train with --pooling cls to have stock ones"
        )
    if not candidates:
        raise BudgetError("no subnet of this run has a stock shape; cutbert dynabert makes such families")
    fitting = [entry for entry in candidates if not limits.violations(entry.to_json())]
    if not fitting:
        raise BudgetError(*explain(candidates, limits))
    return max(reversed(fitting), key=lambda entry: (entry.select_score, -entry.macs))


def explain(candidates: Sequence[Entry], limits: Limits) -> list[str]:
    """Return a message for each limit that the nearest subnet misses."""
    nearest = min(candidates, key=lambda entry: limits.excess(entry.to_json()))
    head = f"no subnet fits the limits; the nearest is {nearest.name}"
    return [f"{head}: {violation}" for violation in limits.violations(nearest.to_json())]


def check_measured_here(run: Path, front: Front, *, require_quiet: bool = False) -> None:
    """Raise unless a front's latencies were measured on a processor like this machine's.

    Args:
        run: run folder.
        front: its front.
        require_quiet: whether that machine must have been quiet.

    Raises:
        RunError: they were measured on another; or it was not quiet, or is not known to have been.
    """
    assert front.measured is not None
    command = shlex.join(["cutbert", "front", str(run), "--measure", "--backend", front.measured["backend"]])
    remedy = f"`{command}` measures them here"
    measured_on, here = front.measured["machine"]["processor"], processor_name()
    if measured_on != here:
        raise RunError(f"{run}: latencies were measured on {measured_on}, but this machine is {here}; {remedy}")
    if not require_quiet:
        return
    if quality_of(front.measured) is None:
        raise RunError(f"{run}: --require-quiet: it is not known whether the machine was quiet; {remedy}")
    if (warning := noise_warning(front.measured)) is not None:
        raise RunError(f"{run}: --require-quiet: {warning}; {remedy}")


def save_picked(
    run: Path,
    front: Front,
    entry: Entry,
    out: Path,
    line: str,
    repaired: tuple[TaskModel, Mapping[str, Any]] | None = None,
) -> None:
    """Cut a subnet out of the run's network and write it as a model folder, whole or not at all.

    Args:
        run: the run folder.
        front: its front.
        entry: the picked subnet.
        out: absent or empty folder.
        line: the command line, for provenance.
        repaired: the subnet as a network with weights of its own, and its dev outputs as predictions/ has them; None
            for the run's weights.

    Raises:
        InputError: the folder is not empty, or another process is writing it.
    """
    from cutbert.folders.load import load_model
    from cutbert.folders.provenance import extend_provenance
    from cutbert.folders.save import save_model
    from cutbert.folders.sentence import read_sentence
    from cutbert.shape.source import find_model
    from cutbert.surgery.extract import extract

    source = find_model(run if entry.folder is None else run / entry.folder)
    loaded = load_model(source)
    of_select = front.own_select_metric or front.metric
    scores = {front.metric: entry.score, f"select_{of_select}": entry.select_score}
    provenance = loaded.provenance
    facts: dict[str, Any] = {key: provenance[key] for key in ("task", "max_length") if key in provenance}
    for each in search_lines(run, entry):
        provenance = extend_provenance(provenance, each)
    network = extract(loaded.model, entry.subnet) if repaired is None else repaired[0]
    facts |= pick_facts(run, front, entry, None if repaired is None else repaired[1])
    provenance = extend_provenance(provenance, line, scores=scores, facts=facts)
    sentence = read_sentence(source.folder)
    save_model(out, network, loaded.tokenizer, provenance=provenance, is_new=True, sentence=sentence)


def search_lines(run: str | Path, entry: Entry) -> list[str]:
    """Return the command of the search that found a subnet, none for subnets of the run itself."""
    return [] if entry.search is None else [RunFolder.read(Path(run) / entry.search).line]


def pick_facts(run: Path, front: Front, entry: Entry, dev: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the facts about a subnet for cutbert.json: the uncut model beside it, interval of its score, latency.

    Arguments as in `given_up`.
    """
    from cutbert.fronts.outputs import chance_of, interval_of, stored_outputs

    stored = stored_outputs(run, entry.name) if dev is None else dev
    facts: dict[str, Any] = {"cut_from": given_up(run, front, entry, stored), **interval_of(stored, front.metric)}
    note = chance_of(stored, front.metric)
    if note is not None:
        facts["near_chance"] = note
    if front.measured is not None and entry.latency_ms is not None:
        facts["latency"] = latency_facts(entry, front.measured["backend"], front.measured)
    return facts


def latency_facts(entry: Entry | LeaderboardEntry, backend: str, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return a measured latency, and where it holds, as a fact for cutbert.json.

    Args:
        entry: with its latency.
        backend: it was measured on.
        measured: the conditions, as `bench.latency.conditions` returns them.
    """
    return {
        "latency_ms": entry.latency_ms,
        "latency_p95_ms": entry.latency_p95_ms,
        "backend": backend,
        "threads": measured["threads"],
        "processor": measured["machine"]["processor"],
    }


def beside_uncut(
    entry: Entry | LeaderboardEntry, uncut: Entry | LeaderboardEntry, paired: Mapping[str, float] | None
) -> dict[str, Any]:
    """Return the uncut model beside a network, and what the cut gave up and gained, as facts for cutbert.json.

    Args:
        entry: the network.
        uncut: the uncut model, on the same backend.
        paired: low and high of the difference of their dev scores, over the same rows; None where it is not known.

    Returns:
        params, macs, score, select_score of the uncut model; difference, the network's dev score minus that, and where
        they are known difference_interval (95 %, paired over dev's rows), latency_ms, latency_ratio (the network's
        share of it).
    """
    facts: dict[str, Any] = {key: getattr(uncut, key) for key in ("params", "macs", "score", "select_score")}
    facts["difference"] = entry.score - uncut.score
    if paired is not None:
        facts["difference_interval"] = [paired["low"], paired["high"]]
    if entry.latency_ms is not None and uncut.latency_ms is not None:
        facts |= {"latency_ms": uncut.latency_ms, "latency_ratio": entry.latency_ms / uncut.latency_ms}
    return facts


def given_up(run: Path, front: Front, entry: Entry, dev: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the uncut model beside a subnet, and what the cut gave up and gained.

    Args:
        run: the run folder, with its predictions.
        front: its front.
        entry: the subnet.
        dev: its dev outputs as predictions/ has them; None for those that the run stored.

    Returns:
        As `beside_uncut`, and where they are known int8_latency_ms (the uncut model in int8), near_chance (a sentence
        on the uncut model's score).
    """
    from cutbert.fronts.outputs import stored_difference, stored_outputs

    stored = stored_outputs(run, entry.name) if dev is None else dev
    paired = stored_difference(stored, stored_outputs(run, front.teacher.name), front.metric)
    facts = beside_uncut(entry, front.teacher, paired)
    if front.teacher_int8 is not None:
        facts["int8_latency_ms"] = front.teacher_int8["latency_ms"]
    return facts if front.near_chance is None else {**facts, "near_chance": front.near_chance}


def picked_json(
    entry: Entry, out: Path | None, *, select_is_dev: bool = False, cut_from: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the --json object of a pick; it has select_is_dev only where choices were made on dev.

    Args:
        entry: what was picked.
        out: where it was written; None where it was not.
        select_is_dev: whether it was chosen on dev itself.
        cut_from: of `given_up`.
    """
    data = {key: value for key, value in entry.to_json().items() if key in PICK_KEYS}
    data["stock"] = entry.is_stock
    if select_is_dev:
        data["select_is_dev"] = True
    if cut_from is not None:
        data["cut_from"] = dict(cut_from)
    return data if out is None else {"out": str(out), **data}
