"""Settings of `pretrain`. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cutbert.options import option
from cutbert.settings import METHOD, Settings
from cutbert.shape.paper_shapes import PAPER_SHAPES


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(Settings):
    """What `pretrain` begins with."""

    GROUP = METHOD

    from_scratch: str | None = field(
        default=None,
        metadata=option("Shape file (.json): new weights of that shape; MODEL gives tokenizer and style alone."),
    )
    from_paper: str | None = field(
        default=None, metadata=option("New weights of an architecture that schuBERT found.", choices=PAPER_SHAPES)
    )

    @property
    def is_new(self) -> bool:
        """Whether the weights are new."""
        return self.from_scratch is not None or self.from_paper is not None

    def conflicts(self) -> Iterable[str]:
        if self.from_scratch is not None and self.from_paper is not None:
            yield "--from-scratch and --from-paper must not be given together"
