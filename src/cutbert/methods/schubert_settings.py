"""Settings of `schubert`. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from cutbert.bench.settings import BackendSettings
from cutbert.errors import InputError
from cutbert.methods.objective_settings import ObjectiveSettings
from cutbert.options import option
from cutbert.settings import MEASURING, METHOD, HealingSettings
from cutbert.shape.budget import BUDGET_NAMES, LATENCY, Budget
from cutbert.shape.paper_shapes import PAPER_SHAPES
from cutbert.shape.units import DIMS

Dim = Literal["h", "f", "a", "k", "v"]
SchubertRecipeName = Literal["default", "paper"]


@dataclass(frozen=True, kw_only=True)
class SchubertSettings(ObjectiveSettings, HealingSettings, BackendSettings):
    """How `schubert` cuts a network to a budget."""

    GROUP = METHOD
    TASK_OPTIONS = ("teacher", "logit_weight", "hidden_weight", "temperature")

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
    recipe: SchubertRecipeName = field(
        default="default",
        metadata=option(
            "default (ours), or paper: L1 penalty of constant strength --gamma, the paper's steps, several rounds.",
            is_common=True,
        ),
    )
    gamma: float | None = field(
        default=None,
        metadata=option("Strength of the L1 price of --recipe paper (the paper's gamma). Default 0.01 there.", above=0),
    )
    dims: tuple[Dim, ...] = field(
        default=("h", "f", "a", "k", "v"),
        metadata=option(
            "What may be cut: h hidden size, f feed-forward size, a heads, k query/key and v value size per head."
        ),
    )
    uniform: bool = field(
        default=False,
        metadata=option("Shrink every dimension of --dims by the same ratio; gates only choose which units stay."),
    )
    multiple_of: int | None = field(
        default=None,
        metadata=option(
            "Sizes stay multiples of this (heads apart); 1 for any. Default 8; 1 with --recipe paper.", least=1
        ),
    )
    rounds: int | None = field(
        default=None,
        metadata=option(
            "Rounds of gates, cut and healing (the paper's T). Default 1; 3 with --recipe paper.",
            least=1,
            ceiling=1000,
            is_common=True,
        ),
    )
    gate_steps: int | None = field(
        default=None,
        metadata=option(
            "Steps of gate training per round. Default 100; --recipe paper: 1/50 of the round's healing, at least 100.",
            least=1,
            unit="steps",
        ),
    )
    gate_learning_rate: float = field(default=0.02, metadata=option("Learning rate of gates.", above=0))
    last_share: float | None = field(
        default=None,
        metadata=option(
            "Share of the healing that comes after the last cut; the rest is split equally over the others. Default "
            "0.6; with --recipe paper all rounds are healed equally.",
            above=0,
            most=1,
        ),
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
    def parsed_budget(self) -> Budget | None:
        """The budget; None where a named architecture is the target."""
        return None if self.budget is None else Budget.parse(self.budget)

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
            for name in self.given("length"):
                yield f"{name} must come with --budget latency_ms=X"
        has_one_round = self.rounds == 1 or (self.rounds is None and self.recipe == "default")
        if has_one_round and self.last_share is not None:
            yield "--last-share must come with --rounds of at least 2"
        if self.gamma is not None and self.recipe != "paper":
            yield "--gamma must come with --recipe paper"
