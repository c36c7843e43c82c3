"""What the encoders of transformers' families are made of, read from their config.json and written into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cutbert.errors import Mistakes, ShapeError
from cutbert.shape.ingredients import Ingredients, is_base
from cutbert.shape.shape import EncoderShape, check_size, first_alone

LOCAL, GLOBAL = "sliding_attention", "full_attention"
ROTARY_BASES = {GLOBAL: 160_000.0, LOCAL: 10_000.0}  # of ModernBERT, where its config says nothing
OLD_BASES = {GLOBAL: "global_rope_theta", LOCAL: "local_rope_theta"}
NOMIC_BASE = 1000.0  # where its config says nothing


def mpnet_ingredients(config: Mapping[str, Any]) -> Ingredients:
    return Ingredients(num_bias_heads=config["num_attention_heads"])


def modernbert_ingredients(config: Mapping[str, Any]) -> Ingredients:
    """Return what a ModernBERT is made of; configs older than transformers 5 name a base and a period of layers."""
    count = config["num_hidden_layers"]
    kinds, period, width = (
        config.get("layer_types"), config.get("global_attn_every_n_layers", 3), config.get("local_attention", 128)
    )  # fmt: skip
    mistakes = Mistakes()
    check_size(mistakes, "global_attn_every_n_layers", period, least=1)
    check_size(mistakes, "local_attention", width, least=2)
    mistakes.check(ShapeError)
    if kinds is None:
        kinds = [LOCAL if i % period else GLOBAL for i in range(count)]
    if not isinstance(kinds, list) or len(kinds) != count or set(kinds) - {LOCAL, GLOBAL}:
        raise ShapeError(f"layer_types must be {count} of {GLOBAL} and {LOCAL}, got {kinds!r}")
    return Ingredients(
        norm_first=True,
        has_position_table=False,
        rotary_bases=tuple(rotary_base(config, kind) for kind in (GLOBAL, LOCAL)),
        window=width // 2,
        local_layers=tuple(kind == LOCAL for kind in kinds),
        bare_layers=first_alone(count),
        is_gated=True,
        has_attention_bias=config.get("attention_bias", False),
        has_feed_forward_bias=config.get("mlp_bias", False),
        has_norm_bias=config.get("norm_bias", False),
        has_prediction_head=True,
        has_head_bias=config.get("classifier_bias", False),
    )


def rotary_base(config: Mapping[str, Any], kind: str) -> float:
    """Return the base of the rotary positions of global or local layers.

    Raises:
        ShapeError: positions that are scaled, or none.
    """
    stated = object_of(object_of(config, "rope_parameters"), kind)
    return plain_base(config, stated, config.get(OLD_BASES[kind]), ROTARY_BASES[kind], f" of {kind}")


def plain_base(config: Mapping[str, Any], stated: Mapping[str, Any], older: Any, default: float, whose: str) -> float:
    """Return the base of rotary positions that are not scaled.

    Args:
        config: of the model.
        stated: what it says of these positions.
        older: the base, where an older config has a key for it alone.
        default: transformers' own.
        whose: which positions, for a message.

    Raises:
        ShapeError: positions that are scaled, or no base.
    """
    for each in (stated, object_of(config, "rope_scaling")):
        scaling = each.get("rope_type", each.get("type", "default"))
        if scaling != "default":
            raise ShapeError(f"rope_type{whose} must be 'default', got {scaling!r}")
    base = stated.get("rope_theta", older)
    base = default if base is None else base
    if not is_base(base):
        raise ShapeError(f"rope_theta{whose} must be a number above 0, got {base!r}")
    return float(base)


def object_of(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return an object of a config, empty where there is none."""
    value = config.get(key) or {}
    if not isinstance(value, Mapping):
        raise ShapeError(f"{key} must be an object, got {value!r}")
    return value


def modernbert_values(shape: EncoderShape) -> dict[str, Any]:
    ingredients = shape.ingredients
    return {
        "layer_types": [LOCAL if ingredients.is_local(i) else GLOBAL for i in range(shape.num_layers)],
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": base}
            for kind, base in zip((GLOBAL, LOCAL), ingredients.rotary_bases, strict=False)
        },
        "local_attention": 2 * max(1, ingredients.window),
        "attention_bias": ingredients.has_attention_bias,
        "mlp_bias": ingredients.has_feed_forward_bias,
        "norm_bias": ingredients.has_norm_bias,
        "classifier_bias": ingredients.has_head_bias,
    }


def nomic_ingredients(config: Mapping[str, Any]) -> Ingredients:
    """Return what a NomicBERT is made of: rotary positions of one base, gated neurons, no biases in the layers."""
    base = plain_base(config, object_of(config, "rope_parameters"), config.get("rope_theta"), NOMIC_BASE, "")
    return Ingredients(
        has_position_table=False,
        rotary_bases=(base, base),
        is_gated=True,
        has_attention_bias=False,
        has_feed_forward_bias=False,
    )


def nomic_values(shape: EncoderShape) -> dict[str, Any]:
    bases = shape.ingredients.rotary_bases
    rotary = {"rope_parameters": {"rope_type": "default", "rope_theta": bases[0]}} if bases else {}
    return {"head_dim": shape.layers[0].key_dim} | rotary


def deberta_ingredients(config: Mapping[str, Any]) -> Ingredients:
    """Return what a DeBERTa is made of; those of the third generation and their like are taken.

    Raises:
        ShapeError: convolutions, projections of distances of their own, or only some of the terms of scores.
    """
    mistakes = Mistakes()
    kinds = config.get("pos_att_type") or []
    kinds = sorted(kinds.lower().split("|") if isinstance(kinds, str) else map(str, kinds))
    norm = config.get("norm_rel_ebd", "none")
    for key, got, wanted in (
        ("relative_attention", config.get("relative_attention", False), True),
        ("share_att_key", config.get("share_att_key", False), True),
        ("pos_att_type", kinds, ["c2p", "p2c"]),
        ("conv_kernel_size", config.get("conv_kernel_size", 0), 0),
        ("embedding_size", config.get("embedding_size", config["hidden_size"]), config["hidden_size"]),
        ("pooler_hidden_size", config.get("pooler_hidden_size", config["hidden_size"]), config["hidden_size"]),
    ):
        if got != wanted:
            mistakes.add(f"{key} must be {wanted!r}, as in DeBERTa-v3, got {got!r}")
    if norm not in ("none", "layer_norm"):
        mistakes.add(f"norm_rel_ebd must be 'layer_norm' or 'none', got {norm!r}")
    check_size(mistakes, "position_buckets", config.get("position_buckets", -1), least=2)
    longest = config.get("max_relative_positions", -1)
    if isinstance(longest, bool) or not isinstance(longest, int):
        mistakes.add(f"max_relative_positions must be an integer, got {longest!r}")
    mistakes.check(ShapeError)
    return Ingredients(
        has_position_table=config.get("position_biased_input", True),
        num_distance_buckets=config["position_buckets"],
        max_distance=longest if longest > 0 else config["max_position_embeddings"],
        has_distance_norm=norm == "layer_norm",
    )


def deberta_values(shape: EncoderShape) -> dict[str, Any]:
    ingredients = shape.ingredients
    is_whole = ingredients.max_distance == shape.num_positions
    return {
        "relative_attention": True,
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": ingredients.has_position_table,
        "position_buckets": max(2, ingredients.num_distance_buckets),
        "max_relative_positions": -1 if is_whole else ingredients.max_distance,
        "norm_rel_ebd": "layer_norm" if ingredients.has_distance_norm else "none",
        "pooler_hidden_size": shape.hidden_size,
    }
