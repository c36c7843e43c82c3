"""What a method trains on: a task, or plain text. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from cutbert.options import option
from cutbert.settings import METHOD, Settings

ObjectiveName = Literal["task", "mlm"]


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings(Settings):
    """What a method trains on: a task, or plain text, where some options of tasks mean nothing."""

    GROUP = METHOD
    TASK_OPTIONS: ClassVar[tuple[str, ...]] = ()

    objective: ObjectiveName = field(
        default="task",
        metadata=option(
            "task: train on the rows of a task; mlm: masked LM on plain text, no task needed.", is_common=True
        ),
    )

    def conflicts(self) -> Iterable[str]:
        yield from super().conflicts()
        if self.objective == "mlm":
            yield from (f"{each} is for --objective task" for each in self.given(*self.TASK_OPTIONS))
