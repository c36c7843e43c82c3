"""Settings of `undivided`. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from cutbert.bench.settings import BackendSettings
from cutbert.errors import InputError
from cutbert.methods.objective_settings import ObjectiveSettings
from cutbert.options import option, option_name
from cutbert.settings import METHOD, HealingSettings
from cutbert.shape.pattern import parse_pattern

Choose = Literal["even", "importance", "cka"]
RemovalWay = Literal["sudden", "gradual"]
FFN_CHOICES = ("ffn_every", "pattern", "ffn_keep", "num_ffn")
NOT_FROM_SCRATCH = (
    "removal", "removal_rounds", "removal_share", "heal", "final_epochs", "teacher", "logit_weight", "hidden_weight",
    "temperature", "backend",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class UndividedSettings(ObjectiveSettings, HealingSettings, BackendSettings):
    """Which feed-forwards `undivided` keeps, and how the network without the others is healed or trained."""

    GROUP = METHOD
    TASK_OPTIONS = ("teacher", "logit_weight", "temperature", "final_epochs")

    ffn_every: int | None = field(
        default=None,
        metadata=option("Keep a feed-forward in the last of every N layers.", least=1, is_common=True),
    )
    pattern: str | None = field(
        default=None,
        metadata=option(
            "Sub-layers in order, e.g. AFAAF: A = attention, F = the feed-forward of the preceding A.",
            is_common=True,
        ),
    )
    ffn_keep: tuple[int, ...] = field(
        default=(),
        metadata=option(
            "Layers, counted from 0, that keep their feed-forward; for none --num-ffn 0.", least=0, is_common=True
        ),
    )
    num_ffn: int | None = field(
        default=None,
        metadata=option("Number of feed-forwards kept, chosen by --choose.", least=0, is_common=True),
    )
    choose: Choose | None = field(
        default=None,
        metadata=option(
            "How --num-ffn chooses: by importance to the loss (default), evenly spaced (default from scratch), "
            "or cka: one after the other, always the one whose removal changes the representation least.",
        ),
    )
    choose_samples: int = field(
        default=2048,
        metadata=option("Training rows that importance and cka look at (never select or dev).", least=1, unit="rows"),
    )
    removal: RemovalWay = field(
        default="sudden",
        metadata=option("sudden: all at once before the healing; gradual: one after the other during it."),
    )
    removal_rounds: int | None = field(
        default=None,
        metadata=option("Rounds that a gradual removal takes; default one for each feed-forward.", least=1),
    )
    removal_share: float = field(
        default=0.4,
        metadata=option("Share of the healing's steps in which a gradual removal happens.", above=0, most=1),
    )
    heal: bool = field(
        default=True,
        metadata=option("Train the network after the removal; --no-heal: skip recovery training (healing)."),
    )
    final_epochs: float = field(default=0.0, metadata=option("Epochs of a last training on labels.", least=0))
    from_scratch: str | None = field(
        default=None,
        metadata=option("Shape file (.json): a masked LM of new weights; MODEL gives tokenizer and style alone."),
    )
    equal_params: bool = field(
        default=False,
        metadata=option("From scratch: add attention layers until the parameter count matches the full shape."),
    )

    @property
    def ways(self) -> list[str]:
        """Settings given that say which feed-forwards stay; from scratch, giving none keeps those of the shape file."""
        return [name for name in FFN_CHOICES if self.is_given(name)]

    @property
    def chosen_by(self) -> Choose:
        """How a number of feed-forwards is chosen: new weights have no importance yet."""
        return self.choose or ("importance" if self.from_scratch is None else "even")

    @property
    def measures(self) -> bool:
        """Whether the choice needs the model and rows, not sizes alone."""
        return self.num_ffn is not None and self.chosen_by != "even"

    def missing(self) -> Iterable[str]:
        ways = [option_name(name) for name in self.ways]
        if len(ways) > 1 or (not ways and self.from_scratch is None):
            got = " and ".join(ways) or "none"
            yield f"undivided must have one of --ffn-every, --pattern, --ffn-keep and --num-ffn, got {got}"

    def conflicts(self) -> Iterable[str]:
        if self.pattern is not None:
            try:
                parse_pattern(self.pattern)
            except InputError as error:
                yield from error.mistakes
        if len(set(self.ffn_keep)) < len(self.ffn_keep):
            yield f"--ffn-keep must name each layer once, got {', '.join(map(str, self.ffn_keep))}"
        if self.heal:
            yield from super().conflicts()
        yield from self._without_effect()
        yield from self._from_scratch_mistakes()

    def _without_effect(self) -> Iterable[str]:
        """Yield a mistake for each option that was given beside one that leaves it nothing to do."""
        if self.is_given("choose") and self.num_ffn is None:
            yield "--choose must come with --num-ffn"
        if self.is_given("choose_samples") and not self.measures:
            yield "--choose-samples must come with --num-ffn and --choose importance or cka"
        if self.removal == "sudden":
            for name in self.given("removal_rounds", "removal_share"):
                yield f"{name} must come with --removal gradual"
        if not self.heal and self.removal == "gradual":
            yield "--removal gradual must come with healing, got --no-heal"

    def _from_scratch_mistakes(self) -> Iterable[str]:
        if self.from_scratch is None:
            if self.equal_params:
                yield "--equal-params must come with --from-scratch"
            return
        if self.equal_params and not self.ways:
            yield "--equal-params must come with one of --ffn-every, --pattern, --ffn-keep and --num-ffn"
        names = [*self.given(*NOT_FROM_SCRATCH), *(["--choose"] if self.chosen_by != "even" else [])]
        for name in names:
            shown = "--no-heal" if name == "--heal" else name
            yield f"{shown} must not be given with --from-scratch, where nothing is cut"
