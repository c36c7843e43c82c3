"""What measuring needs to know, as settings without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cutbert.errors import InputError, Mistakes
from cutbert.settings import check_device

BackendName = Literal["torch"]
BACKEND_NAMES: tuple[BackendName, ...] = ("torch",)
DEFAULT_LENGTH = 128


@dataclass(frozen=True, kw_only=True)
class LatencySettings:
    """How latency is measured."""

    backend: str = field(default="torch", metadata={"help": "What runs the model: torch (float32)."})
    length: int | None = field(
        default=None,
        metadata={"help": "Tokens per text; default: lengths of the dev texts, 128 where there is no task."},
    )
    threads: int | None = field(default=None, metadata={"help": "CPU threads; default all cores."})
    device: str = field(
        default="auto", metadata={"help": "Where to run: auto (CUDA where there is one), cpu, cuda or cuda:N."}
    )
    rounds: int = field(default=8, metadata={"help": "How often each length is measured, all models in turn."})
    throughput_batch_size: int = field(default=32, metadata={"help": "Texts per batch when measuring throughput."})
    seed: int = field(default=0, metadata={"help": "Seed of the order of measuring and of the texts' tokens."})

    def check(self) -> None:
        """Raise unless every number is in its range and the backend is built.

        Raises:
            InputError: all mistakes together.
        """
        mistakes = Mistakes()
        if self.backend not in BACKEND_NAMES:
            mistakes.add(f"--backend must be one of {', '.join(BACKEND_NAMES)}; {self.backend!r} is not there yet")
        for name in ("length", "threads", "rounds", "throughput_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                mistakes.add(f"--{name.replace('_', '-')} must be at least 1, got {value}")
        if self.seed < 0:
            mistakes.add(f"--seed must be at least 0, got {self.seed}")
        with mistakes.collect():
            check_device(self.device)
        mistakes.check(InputError)
