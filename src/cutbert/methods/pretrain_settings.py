"""Settings of `pretrain`. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """What `pretrain` begins with."""

    from_scratch: str | None = field(
        default=None,
        metadata={"help": "Shape file (.json): new weights of that shape; MODEL gives tokenizer and style alone."},
    )

    def check(self) -> None:
        """Nothing to check."""
