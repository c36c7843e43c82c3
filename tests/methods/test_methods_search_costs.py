"""Limits that no network keeps are refused before a search, tables of latencies made elsewhere too."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from cutbert.bench.latency_table import Curve, LatencyTable, Plane
from cutbert.errors import BudgetError, RunError
from cutbert.fronts.search_settings import SearchSettings
from cutbert.methods.search_trials import check_reachable, check_table, numbers_of
from cutbert.shape.cost import cost_of
from cutbert.shape.search_space import search_space
from cutbert.shape.shape import EncoderShape
from cutbert.train.machine import package_version, processor_name
from tiny_runs import HEAD, MEASURED

SHAPE = EncoderShape.uniform(hidden_size=8, num_layers=2, num_heads=2, intermediate_size=3, vocab_size=9)
SPACE = search_space(SHAPE)


def table(**changed: Any) -> LatencyTable:
    """Return a table of one hidden size in which neurons take a millisecond each, and all else one."""
    nothing, each = Curve((0.0, 1.0), (0.0, 0.0)), Curve((0.0, 1.0), (0.0, 1.0))
    versions = {"torch": package_version("torch"), **changed.pop("versions", {})}
    measured = {
        **MEASURED,
        "machine": {"processor": processor_name()},
        "versions": versions,
        "lengths": [4, 6],
        **changed,
    }
    return LatencyTable((Plane(8, 1.0, nothing, each),), None, 2, 8, 7.0, 1.0, 0.0, 0.0, measured)


def test_the_limit_of_the_cheapest_network_is_within_reach_and_no_less() -> None:
    genes = product(*(range(len(choice.sizes)) for choice in SPACE.choices))
    found = [cost_of(subnet.shape_in(SHAPE), HEAD) for each in genes if (subnet := SPACE.subnet(each)) is not None]
    macs, params = min(cost.macs for cost in found), min(cost.params for cost in found)
    check_reachable(SPACE, HEAD, SearchSettings(max_macs=macs, max_params=params), None)
    with pytest.raises(BudgetError) as caught:
        check_reachable(SPACE, HEAD, SearchSettings(max_macs=macs - 1, max_params=params - 1), None)
    assert len(caught.value.mistakes) == 2
    assert f"fits the limits: macs must be at most {macs - 1}, got {macs}" in str(caught.value)


def test_latency_is_a_limit_where_there_is_a_table() -> None:
    assert numbers_of(SHAPE, HEAD, None).keys() == {"params", "macs"}
    assert numbers_of(SHAPE, HEAD, table())["latency_ms"] == pytest.approx(7.0)
    limit = SearchSettings(max_latency_ms=0.5)
    check_reachable(SPACE, HEAD, limit, None)
    with pytest.raises(BudgetError, match=r"latency_ms must be at most 0\.5, got 1"):
        check_reachable(SPACE, HEAD, limit, table())


def test_a_table_made_elsewhere_is_refused() -> None:
    path = Path("latency/torch-1.json")
    check_table(path, table(), [6, 4])
    with pytest.raises(RunError) as caught:
        check_table(path, table(machine={"processor": "another"}, versions={"torch": "0"}), [4, 5])
    beginnings = [line.split(", got")[0] for line in caught.value.mistakes]
    assert beginnings == [
        f"{path}: must be measured with processor {processor_name()}",
        f"{path}: must be measured with torch {package_version('torch')}",
        f"{path}: must be measured with lengths [4, 5]",
    ]
    assert "got another; --remeasure measures again, --allow-changed takes it" in caught.value.mistakes[0]
