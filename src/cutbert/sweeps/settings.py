"""Settings of `sweep`. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cutbert.errors import Mistakes
from cutbert.options import option
from cutbert.settings import RUN, EngineName, ThreadSettings


@dataclass(frozen=True, kw_only=True)
class SweepSettings(ThreadSettings):
    """Where a plan's runs go, and what computes them."""

    GROUP = RUN

    out: str | None = field(
        default=None,
        metadata=option("Folder of the sweep: absent, empty, or this plan's own sweep, which goes on.", is_common=True),
    )
    show: str | None = field(
        default=None,
        metadata=option("Print the table of the sweep in this folder, finished or not; no PLAN then.", is_common=True),
    )
    engine: EngineName = field(
        default="local", metadata=option("local: on this machine; ray: on the nodes of a Ray cluster.")
    )
    jobs: int = field(
        default=1,
        metadata=option("Runs at a time on this machine; they share its cores, or --threads.", least=1, ceiling=1024),
    )
    ray_address: str | None = field(
        default=None, metadata=option("Ray cluster to use; default: one of this machine alone, started and stopped.")
    )
    set: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "NAME=VALUE for every step that takes NAME, or a place in the plan: STEP.NAME=VALUE, "
            "grid.seed=[0,1]; STEP.NAME= leaves out."
        ),
    )

    def check_with(self, plan: str | None) -> None:
        """Raise an InputError with everything that is wrong with the settings and a plan file, or with none.

        Args:
            plan: the plan file, None where there is none.
        """
        mistakes = Mistakes()
        if (plan is None) == (self.show is None):
            mistakes.add("sweep must have one of PLAN and --show FOLDER")
        if plan is not None and self.out is None:
            mistakes.add("--out must be given with a plan: the folder of the sweep")
        with mistakes.collect():
            self.check()
        mistakes.check()

    def conflicts(self) -> Iterable[str]:
        if self.show is not None:
            for name in self.given("out", "ray_address", "set", "threads"):
                yield f"{name} must not be given with --show"
        if self.engine == "local" and self.ray_address is not None:
            yield "--ray-address must come with --engine ray"
        if self.engine == "ray" and self.jobs != 1:
            yield "--jobs is for --engine local; Ray places as many runs as the plan's needs leave room for"
        if self.engine == "ray" and self.threads is not None:
            yield "--threads is for --engine local; on Ray a run has its needs.cores"
