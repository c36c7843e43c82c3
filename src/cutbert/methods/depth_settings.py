"""Settings of `depth`. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from cutbert.options import option
from cutbert.settings import LAST_SEED, METHOD, Settings

SelectorName = Literal["probe", "scatter", "half", "full"]
NAIVE_SELECTORS = ("half", "full")
# Equals Selector.has_chance of analysis.depth_selectors, as a test says: settings do not load numpy.
KNOW_CHANCE = ("probe",)


@dataclass(frozen=True, kw_only=True)
class DepthSettings(Settings):
    """How `depth` chooses a number of layers, and what it compares."""

    GROUP = METHOD

    selector: SelectorName = field(
        default="probe",
        metadata=option(
            "How a depth is judged on the frozen model: a linear probe, or between-class over within-class scatter; "
            "or the naive rules half and full.",
            is_common=True,
        ),
    )
    depth: int | None = field(
        default=None, metadata=option("Take this many layers instead of choosing.", least=1, is_common=True)
    )
    epsilon: float | None = field(
        default=None,
        metadata=option(
            "The smallest depth within this of the best score is taken. Default 0 for probe; for scatter a share of "
            "the best score, default 0.1.",
            least=0,
        ),
    )
    least_gain: float = field(
        default=0.4,
        metadata=option(
            "For probe: keep all layers if (best - chance) / (1 - chance) is below this; best: the best depth's score.",
            least=0,
            most=1,
        ),
    )
    num_examples: int = field(
        default=2000,
        metadata=option("Training rows that depths are judged on (never select or dev).", least=10, unit="rows"),
    )
    all_selectors: bool = field(default=False, metadata=option("Also report what the other selectors choose."))
    against_full: bool = field(
        default=False,
        metadata=option("Also fine-tune the full model, alternating with the chosen one, and compare.", is_common=True),
    )
    all_depths: bool = field(
        default=False,
        metadata=option("Also fine-tune every other depth, for study: the curve and the best depth on dev."),
    )
    seeds: tuple[int, ...] = field(
        default=(),
        metadata=option(
            "Seeds to fine-tune every network with; default --seed alone.", least=0, most=LAST_SEED, is_common=True
        ),
    )
    margin: float = field(
        default=0.01,
        metadata=option(
            "Non-inferiority margin, a fraction of 1: 'no worse' if the 95 % interval is above -margin.", least=0
        ),
    )

    def conflicts(self) -> Iterable[str]:
        if len(set(self.seeds)) < len(self.seeds):
            yield f"--seeds must differ, got {', '.join(map(str, self.seeds))}"
        if self.depth is not None:
            for name in self.given("selector", "epsilon"):
                yield f"{name} must not be given with --depth, which chooses nothing"
        elif self.selector in NAIVE_SELECTORS and self.is_given("epsilon"):
            yield f"--epsilon must not be given with --selector {self.selector}, which looks at no score"
        knows_chance = self.depth is None and self.selector in KNOW_CHANCE
        if self.is_given("least_gain") and not (knows_chance or self.all_selectors or self.all_depths):
            yield f"--least-gain must come with --selector {', '.join(KNOW_CHANCE)} or with --all-selectors"
        if not self.judges:
            for name in self.given("num_examples"):
                yield f"{name} must come with a selector that looks at the model"
        if self.is_given("margin") and not (self.against_full or self.all_depths):
            yield "--margin must come with --against-full or --all-depths"

    @property
    def judges(self) -> bool:
        """Whether the frozen model is looked at."""
        return self.all_depths or self.all_selectors or (self.depth is None and self.selector not in NAIVE_SELECTORS)
