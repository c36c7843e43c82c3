"""The candidate of `fit` whose sizes are chosen by schuBERT's gates, under the price that the limits set.

Source:
    Khetan and Karnin 2020 (2005.06628), algorithm 1, steps 1 to 3, once; the price is the load on the limits (ours).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cutbert.errors import BudgetError
from cutbert.methods.fit_candidates import Candidate, Source
from cutbert.methods.fit_limits import GATED_MULTIPLE, gated_dims
from cutbert.methods.schubert_gates import GatedModel, Price
from cutbert.shape.shape import EncoderShape
from cutbert.shape.units import Place, marginal_costs, size_at, unit_prices
from cutbert.surgery.cut import choose_by_limit, subnet_of
from cutbert.train.settings import StagePlan

LEARNING_RATE = 0.02
MOST_STEPS, LEAST_STEPS = 300, 100  # fewer move the gates too little


def gate_plan(plan: StagePlan, name: str, steps: int) -> StagePlan:
    """Return how gates are trained."""
    return replace(
        plan, name=name, exact_steps=steps, learning_rate=LEARNING_RATE, schedule="constant", warmup_ratio=0.0
    )


def gated(source: Source, load: Callable[[EncoderShape], float]) -> GatedModel:
    """Return a model with its gates under the price of a load that must come down to 1."""
    shape, dims = source.shape, gated_dims(source.model.head_spec)
    costs = marginal_costs(shape, load, dims)
    whole = sum(each * size_at(shape, place) for place, each in costs.items())
    aim = 1.0 - (load(shape) - 1.0) / whole if whole else 1.0
    return GatedModel(source.model, [Price(unit_prices(shape, load, dims), aim=min(1.0, max(0.0, aim)))])


def chosen_by_gates(source: Source, model: GatedModel, load: Callable[[EncoderShape], float]) -> list[Candidate]:
    """Return the network of the units with the largest gates that fits, or none where no such network does."""
    gates = {place: value.detach().abs().cpu() for place, value in model.values().items()}
    dims = gated_dims(source.model.head_spec)
    try:
        kept = choose_by_limit(source.shape, gates, load, 1.0, dims=dims, multiple_of=GATED_MULTIPLE)
    except BudgetError:
        return []
    subnet = subnet_of(source.shape, kept)
    if len(kept[Place("h")]) == source.shape.hidden_size:
        del kept[Place("h")]
    return [Candidate("gates", "gates", subnet, kept=kept)]
