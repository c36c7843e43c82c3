"""The spread of scores over runs that differ only in their seed."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cutbert.pages.points import ReportedRun
from cutbert.train.run_record import FREE_SETTINGS, flat

# Settings that may differ between repeats: the seed, models made with another seed, paths and the device.
MAY_DIFFER = ("seed", "model", "teacher", "data_dir", "device", *FREE_SETTINGS)


@dataclass(frozen=True)
class Spread:
    """Dev scores of the same network over seeds, as fractions of 1.

    Args:
        mean: over the seeds.
        deviation: sample standard deviation.
        count: number of seeds, at least 2.
    """

    mean: float
    deviation: float
    count: int


def spreads(sources: Sequence[ReportedRun]) -> dict[tuple[str, str], Spread]:
    """Return the spread by names of run and network, for networks that several seeds have."""
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    groups = {source.name: group for source in sources if (group := group_of(source)) is not None}
    seeds = {group: [each.seed for each in sources if groups.get(each.name) == group] for group in groups.values()}
    repeated = {group for group, each in seeds.items() if len(each) > 1 and len(set(each)) == len(each)}
    for source in sources:
        for point in source.points:
            scores[groups.get(source.name, ""), point.name].append(point.score)
    return {
        (source.name, point.name): spread_of(values)
        for source in sources
        if groups.get(source.name) in repeated
        for point in source.points
        if len(values := scores[groups[source.name], point.name]) > 1
    }


def group_of(source: ReportedRun) -> str | None:
    """Return what all repeats of a run have in common, as text; None for a run without seed or score."""
    if source.seed is None or not source.points:
        return None
    settings = {name: value for name, value in flat(source.settings).items() if name.split(".")[-1] not in MAY_DIFFER}
    shape = source.uncut or source.points[0].shape
    sizes = None if shape is None else shape.to_json()
    return json.dumps([source.command, source.task, settings, sizes], sort_keys=True)


def spread_of(scores: Sequence[float]) -> Spread:
    return Spread(statistics.fmean(scores), statistics.stdev(scores), len(scores))
