"""Settings of `finetune`. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from cutbert.settings import Settings


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(Settings):
    """None of its own."""
