"""What networks of a searched family cost: params and MACs counted, latency as the run's table of it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cutbert.bench.latency_table import LatencyTable
from cutbert.errors import BudgetError, Mistakes, RunError
from cutbert.files import read_json, write_json
from cutbert.fronts.search_settings import SearchSettings
from cutbert.methods.meters import timed_table
from cutbert.model.task_model import TaskModel
from cutbert.shape.budget import LATENCY
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.search_space import SearchSpace
from cutbert.shape.shape import EncoderShape
from cutbert.train.engine import default_threads
from cutbert.train.machine import package_version, processor_name
from cutbert.train.run_folder import RunFolder

TABLES = "latency"
DIMS = ("a", "f")
TIMED_PACKAGES = ("torch", "onnxruntime")


def check_reachable(space: SearchSpace, head: HeadSpec, settings: SearchSettings, table: LatencyTable | None) -> None:
    """Raise a BudgetError where even the cheapest networks of a space break a limit on cost."""
    limits = replace(settings, min_score=None, max_latency_ms=settings.max_latency_ms if table else None)
    mistakes = Mistakes()
    least: dict[str, float] = {}
    for subnet in space.smallest:
        for name, value in numbers_of(subnet.shape_in(space.shape), head, table).items():
            least[name] = min(value, least.get(name, value))
    mistakes.extend(f"no network of this space fits the limits: {each}" for each in limits.violations(least))
    mistakes.check(BudgetError)


def numbers_of(shape: EncoderShape, head: HeadSpec, table: LatencyTable | None) -> dict[str, float]:
    """Return what a network costs: params and macs counted, latency_ms as the table says."""
    cost = cost_of(shape, head)
    numbers: dict[str, float] = {"params": cost.params, "macs": cost.macs}
    return numbers if table is None else {**numbers, LATENCY: table(shape)}


def table_of(
    source: RunFolder, model: TaskModel, lengths: Sequence[int], space: SearchSpace, settings: SearchSettings
) -> LatencyTable | None:
    """Return the run's table of latencies for a backend and thread count, measured where there is none.

    Returns:
        None where no latency is asked for.

    Raises:
        BudgetError: the limit on latency is below every network of the space; nothing is kept then.
        RunError: the table was measured on another machine, at other lengths or with other versions.
    """
    if not settings.predicts:
        return None
    threads = settings.threads or default_threads()
    path = source.path / TABLES / f"{settings.backend}-{threads}.json"
    is_there = path.exists() and not settings.remeasure
    if is_there:
        table = LatencyTable.from_json(read_json(path, RunError))
        if not settings.allow_changed:
            check_table(path, table, lengths)
    else:
        table = timed_table(model, DIMS, lengths, replace(settings.timing, threads=threads))
    check_reachable(space, model.head_spec, settings, table)
    if not is_there:
        write_json(path, table.to_json())
    return table


def check_table(path: Path, table: LatencyTable, lengths: Sequence[int]) -> None:
    """Raise a RunError unless a table is of a machine like this one, of the same versions and lengths."""
    then = table.measured
    here = {"processor": processor_name(), **{name: package_version(name) for name in TIMED_PACKAGES}}
    there = {"processor": then["machine"]["processor"], **then["versions"]}
    pairs: list[tuple[str, Any, Any]] = [(name, there[name], now) for name, now in here.items() if name in there]
    pairs.append(("lengths", then["lengths"], sorted(lengths)))
    mistakes = Mistakes()
    mistakes.extend(
        f"{path}: must be measured with {name} {now}, got {was}; --remeasure measures anew, --allow-changed takes it"
        for name, was, now in pairs
        if was != now
    )
    mistakes.check(RunError)
