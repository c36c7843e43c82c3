"""Chooses the best subnet of a front under limits, and cuts it out into a model folder of its own."""

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
    """Return the subnet with the best select_score within the limits; equal scores: the fewer MACs, then the later.

    In a run of rounds the later is the healed one.

    Args:
        front: scored subnets; measured too where a latency is limited.
        limits: what must hold.
        stock: consider only shapes that transformers' own classes hold.

    Raises:
        BudgetError: nothing fits; names the nearest subnet and what it misses.
    """
    candidates = [entry for entry in front if entry.shape.is_stock or not stock]
    if not candidates:
        raise BudgetError("no subnet of this run has a stock shape; cutbert dynabert makes such families")
    fitting = [entry for entry in candidates if not limits.violations(entry.to_json())]
    if not fitting:
        raise BudgetError(*explain(candidates, limits))
    return max(reversed(fitting), key=lambda entry: (entry.select_score, -entry.macs))


def explain(candidates: Sequence[Entry], limits: Limits) -> list[str]:
    """Return the lines that say what is nearest to the limits and what it misses."""
    nearest = min(candidates, key=lambda entry: limits.excess(entry.to_json()))
    head = f"no subnet fits the limits; the nearest is {nearest.name}"
    return [f"{head}: {violation}" for violation in limits.violations(nearest.to_json())]


def check_measured_here(run: Path, front: Front) -> None:
    """Raise unless a measured front's latencies are of a machine with this processor.

    Raises:
        RunError: they are of another.
    """
    assert front.measured is not None
    remedy = f"`cutbert front {run} --measure --backend {front.measured['backend']}` measures them here"
    there, here = front.measured["machine"]["processor"], processor_name()
    if there != here:
        raise RunError(f"{run}: latencies were measured on {there}, but this machine is {here}; {remedy}")


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
    task, known = loaded.provenance.get("task"), loaded.provenance
    for each in search_lines(run, entry):
        known = extend_provenance(known, each)
    facts = {**({"task": task} if task else {}), **pick_facts(run, front, entry)}
    provenance = extend_provenance(known, line, scores=scores, facts=facts)
    save_model(out, extract(loaded.model, entry.subnet), loaded.tokenizer, provenance=provenance)


def search_lines(run: str | Path, entry: Entry) -> list[str]:
    """Return the command of the search that found a subnet, none where it is of the run itself."""
    return [] if entry.search is None else [RunFolder.read(Path(run) / entry.search).line]


def pick_facts(run: Path, front: Front, entry: Entry) -> dict[str, Any]:
    """Return what a run knows of a subnet, for cutbert.json: what it was cut from, interval of its score, latency."""
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
    """Return the --json object of a pick; whether it was chosen on dev is said only where it was."""
    data = {key: value for key, value in entry.to_json().items() if key in PICK_KEYS}
    data["stock"] = entry.shape.is_stock
    if select_is_dev:
        data["select_is_dev"] = True
    return data if out is None else {"out": str(out), **data}


PICK_KEYS = ("name", "params", "macs", "score", "select_score", "latency_ms")
