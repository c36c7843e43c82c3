"""What an encoder is made of, apart from sizes, as far as its weights depend on it. No torch.

The activation, epsilon and dropouts, which change no weight's shape, are in `model.style`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from cutbert.errors import Mistakes, ShapeError

NUM_BUCKETS = 32  # of relative positions, fixed in MPNet's code


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """What an encoder is made of; the defaults are BERT's.

    Args:
        num_bias_heads: columns of the one table of relative position biases that all layers share, 0 for no table:
            attention head j of a layer adds the column that its layer names for it to its scores (MPNet).

    Raises:
        ShapeError: a value out of range; all mistakes together.
    """

    num_bias_heads: int = 0

    def __post_init__(self) -> None:
        mistakes = Mistakes()
        check_count(mistakes, "num_bias_heads", self.num_bias_heads)
        mistakes.check(ShapeError)

    def to_json(self) -> dict[str, Any]:
        """Return what differs from BERT."""
        return {
            each.name: getattr(self, each.name) for each in fields(self) if getattr(self, each.name) != each.default
        }

    @classmethod
    def from_json(cls, data: Any) -> Ingredients:
        """Read ingredients from parsed JSON.

        Raises:
            ShapeError: an unknown key or a value out of range.
        """
        if not isinstance(data, dict):
            raise ShapeError(f"ingredients must be a JSON object, got {type(data).__name__}")
        known = sorted(each.name for each in fields(cls))
        unknown = sorted(set(data) - set(known))
        if unknown:
            raise ShapeError(f"ingredients must have keys of {', '.join(known)}, got {', '.join(unknown)}")
        return cls(**data)


def check_count(mistakes: Mistakes, name: str, value: object) -> None:
    """Collect a mistake unless a value is an integer of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        mistakes.add(f"{name} must be an integer of at least 0, got {value!r}")


BERT = Ingredients()
