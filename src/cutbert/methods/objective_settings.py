"""What a method trains on: a task, an embedding model's vectors, or plain text. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from cutbert.options import option
from cutbert.settings import METHOD, Settings

ObjectiveName = Literal["task", "mlm", "embedding"]


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings(Settings):
    """What a method trains on: without labels some options of tasks mean nothing."""

    GROUP = METHOD
    TASK_OPTIONS: ClassVar[tuple[str, ...]] = ()
    VECTOR_OPTIONS: ClassVar[tuple[str, ...]] = ("logit_weight", "hidden_weight", "final_epochs")

    objective: ObjectiveName = field(
        default="task",
        metadata=option(
            "task: learn the rows of a task; embedding: the vectors of MODEL, a sentence-transformers model, on plain "
            "texts; mlm: masked LM on plain text.",
            is_common=True,
        ),
    )

    def conflicts(self) -> Iterable[str]:
        yield from super().conflicts()
        if self.objective != "task":
            of_vectors = self.VECTOR_OPTIONS if self.objective == "embedding" else ()
            names = [name for name in self.TASK_OPTIONS if name not in of_vectors]
            yield from (f"{each} is for --objective task" for each in self.given(*names))
