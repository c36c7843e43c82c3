"""Picking: the best subnet of a front under limits, cut out into its own model folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cutbert.errors import BudgetError, RunError
from cutbert.fronts.front import Entry, Front
from cutbert.shape.budget import Limits
from cutbert.train.machine import processor_name
from cutbert.train.run_folder import RunFolder


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


def check_measured_here(run: Path, front: Front) -> None:
    """Raise unless a front's latencies were measured on a processor like this machine's.

    Raises:
        RunError: they were measured on another.
    """
    assert front.measured is not None
    remedy = f"`cutbert front {run} --measure --backend {front.measured['backend']}` measures them here"
    measured_on, here = front.measured["machine"]["processor"], processor_name()
    if measured_on != here:
        raise RunError(f"{run}: latencies were measured on {measured_on}, but this machine is {here}; {remedy}")


def save_picked(run: Path, front: Front, entry: Entry, out: Path, line: str) -> None:
    """Cut a subnet out of the run's network and write it as a model folder, whole or not at all.

    Args:
        run: the run folder.
        front: its front.
        entry: the picked subnet.
        out: absent or empty folder.
        line: the command line, for provenance.
    """
    from cutbert.hub.load import load_model
    from cutbert.hub.provenance import extend_provenance
    from cutbert.hub.save import save_model
    from cutbert.surgery.extract import extract

    loaded = load_model(run if entry.folder is None else run / entry.folder)
    scores = {front.metric: entry.score, f"select_{front.metric}": entry.select_score}
    task, provenance = loaded.provenance.get("task"), loaded.provenance
    for each in search_lines(run, entry):
        provenance = extend_provenance(provenance, each)
    facts = {**({"task": task} if task else {}), **pick_facts(run, front, entry)}
    provenance = extend_provenance(provenance, line, scores=scores, facts=facts)
    save_model(out, extract(loaded.model, entry.subnet), loaded.tokenizer, provenance=provenance)


def search_lines(run: str | Path, entry: Entry) -> list[str]:
    """Return the command of the search that found a subnet, none for subnets of the run itself."""
    return [] if entry.search is None else [RunFolder.read(Path(run) / entry.search).line]


def pick_facts(run: Path, front: Front, entry: Entry) -> dict[str, Any]:
    """Return the facts about a subnet for cutbert.json: cost of the uncut model, interval of its score, latency."""
    from cutbert.fronts.outputs import interval_fact

    facts: dict[str, Any] = {"cut_from": {"params": front.teacher.params, "macs": front.teacher.macs}}
    facts |= interval_fact(run, entry.name, front.metric)
    if front.measured is not None and entry.latency_ms is not None:
        facts["latency"] = {
            "latency_ms": entry.latency_ms,
            "latency_p95_ms": entry.latency_p95_ms,
            "backend": front.measured["backend"],
            "threads": front.measured["threads"],
            "processor": front.measured["machine"]["processor"],
        }
    return facts


def picked_json(entry: Entry, out: Path | None, *, select_is_dev: bool = False) -> dict[str, Any]:
    """Return the --json object of a pick; it has select_is_dev only where choices were made on dev."""
    data = {key: value for key, value in entry.to_json().items() if key in PICK_KEYS}
    data["stock"] = entry.is_stock
    if select_is_dev:
        data["select_is_dev"] = True
    return data if out is None else {"out": str(out), **data}


PICK_KEYS = ("name", "params", "macs", "score", "select_score", "latency_ms")
