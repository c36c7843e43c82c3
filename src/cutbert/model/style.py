"""The choices of an encoder that are not sizes: activation, norms, dropout, positions, readout. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from cutbert.errors import ModelError
from cutbert.shape.pooling import POOLINGS, Pooling
from cutbert.shape.stock_config import STOCK_FAMILIES, check_style

FAMILIES = tuple(STOCK_FAMILIES)


@dataclass(frozen=True, kw_only=True)
class EncoderStyle:
    """The family's choices that are not sizes.

    Args:
        family: transformers' model_type of the family the weights come from, one of FAMILIES.
        activation: of the feed-forward; a name in `model.activations`.
        head_activation: activation of the sequence head's dense layer ("tanh", "gelu" or "relu").
        pooling: what the head of a whole text reads: "cls", the first token's last state, or "mean", the mean over its
            tokens. Other heads do not ask.
        layer_norm_eps: epsilon of every LayerNorm.
        hidden_dropout: dropout after embeddings, sub-layers and before the classifier, in training.
        attention_dropout: dropout on attention probabilities, in training.
        pad_token_id: id of the padding token.
        position_offset: position id of the first real token (RoBERTa: pad_token_id + 1, else 0).
        initializer_range: standard deviation of new weights.
    """

    family: str
    activation: str = "gelu"
    head_activation: str = "tanh"
    pooling: Pooling = "cls"
    layer_norm_eps: float = 1e-12
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    pad_token_id: int = 0
    position_offset: int = 0
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ModelError(f"family must be one of {', '.join(FAMILIES)}, got {self.family!r}")
        if self.pooling not in POOLINGS:
            raise ModelError(f"pooling must be one of {', '.join(POOLINGS)}, got {self.pooling!r}")
        check_style(asdict(self))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EncoderStyle:
        known = {field.name for field in fields(cls)}
        if set(data) != known:
            raise ModelError(f"style must have the keys {sorted(known)}, got {sorted(data)}")
        return cls(**data)
