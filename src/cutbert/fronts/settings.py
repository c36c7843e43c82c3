"""What looking at a front and picking from it need to know. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

from cutbert.bench.settings import BACKEND_NAMES, BACKENDS_HELP, LatencySettings
from cutbert.errors import InputError, Mistakes, RunError
from cutbert.settings import option_name
from cutbert.shape.budget import Limits


@dataclass(frozen=True, kw_only=True)
class FrontSettings(LatencySettings):
    """Whether to measure a front anew, and how."""

    measure: bool = field(
        default=False, metadata={"help": "Measure all latencies anew on this machine and store them in the run."}
    )

    def check(self) -> None:
        """Raise unless numbers are in range and all options have an effect.

        Raises:
            InputError: all mistakes together.
        """
        mistakes = Mistakes()
        with mistakes.collect():
            super().check()
        for each in fields(LatencySettings):
            is_common = each.name in ("seed", "device", "threads", "backend")
            if not self.measure and not is_common and getattr(self, each.name) != each.default:
                mistakes.add(f"{option_name(each)} must come with --measure")
        mistakes.check(InputError)


@dataclass(frozen=True, kw_only=True)
class LimitSettings(Limits):
    """The limits as options."""

    max_latency_ms: float | None = field(
        default=None, metadata={"help": "Largest median latency at batch 1, in milliseconds."}
    )
    max_params: int | None = field(default=None, metadata={"help": "Largest number of parameters."})
    max_macs: int | None = field(default=None, metadata={"help": "Largest number of multiply-adds at 128 tokens."})
    max_bytes: int | None = field(default=None, metadata={"help": "Largest size of the weights in float32."})
    min_score: float | None = field(
        default=None, metadata={"help": "Smallest score on the select split, as a fraction of 1."}
    )


@dataclass(frozen=True, kw_only=True)
class PickSettings(LimitSettings):
    """The limits a picked subnet must keep to, and where it goes."""

    backend: str = field(default="torch", metadata={"help": f"What --max-latency-ms was measured on: {BACKENDS_HELP}."})
    stock: bool = field(
        default=False, metadata={"help": "Only shapes that load in plain transformers, with no cutbert installed."}
    )
    out: str | None = field(default=None, metadata={"help": "New model folder for the picked subnet."})

    def check(self) -> None:
        """Raise unless the limits are numbers that make sense and `out` can be written.

        Raises:
            BudgetError, RunError: all mistakes together.
        """
        mistakes = Mistakes()
        with mistakes.collect():
            Limits.check(self)
        if self.backend not in BACKEND_NAMES:
            mistakes.add(f"--backend must be one of {', '.join(BACKEND_NAMES)}, got {self.backend!r}")
        elif self.backend != "torch" and self.max_latency_ms is None:
            mistakes.add("--backend must come with --max-latency-ms")
        out = None if self.out is None else Path(self.out)
        if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
            mistakes.add(f"--out must be absent or an empty folder, but {out} is not")
        mistakes.extend(f"--out must lie in a folder, but {parent} is a file" for parent in file_parents(out))
        mistakes.check(RunError)


def file_parents(path: Path | None) -> list[Path]:
    """Return what stands where a path needs a folder and is none."""
    return [] if path is None else [parent for parent in path.parents if parent.exists() and not parent.is_dir()]
