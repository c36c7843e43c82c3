"""How the model families of transformers write sizes, style and head in their config.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from cutbert.errors import Mistakes, ShapeError
from cutbert.shape.head import HeadKind, HeadSpec
from cutbert.shape.ingredients import BERT, NUM_BUCKETS, Ingredients
from cutbert.shape.nomic_config import NOMIC_FIXED, nomic_names
from cutbert.shape.pooling import CONFIG_KEY, POOLINGS
from cutbert.shape.shape import EncoderShape, check_size
from cutbert.shape.stock_ingredients import (
    deberta_ingredients,
    deberta_values,
    modernbert_ingredients,
    modernbert_values,
    mpnet_ingredients,
    nomic_ingredients,
    nomic_values,
)

# An EncoderShape's name of a size -> the key in a family's config.json.
BERT_SIZES = {
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "vocab_size": "vocab_size",
    "num_positions": "max_position_embeddings",
    "num_token_types": "type_vocab_size",
}
ELECTRA_SIZES = BERT_SIZES | {"embedding_size": "embedding_size"}
SIZES_WITHOUT_TYPES = {name: key for name, key in BERT_SIZES.items() if name != "num_token_types"}
DISTILBERT_SIZES = {
    "hidden_size": "dim",
    "num_layers": "n_layers",
    "num_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "vocab_size": "vocab_size",
    "num_positions": "max_position_embeddings",
}
# An EncoderStyle's name of a choice -> the config's key, and transformers' default.
BERT_STYLE: dict[str, tuple[str, Any]] = {
    "activation": ("hidden_act", "gelu"),
    "layer_norm_eps": ("layer_norm_eps", 1e-12),
    "hidden_dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
    "pad_token_id": ("pad_token_id", 0),
    "initializer_range": ("initializer_range", 0.02),
}
ROBERTA_STYLE = BERT_STYLE | {"pad_token_id": ("pad_token_id", 1)}
DISTILBERT_STYLE: dict[str, tuple[str, Any]] = {
    "activation": ("activation", "gelu"),
    "hidden_dropout": ("dropout", 0.1),
    "attention_dropout": ("attention_dropout", 0.1),
    "pad_token_id": ("pad_token_id", 0),
    "initializer_range": ("initializer_range", 0.02),
}
MODERNBERT_STYLE: dict[str, tuple[str, Any]] = {
    "activation": ("hidden_activation", "gelu"),
    "head_activation": ("classifier_activation", "gelu"),
    "layer_norm_eps": ("norm_eps", 1e-5),
    "hidden_dropout": ("mlp_dropout", 0.0),
    "attention_dropout": ("attention_dropout", 0.0),
    "pad_token_id": ("pad_token_id", 50283),
    "initializer_range": ("initializer_range", 0.02),
}
NOMIC_STYLE = BERT_STYLE | {
    "activation": ("hidden_act", "silu"),
    "hidden_dropout": ("hidden_dropout_prob", 0.0),
    "attention_dropout": ("attention_probs_dropout_prob", 0.0),
}
DEBERTA_STYLE = BERT_STYLE | {
    "layer_norm_eps": ("layer_norm_eps", 1e-7),
    "head_activation": ("pooler_hidden_act", "gelu"),
}
BERT_FIXED = {"position_embedding_type": "absolute"}  # former versions had relative keys too
MOST_LABELS = 2**17  # without names
STOCK_POOLING = "cls"  # what heads of whole texts read in stock classes that read no `classifier_pooling`
DISTILBERT_EPS = 1e-12  # fixed in transformers' DistilBERT code, not in its config


@dataclass(frozen=True)
class StockFamily:
    """How one family of transformers writes its config.json.

    Args:
        prefix: of its class names.
        sizes: EncoderShape's name of a size -> the config's key.
        style: EncoderStyle's name of a choice -> the config's key and transformers' default.
        head_activation: of the dense layer of a sequence head.
        bare: kind of head in the class without a task (`BertModel`).
        positions_after_padding: whether the first real token's position is pad_token_id + 1.
        first_position: of the first real token, where it does not hang on the padding.
        may_lack_types: whether its class may have no table of token types, where its config gives their number.
        names_head_dim: whether its class reads `head_dim`, so that heads need not be of hidden_size / num_heads.
        reads_pooling: whether a whole text's head reads what `classifier_pooling` says; else the first token.
        ingredients: reads from a config what the family's encoder is made of.
        ingredient_values: the config's keys for the ingredients of a shape, as far as the family has them.
        fixed: keys of which transformers' code supports one value alone; null is as good as no key.
        class_names: returns a config with what it says by other names under those of its class.
        began_as_remote_code: whether its models name code of their own (`auto_map`), of which transformers' class was
            made: it needs none, and none is run.
    """

    prefix: str
    sizes: Mapping[str, str]
    style: Mapping[str, tuple[str, Any]]
    head_activation: str
    bare: HeadKind
    positions_after_padding: bool = False
    first_position: int = 0
    may_lack_types: bool = False
    names_head_dim: bool = False
    reads_pooling: bool = False
    ingredients: Callable[[Mapping[str, Any]], Ingredients] = lambda config: BERT
    ingredient_values: Callable[[EncoderShape], dict[str, Any]] = lambda shape: {}
    fixed: Mapping[str, Any] = field(default_factory=dict)
    class_names: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda config: config
    began_as_remote_code: bool = False

    def position_offset(self, pad_token_id: int) -> int:
        """Return the position id of the first real token."""
        return pad_token_id + 1 if self.positions_after_padding else self.first_position


STOCK_FAMILIES = {
    "bert": StockFamily("Bert", BERT_SIZES, BERT_STYLE, "tanh", "pooler", fixed=BERT_FIXED),
    "roberta": StockFamily("Roberta", BERT_SIZES, ROBERTA_STYLE, "tanh", "pooler", True, fixed=BERT_FIXED),
    "xlm-roberta": StockFamily("XLMRoberta", BERT_SIZES, ROBERTA_STYLE, "tanh", "pooler", True, fixed=BERT_FIXED),
    "camembert": StockFamily("Camembert", BERT_SIZES, ROBERTA_STYLE, "tanh", "pooler", True, fixed=BERT_FIXED),
    "electra": StockFamily("Electra", ELECTRA_SIZES, BERT_STYLE, "gelu", "none", fixed=BERT_FIXED),
    "distilbert": StockFamily("DistilBert", DISTILBERT_SIZES, DISTILBERT_STYLE, "relu", "none"),
    "mpnet": StockFamily(
        "MPNet",
        SIZES_WITHOUT_TYPES,
        ROBERTA_STYLE,
        "tanh",
        "pooler",
        first_position=2,
        ingredients=mpnet_ingredients,
        fixed={"relative_attention_num_buckets": NUM_BUCKETS},
    ),
    "modernbert": StockFamily(
        "ModernBert",
        SIZES_WITHOUT_TYPES,
        MODERNBERT_STYLE,
        "gelu",
        "none",
        reads_pooling=True,
        ingredients=modernbert_ingredients,
        ingredient_values=modernbert_values,
    ),
    "nomic_bert": StockFamily(
        "NomicBert",
        BERT_SIZES,
        NOMIC_STYLE,
        "tanh",
        "none",
        names_head_dim=True,
        ingredients=nomic_ingredients,
        ingredient_values=nomic_values,
        fixed=NOMIC_FIXED,
        class_names=nomic_names,
        began_as_remote_code=True,
    ),
    "deberta-v2": StockFamily(
        "DebertaV2",
        BERT_SIZES,
        DEBERTA_STYLE,
        "gelu",
        "none",
        may_lack_types=True,
        ingredients=deberta_ingredients,
        ingredient_values=deberta_values,
    ),
}
KINDS_WITHOUT_LABELS: dict[str, HeadKind] = {"ForQuestionAnswering": "span", "ForMaskedLM": "masked_lm"}
KINDS_BY_PROBLEM: dict[str, HeadKind] = {
    "single_label_classification": "single_label",
    "multi_label_classification": "multi_label",
    "regression": "regression",
}


def stock_shape(config: Mapping[str, Any], model_type: str) -> EncoderShape:
    """Return the sizes a stock config gives.

    Raises:
        ShapeError: sizes are missing or invalid, or the network is a decoder, or not what transformers' code supports.
    """
    family = STOCK_FAMILIES[model_type]
    sizes = family.sizes
    mistakes = Mistakes()
    for key in sizes.values():
        if key in config:
            check_size(mistakes, key, config[key], least=0)
        else:
            mistakes.add(f"must have the key {key!r}, got none")
    if config.get("is_decoder") or config.get("add_cross_attention"):
        mistakes.add("must be an encoder, got is_decoder or add_cross_attention")
    for key, value in family.fixed.items():
        got = config.get(key)
        if got is not None and got != value:
            mistakes.add(f"{key} must be {value!r}, the only one that transformers' code supports, got {got!r}")
    numbers: dict[str, Any] = {"num_token_types": 0} | {name: config.get(key) for name, key in sizes.items()}
    if family.names_head_dim and config.get("head_dim") is not None:
        numbers["head_dim"] = config["head_dim"]
        check_size(mistakes, "head_dim", config["head_dim"], least=1)
    mistakes.check(ShapeError)
    return EncoderShape.uniform(**numbers, ingredients=family.ingredients(config))


def stock_style(config: Mapping[str, Any], model_type: str) -> dict[str, Any]:
    """Return the fields of an EncoderStyle; a key that is absent or null gets transformers' default.

    Raises:
        ShapeError: an invalid dropout, epsilon, range or padding id; all mistakes together.
    """
    family = STOCK_FAMILIES[model_type]
    style: dict[str, Any] = {
        "family": model_type,
        "head_activation": family.head_activation,
        "pooling": STOCK_POOLING,
    }
    for name, (key, default) in family.style.items():
        style[name] = default if config.get(key) is None else config[key]
    style.setdefault("layer_norm_eps", DISTILBERT_EPS)
    if family.reads_pooling and config.get(CONFIG_KEY) is not None:
        style["pooling"] = config[CONFIG_KEY]
        if style["pooling"] not in POOLINGS:
            raise ShapeError(f"{CONFIG_KEY} must be one of {', '.join(POOLINGS)}, got {style['pooling']!r}")
    check_style(style, {name: key for name, (key, _) in family.style.items()}, config["vocab_size"])
    style["position_offset"] = family.position_offset(style["pad_token_id"])
    return style


def check_style(style: Mapping[str, Any], keys: Mapping[str, str] = MappingProxyType({}), vocab_size: int = 0) -> None:
    """Raise unless the values of an EncoderStyle, as far as they are given, are of their type and in their range.

    Args:
        style: values by EncoderStyle's names; which names there are is not checked.
        keys: what a message calls them, where that is not their name.
        vocab_size: what pad_token_id must lie below; 0 for any.

    Raises:
        ShapeError: all mistakes together.
    """
    mistakes = Mistakes()
    for name, value in style.items():
        key = keys.get(name, name)
        if name in ("activation", "head_activation") and not isinstance(value, str):
            mistakes.add(f"{key} must be the name of an activation, got {value!r}")
        elif name in ("hidden_dropout", "attention_dropout"):
            check_number(mistakes, key, value, "a number in 0..1", most=1.0)
        elif name in ("layer_norm_eps", "initializer_range"):
            check_number(mistakes, key, value, "a number in 0..1000", most=1000.0)
        elif name in ("pad_token_id", "position_offset"):
            check_size(mistakes, key, value, least=0)
    pad = style.get("pad_token_id")
    if not mistakes.messages and vocab_size and pad is not None and pad >= vocab_size:
        mistakes.add(f"pad_token_id must lie below vocab_size {vocab_size}, got {pad}")
    mistakes.check(ShapeError)


def check_number(mistakes: Mistakes, key: str, value: object, wanted: str, most: float) -> None:
    """Collect a mistake unless value is a number in 0..most."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        mistakes.add(f"{key} must be {wanted}, got {value!r}")


def stock_head(config: Mapping[str, Any], model_type: str) -> HeadSpec:
    """Return the head of the class that a config names under `architectures`.

    A config that names no class is read as the family's class without a task, as AutoModel does.
    ELECTRA's discriminator (`ForPreTraining`) is read without its head, and BERT's `ForPreTraining`
    without its next-sentence part.

    Raises:
        ShapeError: a class that is not an encoder with a head we know, or invalid labels.
    """
    family = STOCK_FAMILIES[model_type]
    names = config.get("architectures") or [f"{family.prefix}Model"]
    if not isinstance(names, list):
        raise ShapeError(f"architectures must be a list of class names, got {names!r}")
    name = str(names[0])
    suffix = name.removeprefix(family.prefix)
    if suffix == "Model" or (model_type == "electra" and suffix == "ForPreTraining"):
        return HeadSpec(family.bare)
    if suffix in KINDS_WITHOUT_LABELS:
        return HeadSpec(KINDS_WITHOUT_LABELS[suffix])
    if suffix == "ForPreTraining":
        return HeadSpec("masked_lm")
    if suffix == "ForTokenClassification":
        return HeadSpec("token", stock_labels(config))
    if suffix == "ForSequenceClassification":
        return HeadSpec(sequence_kind(config), stock_labels(config))
    known = ("Model", "ForSequenceClassification", "ForTokenClassification", *KINDS_WITHOUT_LABELS, "ForPreTraining")
    raise ShapeError(f"architectures must name {family.prefix} followed by one of {', '.join(known)}, got {name!r}")


def sequence_kind(config: Mapping[str, Any]) -> HeadKind:
    """Return the kind of a sequence head; without a problem_type one label means regression, as in transformers."""
    problem = config.get("problem_type")
    if problem is None:
        return "regression" if len(stock_labels(config)) == 1 else "single_label"
    if not isinstance(problem, str) or problem not in KINDS_BY_PROBLEM:
        raise ShapeError(f"problem_type must be one of {', '.join(KINDS_BY_PROBLEM)}, got {problem!r}")
    return KINDS_BY_PROBLEM[problem]


def stock_labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the labels in id order; without id2label LABEL_0.., num_labels of them or else two."""
    names = config.get("id2label")
    if not names:
        count = 2 if config.get("num_labels") is None else config["num_labels"]
        mistakes = Mistakes()
        check_size(mistakes, "num_labels", count, least=1, most=MOST_LABELS)
        mistakes.check(ShapeError)
        return tuple(f"LABEL_{i}" for i in range(count))
    if not isinstance(names, Mapping):
        raise ShapeError(f"id2label must be an object of names by id, got {names!r}")
    by_id = {str(key): str(name) for key, name in names.items()}
    ids = [str(i) for i in range(len(by_id))]
    if set(by_id) != set(ids):
        raise ShapeError(f"id2label must have the ids 0..{len(ids) - 1}, got {', '.join(sorted(by_id))}")
    return tuple(by_id[i] for i in ids)
