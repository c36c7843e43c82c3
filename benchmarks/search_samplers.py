"""Our evolution beside optuna's NSGA-II: area gained over the grid on made-up scores, with as many scored networks.

Scores rise with heads and neurons, more slowly with each, by weights that differ between layers; they fall where
neighbouring sub-layers differ much; noise is as large as that of a select split of some hundred rows, or none.
Needs optuna: pip install optuna.
"""

from __future__ import annotations

import argparse
import hashlib
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from cutbert.fronts.search import Problem, Trial, hypervolume, search
from cutbert.shape.cost import cost_of
from cutbert.shape.search_space import SearchSpace, search_space
from cutbert.shape.shape import EncoderShape
from cutbert.shape.space import grid
from cutbert.shape.subnet import Subnet
from cutbert.train.progress import say
from recording import make_parser, recorded

SHAPE = EncoderShape.uniform(
    hidden_size=384, num_layers=6, num_heads=12, intermediate_size=1536, vocab_size=30522, num_positions=512
)
WHOLE = cost_of(SHAPE).macs
LEAST_SCORE = 0.5
NOISES = (0.0, 0.006)
POPULATIONS = (10, 20, 40)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--problems", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3, help="search seeds")
    parser.add_argument("--trials", type=int, default=400)
    args = parser.parse_args()
    record = recorded("search_samplers", args, lambda: measure(args), seeds=list(range(args.seeds)))
    for noise, gains in record["mean_gain"].items():
        print(f"noise {noise}:", ", ".join(f"{name} {gain:.4f}" for name, gain in gains.items()))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return the gains of each sampler by noise, problem and seed."""
    seeds = [point.subnet for point in grid(SHAPE, width_mults=(1, 0.75, 0.5, 0.25), depth_mults=(1, 0.75, 0.5))]
    space = search_space(SHAPE, "free", seeds)
    samplers: dict[str, Callable[..., list[Trial]]] = {"ours": search}
    for population in POPULATIONS:
        samplers[f"optuna, {population}"] = partial(by_optuna, population=population, mutates=False)
    samplers["optuna, 20, polynomial"] = partial(by_optuna, population=20, mutates=True)
    gains: dict[str, dict[str, list[list[float]]]] = {}
    for noise in NOISES:
        of_noise = gains[str(noise)] = {name: [] for name in samplers}
        for problem in range(args.problems):
            score_of = made_up(problem, noise)
            problem = Problem(space, score_of, share_of_macs)
            before = area([Trial(each, score_of(each), share_of_macs(each)) for each in seeds])
            for name, sampler in samplers.items():
                found = [sampler(problem, seeds, trials=args.trials, seed=seed) for seed in range(args.seeds)]
                of_noise[name].append([area(each) - before for each in found])
                say(f"noise {noise}, problem {problem}, {name}: {np.mean(of_noise[name][-1]):.4f}")
    means = {noise: {name: float(np.mean(each)) for name, each in found.items()} for noise, found in gains.items()}
    return {"trials": args.trials, "gain": gains, "mean_gain": means}


def share_of_macs(subnet: Subnet) -> float:
    return cost_of(subnet.shape_in(SHAPE)).macs / WHOLE


def area(trials: list[Trial]) -> float:
    return hypervolume([(each.score, each.cost) for each in trials], LEAST_SCORE, 1.0)


def made_up(problem: int, noise: float) -> Callable[[Subnet], float]:
    """Return a made-up score in thousandths; the noise of a subnet is always the same."""
    draw = np.random.default_rng(problem)
    L = SHAPE.num_layers
    weights_2L = 0.5 * np.stack([draw.dirichlet(np.ones(L)), draw.dirichlet(np.ones(L))])
    powers_2L = np.stack([draw.uniform(0.2, 0.8, L), draw.uniform(0.1, 0.6, L)])
    between_L = draw.uniform(0, 0.3, L)

    def score(subnet: Subnet) -> float:
        kept_2L = np.zeros((2, L))
        for each in subnet.layers:
            whole = SHAPE.layers[each.index]
            shares = (each.shape.num_heads / whole.num_heads, each.shape.intermediate_size / whole.intermediate_size)
            kept_2L[:, each.index] = shares
        use_2L = kept_2L**powers_2L
        value = (weights_2L * use_2L).sum() - (between_L * (use_2L[0] - use_2L[1]) ** 2).mean()
        value -= 0.05 * np.abs(np.diff(kept_2L.sum(0))).sum() / L
        digest = hashlib.md5(f"{problem} {subnet}".encode()).hexdigest()
        return round(0.5 + 0.4 * float(value) + noise * np.random.default_rng(int(digest[:8], 16)).normal(), 3)

    return score


def by_optuna(
    problem: Problem, seeds: list[Subnet], *, trials: int, seed: int, population: int, mutates: bool
) -> list[Trial]:
    """Search by optuna's NSGA-II; a network that was scored before is not told again and costs no trial."""
    import optuna

    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    mutation = optuna.samplers.nsgaii.PolynomialMutation() if mutates else None
    sampler = optuna.samplers.NSGAIISampler(population_size=population, seed=seed, mutation=mutation)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    space: SearchSpace = problem.space
    for each in seeds:
        genes = space.genes(each)
        assert genes is not None
        study.enqueue_trial({choice.name: place for choice, place in zip(space.choices, genes, strict=True)})
    found: dict[Subnet, Trial] = {}
    for _ in range(50 * trials):
        if len(found) >= trials:
            break
        asked = study.ask()
        genes = tuple(asked.suggest_int(choice.name, 0, len(choice.sizes) - 1) for choice in space.choices)
        subnet = space.subnet(genes)
        if subnet is None or subnet in found:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
            continue
        trial = found[subnet] = Trial(subnet, problem.score_of(subnet), problem.cost_of(subnet))
        study.tell(asked, (trial.score, trial.cost))
    return list(found.values())


if __name__ == "__main__":
    main()
