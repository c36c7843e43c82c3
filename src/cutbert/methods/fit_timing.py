"""Which candidates of `fit` keep a limit on latency: timed as they are cut, in turn with the uncut model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median

from cutbert.bench.latency import REPEATS, time_networks
from cutbert.bench.measure_table import timed_copy
from cutbert.bench.settings import LatencySettings
from cutbert.errors import RunError
from cutbert.methods.fit_candidates import LEAST_REPAIRED, Candidate, fewest
from cutbert.methods.fit_limits import MARGIN, Target
from cutbert.methods.fit_plan import PLAN
from cutbert.methods.fit_run import Fitting
from cutbert.model.task_model import TaskModel
from cutbert.shape.budget import LATENCY
from cutbert.shape.shape import EncoderShape
from cutbert.train.progress import say

TIMED = 2  # times of the candidates that may race, since some turn out to break the limit
TIMING_SHARE = 0.08  # of the time for a limit, that timing candidates may take
# Of a limit on latency. A file takes some percent more or less each time it is loaded.
AGAIN = 0.96  # above which a candidate, by one timing, is likely to break it in the end
OF_SIZES = 0.97  # the same of kind "sizes", where those near the limit are sized again
TWICE = 0.97  # above which one is by the mean of two timings
DOUBTFUL = 1.05  # up to which a candidate that is out by one timing is timed again, but for kind "sizes"
AIMED = 0.93  # for candidates that are sized again by what they take
SAFE = 0.9  # of one candidate that takes part, at least, so that the run does not end with nothing
# How often each candidate is loaded to be timed, of which the mean counts, and the uncut model, of which the median
# does: all are held against it.
LOADS, UNCUT_LOADS = 2, 3
SIZED = 0.02  # of what is aimed at, that a candidate may be away from it


def timed(
    fitting: Fitting,
    target: Target,
    candidates: Sequence[Candidate],
    sized_by: Callable[[Candidate, float], Candidate | None],
) -> tuple[list[Candidate], dict[str, float]]:
    """Return candidates with their latencies as measured.

    Those of kind "sizes" are sized again by what they take, and timed again: so they use the limit, whatever the
    latency table thinks of them. Those that break it then are sized once more and taken for what is aimed at, since a
    busy machine may have changed between both timings: what wins a race is timed again, and cut narrower if need be.
    The others that break the limit by little are timed again as they are, and the mean counts: one layer less is much
    to lose by a timing on a busy machine.

    Args:
        fitting: of the run.
        target: the limit.
        candidates: that may take part.
        sized_by: returns a candidate as it is when latencies are a factor of those predicted.
    """
    stored = fitting.plan.decide(f"{target.key}-ms", lambda: measured(fitting, target, candidates))
    times = {each.name: stored[each.name] for each in candidates if each.name in stored}
    if not times:
        other = fitting.settings.plan
        plan = fitting.plan.run.path / PLAN if other is None else f"--plan {other}"
        raise RunError(f"{plan} must be of the same model, data and limits: it timed others")
    taken = {each.name: each for each in candidates if each.name in times}
    others = sized_again(fitting, target, list(taken.values()), times, sized_by)
    doubtful = [each for each in taken.values() if is_doubtful(fitting, target, each, times[each.name])]
    if others or doubtful:
        again = fitting.plan.decide(f"{target.key}-second-ms", lambda: measured(fitting, target, [*others, *doubtful]))
        for each in others:
            if each.name not in again:
                continue
            if keeps_aims(fitting, target, each, again[each.name]):
                taken[each.name], times[each.name] = each, again[each.name]
            elif (smaller := sized_for(fitting, target, each, again[each.name], sized_by)) is not None:
                taken[each.name], times[each.name] = smaller, AIMED * target.aims[LATENCY]
        for each in doubtful:  # another run's plan may have timed others
            times[each.name] = fmean([times[each.name], again.get(each.name, times[each.name])])
    return list(taken.values()), times


def is_doubtful(fitting: Fitting, target: Target, candidate: Candidate, ms: float) -> bool:
    """Whether a candidate breaks what is aimed at by so little that a second timing may say otherwise."""
    if LATENCY not in target.aims or candidate.kind == "sizes" or keeps_aims(fitting, target, candidate, ms):
        return False
    return keeps_aims(fitting, target, candidate, ms, DOUBTFUL)


def sized_again(
    fitting: Fitting,
    target: Target,
    candidates: Sequence[Candidate],
    times: Mapping[str, float],
    sized_by: Callable[[Candidate, float], Candidate | None],
) -> list[Candidate]:
    """Return the candidates of kind "sizes" that are away from what is aimed at, by the same names, of other sizes.

    Args:
        fitting, target, candidates, sized_by: as in `timed`.
        times: measured, by name.
    """
    if LATENCY not in target.aims:
        return []
    sized = [each for each in candidates if each.kind == "sizes"]
    others = [sized_for(fitting, target, each, times[each.name], sized_by) for each in sized]
    return [each for each in others if each is not None]


def sized_for(
    fitting: Fitting,
    target: Target,
    candidate: Candidate,
    ms: float,
    sized_by: Callable[[Candidate, float], Candidate | None],
) -> Candidate | None:
    """Return a candidate of kind "sizes" as it should take what is aimed at, of other sizes; None where it does.

    None too where no other sizes do.

    Args:
        fitting, target, sized_by: as in `timed`.
        candidate: as it is.
        ms: what it takes, as measured.
    """
    if abs(ms / (AIMED * target.aims[LATENCY]) - 1) <= SIZED:
        return None
    other = sized_by(candidate, MARGIN / AIMED * ms / predicted(fitting, candidate)[LATENCY])
    return None if other is None or other.subnet == candidate.subnet else other


def keeps_aims(fitting: Fitting, target: Target, candidate: Candidate, ms: float, most: float | None = None) -> bool:
    """Whether a candidate keeps what is aimed at, with its latency as it was measured.

    Args:
        fitting, target, candidate: of the race.
        ms: measured.
        most: share of the limit on latency that it may take; None for what its kind may by one timing.
    """
    if most is None:
        most = OF_SIZES if candidate.kind == "sizes" else AGAIN
    return target.load({**predicted(fitting, candidate), LATENCY: MARGIN * ms / most}) <= 1


def with_a_safe_one(
    fitting: Fitting, target: Target, taken: Sequence[Candidate], able: Sequence[Candidate], times: Mapping[str, float]
) -> list[Candidate]:
    """Return the candidates that take part, the last for one that keeps a limit on latency surely, if none does.

    Args:
        fitting: of the run.
        target: the limit.
        taken: at least two.
        able: all that may take part, the best first.
        times: measured, by name.
    """
    safe = [each for each in able if keeps_aims(fitting, target, each, times[each.name], SAFE)]
    if not safe or any(each in safe for each in taken):
        return list(taken)
    return [*taken[:-1], safe[0]]


def diverse(fitting: Fitting, target: Target, ordered: Sequence[Candidate], count: int) -> list[Candidate]:
    """Return the candidates that are timed: TIMED times those that take part in a race, of all kinds.

    They are fewer where there is no time, but for the first of each kind that takes part in any case.

    More layers than are predicted to fit are whole layers too, and may break the limit as measured. So the first ones
    that are predicted to fit are always timed: the plain alternative must not go with the others.

    Args:
        fitting: of the run.
        target: the limit.
        ordered: all that were proposed, of each kind in turn.
        count: how many take part.
    """
    least = fewest(ordered)
    most = TIMED * max(count, LEAST_REPAIRED - 1, least)
    room = TIMING_SHARE * fitting.clock.time_for_limit_s / fitting.clock.timing_s(target.key)
    first = {shape_of(fitting, each): each for each in reversed(ordered)}  # of one shape one is timed, of sizes twice
    loads_so_far = itertools.accumulate(
        LOADS * (1 + (each.kind == "sizes")) * (first[shape_of(fitting, each)] is each) for each in ordered
    )
    taken = [
        each
        for i, (each, loads) in enumerate(zip(ordered[:most], loads_so_far, strict=False))
        if i < least or loads <= room
    ]
    plain = [each for each in ordered if each.kind == "layers" and is_predicted_to_fit(fitting, target, each)]
    return taken if not plain or plain[0] in taken else [*taken, plain[0]]


def is_predicted_to_fit(fitting: Fitting, target: Target, candidate: Candidate) -> bool:
    """Whether a candidate keeps what is aimed at by the latency table."""
    return target.load(predicted(fitting, candidate)) <= 1


def predicted(fitting: Fitting, candidate: Candidate) -> dict[str, float]:
    """Return the costs of a candidate by the names of limits, latency by the table."""
    return fitting.costs.numbers(shape_of(fitting, candidate)[1])


def measured(fitting: Fitting, target: Target, candidates: Sequence[Candidate]) -> dict[str, float]:
    """Return the latency of each candidate as it is cut: new weights would need fewer operators in int8.

    Those of one shape are timed once: what differs between them is noise.
    """
    first = {shape_of(fitting, each): each for each in reversed(candidates)}
    networks = {each.name: timed_copy(fitting.part_of(each).source.cut(each)) for each in first.values()}
    say(f"{target.name}: timing {len(networks)} candidates beside the uncut model")
    times = times_of(fitting, networks)
    return {each.name: times[first[shape_of(fitting, each)].name] for each in candidates}


def shape_of(fitting: Fitting, candidate: Candidate) -> tuple[str | None, EncoderShape]:
    """Return the shape that a candidate has, and the student whose it is."""
    return candidate.student, candidate.subnet.shape_in(fitting.part_of(candidate).source.shape)


def times_of(fitting: Fitting, networks: Mapping[str, TaskModel]) -> dict[str, float]:
    """Return the latency of networks by name, timed in turn with the uncut model and brought to its first latency."""
    latency, repeats = single_timing(fitting)
    uncut = timed_copy(fitting.own.source.model)
    loaded = {f"{name} {i}": each for name, each in networks.items() for i in range(LOADS)}
    loaded |= {f"uncut {i}": uncut for i in range(UNCUT_LOADS)}
    times = time_networks(loaded, fitting.objective.lengths, latency, repeats=repeats)
    factor = fitting.costs.table.uncut_ms / median(times[f"uncut {i}"].latency_ms for i in range(UNCUT_LOADS))
    return {name: factor * fmean(times[f"{name} {i}"].latency_ms for i in range(LOADS)) for name in networks}


def single_timing(fitting: Fitting) -> tuple[LatencySettings, int]:
    """Return how networks are timed for their latency alone, and how often again on a busy machine.

    Not again, unless it must be quiet: what is near a limit is timed several times in a run.
    """
    latency = replace(fitting.settings.timing(fitting.train.threads, fitting.train.seed), throughput_batch_size=1)
    return latency, REPEATS if latency.require_quiet else 0
