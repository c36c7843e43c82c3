"""Step 3 of schuBERT's algorithm 1 (Khetan and Karnin 2020, 2005.06628): which units go, of the smallest gates.

What a round may cost, or the sizes it comes to, is on the way from the uncut model to the budget or to named sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from cutbert.errors import BudgetError
from cutbert.methods.schubert_recipes import SchubertRecipe
from cutbert.methods.schubert_settings import SchubertSettings
from cutbert.model.task_model import TaskModel
from cutbert.shape.budget import LATENCY
from cutbert.shape.paper_shapes import paper_shape
from cutbert.shape.shape import EncoderShape
from cutbert.shape.units import Place, Sizes, resized, size_at, sizes_of, uniform_sizes
from cutbert.surgery.cut import Kept, choose_by_limit, choose_by_sizes, cut
from cutbert.train.progress import say
from cutbert.work.cost_limit import CostLimit, CutTimes

MARGIN = 0.97  # safety factor on a latency limit: a single measurement is noisy
MAX_CUTS = 7


@dataclass(frozen=True, eq=False)
class RoundTargets:
    """What the network of each round must come to; the first round has number 1.

    Args:
        uncut: the shape that the first round begins with.
        cost_limit: the cost, and the budget's limit on it.
        settings: as given.
        recipe: how the cut is made.
    """

    uncut: EncoderShape
    cost_limit: CostLimit
    settings: SchubertSettings
    recipe: SchubertRecipe

    def limit(self, number: int) -> float:
        """Return the cost that a round must not exceed: linear over the rounds from the uncut cost to the budget.

        Source:
            Algorithm 1, step 3: each round lowers the objective by eta / T, eta the share to be saved, T the rounds.
        """
        if self.settings.from_paper is not None:
            return self.cost_limit.cost(resized(self.uncut, self.sizes(number)))
        return self.cost_limit.at(number / self.recipe.rounds)

    def sizes(self, number: int) -> Sizes:
        """Return a round's sizes on the way from the uncut network's to those that --from-paper names."""
        share, whole = number / self.recipe.rounds, self.uncut
        target = target_sizes(self.settings, whole)
        return {
            place: round(size_at(whole, place) + share * (size - size_at(whole, place)))
            for place, size in target.items()
        }

    def uniform_sizes(self, limit: float) -> Sizes:
        """Return the sizes of the uncut model shrunk by one share, within a limit: "uniform" in the paper's tables."""
        return uniform_sizes(self.uncut, self.settings.dims, self.cost_limit.cost, limit, self.recipe.multiple_of)

    def kept_within(self, shape: EncoderShape, gates: Mapping[Place, Tensor], limit: float) -> Kept:
        """Return the units of a network that stay within a limit, by the settings' way of choosing."""
        settings, cost = self.settings, self.cost_limit.cost
        if settings.uniform:
            return choose_by_sizes(shape, gates, self.uniform_sizes(limit))
        return choose_by_limit(shape, gates, cost, limit, dims=settings.dims, multiple_of=self.recipe.multiple_of)


def choose_units(
    targets: RoundTargets,
    folded: TaskModel,
    gates: Mapping[Place, Tensor],
    number: int,
    timed: Callable[[TaskModel], CutTimes],
) -> Kept:
    """Return the units that stay in a round: those of the largest gates, within what the round must come to.

    Args:
        targets: of all rounds.
        folded: the network as it is before the cut, gates folded into its weights.
        gates: absolute values by place, one for each unit.
        number: of the round.
        timed: times a cut network beside the uncut one; called only where a limit on latency is kept.
    """
    if targets.settings.from_paper is not None:
        return choose_by_sizes(folded.shape, gates, targets.sizes(number))
    limit = targets.limit(number)
    if targets.cost_limit.name == LATENCY and number == targets.recipe.rounds:
        return choose_by_measurement(targets, folded, gates, limit, timed)
    return targets.kept_within(folded.shape, gates, limit)


def choose_by_measurement(
    targets: RoundTargets,
    folded: TaskModel,
    gates: Mapping[Place, Tensor],
    limit: float,
    timed: Callable[[TaskModel], CutTimes],
) -> Kept:
    """Return the units that stay within a limit on latency, as measured: cut further where a cut is too slow.

    Raises:
        BudgetError: no cut that was tried is fast enough.
    """
    budget, times = targets.settings.parsed_budget, None
    assert budget is not None
    for _ in range(MAX_CUTS):
        try:
            kept = targets.kept_within(folded.shape, gates, limit)
        except BudgetError:
            break
        times = timed(cut(folded, kept))
        aim = MARGIN * budget.limit(times.uncut_ms)
        if times.cut_ms <= aim:
            return kept
        limit *= MARGIN * aim / times.cut_ms
        say(f"latency: the cut takes {times.cut_ms:.3f} ms, wanted at most {aim:.3f}: cutting further")
    took = "" if times is None else f", the last cut took {times.cut_ms:.3f} ms, the uncut model {times.uncut_ms:.3f}"
    raise BudgetError(f"--budget latency_ms must be reachable by measurement, got {budget.value:g}{took}")


def target_sizes(settings: SchubertSettings, shape: EncoderShape) -> Sizes:
    """Return the sizes of the architecture that --from-paper names.

    Raises:
        ShapeError: a network of this shape cannot be cut to them.
    """
    name = str(settings.from_paper)
    return sizes_of(shape, paper_shape(name), f"--from-paper {name}")
