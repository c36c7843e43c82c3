"""Settings of `sweep`. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cutbert.errors import InputError, Mistakes

EngineName = Literal["local", "ray"]


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """Where a plan's runs go, and what computes them."""

    out: str | None = field(
        default=None, metadata={"help": "Folder of the sweep: absent, empty, or this plan's own sweep, which goes on."}
    )
    show: str | None = field(
        default=None, metadata={"help": "Print the table of the sweep in this folder, finished or not; no PLAN then."}
    )
    engine: EngineName = field(
        default="local", metadata={"help": "local: on this machine; ray: on the nodes of a Ray cluster."}
    )
    jobs: int = field(default=1, metadata={"help": "Runs at a time on this machine; they share its cores."})
    ray_address: str | None = field(
        default=None, metadata={"help": "Ray cluster to use; default: one of this machine alone, started and stopped."}
    )
    set: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "NAME=VALUE for every step that takes NAME, or a place in the plan: STEP.NAME=VALUE, "
            "grid.seed=[0,1]; STEP.NAME= leaves out; repeatable."
        },
    )
    threads: int | None = field(
        default=None, metadata={"help": "CPU threads that all runs on this machine share; default all cores."}
    )

    def check(self, plan: str | None) -> None:
        """Raise an InputError with everything that does not fit together.

        Args:
            plan: the plan file, None where there is none.
        """
        mistakes = Mistakes()
        if (plan is None) == (self.show is None):
            mistakes.add("sweep must have one of PLAN and --show FOLDER")
        if plan is not None and self.out is None:
            mistakes.add("--out must be given with a plan: the folder of the sweep")
        if self.show is not None:
            given = [name for name in ("out", "ray_address", "set", "threads") if getattr(self, name)]
            mistakes.extend(f"--{name.replace('_', '-')} must not be given with --show" for name in given)
        for name in ("jobs", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                mistakes.add(f"--{name} must be at least 1, got {value}")
        if self.engine == "local" and self.ray_address is not None:
            mistakes.add("--ray-address must come with --engine ray")
        if self.engine == "ray" and self.jobs != 1:
            mistakes.add("--jobs is for --engine local; Ray places as many runs as the plan's needs leave room for")
        if self.engine == "ray" and self.threads is not None:
            mistakes.add("--threads is for --engine local; on Ray a run has as many as its needs.cores")
        mistakes.check(InputError)
