"""Searches a space of subnets for the best scores at the lowest cost, by mutation and crossover within a budget.

A library's sampler (optuna's NSGA-II) was tried first: on artificial problems of a MiniLM's size it gained less over
the grid with the same number of trials (benchmarks/measure_samplers.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from cutbert.errors import RunError
from cutbert.files import append_line
from cutbert.parsing import parse_json
from cutbert.shape.search_space import Genes, SearchSpace
from cutbert.shape.subnet import Subnet

TRIES_PER_TRIAL = 50  # a child is often a network that was scored before, which costs nothing
CROSSOVER_RATE = 0.9  # share of children with two parents
MEAN_EXTRA_MUTATIONS = 0.7  # mean number of genes changed in a child beyond the first
LOCAL_MUTATION_RATE = 0.6  # share of changes by a few sizes up or down; the others take any size
LONGEST_STEP = 3


@dataclass(frozen=True)
class Trial:
    """One scored subnet.

    Args:
        subnet: the subnet.
        score: larger is better.
        cost: smaller is better.
    """

    subnet: Subnet
    score: float
    cost: float


@dataclass(frozen=True)
class Problem:
    """The problem to solve: a space, a score, a cost, and limits on both.

    Args:
        space: the subnets to choose from.
        score_of: returns a subnet's score; expensive.
        cost_of: returns its cost; cheap.
        excess: by how much a subnet breaks the limits on cost, 0 where it meets them; cheap.
        least_score: subnets with a lower score are of no use, but may be parents of better ones.
    """

    space: SearchSpace
    score_of: Callable[[Subnet], float]
    cost_of: Callable[[Subnet], float]
    excess: Callable[[Subnet], float] = lambda subnet: 0.0
    least_score: float | None = None

    def fitting(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the trials with at least the least score."""
        return [each for each in trials if self.least_score is None or each.score >= self.least_score]


def search(
    problem: Problem,
    seeds: Sequence[Subnet],
    *,
    trials: int,
    seed: int,
    on_trial: Callable[[Trial], None] | None = None,
) -> list[Trial]:
    """Return the subnets scored, in order; all meet the limits on cost, and each is scored once.

    The same arguments give the same trials, so a search that was killed resumes by running again with a `ScoreCache`.
    A space with no more subnets than trials is scored completely. Otherwise the search ends with its budget, or when
    it finds no new subnet.

    Args:
        problem: space, score, cost and limits.
        seeds: subnets to begin with; those outside the space or the limits are left out.
        trials: largest number of subnets to score, seeds included.
        seed: of everything random.
        on_trial: called after each scored subnet.

    Source:
        Ours: steady-state evolution, one child at a time, whose parents are on the current front.
    """
    space, scored = problem.space, dict[Subnet, Trial]()
    rng = np.random.default_rng(seed)

    def children() -> Iterator[Genes]:
        yield from (genes for each in seeds if (genes := space.genes(each)) is not None)
        for _ in range(TRIES_PER_TRIAL * trials):
            yield shrunk_to_fit(problem, child(problem, list(scored.values()), rng), rng)

    every = product(*(range(len(choice.sizes)) for choice in space.choices))
    for genes in every if space.size <= trials else children():
        if len(scored) >= trials:
            break
        subnet = space.subnet(genes)
        if subnet is None or subnet in scored or problem.excess(subnet) > 0:
            continue
        scored[subnet] = Trial(subnet, problem.score_of(subnet), problem.cost_of(subnet))
        if on_trial is not None:
            on_trial(scored[subnet])
    return list(scored.values())


def child(problem: Problem, trials: Sequence[Trial], rng: np.random.Generator) -> Genes:
    """Return a child of subnets on the front, with one gene or more changed; random genes where there are none."""
    choices = problem.space.choices
    parents = front_of(problem.fitting(trials) or trials)
    if not parents:
        return tuple(int(rng.integers(len(choice.sizes))) for choice in choices)

    def parent() -> Genes:
        genes = problem.space.genes(parents[int(rng.integers(len(parents)))].subnet)
        assert genes is not None
        return genes

    genes = list(parent())
    if rng.random() < CROSSOVER_RATE:
        genes = [one if rng.random() < 0.5 else other for one, other in zip(genes, parent(), strict=True)]
    changes = min(len(genes), 1 + int(rng.poisson(MEAN_EXTRA_MUTATIONS)))
    for i in rng.choice(len(genes), size=changes, replace=False):
        genes[i] = changed(genes[i], len(choices[i].sizes), rng)
    return tuple(genes)


def changed(gene: int, count: int, rng: np.random.Generator) -> int:
    """Return another of `count` sizes: a few up or down, or any."""
    if rng.random() < LOCAL_MUTATION_RATE:
        step = int(rng.integers(1, LONGEST_STEP + 1)) * (1 if rng.random() < 0.5 else -1)
        return min(max(gene + step, 0), count - 1)
    return int(rng.integers(count))


def shrunk_to_fit(problem: Problem, genes: Genes, rng: np.random.Generator) -> Genes:
    """Return genes with random ones made a size smaller, one by one, until the limits on cost are met."""
    left = list(genes)
    while True:
        subnet = problem.space.subnet(tuple(left))
        larger = [i for i, gene in enumerate(left) if gene]
        if subnet is None or not larger or problem.excess(subnet) <= 0:
            return tuple(left)
        left[larger[int(rng.integers(len(larger)))]] -= 1


def front_of(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that no other beats in both score and cost, cheapest first; of equal ones the first."""
    front: list[Trial] = []
    for trial in sorted(trials, key=lambda each: (each.cost, -each.score)):
        if not front or trial.score > front[-1].score:
            front.append(trial)
    return front


def hypervolume(points: Sequence[tuple[float, float]], least_score: float, most_cost: float) -> float:
    """Return the area that (score, cost) points dominate, bounded by the least score and the most cost.

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
    """Return at most `count` trials of a front, cheapest first, that dominate as much of its area as possible.

    Greedily: the trial that adds least area is removed, again and again; the best and the cheapest stay longest.
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


class ScoreCache:
    """Scores by subnet, kept in a file of JSON lines, so that a resumed search scores no subnet twice.

    The last line is ignored where a kill cut it short.

    Args:
        path: of the file; it need not exist.
        score_of: scores a subnet that is not in the file.
    """

    def __init__(self, path: Path, score_of: Callable[[Subnet], float]) -> None:
        self.path, self.score_of = path, score_of
        self.scores: dict[str, float] = {}
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        whole, _, rest = text.rpartition("\n")
        if rest:
            os.truncate(path, len(text.encode("utf-8")) - len(rest.encode("utf-8")))
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                data = parse_json(line)
                self.scores[json.dumps(data["subnet"])] = float(data["score"])
            except (ValueError, LookupError, TypeError):
                raise RunError(f"{path}: line {number} must hold a subnet with its score, got {line[:60]!r}") from None

    def __call__(self, subnet: Subnet) -> float:
        """Return a subnet's score, from the file or measured now."""
        key = json.dumps(subnet.to_json())
        if key not in self.scores:
            score = self.scores[key] = self.score_of(subnet)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self.path, json.dumps({"subnet": subnet.to_json(), "score": score}))
        return self.scores[key]
