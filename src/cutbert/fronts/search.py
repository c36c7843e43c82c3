"""Searches a space of subnets for the best scores at the lowest cost, by mutation and crossover within a budget.

A library's sampler (optuna's NSGA-II) was tried first: on made-up problems of a MiniLM's size it gained less over the
grid with as many trials (benchmarks/search_samplers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from cutbert.shape.search_space import Genes, SearchSpace
from cutbert.shape.subnet import Subnet

TRIES_PER_TRIAL = 50  # a child is often a network that was scored before, and costs nothing then
CROSSED = 0.9
MORE_CHANGES = 0.7  # mean number of choices changed in a child beyond the first
STEPPED = 0.6  # share of changes that go a few sizes up or down; the others go anywhere
LONGEST_STEP = 3


@dataclass(frozen=True)
class Trial:
    """One scored subnet.

    Args:
        subnet: what is kept.
        score: larger is better.
        cost: smaller is better.
    """

    subnet: Subnet
    score: float
    cost: float


@dataclass(frozen=True)
class Quest:
    """What is searched for.

    Args:
        space: where.
        score_of: how good a subnet is; dear.
        cost_of: what it takes; cheap.
        excess: by how much a subnet breaks the limits on cost, 0 where it keeps them; cheap.
        least_score: networks of a lower score are of no use, but may lead to others.
    """

    space: SearchSpace
    score_of: Callable[[Subnet], float]
    cost_of: Callable[[Subnet], float]
    excess: Callable[[Subnet], float] = lambda subnet: 0.0
    least_score: float | None = None

    def fitting(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the trials of a score that is of use."""
        return [each for each in trials if self.least_score is None or each.score >= self.least_score]


def search(
    quest: Quest,
    seeds: Sequence[Subnet],
    *,
    trials: int,
    seed: int,
    on_trial: Callable[[Trial], None] | None = None,
) -> list[Trial]:
    """Return the subnets scored, in order; all keep the limits on cost, and each is scored once.

    The same arguments give the same trials, so a search that was killed goes on by being run again with the scores
    it had. A space of no more subnets than trials is scored whole. Otherwise the search ends with its budget, or when
    it finds nothing new any more.

    Args:
        quest: what is searched for.
        seeds: subnets to begin with; those outside the space or the limits are left out.
        trials: subnets to score at most, seeds included.
        seed: of everything random.
        on_trial: called after each scored subnet.

    Source:
        Ours: an evolution of one child at a time, whose parents are on the front as it is now.
    """
    space, found = quest.space, dict[Subnet, Trial]()
    draw = np.random.default_rng(seed)

    def children() -> Iterator[Genes]:
        yield from (genes for each in seeds if (genes := space.genes(each)) is not None)
        for _ in range(TRIES_PER_TRIAL * trials):
            yield shrunk_to_fit(quest, child(quest, list(found.values()), draw), draw)

    every = product(*(range(len(choice.sizes)) for choice in space.choices))
    for genes in every if space.size <= trials else children():
        if len(found) >= trials:
            break
        subnet = space.subnet(genes)
        if subnet is None or subnet in found or quest.excess(subnet) > 0:
            continue
        found[subnet] = Trial(subnet, quest.score_of(subnet), quest.cost_of(subnet))
        if on_trial is not None:
            on_trial(found[subnet])
    return list(found.values())


def child(quest: Quest, trials: Sequence[Trial], draw: np.random.Generator) -> Genes:
    """Return a child of networks on the front, changed in one choice or more; anything where there are none."""
    choices = quest.space.choices
    parents = front_of(quest.fitting(trials) or trials)
    if not parents:
        return tuple(int(draw.integers(len(choice.sizes))) for choice in choices)

    def parent() -> Genes:
        genes = quest.space.genes(parents[int(draw.integers(len(parents)))].subnet)
        assert genes is not None
        return genes

    genes = list(parent())
    if draw.random() < CROSSED:
        genes = [one if draw.random() < 0.5 else other for one, other in zip(genes, parent(), strict=True)]
    changes = min(len(genes), 1 + int(draw.poisson(MORE_CHANGES)))
    for i in draw.choice(len(genes), size=changes, replace=False):
        genes[i] = changed(genes[i], len(choices[i].sizes), draw)
    return tuple(genes)


def changed(place: int, count: int, draw: np.random.Generator) -> int:
    """Return another place among sizes: a few up or down, or anywhere."""
    if draw.random() < STEPPED:
        step = int(draw.integers(1, LONGEST_STEP + 1)) * (1 if draw.random() < 0.5 else -1)
        return min(max(place + step, 0), count - 1)
    return int(draw.integers(count))


def shrunk_to_fit(quest: Quest, genes: Genes, draw: np.random.Generator) -> Genes:
    """Return genes with random choices a size smaller, one after the other, until the limits on cost are kept."""
    left = list(genes)
    while True:
        subnet = quest.space.subnet(tuple(left))
        larger = [i for i, place in enumerate(left) if place]
        if subnet is None or not larger or quest.excess(subnet) <= 0:
            return tuple(left)
        left[larger[int(draw.integers(len(larger)))]] -= 1


def front_of(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that nothing beats in both score and cost, cheapest first; of equal ones the first."""
    front: list[Trial] = []
    for trial in sorted(trials, key=lambda each: (each.cost, -each.score)):
        if not front or trial.score > front[-1].score:
            front.append(trial)
    return front


def hypervolume(points: Sequence[tuple[float, float]], least_score: float, most_cost: float) -> float:
    """Return the area of score and cost that (score, cost) points dominate, down to the least score and the most cost.

    Source:
        Zitzler and Thiele 1998, in two dimensions.
    """
    area, best = 0.0, least_score
    edges = sorted((cost, -score) for score, cost in points if cost < most_cost)
    for cost, negative in edges:
        if -negative > best:
            area += (-negative - best) * (most_cost - cost)
            best = -negative
    return area


def widest(front: Sequence[Trial], count: int) -> list[Trial]:
    """Return at most `count` trials of a front, cheapest first: those without which least of its area is lost.

    One after the other the trial goes that adds least; the best and the cheapest stay longest.
    """
    left = sorted(front, key=lambda each: each.cost)
    while len(left) > count:
        if len(left) <= 2:
            return [max(left, key=lambda each: each.score)][:count]
        gains = [
            (left[i].score - left[i - 1].score) * (left[i + 1].cost - left[i].cost) for i in range(1, len(left) - 1)
        ]
        del left[1 + int(np.argmin(gains))]
    return left
