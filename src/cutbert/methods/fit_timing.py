"""Which candidates of `fit` keep a limit on latency: timed as they are cut, in turn with the uncut model."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

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
from cutbert.train.progress import say

TIMED = 2  # times of the candidates that may race, since some turn out to break the limit
TIMING_SHARE = 0.08  # of the time for a limit, that timing candidates may take
AGAIN = 0.95  # of a limit on latency, above which a measured candidate may break it when it is measured again
WIDE = "-wide"  # behind a candidate's name: the wider one that may take its place


def timed(
    fitting: Fitting, target: Target, candidates: Sequence[Candidate], wider: Sequence[Candidate]
) -> tuple[list[Candidate], dict[str, float]]:
    """Return candidates with their latencies as measured.

    Predictions are often too high: where a wider one keeps the limit, it takes the place of that of its name.

    Args:
        fitting: of the run.
        target: the limit.
        candidates: that may take part.
        wider: somewhat larger than was predicted to fit.
    """
    taken = {each.name: each for each in candidates}
    twins = [each for each in wider if each.name in taken and keeps_aims(fitting, target, each, 0.0)]
    both = [*candidates, *(replace(each, name=each.name + WIDE) for each in twins)]
    stored = fitting.plan.decide(f"{target.key}-ms", lambda: measured(fitting, target, both))
    times = {name: stored[name] for name in taken if name in stored}
    if not times:
        other = fitting.settings.plan
        plan = fitting.plan.run.path / PLAN if other is None else f"--plan {other}"
        raise RunError(f"{plan} must be of the same model, data and limits: it timed others")
    for each in twins:
        ms = stored.get(each.name + WIDE)
        if each.name in times and ms is not None and keeps_aims(fitting, target, each, ms):
            taken[each.name], times[each.name] = each, ms
    return [taken[name] for name in times], times


def keeps_aims(fitting: Fitting, target: Target, candidate: Candidate, ms: float) -> bool:
    """Whether a candidate keeps what is aimed at, with its latency as it was measured."""
    return target.load({**predicted(fitting, candidate), LATENCY: MARGIN * ms / AGAIN}) <= 1


def diverse(
    fitting: Fitting, target: Target, ordered: Sequence[Candidate], count: int, wider: Sequence[Candidate]
) -> list[Candidate]:
    """Return the candidates that are timed: TIMED times those that take part in a race, of all kinds.

    They are fewer where there is no time, but for the first of each kind that takes part in any case.

    More layers than are predicted to fit are whole layers too, and may break the limit as measured. So the first ones
    that are predicted to fit are always timed: the plain alternative must not go with the others.

    Args:
        fitting: of the run.
        target: the limit.
        ordered: all that were proposed, of each kind in turn.
        count: how many take part.
        wider: that are timed beside those of their names.
    """
    least = fewest(ordered)
    most, twins = TIMED * max(count, LEAST_REPAIRED - 1, least), {each.name for each in wider}
    room = TIMING_SHARE * fitting.clock.time_for_limit_s / fitting.clock.timing_s(target.key)
    timed_so_far = itertools.accumulate(1 + (each.name in twins) for each in ordered)
    taken = [
        each
        for i, (each, timed) in enumerate(zip(ordered[:most], timed_so_far, strict=False))
        if i < least or timed <= room
    ]
    plain = [each for each in ordered if each.kind == "layers" and is_predicted_to_fit(fitting, target, each)]
    return taken if not plain or plain[0] in taken else [*taken, plain[0]]


def is_predicted_to_fit(fitting: Fitting, target: Target, candidate: Candidate) -> bool:
    """Whether a candidate keeps what is aimed at by the latency table."""
    return target.load(predicted(fitting, candidate)) <= 1


def predicted(fitting: Fitting, candidate: Candidate) -> dict[str, float]:
    """Return the costs of a candidate by the names of limits, latency by the table."""
    return fitting.costs.numbers(candidate.subnet.shape_in(fitting.part_of(candidate).source.shape))


def measured(fitting: Fitting, target: Target, candidates: Sequence[Candidate]) -> dict[str, float]:
    """Return the latency of each candidate as it is cut: new weights would need fewer operators in int8."""
    networks = {each.name: timed_copy(fitting.part_of(each).source.cut(each)) for each in candidates}
    say(f"{target.name}: timing {len(candidates)} candidates beside the uncut model")
    return times_of(fitting, networks)


def times_of(fitting: Fitting, networks: Mapping[str, TaskModel]) -> dict[str, float]:
    """Return the latency of networks by name, timed in turn with the uncut model and brought to its first latency."""
    latency, repeats = single_timing(fitting)
    uncut = timed_copy(fitting.own.source.model)
    times = time_networks({**networks, "uncut": uncut}, fitting.objective.lengths, latency, repeats=repeats)
    factor = fitting.costs.table.uncut_ms / times["uncut"].latency_ms
    return {name: factor * times[name].latency_ms for name in networks}


def single_timing(fitting: Fitting) -> tuple[LatencySettings, int]:
    """Return how networks are timed for their latency alone, and how often again on a busy machine.

    Not again, unless it must be quiet: what is near a limit is timed several times in a run.
    """
    latency = replace(fitting.settings.timing(fitting.train.threads, fitting.train.seed), throughput_batch_size=1)
    return latency, REPEATS if latency.require_quiet else 0
