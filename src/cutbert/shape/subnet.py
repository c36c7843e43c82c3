"""A subnet of an encoder: the layers it keeps, and of each layer the first heads and neurons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cutbert.errors import Mistakes, ShapeError
from cutbert.shape.shape import LAYER_KEYS, EncoderShape, LayerShape, check_keys, check_size


@dataclass(frozen=True)
class KeptLayer:
    """One kept layer: its index in the supernet, and how many of its first heads, neurons and dimensions are kept.

    `shape.num_heads = 0` or `shape.intermediate_size = 0` skips that sub-layer.
    """

    index: int
    shape: LayerShape


@dataclass(frozen=True)
class Subnet:
    """A part of a supernet that runs alone: kept layers in order, and the first hidden units.

    Args:
        layers: kept layers, indices strictly rising.
        hidden_size: number of hidden units kept, the first ones.

    >>> shape = EncoderShape.uniform(hidden_size=48, num_layers=3, num_heads=4, intermediate_size=96, vocab_size=100)
    >>> half = LayerShape(num_heads=2, key_dim=12, value_dim=12, intermediate_size=48)
    >>> subnet = Subnet((KeptLayer(0, half), KeptLayer(2, half)), hidden_size=48)  # layer 1 is skipped
    >>> subnet.shape_in(shape).layers == (half, half)
    True
    >>> Subnet.full(shape).shape_in(shape) == shape
    True
    """

    layers: tuple[KeptLayer, ...]
    hidden_size: int

    @classmethod
    def full(cls, shape: EncoderShape) -> Subnet:
        """Return the subnet that keeps everything."""
        kept = tuple(KeptLayer(i, layer) for i, layer in enumerate(shape.layers))
        return cls(kept, shape.hidden_size)

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def check_fits(self, shape: EncoderShape) -> None:
        """Raise unless this is a part of the given supernet.

        Raises:
            ShapeError: every size or index that does not fit, together.
        """
        mistakes = Mistakes()
        if not 1 <= self.hidden_size <= shape.hidden_size:
            mistakes.add(f"hidden_size of the subnet must lie in 1..{shape.hidden_size}, got {self.hidden_size}")
        # A shape whose tables are as wide as its hidden states has no projection, but the supernet's weights have one.
        if self.hidden_size == shape.embedding_size:
            mistakes.add(f"hidden_size of the subnet must differ from embedding_size, got {self.hidden_size} for both")
        indices = [kept.index for kept in self.layers]
        if indices != sorted(set(indices)):
            mistakes.add(f"indices of kept layers must rise, got {indices}")
        for kept in self.layers:
            if not 0 <= kept.index < shape.num_layers:
                mistakes.add(f"index of a kept layer must lie in 0..{shape.num_layers - 1}, got {kept.index}")
                continue
            whole = shape.layers[kept.index]
            mistakes.extend(layer_misfits(kept, whole))
            if shape.ingredients.rotary_bases and kept.shape.has_attention and kept.shape.key_dim != whole.key_dim:
                mistakes.add(rotary_misfit(whole.key_dim, kept.shape.key_dim, f" of layer {kept.index}"))
        mistakes.check(ShapeError)

    def shape_in(self, shape: EncoderShape) -> EncoderShape:
        """Return the shape this subnet has when cut out of the given supernet.

        The embedding tables are cut with the hidden units, unless the supernet has its own
        embedding_size.
        """
        self.check_fits(shape)
        return EncoderShape(
            hidden_size=self.hidden_size,
            layers=tuple(kept.shape for kept in self.layers),
            vocab_size=shape.vocab_size,
            num_positions=shape.num_positions,
            num_token_types=shape.num_token_types,
            embedding_size=shape.embedding_size,
            ingredients=shape.ingredients.of_layers([kept.index for kept in self.layers]),
        )

    def to_json(self) -> dict[str, Any]:
        layers = [{"index": kept.index, **kept.shape.to_json()} for kept in self.layers]
        return {"hidden_size": self.hidden_size, "layers": layers}

    @classmethod
    def from_json(cls, data: Any) -> Subnet:
        """Read a subnet from parsed JSON.

        Raises:
            ShapeError: keys are missing or unknown, or sizes are invalid.
        """
        check_keys(data, "subnet", required=("hidden_size", "layers"))
        mistakes = Mistakes()
        check_size(mistakes, "hidden_size of the subnet", data["hidden_size"], least=1)
        mistakes.check(ShapeError)
        if not isinstance(data["layers"], list):
            raise ShapeError(f"layers of the subnet must be a list of objects, got {type(data['layers']).__name__}")
        layers = []
        for i, entry in enumerate(data["layers"]):
            if not isinstance(entry, dict):
                raise ShapeError(f"layer {i} of the subnet must be a JSON object, got {type(entry).__name__}")
            entry = dict(entry)
            index = entry.pop("index", None)
            if isinstance(index, bool) or not isinstance(index, int):
                raise ShapeError(f"layer {i} of the subnet: index must be an integer, got {index!r}")
            layers.append(KeptLayer(index, LayerShape.from_json(entry, where=f"layer {i} of the subnet")))
        return cls(tuple(layers), data["hidden_size"])


def rotary_misfit(whole: int, got: int, where: str = "") -> str:
    """Return the message for keys of rotary positions that were cut."""
    return (
        f"key_dim{where} must stay {whole}: rotary positions turn dimensions j and j + {whole // 2} of a key together, "
        f"each pair by an angle of its own, and the first dimensions alone are no pairs; got {got}"
    )


def layer_misfits(kept: KeptLayer, whole: LayerShape) -> list[str]:
    """Return a message for each size of a kept layer that exceeds the supernet's."""
    messages = []
    for name in LAYER_KEYS:
        size, limit = getattr(kept.shape, name), getattr(whole, name)
        if size > limit:
            messages.append(f"{name} of layer {kept.index} must lie in 0..{limit}, got {size}")
    return messages
