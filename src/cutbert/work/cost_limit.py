"""What a budget limits: the cost of any shape, the price of a unit, the limit; counted, or measured on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from cutbert.bench.latency import settings_lengths, time_networks
from cutbert.bench.latency_table import LatencyTable
from cutbert.bench.settings import LatencySettings
from cutbert.errors import RunError
from cutbert.files import read_json, write_json
from cutbert.fronts.measure import timed_table
from cutbert.model.task_model import TaskModel
from cutbert.shape.budget import LATENCY, Budget
from cutbert.shape.cost import BYTES_PER_PARAM, cost_of, matrix_params
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.shape.units import CostFn, least_sizes, resized
from cutbert.work.objective import Objective


@dataclass(frozen=True)
class CostLimit:
    """A cost and its limit.

    Args:
        name: of the budget; without one, what units are priced in.
        cost: of any shape.
        price: the cost that prices units: a unit's price is the increase from one more; for params the matrices
            alone, as in schuBERT's paper.
        uncut: the cost of the uncut model.
        limit: what the result must not exceed; None without a budget.
    """

    name: str
    cost: CostFn
    price: CostFn
    uncut: float
    limit: float | None

    def at(self, share: float) -> float:
        """Return the cost that is a share of the way from the uncut model's to the limit."""
        assert self.limit is not None
        return self.uncut + share * (self.limit - self.uncut)


def counted_limit(
    budget: Budget | None, dims: Sequence[str], multiple_of: int, shape: EncoderShape, head: HeadSpec
) -> CostLimit:
    """Return the limit of a budget that is counted; without a budget parameters are counted.

    Args:
        budget: of the result.
        dims, multiple_of: what may be cut, and what sizes stay multiples of.
        shape, head: of the uncut model.

    Raises:
        BudgetError: no cut reaches the budget, or it asks for none; names the reachable range.
    """
    name = "params" if budget is None else budget.name

    def cost(each: EncoderShape) -> float:
        return float(getattr(cost_of(each, head), name))

    def matrices(each: EncoderShape) -> float:
        return float(matrix_params(each, head)) * (BYTES_PER_PARAM if name == "bytes" else 1)

    unlimited = CostLimit(name, cost, matrices if name in ("params", "bytes") else cost, cost(shape), None)
    return unlimited if budget is None else with_limit(unlimited, budget, dims, multiple_of, shape)


def measured_limit(
    objective: Objective, budget: Budget, dims: Sequence[str], multiple_of: int, latency: LatencySettings, kept: Path
) -> CostLimit:
    """Return the limit of a budget in milliseconds, from a table of latencies measured on this machine.

    The main process makes it once, before anything is trained; a resumed run and the other processes read it.

    Args:
        objective: of the run; holds the uncut model.
        budget, dims, multiple_of: as in `counted_limit`.
        latency: how networks are timed.
        kept: file the table is kept in.

    Raises:
        BudgetError: no cut reaches the budget; names the reachable range.
    """
    model = objective.loaded.model

    def limit_of(table: LatencyTable) -> CostLimit:
        unlimited = CostLimit(LATENCY, table, table, table(model.shape), None)
        return with_limit(unlimited, budget, dims, multiple_of, model.shape)

    def measure() -> None:
        table = timed_table(model, dims, objective.lengths, latency)
        limit_of(table)  # refuses a budget out of reach before the table is kept
        write_json(kept, table.to_json())

    objective.engine.make_once(kept, measure)
    return limit_of(read_json(kept, RunError, LatencyTable.from_json))


def with_limit(
    unlimited: CostLimit, budget: Budget, dims: Sequence[str], multiple_of: int, shape: EncoderShape
) -> CostLimit:
    """Return a cost with its limit, or raise where no cut can keep it."""
    least = unlimited.cost(resized(shape, least_sizes(shape, dims, multiple_of)))
    budget.check_reachable(least, unlimited.uncut)
    return replace(unlimited, limit=budget.limit(unlimited.uncut))


class CutTimes(NamedTuple):
    """Milliseconds of a cut network and of the uncut one, timed in turn."""

    cut_ms: float
    uncut_ms: float


def time_cut(small: TaskModel, uncut: TaskModel, lengths: list[int], settings: LatencySettings) -> CutTimes:
    """Time a cut network beside the uncut one, at some lengths or the settings' own."""
    times = time_networks({"uncut": uncut, "cut": small}, settings_lengths(settings, lengths), settings)
    return CutTimes(times["cut"].latency_ms, times["uncut"].latency_ms)
