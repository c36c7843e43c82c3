"""Settings of training, for every method. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from cutbert.options import option
from cutbert.settings import LAST_SEED, TRAINING, MachineSettings

OF_METHOD = "the method's own"

Schedule = Literal["linear", "cosine", "constant"]
TokenTable = Literal["frozen", "rows", "dense"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings(MachineSettings):
    """How any network is trained; None leaves the choice to the method or its recipe."""

    GROUP = TRAINING

    epochs: float | None = field(
        default=None,
        metadata=option(
            "Passes over the data in each training stage; schubert and undivided: in all healing together.",
            least=0,
            is_common=True,
            default_text=OF_METHOD,
        ),
    )
    batch_size: int | None = field(
        default=None,
        metadata=option(
            "Examples per optimizer step, over all processes together.",
            least=1,
            unit="examples",
            is_common=True,
            default_text=OF_METHOD,
        ),
    )
    learning_rate: float | None = field(
        default=None, metadata=option("Peak learning rate.", above=0, is_common=True, default_text=OF_METHOD)
    )
    warmup_ratio: float | None = field(
        default=None,
        metadata=option(
            "Share of the steps in which the learning rate rises.", least=0, most=1, default_text=OF_METHOD
        ),
    )
    weight_decay: float | None = field(
        default=None, metadata=option("AdamW weight decay, of matrices only.", least=0, default_text=OF_METHOD)
    )
    schedule: Schedule | None = field(
        default=None, metadata=option("Shape of the learning rate after warm-up.", default_text=OF_METHOD)
    )
    dropout: float | None = field(
        default=None,
        metadata=option("Dropout in training, hidden and attention.", least=0, most=0.99, default_text=OF_METHOD),
    )
    token_table: TokenTable | None = field(
        default=None,
        metadata=option(
            "The token table: frozen, rows (only those in the batch are updated) or dense (all, every step).",
            default_text=OF_METHOD,
        ),
    )
    max_grad_norm: float = field(default=1.0, metadata=option("Gradients are clipped to this global norm.", above=0))
    accumulation: int = field(
        default=1, metadata=option("Micro-batches a step is split into, to save memory.", least=1)
    )
    checkpoint_seconds: float = field(
        default=120.0, metadata=option("Time between checkpoints.", least=0, unit="seconds")
    )

    @property
    def has_seed(self) -> bool:
        """Whether the seed is in range."""
        return 0 <= self.seed <= LAST_SEED


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """One training stage with every choice made.

    Args:
        name: of the stage, unique in its run.
        epochs: passes over the data; 0 trains nothing.
        min_steps: on small data, passes go on until at least this many steps.
        exact_steps: number of steps, whatever the data; None leaves it to the passes.
        first_step: steps that earlier stages took; data order and random draws continue from there.
        pad_to: length every row is padded to; None groups rows of similar length, with little padding.
    """

    name: str
    epochs: float
    batch_size: int
    learning_rate: float
    warmup_ratio: float
    weight_decay: float
    schedule: Schedule
    dropout: float
    token_table: TokenTable
    pad_to: int | None = None
    min_steps: int = 0
    exact_steps: int | None = None
    first_step: int = 0

    def overridden(self, train: TrainSettings) -> StagePlan:
        """Return the plan with every training flag that was given in place of its own value."""
        shared = {each.name for each in fields(self)} & {each.name for each in fields(train)}
        given: dict[str, Any] = {name: getattr(train, name) for name in shared if getattr(train, name) is not None}
        if train.epochs is not None:
            given["min_steps"] = 0
        return replace(self, **given)

    def num_steps(self, num_epoch_steps: int) -> int:
        """Return the optimizer steps of the stage.

        Args:
            num_epoch_steps: steps in one pass over the data.
        """
        if self.exact_steps is not None:
            return self.exact_steps
        if self.epochs == 0:
            return 0
        return max(1, self.min_steps, round(self.epochs * num_epoch_steps))
