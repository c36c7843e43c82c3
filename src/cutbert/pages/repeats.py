"""How far scores spread over runs that differ in nothing but the seed."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cutbert.pages.points import Source
from cutbert.train.run_changes import FREE_SETTINGS, flat

# Settings that may differ between repeats: the seed, what was made from another seed, and where things lie.
OTHER_PLACES = ("seed", "model", "teacher", "data_dir", "device", *FREE_SETTINGS)


@dataclass(frozen=True)
class Spread:
    """Dev scores of one network of a family over seeds, fractions of 1.

    Args:
        mean: over the seeds.
        deviation: sample standard deviation.
        count: seeds, at least 2.
    """

    mean: float
    deviation: float
    count: int


def spreads(sources: Sequence[Source]) -> dict[tuple[str, str], Spread]:
    """Return the spread by names of run and network, for those that several seeds have."""
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    groups = {source.name: group for source in sources if (group := group_of(source)) is not None}
    seeds = {group: [each.seed for each in sources if groups.get(each.name) == group] for group in groups.values()}
    repeated = {group for group, found in seeds.items() if len(found) > 1 and len(set(found)) == len(found)}
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


def group_of(source: Source) -> str | None:
    """Return what repeats of a run have in common, as text; None for a run without seed or score."""
    if source.seed is None or not source.points:
        return None
    settings = {name: value for name, value in flat(source.settings).items() if name.split(".")[-1] not in OTHER_PLACES}
    shape = source.uncut or source.points[0].shape
    sizes = None if shape is None else shape.to_json()
    return json.dumps([source.command, source.task, settings, sizes], sort_keys=True)


def spread_of(scores: Sequence[float]) -> Spread:
    return Spread(statistics.fmean(scores), statistics.stdev(scores), len(scores))
