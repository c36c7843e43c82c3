"""What a method trains on: a task, or plain text. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cutbert.options import option
from cutbert.settings import METHOD, Settings

ObjectiveName = Literal["task", "mlm"]


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings(Settings):
    """What a method trains on."""

    GROUP = METHOD

    objective: ObjectiveName = field(
        default="task",
        metadata=option("task, or mlm: task-agnostic, on plain text.", is_common=True),
    )
