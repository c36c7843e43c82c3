"""Settings of `schubert`. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from cutbert.bench.settings import BackendName
from cutbert.errors import InputError
from cutbert.methods.objective_settings import ObjectiveSettings
from cutbert.options import option
from cutbert.settings import MEASURING, METHOD, HealingSettings
from cutbert.shape.budget import BUDGET_NAMES, LATENCY, Budget
from cutbert.shape.paper_shapes import PAPER_SHAPES
from cutbert.shape.units import DIMS

Dim = Literal["h", "f", "a", "k", "v"]
RecipeName = Literal["ours", "paper"]


@dataclass(frozen=True, kw_only=True)
class SchubertSettings(ObjectiveSettings, HealingSettings):
    """How `schubert` cuts a network to a budget."""

    GROUP = METHOD

    budget: str | None = field(
        default=None,
        metadata=option(
            f"What to cut to: NAME=X, NAME one of {', '.join(BUDGET_NAMES)}; X below 1 is a share of the uncut "
            "model's, else a number, such as params=15M.",
            is_common=True,
        ),
    )
    from_paper: str | None = field(
        default=None,
        metadata=option("Cut to an architecture the paper found instead.", choices=PAPER_SHAPES, is_common=True),
    )
    recipe: RecipeName = field(
        default="ours",
        metadata=option(
            "paper: L1 price with a constant --gamma, the paper's schedule, gates, rounds and folding.",
            is_common=True,
        ),
    )
    gamma: float | None = field(default=None, metadata=option("Strength of the L1 price of --recipe paper.", above=0))
    dims: tuple[Dim, ...] = field(
        default=("h", "f", "a", "k", "v"),
        metadata=option("What may go: h hidden units, f neurons, a heads, k key units, v value units."),
    )
    uniform: bool = field(
        default=False, metadata=option("Shrink all --dims by one share; gates only say which units stay.")
    )
    multiple_of: int = field(
        default=8, metadata=option("Sizes stay multiples of this (heads apart); 1 for any.", least=1)
    )
    rounds: int = field(
        default=1, metadata=option("Rounds of gates, cut and healing (the paper's T).", least=1, is_common=True)
    )
    gate_steps: int = field(default=100, metadata=option("Training of the gates in a round.", least=1, unit="steps"))
    gate_learning_rate: float = field(default=0.02, metadata=option("Learning rate of gates.", above=0))
    last_share: float = field(
        default=0.6,
        metadata=option("Share of the healing that comes after the last cut; the rest is spread.", above=0, most=1),
    )
    backend: BackendName = field(
        default="torch", metadata=option("What --budget latency_ms is measured on.", group=MEASURING)
    )
    length: int | None = field(
        default=None,
        metadata=option(
            "Length of a text for --budget latency_ms; default: lengths of the dev texts.",
            least=1,
            unit="tokens",
            group=MEASURING,
        ),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", tuple(dim for dim in DIMS if dim in self.dims))

    @property
    def is_timed(self) -> bool:
        """Whether the budget is in milliseconds."""
        return (self.budget or "").startswith(f"{LATENCY}=")

    def missing(self) -> Iterable[str]:
        if (self.budget is None) == (self.from_paper is None):
            yield "schubert must have one of --budget NAME=X and --from-paper NAME"

    def conflicts(self) -> Iterable[str]:
        yield from super().conflicts()
        if self.budget is not None:
            try:
                Budget.parse(self.budget)
            except InputError as error:
                yield from error.mistakes
        if not self.dims:
            yield f"--dims must name some of {', '.join(DIMS)}, got none"
        yield from self._without_effect()

    def _without_effect(self) -> Iterable[str]:
        """Yield a mistake for each option that was given beside one that leaves it nothing to do."""
        if self.from_paper is not None:
            for name in self.given("dims", "uniform", "multiple_of"):
                yield f"{name} must not be given with --from-paper, which names every size"
        if not self.is_timed:
            for name in self.given("backend", "length"):
                yield f"{name} must come with --budget latency_ms=X"
        if self.rounds == 1 and self.is_given("last_share"):
            yield "--last-share must come with --rounds of at least 2"
        if self.gamma is not None and self.recipe != "paper":
            yield "--gamma must come with --recipe paper"
