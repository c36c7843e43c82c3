"""NomicBERT's first configs, which name things as GPT-2 does, by the names that transformers' class reads. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cutbert.errors import Mistakes, ShapeError
from cutbert.shape.stock_ingredients import object_of

OLD_NAMES = {  # the class's name -> that of the first release
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "layer_norm_eps": "layer_norm_epsilon",
    "rope_theta": "rotary_emb_base",
    "hidden_act": "activation_function",
}
UNCHECKED = {  # likewise, the first that a config has; where it has the class's name, that one counts
    "hidden_dropout_prob": ("resid_pdrop",),
    "attention_probs_dropout_prob": ("attn_pdrop",),
    "max_position_embeddings": ("max_trained_positions", "n_positions"),
}
TRAINED_POSITIONS = 2048  # where the config says nothing
GATES = {"swiglu": "silu", "geglu": "gelu", "glu": "sigmoid"}  # activation of the gate by the name of the pair
NOMIC_FIXED = {  # what the first release could also be, and the class cannot
    "prenorm": False,
    "parallel_block": False,
    "use_rms_norm": False,
    "causal": False,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
}


def nomic_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with what it says by old names under the class's names too.

    nomic-embed-text-v1.5 has said its sizes by the old names alone, later by both. Where it has both they must agree:
    the code of the first release read the old ones, and transformers reads the others and takes sizes that it does not
    find for those of v1.5.

    Raises:
        ShapeError: two names of one size with different values, neurons that are not gated, or positions that the
            first release scaled; all mistakes together.

    Source:
        `modeling_hf_nomic_bert.py` of nomic-ai/nomic-bert-2048: beyond `max_trained_positions` the base of rotary
        positions grows with the text where there is a `rotary_scaling_factor`; up to there it is as given.
    """
    mistakes, said = Mistakes(), dict(config)
    theta = object_of(config, "rope_parameters").get("rope_theta", config.get("rope_theta"))
    for name, old in OLD_NAMES.items():
        own, value = theta if name == "rope_theta" else config.get(name), config.get(old)
        if old == "activation_function" and value is not None:
            if value not in tuple(GATES):
                mistakes.add(f"{old} must be one of {', '.join(GATES)}, got {value!r}")
                continue
            value = GATES[value]
        if own is None:
            said[name] = value
        elif value not in (None, own):
            mistakes.add(f"{name} and {old} must say the same, got {own!r} and {config[old]!r}")
    for name, olds in UNCHECKED.items():
        if config.get(name) is None:
            said[name] = next((config[old] for old in olds if config.get(old) is not None), None)
    mistakes.extend(scaled(said))
    mistakes.check(ShapeError)
    return {key: value for key, value in said.items() if value is not None or key in config}


def scaled(config: Mapping[str, Any]) -> list[str]:
    """Return a message where a config has positions whose rotary base would grow with the text."""
    factor, positions = config.get("rotary_scaling_factor"), config.get("max_position_embeddings")
    trained = config.get("max_trained_positions") or TRAINED_POSITIONS
    if factor is None or not isinstance(positions, int) or not isinstance(trained, int) or positions <= trained:
        return []
    return [
        "rotary_scaling_factor must be null with more positions than max_trained_positions "
        f"({positions} and {trained}), got {factor!r}"
    ]
