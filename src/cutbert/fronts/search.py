"""Searches a space of subnets for the best scores at the lowest cost, by NSGA-II with a budget of trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from cutbert.errors import MissingError
from cutbert.shape.search_space import Genes, SearchSpace
from cutbert.shape.subnet import Subnet

if TYPE_CHECKING:
    import optuna

ASKS_PER_TRIAL = 50  # of the sampler, at most: asking costs little, and it often repeats itself
WORST = -1.0  # no metric is lower
Item = TypeVar("Item")


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
        shortfall: by how much a score breaks the limit on scores, 0 where it keeps it.
    """

    space: SearchSpace
    score_of: Callable[[Subnet], float]
    cost_of: Callable[[Subnet], float]
    excess: Callable[[Subnet], float] = lambda subnet: 0.0
    shortfall: Callable[[float], float] = lambda score: 0.0


def search(
    quest: Quest,
    seeds: Sequence[Subnet],
    *,
    trials: int,
    population: int,
    seed: int,
    on_trial: Callable[[Trial], None] | None = None,
) -> list[Trial]:
    """Return the subnets scored, in order; those that keep the limits on cost only.

    The same arguments give the same trials, so a search that was killed goes on by being run again with the scores
    it had. A subnet is scored once; one that breaks a limit on cost is never scored, but tells the sampler how far
    off it is. The search ends with its budget, with the space, or when the sampler finds nothing new.

    Args:
        quest: what is searched for.
        seeds: subnets to begin with; those outside the space or the limits are left out.
        trials: subnets to score at most, seeds included.
        population: subnets in a generation.
        seed: of everything random.
        on_trial: called after each scored subnet.

    Source:
        Deb et al. 2002, NSGA-II with constrained domination, as optuna has it. Ours: a network that was scored
        before is not told again, which keeps generations diverse, and after as many repetitions as a generation
        has members a neighbour of a network on the front is asked for.
    """
    study = new_study(population, seed)
    draw = np.random.default_rng(seed)
    space, found = quest.space, dict[Subnet, Trial]()
    starts = [genes for each in seeds if (genes := space.genes(each)) is not None]
    for genes in starts:
        study.enqueue_trial(params_of(space, genes))
    repeats = 0
    for _ in range(ASKS_PER_TRIAL * trials + len(starts)):
        if len(found) >= min(trials, space.size):
            break
        if repeats >= population and found:
            study.enqueue_trial(params_of(space, neighbour(space, front_of(list(found.values())), draw)))
        asked = study.ask()
        genes = tuple(asked.suggest_int(choice.name, 0, len(choice.sizes) - 1) for choice in space.choices)
        subnet = space.subnet(genes)
        if subnet is None or subnet in found:
            repeats += 1
            study.tell(asked, state=failed())
            continue
        excess = quest.excess(subnet)
        if excess > 0:
            asked.set_constraint("cost", excess)
            study.tell(asked, (WORST, quest.cost_of(subnet)))
            continue
        repeats = 0
        trial = found[subnet] = Trial(subnet, quest.score_of(subnet), quest.cost_of(subnet))
        asked.set_constraint("cost", quest.shortfall(trial.score))
        study.tell(asked, (trial.score, trial.cost))
        if on_trial is not None:
            on_trial(trial)
    return list(found.values())


def new_study(population: int, seed: int) -> optuna.Study:
    """Return a study that maximises the score and minimises the cost."""
    check_search_installed()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
    return optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)


def failed() -> optuna.trial.TrialState:
    from optuna.trial import TrialState

    return TrialState.FAIL


def params_of(space: SearchSpace, genes: Genes) -> dict[str, int]:
    return {choice.name: place for choice, place in zip(space.choices, genes, strict=True)}


def neighbour(space: SearchSpace, front: Sequence[Trial], draw: np.random.Generator) -> Genes:
    """Return a network on the front with one or two choices made anew."""
    genes = list(space.genes(front[int(draw.integers(len(front)))].subnet) or ())
    for _ in range(int(draw.integers(1, 3))):
        i = int(draw.integers(len(genes)))
        genes[i] = int(draw.integers(len(space.choices[i].sizes)))
    return tuple(genes)


def check_search_installed() -> None:
    """Raise unless the package that searches is there; loads nothing.

    Raises:
        MissingError: says how to install it.
    """
    from importlib.util import find_spec

    if find_spec("optuna") is None:
        raise MissingError("cutbert search needs the package optuna: pip install 'cutbert[search]'")


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
