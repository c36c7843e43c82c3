"""Settings of `depth`. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from cutbert.errors import InputError, Mistakes

SelectorName = Literal["probe", "scatter", "centroid", "knn", "kmeans", "logme", "half", "full"]
Pooling = Literal["cls", "mean", "both"]
RULES = ("half", "full")
KNOW_CHANCE = ("probe", "centroid", "knn")  # whose scores say how far from chance they are


@dataclass(frozen=True, kw_only=True)
class DepthSettings:
    """How `depth` chooses a number of layers, and what it compares."""

    selector: SelectorName = field(
        default="probe",
        metadata={
            "help": "How a depth is judged on the frozen model: a linear probe, between-class over within-class "
            "scatter, nearest class mean, nearest rows, k-means clusters, log evidence of a linear model; or the "
            "naive rules half and full."
        },
    )
    depth: int | None = field(default=None, metadata={"help": "Take this many layers instead of choosing."})
    epsilon: float | None = field(
        default=None,
        metadata={
            "help": "The smallest depth within this of the best score is taken. Default: 0 for probe, centroid and "
            "knn, 0.01 for logme; a tenth of the best score for scatter and kmeans, whose --epsilon is a share of it."
        },
    )
    least_gain: float = field(
        default=0.4,
        metadata={
            "help": "All layers are kept where no depth's score gets this far on the way from chance (0) to perfection "
            "(1); for probe, centroid and knn."
        },
    )
    num_examples: int = field(
        default=2000, metadata={"help": "Training rows that depths are judged on (never select or dev)."}
    )
    pooling: Pooling = field(
        default="mean",
        metadata={"help": "What stands for a text: the first token's state, the mean over its tokens, or both."},
    )
    all_selectors: bool = field(default=False, metadata={"help": "Also report what the other selectors say."})
    against_full: bool = field(
        default=False, metadata={"help": "Also fine-tune the full model, in turn with the chosen one, and compare."}
    )
    all_depths: bool = field(
        default=False,
        metadata={"help": "Also fine-tune every other depth, for study: the curve and the best depth on dev."},
    )
    seeds: tuple[int, ...] = field(
        default=(), metadata={"help": "Seeds to fine-tune every network with; default: --seed alone."}
    )
    margin: float = field(
        default=0.01,
        metadata={"help": "'No worse' is said where the whole interval lies above minus this, a fraction of 1."},
    )

    def check(self) -> None:
        """Raise an InputError with every setting that is out of range."""
        mistakes = Mistakes()
        for name in ("epsilon", "margin"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                mistakes.add(f"--{name} must be a number of at least 0, got {value}")
        if not 0 <= self.least_gain <= 1:
            mistakes.add(f"--least-gain must lie in [0, 1], got {self.least_gain}")
        if self.num_examples < 10:
            mistakes.add(f"--num-examples must be at least 10, got {self.num_examples}")
        if self.depth is not None and self.depth < 1:
            mistakes.add(f"--depth must be at least 1, got {self.depth}")
        if len(set(self.seeds)) < len(self.seeds):
            mistakes.add(f"--seeds must differ, got {', '.join(map(str, self.seeds))}")
        if any(not 0 <= seed < 2**32 for seed in self.seeds):
            mistakes.add(f"--seeds must lie in 0..{2**32 - 1}, got {', '.join(map(str, self.seeds))}")
        mistakes.extend(self._without_effect())
        mistakes.check(InputError)

    @property
    def judges(self) -> bool:
        """Whether the frozen model is looked at."""
        return self.all_depths or self.all_selectors or (self.depth is None and self.selector not in RULES)

    def _without_effect(self) -> list[str]:
        """Return a mistake for each option that was given beside one that leaves it nothing to do."""
        given = {each.name for each in fields(self) if getattr(self, each.name) != each.default}
        found = []
        if self.depth is not None:
            found += [
                f"--{name} must not be given with --depth, which chooses nothing"
                for name in ("selector", "epsilon")
                if name in given
            ]
        elif self.selector in RULES and "epsilon" in given:
            found.append(f"--epsilon must not be given with --selector {self.selector}, which looks at no score")
        knows_chance = self.depth is None and self.selector in KNOW_CHANCE
        if "least_gain" in given and not (knows_chance or self.all_selectors or self.all_depths):
            found.append(f"--least-gain must come with --selector {', '.join(KNOW_CHANCE)} or with --all-selectors")
        if not self.judges:
            found += [
                f"--{name.replace('_', '-')} must come with a selector that looks at the model"
                for name in ("num_examples", "pooling")
                if name in given
            ]
        if "margin" in given and not (self.against_full or self.all_depths):
            found.append("--margin must come with --against-full or --all-depths")
        return found
