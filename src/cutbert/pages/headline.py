"""The headline of a run with a front: what its best subnet at about half the uncut latency gives up for what."""

from __future__ import annotations

from pathlib import Path

from cutbert.fronts.entry import Entry
from cutbert.fronts.front import Front
from cutbert.fronts.leaderboard_view import bounds_words, signed, speed_words, times_words
from cutbert.fronts.outputs import stored_difference, stored_outputs

ABOUT_HALF = 0.55  # of what the uncut model costs


def front_headline(run: Path, front: Front) -> str | None:
    """Return the headline of a run with a front, None where it has no subnet.

    Without latencies it goes by multiply-adds. The subnet is the one with the best select score at that cost, or the
    cheapest one where none costs so little.
    """
    backend = None if front.measured is None else str(front.measured.get("backend"))
    uncut_ms = front.teacher.latency_ms or 0
    timed = [(entry.latency_ms, entry) for entry in front if entry.latency_ms and uncut_ms > 0]
    costs: list[tuple[float, Entry]] = timed or [(entry.macs, entry) for entry in front if entry.macs > 0]
    uncut_cost = uncut_ms if timed else front.teacher.macs
    if not costs or not uncut_cost:
        return None
    fitting = [pair for pair in costs if pair[0] <= ABOUT_HALF * uncut_cost]
    cost, entry = (
        max(fitting, key=lambda pair: (pair[1].select_score, -pair[0]))
        if fitting
        else min(costs, key=lambda pair: pair[0])
    )
    if timed:
        gain = speed_words(uncut_cost, cost, f"the uncut model on {backend}")
    else:
        sizes = f"({uncut_cost / 1e6:,.1f} to {cost / 1e6:,.1f} million)"
        gain = f"{times_words(uncut_cost, cost, 'fewer', 'more', 'as many')} multiply-adds {sizes}"
    difference = paired_difference(run, front, entry)
    mean = entry.score - front.teacher.score if difference is None else difference["mean"]
    bounds = "" if difference is None else f" {bounds_words(difference['low'], difference['high'])}"
    return f"{entry.name}: {gain} for {signed(mean)} points of {front.metric}{bounds} on dev"


def paired_difference(run: Path, front: Front, entry: Entry) -> dict[str, float] | None:
    """Return the difference of a subnet's dev score and the uncut model's with its interval, None where not known."""
    stored, uncut = (stored_outputs(run, name) for name in (entry.name, front.teacher.name))
    return stored_difference(stored, uncut, front.metric)
