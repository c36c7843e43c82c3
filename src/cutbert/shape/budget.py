"""Limits on cost and score: the one budget a method cuts to, and the limits that a picked subnet must meet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from cutbert.errors import BudgetError, InputError
from cutbert.options import option
from cutbert.quantities import example_of, parse_number
from cutbert.settings import LIMITS, Settings
from cutbert.shape.cost import BYTES_PER_PARAM

LATENCY = "latency_ms"
BUDGET_UNITS = {"params": "parameters", "params_encoder": "parameters", "macs": "MACs", "bytes": "bytes", LATENCY: "ms"}
BUDGET_NAMES = tuple(BUDGET_UNITS)


@dataclass(frozen=True)
class Budget:
    """The cost that a method must bring a network down to.

    Args:
        name: one of BUDGET_NAMES.
        value: below 1 a share of the uncut model's cost, else an absolute limit.

    >>> Budget.parse("params=0.5").limit(uncut=110_000_000)  # half of BERT-base
    55000000.0
    >>> Budget.parse("latency_ms=20").limit(uncut=43.7)  # 20 milliseconds, whatever the uncut model takes
    20.0
    """

    name: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read NAME=X; X may be short, such as 15M parameters or 8MB.

        Raises:
            BudgetError: another form, an unknown name, or a value that is not a number above 0.
        """
        name, _, number = text.partition("=")
        if name not in BUDGET_NAMES:
            raise BudgetError(f"--budget must be NAME=X with NAME one of {', '.join(BUDGET_NAMES)}, got {text!r}")
        try:
            value = float(parse_number(number, BUDGET_UNITS[name]))
        except (ValueError, OverflowError):
            value = math.nan
        if not 0 < value < math.inf:
            example = example_of(BUDGET_UNITS[name])
            raise BudgetError(f"--budget {name} must be a number above 0, such as 0.5 or {example}, got {number!r}")
        return cls(name, value)

    def limit(self, uncut: float) -> float:
        """Return the absolute limit, given what the uncut model takes."""
        return self.value * uncut if self.value < 1 else self.value

    def check_reachable(self, least: float, uncut: float) -> None:
        """Raise unless the limit lies between the smallest network's cost and the uncut model's.

        Raises:
            BudgetError: names the reachable range, absolute and as shares.
        """
        if not least <= self.limit(uncut) < uncut:
            lowest = max(1.0, least)  # a value below 1 would be read as a share
            ends = (
                (f"{rounded_up(lowest):.3f}", f"{uncut:.3f}")
                if self.name == LATENCY
                else (f"{lowest:.0f}", f"{uncut:.0f}")
            )
            raise BudgetError(
                f"--budget {self.name} must be at least {ends[0]} and below {ends[1]} (the uncut model), or as a share "
                f"at least {rounded_up(least / uncut):.3f} and below 1, got {self.value:.15g}"
            )


@dataclass(frozen=True, kw_only=True)
class Limits(Settings):
    """The limits a picked subnet must meet; None means no limit.

    Args:
        max_latency_ms: largest median latency at batch 1, in milliseconds.
        max_params: largest number of parameters.
        max_macs: largest number of multiply-adds.
        max_bytes: largest size of the weights in float32.
        min_score: smallest score on the select split, as a fraction of 1; may be negative for
            correlations.
    """

    GROUP = LIMITS
    ERROR: ClassVar[type[InputError]] = BudgetError

    max_latency_ms: float | None = field(
        default=None, metadata=option("Largest median latency at batch 1.", above=0, unit="ms", is_common=True)
    )
    max_params: int | None = field(
        default=None, metadata=option("Largest network.", least=1, unit="parameters", is_common=True)
    )
    max_macs: int | None = field(
        default=None, metadata=option("Most multiply-adds at 128 tokens.", least=1, unit="MACs", is_common=True)
    )
    max_bytes: int | None = field(
        default=None, metadata=option("Largest size of the weights in float32.", least=1, unit="bytes", is_common=True)
    )
    min_score: float | None = field(
        default=None,
        metadata=option("Smallest score on the select split, as a fraction of 1.", least=-1, most=1, is_common=True),
    )

    def violations(self, entry: Mapping[str, Any]) -> list[str]:
        """Return one message per limit that an entry of a front breaks; empty where it meets all.

        A limit on something that was not measured counts as broken.

        Args:
            entry: with the keys params, macs, latency_ms and select_score, each where it is known.
        """
        messages = [
            f"{name} must be at most {limit}, got {as_text(value)}"
            for name, value, limit in self.limited(entry)
            if value is None or value > limit
        ]
        score = entry.get("select_score")
        if self.min_score is not None and (score is None or score < self.min_score):
            messages.append(f"select_score must be at least {self.min_score}, got {as_text(score)}")
        return messages

    def excess(self, entry: Mapping[str, Any]) -> float:
        """Return by how much an entry breaks the limits: the excess as a share of each limit, summed; 0 where it fits.

        Args:
            entry: as in `violations`.
        """
        over = [math.inf if value is None else max(0.0, value / limit - 1) for _, value, limit in self.limited(entry)]
        if self.min_score is not None:
            score = entry.get("select_score")
            over.append(math.inf if score is None else max(0.0, self.min_score - score))
        return sum(over)

    def limited(self, entry: Mapping[str, Any]) -> list[tuple[str, float | None, float]]:
        """Return name, value and limit of each cost that has a limit."""
        params = entry.get("params")
        costs = {
            "latency_ms": (entry.get("latency_ms"), self.max_latency_ms),
            "params": (params, self.max_params),
            "macs": (entry.get("macs"), self.max_macs),
            "bytes": (None if params is None else BYTES_PER_PARAM * params, self.max_bytes),
        }
        return [(name, value, limit) for name, (value, limit) in costs.items() if limit is not None]


def rounded_up(value: float) -> float:
    """Round up to three decimals, so that a value copied from the message is accepted."""
    return math.ceil(1000 * value) / 1000


def as_text(value: object) -> str:
    return "none measured" if value is None else repr(value)
