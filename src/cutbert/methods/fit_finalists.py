"""The finalists of `fit`: all files of the races, scored, and timed in turn with the uncut model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from cutbert.bench.latency import Latency, conditions, time_runners
from cutbert.bench.quality import Sized, TimingQuality
from cutbert.fronts.leaderboard import LeaderboardEntry
from cutbert.fronts.outputs import chance_of, stored_difference
from cutbert.fronts.view import noise_warning
from cutbert.methods.fit_choice import UNCUT, Finalist, costs_of
from cutbert.methods.fit_limits import Target
from cutbert.methods.fit_narrower import narrower
from cutbert.methods.fit_race import Race
from cutbert.methods.fit_run import Fitting
from cutbert.methods.fit_served import IN_FLOAT32, ScoredFile, Served, scored_files, served_network
from cutbert.methods.fit_timing import single_timing
from cutbert.shape.budget import LATENCY
from cutbert.train.machine import num_threads
from cutbert.train.progress import say

NEAR = 0.15  # share of a limit: a winner whose latency is this close to it is loaded and timed again
AFRESH = 2  # times
NARROWED = 2  # times at most, that a winner which breaks its limit is cut narrower
DRIFT = 0.15  # of the uncut model's latency between begin and end of a run, above which it is said


def scored_and_timed(
    fitting: Fitting, served: Sequence[Served], races: Sequence[Race], threads: int
) -> tuple[list[Served], list[Finalist], dict[str, Any], list[str]]:
    """Return networks as they were served, their finalists, the conditions of latencies, and notes on both.

    A race's winner that breaks its limit as it is timed now is cut narrower, and that network is put before it.

    Args:
        fitting: of the run.
        served: the uncut model first.
        races: the loosest limit first.
        threads: within one operator.
    """
    files = scored_files(fitting, served, threads)
    finalists, quality, factor = finalists_of(fitting, files, races[0].target)
    for current in races:
        for _ in range(NARROWED):
            place = next((i for i, each in enumerate(finalists) if each.target == current.target), None)
            if place is None or finalists[place].entry.within_limit:
                break
            smaller = narrower_one(fitting, files[place].served, finalists[place].entry)
            if smaller is None:
                break
            (made,) = scored_files(fitting, [smaller], threads)
            (_, found), _, _ = finalists_of(fitting, [files[UNCUT], made], races[0].target)
            files.insert(place, made)
            finalists.insert(place, found)
    latency = fitting.settings.timing(fitting.train.threads, fitting.train.seed)
    device = "cpu" if latency.is_on_cpu else fitting.objective.engine.device.type
    measured = conditions(latency, fitting.objective.lengths, threads, device, quality)
    notes = notes_on_figures(fitting, files[UNCUT].outputs, factor)
    return [each.served for each in files], finalists, measured, notes


def finalists_of(
    fitting: Fitting, files: Sequence[ScoredFile], loosest: Target
) -> tuple[list[Finalist], TimingQuality, float]:
    """Return files with their latencies, timed in turn: how far these can be trusted, and the factor on them.

    The limit was set, and candidates were proposed, on the uncut model's latency at the beginning; where the machine
    has become slower or faster, all latencies are brought to that by the factor.

    Args:
        fitting: of the run.
        files: of the uncut model first.
        loosest: the limit that the uncut model is held against.
    """
    latency = fitting.settings.timing(fitting.train.threads, fitting.train.seed)
    times = time_runners(
        {str(i): one.runner for i, one in enumerate(files)},
        fitting.objective.lengths,
        latency,
        vocab_size=min(one.shape.vocab_size for one in files),
        sizes={str(i): one.label for i, one in enumerate(files)},
    )
    factor = fitting.costs.table.uncut_ms / times[str(UNCUT)].latency_ms
    latencies = {i: factor * times[str(i)].latency_ms for i in range(len(files))}
    corrections = timed_afresh(fitting, [one.served for one in files], latencies)
    metric, finalists = fitting.objective.metric, []
    for i, one in enumerate(files):
        difference = None if i == UNCUT else stored_difference(one.outputs, files[UNCUT].outputs, metric)
        entry = one.entry(scaled(times[str(i)], factor * corrections.get(i, 1.0)), loosest, difference)
        own_score = partial(float_score, fitting, one.served, files)
        finalists.append(Finalist(entry, one.served.target, own_score, one.num_scored))
    return finalists, times.quality, factor


def narrower_one(fitting: Fitting, served: Served, entry: LeaderboardEntry) -> Served | None:
    """Return a network that breaks its limit as it is after a narrower cut; None where there is none."""
    assert served.target is not None and served.entrant is not None
    entrant = narrower(fitting, served.target, served.entrant, costs_of(entry))
    return None if entrant is None else replace(served, name=entrant.candidate.name, entrant=entrant)


def timed_afresh(fitting: Fitting, served: Sequence[Served], latencies: Mapping[int, float]) -> dict[int, float]:
    """Return factors on the latencies of the winners that are close to their limits, for those of several loads.

    A file takes some percent more or less each time it is loaded, by where it comes to lie in memory. One timing would
    leave to chance whether a winner keeps its limit: it is loaded AFRESH more times, as the uncut model is, and the
    median of all its shares of the uncut latency counts.

    Args:
        fitting: of the run.
        served: the uncut model first.
        latencies: as timed together, in milliseconds, brought to those at the run's beginning.
    """
    uncut_ms, near, seen = latencies[UNCUT], [], set[str]()
    for i, each in enumerate(served):
        if each.target is None or each.target.key in seen:
            continue
        seen.add(each.target.key)
        limit = each.target.limits.get(LATENCY)
        if limit is not None and abs(latencies[i] / limit - 1) <= NEAR:
            near.append(i)
    if not near:
        return {}
    say(f"timing afresh what is close to its limit: {', '.join(served[i].name for i in near)}")
    shares = {i: [latencies[i] / uncut_ms] for i in near}
    for _ in range(AFRESH):
        times = times_of_files(fitting, {i: served[i] for i in (UNCUT, *near)})
        for i in near:
            shares[i].append(times[i] / times[UNCUT])
    return {i: float(np.median(found)) / found[0] for i, found in shares.items()}


def times_of_files(fitting: Fitting, files: Mapping[int, Served]) -> dict[int, float]:
    """Return the latencies of networks, each made and loaded once more, timed in turn."""
    latency, repeats = single_timing(fitting)
    with num_threads(fitting.train.threads) as threads:
        networks = {i: each.network(fitting) for i, each in files.items()}
        runners = {str(i): served_network(each.backend, networks[i], threads)[0] for i, each in files.items()}
        times = time_runners(
            runners,
            fitting.objective.lengths,
            latency,
            vocab_size=min(network.shape.vocab_size for network in networks.values()),
            sizes={str(i): Sized(each.name, each.backend, networks[i].shape) for i, each in files.items()},
            repeats=repeats,
        )
    return {i: times[str(i)].latency_ms for i in files}


def float_score(fitting: Fitting, each: Served, scored: Sequence[ScoredFile]) -> float:
    """Return a network's score on select in float32: of the uncut model that of its file, if one was scored."""
    uncut = [one for one in scored if one.served.entrant is None and one.served.backend in IN_FLOAT32.values()]
    if each.entrant is None and uncut:
        return float(uncut[0].outputs["select_score"])
    with num_threads(fitting.train.threads):
        return each.part.select_score(each.network(fitting))


def scaled(times: Latency, factor: float) -> Latency:
    """Return the times of a machine on which everything takes a factor longer."""
    return Latency(
        latency_ms=factor * times.latency_ms,
        latency_q1_ms=factor * times.latency_q1_ms,
        latency_q3_ms=factor * times.latency_q3_ms,
        latency_p95_ms=factor * times.latency_p95_ms,
        throughput_per_s=times.throughput_per_s / factor,
    )


def notes_on_figures(fitting: Fitting, uncut: Mapping[str, Any], factor: float) -> list[str]:
    """Return what a reader should know of scores and times.

    Args:
        fitting: of the run.
        uncut: the uncut model's outputs on dev.
        factor: that brings latencies to those at the run's beginning.
    """
    notes = [f"the uncut model: {note}"] if (note := chance_of(uncut, fitting.objective.metric)) else []
    if abs(1 / factor - 1) > DRIFT:
        notes.append(
            f"the uncut model took {1 / factor:.2f} times as long at the end as at the beginning: the machine was not "
            "quiet; all latencies are brought to those of the beginning"
        )
    if (warning := noise_warning(fitting.costs.table.measured)) is not None:
        notes.append(f"when the limits were set: {warning}")
    return notes
