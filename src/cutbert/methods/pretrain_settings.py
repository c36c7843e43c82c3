"""Settings of `pretrain`. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from cutbert.errors import InputError
from cutbert.shape.paper_shapes import PAPER_SHAPES


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """What `pretrain` begins with."""

    from_scratch: str | None = field(
        default=None,
        metadata={"help": "Shape file (.json): new weights of that shape; MODEL gives tokenizer and style alone."},
    )

    from_paper: str | None = field(
        default=None,
        metadata={"help": f"New weights of an architecture that schuBERT found: {', '.join(PAPER_SHAPES)}."},
    )

    @property
    def is_new(self) -> bool:
        """Whether the weights are new."""
        return self.from_scratch is not None or self.from_paper is not None

    def check(self) -> None:
        """Raise an InputError where both name a shape."""
        if self.from_scratch is not None and self.from_paper is not None:
            raise InputError("--from-scratch and --from-paper must not be given together")
