"""The sizes of an encoder, as plain data: an `EncoderShape` with one `LayerShape` per layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from cutbert.errors import Mistakes, ShapeError
from cutbert.shape.ingredients import BERT, Ingredients

MOST_SIZE = 2**24  # tables of all the world's words have fewer rows
MOST_LAYERS = 1000
LAYER_KEYS = ("num_heads", "key_dim", "value_dim", "intermediate_size")


@dataclass(frozen=True)
class LayerShape:
    """The sizes of one layer; `key_dim` and `value_dim` are per head.

    A sub-layer of size 0 is absent: `num_heads = 0` means no attention, `intermediate_size = 0` no
    feed-forward. The other sizes of an absent attention are set to 0, so equal networks compare equal.

    Args:
        num_heads: attention heads, 0 for no attention.
        key_dim: size of a query or key per head, at least 1 where there are heads.
        value_dim: size of a value per head, at least 1 where there are heads.
        intermediate_size: feed-forward neurons, 0 for no feed-forward.

    Raises:
        ShapeError: a size is negative, not an integer, or missing where its sub-layer is present.

    >>> LayerShape(num_heads=12, key_dim=64, value_dim=64, intermediate_size=0)  # attention alone
    LayerShape(num_heads=12, key_dim=64, value_dim=64, intermediate_size=0)
    >>> LayerShape(num_heads=0, key_dim=64, value_dim=64, intermediate_size=3072)  # feed-forward alone
    LayerShape(num_heads=0, key_dim=0, value_dim=0, intermediate_size=3072)
    """

    num_heads: int
    key_dim: int
    value_dim: int
    intermediate_size: int

    def __post_init__(self) -> None:
        mistakes = Mistakes()
        for name in LAYER_KEYS:
            check_size(mistakes, name, getattr(self, name), least=0)
        mistakes.check(ShapeError)
        if self.num_heads == 0:
            object.__setattr__(self, "key_dim", 0)
            object.__setattr__(self, "value_dim", 0)
        else:
            check_size(mistakes, "key_dim", self.key_dim, least=1)
            check_size(mistakes, "value_dim", self.value_dim, least=1)
        mistakes.check(ShapeError)

    @property
    def has_attention(self) -> bool:
        return self.num_heads > 0

    @property
    def has_feed_forward(self) -> bool:
        return self.intermediate_size > 0

    def to_json(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in LAYER_KEYS}

    @classmethod
    def from_json(cls, data: Any, where: str = "layer") -> LayerShape:
        check_keys(data, where, required=LAYER_KEYS)
        try:
            return cls(**{name: data[name] for name in LAYER_KEYS})
        except ShapeError as error:
            raise ShapeError(*(f"{where}: {mistake}" for mistake in error.mistakes)) from None


@dataclass(frozen=True)
class EncoderShape:
    """The sizes of an encoder, and what it is made of; the family's other choices (dropout, ...) are in its style.

    Args:
        hidden_size: width of the residual stream.
        layers: one LayerShape per layer, input side first; may be empty.
        vocab_size: rows of the token table.
        num_positions: rows of the position table, the family's offset included.
        num_token_types: rows of the token type table, 0 for none.
        embedding_size: width of the embedding tables where it differs from hidden_size (ELECTRA);
            None means hidden_size.
        ingredients: what it is made of; BERT's by default.

    Raises:
        ShapeError: a size is out of range; all mistakes together.

    >>> whole = LayerShape(num_heads=2, key_dim=32, value_dim=32, intermediate_size=256)
    >>> bare = LayerShape(num_heads=1, key_dim=32, value_dim=32, intermediate_size=0)
    >>> shape = EncoderShape(hidden_size=64, layers=(whole, bare), vocab_size=1000, num_positions=128)
    >>> shape.num_layers, shape.is_stock  # the second layer has fewer heads and no feed-forward
    (2, False)
    >>> shape.to_json()["layers"][1]
    {'num_heads': 1, 'key_dim': 32, 'value_dim': 32, 'intermediate_size': 0}
    """

    hidden_size: int
    layers: tuple[LayerShape, ...]
    vocab_size: int
    num_positions: int
    num_token_types: int = 2
    embedding_size: int | None = None
    ingredients: Ingredients = BERT

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        mistakes = Mistakes()
        check_size(mistakes, "hidden_size", self.hidden_size, least=1)
        check_size(mistakes, "vocab_size", self.vocab_size, least=1)
        check_size(mistakes, "num_positions", self.num_positions, least=1)
        check_size(mistakes, "num_token_types", self.num_token_types, least=0)
        if self.embedding_size is not None:
            check_size(mistakes, "embedding_size", self.embedding_size, least=1)
        if len(self.layers) > MOST_LAYERS:
            mistakes.add(f"layers must be at most {MOST_LAYERS}, got {len(self.layers)}")
        mistakes.check(ShapeError)
        self.ingredients.check_layers(len(self.layers))
        if self.ingredients.rotary_bases and any(layer.key_dim % 2 for layer in self.layers):
            raise ShapeError(
                f"key_dim must be even with rotary positions, got {[layer.key_dim for layer in self.layers]}"
            )
        if self.embedding_size == self.hidden_size:
            object.__setattr__(self, "embedding_size", None)

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def table_size(self) -> int:
        """Width of the embedding tables."""
        return self.embedding_size or self.hidden_size

    @property
    def is_stock(self) -> bool:
        """Whether the family's own class in transformers can hold this shape.

        True where all layers are equal, have both sub-layers, and key_dim = value_dim = hidden_size / num_heads, or any
        size where norms come after and positions are rotary (NomicBERT's `head_dim`); with relative biases, where there
        is one column for each head; and with norms first, where the first layer, and no other, has a bare attention
        (ModernBERT).
        """
        names_head_dim = bool(self.ingredients.rotary_bases) and not self.ingredients.norm_first
        first = self.layers[0] if self.layers else None
        return (
            first is not None
            and all(layer == first for layer in self.layers)
            and first.has_attention
            and first.has_feed_forward
            and first.key_dim == first.value_dim
            and (names_head_dim or first.key_dim * first.num_heads == self.hidden_size)
            and self.ingredients.num_bias_heads in (0, first.num_heads)
            and (not self.ingredients.norm_first or self.ingredients.bare_layers == first_alone(self.num_layers))
        )

    def with_layers(self, layers: Sequence[LayerShape], origins: Sequence[int]) -> EncoderShape:
        """Return the shape with other layers.

        Args:
            layers: their sizes.
            origins: for each the layer of this shape whose kind it has (local or global, bare or not).
        """
        return replace(self, layers=tuple(layers), ingredients=self.ingredients.of_layers(origins))

    def made_as(self, other: EncoderShape) -> EncoderShape:
        """Return the same sizes with another encoder's ingredients, fitted to these sizes.

        The layers up to the second global one are repeated.
        """
        ingredients = other.ingredients
        if ingredients.num_bias_heads:
            most = max((layer.num_heads for layer in self.layers), default=0)
            ingredients = replace(ingredients, num_bias_heads=max(1, most))
        if ingredients.bare_layers:
            ingredients = replace(ingredients, bare_layers=first_alone(self.num_layers))
        if ingredients.local_layers:
            period = next((i for i in range(1, other.num_layers) if not ingredients.is_local(i)), other.num_layers)
            local = tuple(ingredients.is_local(i % period) for i in range(self.num_layers))
            ingredients = replace(ingredients, local_layers=local)
        return replace(self, ingredients=ingredients)

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "hidden_size": self.hidden_size,
            "vocab_size": self.vocab_size,
            "num_positions": self.num_positions,
            "num_token_types": self.num_token_types,
            "layers": [layer.to_json() for layer in self.layers],
        }
        if self.embedding_size is not None:
            data["embedding_size"] = self.embedding_size
        if self.ingredients != BERT:
            data["ingredients"] = self.ingredients.to_json()
        return data

    @classmethod
    def from_json(cls, data: Any) -> EncoderShape:
        """Read a shape from parsed JSON.

        Raises:
            ShapeError: keys are missing or unknown, or sizes are out of range; all mistakes together.
        """
        names = tuple(field.name for field in fields(cls))
        check_keys(data, "shape", required=names[:-2], optional=names[-2:])
        if not isinstance(data["layers"], list):
            raise ShapeError(f"layers must be a list of objects, got {type(data['layers']).__name__}")
        mistakes = Mistakes()
        layers = []
        for i, layer in enumerate(data["layers"]):
            with mistakes.collect():
                layers.append(LayerShape.from_json(layer, where=f"layer {i}"))
        sizes = {name: data.get(name) for name in names if name not in ("layers", "ingredients")}
        with mistakes.collect():
            ingredients = Ingredients.from_json(data.get("ingredients", {}))
            shape = cls(layers=tuple(layers), ingredients=ingredients, **sizes)
        mistakes.check(ShapeError)
        return shape

    @classmethod
    def uniform(
        cls,
        *,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        intermediate_size: int,
        vocab_size: int,
        head_dim: int | None = None,
        num_positions: int = 512,
        num_token_types: int = 2,
        embedding_size: int | None = None,
        ingredients: Ingredients = BERT,
    ) -> EncoderShape:
        """Return an ordinary shape: equal layers, key_dim = value_dim = head_dim; None: hidden_size / num_heads."""
        if num_layers > MOST_LAYERS:
            raise ShapeError(f"num_layers must be at most {MOST_LAYERS}, got {num_layers}")
        if num_heads < 1 or (head_dim is None and hidden_size % num_heads):
            raise ShapeError(f"hidden_size must be a multiple of num_heads, got {hidden_size} and {num_heads}")
        head_dim = hidden_size // num_heads if head_dim is None else head_dim
        layer = LayerShape(num_heads, head_dim, head_dim, intermediate_size)
        return cls(
            hidden_size=hidden_size,
            layers=(layer,) * num_layers,
            vocab_size=vocab_size,
            num_positions=num_positions,
            num_token_types=num_token_types,
            embedding_size=embedding_size,
            ingredients=ingredients,
        )


def first_alone(num_layers: int) -> tuple[bool, ...]:
    """Return true for the first layer and false for the others."""
    return tuple(i == 0 for i in range(num_layers))


def check_size(mistakes: Mistakes, name: str, value: object, *, least: int, most: int = MOST_SIZE) -> None:
    """Collect a mistake unless value is an integer of at least `least` and at most `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        mistakes.add(f"{name} must be an integer of at least {least}, got {value!r}")
    elif value > most:
        mistakes.add(f"{name} must be at most {most:,}, got {value}")


def check_keys(data: Any, where: str, *, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    """Raise a ShapeError naming every key that is missing or unknown."""
    if not isinstance(data, Mapping):
        raise ShapeError(f"{where} must be a JSON object, got {type(data).__name__}")
    mistakes = Mistakes()
    mistakes.extend(f"{where}: missing key {name!r}" for name in required if name not in data)
    known = set(required) | set(optional)
    mistakes.extend(
        f"{where}: unknown key {name!r}; known are {', '.join(sorted(known))}" for name in data if name not in known
    )
    mistakes.check(ShapeError)
