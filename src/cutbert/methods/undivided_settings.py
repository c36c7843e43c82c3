"""Settings of `undivided`. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from cutbert.errors import InputError, Mistakes
from cutbert.methods.settings import TRAINS_FOR_NOTHING, Objective
from cutbert.shape.pattern import parse_pattern

Choose = Literal["even", "importance", "cka"]
RemovalWay = Literal["sudden", "gradual"]
WAYS = ("ffn_every", "pattern", "ffn_keep", "num_ffn")
OF_WEIGHTS = (
    "removal", "removal_rounds", "removal_share", "heal", "final_epochs", "teacher", "logit_weight", "hidden_weight",
    "temperature",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class UndividedSettings:
    """Which feed-forwards `undivided` keeps, and how the network without the others is healed or trained."""

    objective: Objective = field(
        default="task", metadata={"help": "task, or mlm: masked tokens of plain text, for a network of no task."}
    )
    ffn_every: int | None = field(
        default=None, metadata={"help": "Keep the feed-forward of the last of every so many layers."}
    )
    pattern: str | None = field(
        default=None,
        metadata={"help": "Sub-layers in order, such as AFAAF: A attention, an F behind it its layer's feed-forward."},
    )
    ffn_keep: tuple[int, ...] = field(
        default=(), metadata={"help": "Layers, counted from 0, that keep their feed-forward; for none --num-ffn 0."}
    )
    num_ffn: int | None = field(default=None, metadata={"help": "Number of feed-forwards kept, chosen by --choose."})
    choose: Choose | None = field(
        default=None,
        metadata={
            "help": "How --num-ffn chooses: by importance to the loss (default), evenly spaced (default from scratch), "
            "or cka: the one that changes the representation least goes, one after the other."
        },
    )
    choose_samples: int = field(
        default=2048, metadata={"help": "Training rows that importance and cka look at (never select or dev)."}
    )
    removal: RemovalWay = field(
        default="sudden", metadata={"help": "All at once before the healing, or gradual: one after the other in it."}
    )
    removal_rounds: int | None = field(
        default=None, metadata={"help": "Rounds that a gradual removal takes; default one for each feed-forward."}
    )
    removal_share: float = field(
        default=0.4, metadata={"help": "Share of the healing's steps in which a gradual removal happens."}
    )
    heal: bool = field(default=True, metadata={"help": "Train the network after the removal; without, it is broken."})
    final_epochs: float = field(default=0.0, metadata={"help": "Epochs of a last training on labels."})
    teacher: str | None = field(default=None, metadata={"help": "Another model with the same labels to imitate."})
    logit_weight: float = field(default=1.0, metadata={"help": "Weight of the logit loss."})
    hidden_weight: float = field(default=30.0, metadata={"help": "Weight of the embedding and hidden losses."})
    temperature: float = field(default=1.0, metadata={"help": "Temperature of the logit loss."})
    from_scratch: str | None = field(
        default=None,
        metadata={"help": "Shape file (.json): a masked LM of new weights; MODEL gives tokenizer and style alone."},
    )
    equal_params: bool = field(
        default=False, metadata={"help": "From scratch: add attention layers up to the shape's own parameters."}
    )

    @property
    def ways(self) -> list[str]:
        """Settings given that say which feed-forwards stay; from scratch none leaves those of the shape file."""
        return [name for name in WAYS if self._is_given(name)]

    @property
    def chosen_by(self) -> Choose:
        """How a number of feed-forwards is chosen: new weights have no importance yet."""
        return self.choose or ("importance" if self.from_scratch is None else "even")

    @property
    def measures(self) -> bool:
        """Whether the choice needs the model and rows, not sizes alone."""
        return self.num_ffn is not None and self.chosen_by != "even"

    def check(self) -> None:
        """Raise an InputError with every setting that is out of range or without effect."""
        mistakes = Mistakes()
        ways = [flag(name) for name in self.ways]
        if len(ways) > 1 or (not ways and self.from_scratch is None):
            got = " and ".join(ways) or "none"
            mistakes.add(f"undivided must have one of --ffn-every, --pattern, --ffn-keep and --num-ffn, got {got}")
        if self.pattern is not None:
            with mistakes.collect():
                parse_pattern(self.pattern)
        mistakes.extend(self._out_of_range())
        mistakes.extend(self._without_effect())
        mistakes.check(InputError)

    def _is_given(self, name: str) -> bool:
        return bool(getattr(self, name) != next(each.default for each in fields(self) if each.name == name))

    def _out_of_range(self) -> list[str]:
        found = []
        for name, least in (("ffn_every", 1), ("num_ffn", 0), ("choose_samples", 1), ("removal_rounds", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                found.append(f"{flag(name)} must be at least {least}, got {value}")
        if len(set(self.ffn_keep)) < len(self.ffn_keep) or any(layer < 0 for layer in self.ffn_keep):
            found.append(f"--ffn-keep must name layers from 0 on, each once, got {', '.join(map(str, self.ffn_keep))}")
        for name in ("final_epochs", "logit_weight", "hidden_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                found.append(f"{flag(name)} must be a number of at least 0, got {getattr(self, name)}")
        if not 0 < self.temperature < float("inf"):
            found.append(f"--temperature must be above 0, got {self.temperature}")
        if not 0 < self.removal_share <= 1:
            found.append(f"--removal-share must lie in (0, 1], got {self.removal_share}")
        return found

    def _without_effect(self) -> list[str]:
        """Return a mistake for each option that was given beside one that leaves it nothing to do."""
        found = []
        if self._is_given("choose") and self.num_ffn is None:
            found.append("--choose must come with --num-ffn")
        if self._is_given("choose_samples") and not self.measures:
            found.append("--choose-samples must come with --num-ffn and --choose importance or cka")
        for name in ("removal_rounds", "removal_share"):
            if self._is_given(name) and self.removal == "sudden":
                found.append(f"{flag(name)} must come with --removal gradual")
        if self.heal and self.logit_weight == self.hidden_weight == 0:
            found.append(TRAINS_FOR_NOTHING)
        if not self.heal and self.removal == "gradual":
            found.append("--removal gradual must come with healing, got --no-heal")
        if self.from_scratch is None and self.equal_params:
            found.append("--equal-params must come with --from-scratch")
        if self.from_scratch is not None and self.equal_params and not self.ways:
            found.append("--equal-params must come with one of --ffn-every, --pattern, --ffn-keep and --num-ffn")
        if self.from_scratch is not None:
            given = [name for name in OF_WEIGHTS if self._is_given(name)]
            given += ["choose"] if self.chosen_by != "even" else []
            shown = ["--no-heal" if name == "heal" else flag(name) for name in given]
            found += [f"{name} must not be given with --from-scratch, where nothing is cut" for name in shown]
        return found


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")
