"""Settings of training, for every method. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from cutbert.errors import InputError, Mistakes
from cutbert.settings import check_device

Precision = Literal["auto", "float32", "bf16"]
Schedule = Literal["linear", "cosine", "constant"]
TokenTable = Literal["frozen", "rows", "dense"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How any network is trained; None leaves the choice to the method or its recipe."""

    epochs: float | None = field(default=None, metadata={"help": "Passes over the data per training stage."})
    batch_size: int | None = field(
        default=None, metadata={"help": "Examples per optimizer step, over all processes together."}
    )
    learning_rate: float | None = field(default=None, metadata={"help": "Peak learning rate."})
    warmup_ratio: float | None = field(default=None, metadata={"help": "Share of steps with a rising learning rate."})
    weight_decay: float | None = field(default=None, metadata={"help": "Decoupled decay of matrices."})
    schedule: Schedule | None = field(default=None, metadata={"help": "Shape of the learning rate after warm-up."})
    dropout: float | None = field(default=None, metadata={"help": "Dropout in training, hidden and attention."})
    token_table: TokenTable | None = field(
        default=None,
        metadata={"help": "The token table: frozen, only rows in the batch updated, or all of it every step."},
    )
    max_grad_norm: float = field(default=1.0, metadata={"help": "Gradients are clipped to this global norm."})
    accumulation: int = field(default=1, metadata={"help": "Micro-batches a step is split into, to save memory."})
    seed: int = field(default=0, metadata={"help": "Seed of everything random."})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:N."})
    precision: Precision = field(
        default="auto", metadata={"help": "Number type of training: bf16 where the processor computes it natively."}
    )
    threads: int | None = field(default=None, metadata={"help": "CPU threads; default all cores."})
    checkpoint_seconds: float = field(default=120.0, metadata={"help": "Seconds between checkpoints."})

    @property
    def has_seed(self) -> bool:
        """Whether the seed is one."""
        return 0 <= self.seed < 2**32

    def check(self) -> None:
        """Raise an InputError with every setting that is out of range."""
        mistakes = Mistakes()
        for name, low, high in (
            ("epochs", 0.0, None),
            ("learning_rate", 0.0, None),
            ("warmup_ratio", 0.0, 1.0),
            ("weight_decay", 0.0, None),
            ("dropout", 0.0, 0.99),
            ("checkpoint_seconds", 0.0, None),
        ):
            value = getattr(self, name)
            if value is not None and not (value >= low and (high is None or value <= high) and value < float("inf")):
                top = "" if high is None else f" and at most {high}"
                mistakes.add(f"--{name.replace('_', '-')} must be a number of at least {low}{top}, got {value}")
        for name in ("batch_size", "accumulation", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                mistakes.add(f"--{name.replace('_', '-')} must be at least 1, got {value}")
        if not self.max_grad_norm > 0:
            mistakes.add(f"--max-grad-norm must be above 0, got {self.max_grad_norm}")
        if not self.has_seed:
            mistakes.add(f"--seed must lie in 0..{2**32 - 1}, got {self.seed}")
        with mistakes.collect():
            check_device(self.device)
        mistakes.check(InputError)


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """One training stage with every choice made.

    Args:
        name: of the stage, unique in its run.
        epochs: passes over the data; 0 trains nothing.
        min_steps: on small data, passes go on until at least this many steps.
        exact_steps: number of steps, whatever the data; None leaves it to the passes.
        first_step: steps that earlier stages took; rows, their order and what is drawn at random go on from there.
        pad_to: length every row is padded to; None lays rows of like length together, hardly padded.
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
