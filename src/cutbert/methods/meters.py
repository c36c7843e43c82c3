"""What a budget is measured in: the cost of any shape, the price of a unit, the limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from cutbert.bench.latency import settings_lengths, time_networks
from cutbert.bench.latency_table import LatencyTable, measure_table
from cutbert.bench.settings import LatencySettings
from cutbert.files import read_json, write_json
from cutbert.fronts.measure import num_rounds
from cutbert.methods.schubert_settings import SchubertSettings
from cutbert.model.task_model import TaskModel
from cutbert.shape.budget import LATENCY, Budget
from cutbert.shape.cost import BYTES_PER_PARAM, cost_of, matrix_params
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.shape.units import CostFn, least_sizes, resized
from cutbert.train.counting import counter
from cutbert.train.engine import Engine
from cutbert.train.progress import progress_bar, say

MARGIN = 0.97  # of a limit on latency: the measurement after the cut is one of many


@dataclass(frozen=True)
class Meter:
    """A cost and its limit.

    Args:
        name: of the budget; of a named target shape, what gates are priced in.
        cost: of any shape.
        price: what a unit's price is the slope of; the cost, or for params the matrices alone, as in the paper.
        uncut: the cost of the uncut model.
        limit: what the result must not exceed; None where a target shape is given instead.
    """

    name: str
    cost: CostFn
    price: CostFn
    uncut: float
    limit: float | None


def count_meter(settings: SchubertSettings, shape: EncoderShape, head: HeadSpec) -> Meter:
    """Return the meter of a budget that is counted.

    Raises:
        BudgetError: no cut reaches the budget, or it asks for none; names the reachable range.
    """
    budget = None if settings.budget is None else Budget.parse(settings.budget)
    name = "params" if budget is None else budget.name

    def cost(each: EncoderShape) -> float:
        return float(getattr(cost_of(each, head), name))

    def matrices(each: EncoderShape) -> float:
        return float(matrix_params(each, head)) * (BYTES_PER_PARAM if name == "bytes" else 1)

    price = matrices if name in ("params", "bytes") else cost
    return checked(Meter(name, cost, price, cost(shape), None), budget, settings, shape)


def latency_meter(
    settings: SchubertSettings,
    model: TaskModel,
    lengths: list[int],
    latency: LatencySettings,
    engine: Engine,
    kept: Path,
) -> Meter:
    """Return the meter of a budget in milliseconds: a table of latencies measured on this machine.

    The main process makes it once, before anything is trained; a resumed run and the other processes read it.

    Args:
        settings: the budget and the dimensions that may be cut.
        model: the uncut network.
        lengths: tokens per text.
        latency: how networks are timed.
        engine: processes.
        kept: file the table is kept in.

    Raises:
        BudgetError: no cut reaches the budget; names the reachable range.
    """
    budget = Budget.parse(str(settings.budget))

    def measure_once() -> None:
        if not kept.exists():
            table = timed_table(model, settings.dims, lengths, latency)
            checked(Meter(LATENCY, table, table, table(model.shape), None), budget, settings, model.shape)
            write_json(kept, table.to_json())

    engine.on_main(measure_once)
    table = LatencyTable.from_json(read_json(kept))
    uncut = table(model.shape)
    return Meter(LATENCY, table, table, uncut, budget.limit(uncut))


def timed_table(
    model: TaskModel, dims: Sequence[str], lengths: Sequence[int], settings: LatencySettings
) -> LatencyTable:
    """Return a network's table of latencies, measured now, and say how far it is off."""
    say(f"latency: timing sub-layers of several sizes on {settings.backend}")
    with progress_bar("latency table", num_rounds(settings)) as bar:
        table = measure_table(model, dims, lengths, settings, on_round=counter(bar))
    say(f"latency: on networks that are not in it the table is off by {100 * table.error:.1f} % (median)")
    return table


def checked(meter: Meter, budget: Budget | None, settings: SchubertSettings, shape: EncoderShape) -> Meter:
    """Return the meter with its limit, or raise where no cut can keep it."""
    if budget is None:
        return meter
    least = meter.cost(resized(shape, least_sizes(shape, settings.dims, settings.multiple_of)))
    budget.check_reachable(least, meter.uncut)
    return replace(meter, limit=budget.limit(meter.uncut))


class Timed(NamedTuple):
    """Milliseconds of a cut network and of the uncut one, timed in turn."""

    cut_ms: float
    uncut_ms: float


def time_cut(small: TaskModel, uncut: TaskModel, lengths: list[int], settings: LatencySettings) -> Timed:
    """Time a cut network beside the uncut one, at some lengths or the settings' own."""
    times = time_networks({"uncut": uncut, "cut": small}, settings_lengths(settings, lengths), settings)
    return Timed(times["cut"].latency_ms, times["uncut"].latency_ms)
