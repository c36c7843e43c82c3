"""What searching a supernet needs to know. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cutbert.bench.settings import BACKENDS_HELP, LatencySettings
from cutbert.errors import InputError, Mistakes
from cutbert.fronts.settings import LimitSettings
from cutbert.shape.search_space import SpaceName
from cutbert.train.settings import Precision

CostName = Literal["macs", "params", "latency_ms"]


@dataclass(frozen=True, kw_only=True)
class SearchSettings(LimitSettings):
    """Where to search, for how long, and what to keep of it."""

    trials: int = field(default=400, metadata={"help": "Networks to score; equal ones count once."})
    space: SpaceName = field(
        default="free",
        metadata={
            "help": "free: heads and neurons layer by layer; stock: only shapes that load in plain transformers."
        },
    )
    cost: CostName | None = field(
        default=None,
        metadata={"help": "What the score is weighed against; default latency_ms with --max-latency-ms, else macs."},
    )
    backend: str = field(
        default="torch", metadata={"help": f"What latency is predicted for and measured on: {BACKENDS_HELP}."}
    )
    sample: int | None = field(
        default=None,
        metadata={"help": "Rows of select that trials are scored on; those found are scored on all. Default: all."},
    )
    keep: int = field(default=16, metadata={"help": "Most networks that enter the run's front."})
    train_steps: int = field(
        default=0, metadata={"help": "Steps of distillation for each network found, from the supernet; 0 for none."}
    )
    learning_rate: float = field(default=1e-4, metadata={"help": "Peak learning rate of --train-steps."})
    batch_size: int = field(default=32, metadata={"help": "Examples per step of --train-steps."})
    data_dir: str | None = field(default=None, metadata={"help": "Where the task's data is now, if it was moved."})
    remeasure: bool = field(
        default=False, metadata={"help": "Make the table of latencies anew, though the run has one for the backend."}
    )
    allow_changed: bool = field(
        default=False,
        metadata={"help": "Go on although machine, threads or versions changed, with a table made under others too."},
    )
    seed: int = field(default=0, metadata={"help": "Seed of everything random."})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:N."})
    precision: Precision = field(
        default="auto", metadata={"help": "Number type of --train-steps; scores are float32 always."}
    )
    threads: int | None = field(default=None, metadata={"help": "CPU threads; default all cores."})

    @property
    def cost_name(self) -> CostName:
        """What the score is weighed against."""
        return self.cost or ("macs" if self.max_latency_ms is None else "latency_ms")

    @property
    def predicts(self) -> bool:
        """Whether latencies of networks that were not measured are asked for."""
        return self.cost_name == "latency_ms" or self.max_latency_ms is not None

    @property
    def timing(self) -> LatencySettings:
        """How latency is measured."""
        return LatencySettings(backend=self.backend, threads=self.threads, device=self.device, seed=self.seed)

    def check(self) -> None:
        """Raise unless every number is in its range.

        Raises:
            InputError: all mistakes together.
        """
        mistakes = Mistakes()
        with mistakes.collect():
            super().check()
        with mistakes.collect():
            self.timing.check()
        for name in ("trials", "sample", "keep", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                mistakes.add(f"--{name.replace('_', '-')} must be at least 1, got {value}")
        if self.train_steps < 0:
            mistakes.add(f"--train-steps must be at least 0, got {self.train_steps}")
        if not 0 < self.learning_rate < float("inf"):
            mistakes.add(f"--learning-rate must be a number above 0, got {self.learning_rate}")
        for name in ("learning_rate", "batch_size"):
            default = type(self).__dataclass_fields__[name].default
            if not self.train_steps and getattr(self, name) != default:
                mistakes.add(f"--{name.replace('_', '-')} must come with --train-steps")
        if self.remeasure and not self.predicts:
            mistakes.add("--remeasure must come with --max-latency-ms or --cost latency_ms")
        mistakes.check(InputError)
