"""A family of transformers: its names for the parameters and classes of the same encoder, and what it can hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cutbert.errors import ModelError
from cutbert.model.style import EncoderStyle
from cutbert.shape.head import SEQUENCE_KINDS, HeadKind
from cutbert.shape.shape import EncoderShape
from cutbert.shape.stock_config import DISTILBERT_EPS, STOCK_FAMILIES, STOCK_POOLING

PART = re.compile(r"#\d+")
LAYER = re.compile(r"^layers\.(\d+)\.")
CLASS_SUFFIX = {
    "none": "Model",
    "pooler": "Model",
    "sequence": "ForSequenceClassification",
    "token": "ForTokenClassification",
    "span": "ForQuestionAnswering",
    "masked_lm": "ForMaskedLM",
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family of transformers: its names for our parameters and classes.

    Its names for sizes and choices in config.json are in `shape.stock_config.STOCK_FAMILIES`.

    Args:
        name: transformers' model_type.
        prefix: attribute with the encoder in a class with a task head.
        old_prefix: that in the files of its first release, where it was another.
        encoder: our module name -> theirs, without prefix; `{i}` is the layer's index. Parts that only networks of free
            shape have need a name too. `NAME#k` is part k of a matrix that the family stores as one.
        heads: per head group, our module or parameter name inside the head -> theirs, without prefix.
        decoder: their further names of the tied table and of the masked-LM bias -> our names.
        other: prefixes of weights of heads that we do not have.
        special_ids: keys of the config for ids of special tokens -> the tokenizer's attribute.
        masked_lm_activation: activation in the masked-LM head, where transformers' class fixes it.
        has_pooler_inside: whether the pooler of a class with a task head is a part of its encoder.
        fused: last part of the name of each matrix that is several of ours, one above the other -> how many.
        in_class: module of transformers' class -> that in `encoder`, where its files name it otherwise.
    """

    name: str
    prefix: str
    encoder: Mapping[str, str]
    heads: Mapping[str, Mapping[str, str]]
    decoder: Mapping[str, str]
    other: tuple[str, ...] = ()
    special_ids: Mapping[str, str] = field(default_factory=dict)
    masked_lm_activation: str | None = None
    old_prefix: str | None = None
    fused: Mapping[str, int] = field(default_factory=dict)
    has_pooler_inside: bool = True
    in_class: Mapping[str, str] = field(default_factory=dict)

    def class_name(self, kind: HeadKind) -> str:
        """Return the name of the family's own class with a head of this kind."""
        return STOCK_FAMILIES[self.name].prefix + CLASS_SUFFIX[head_group(kind)]

    def name_of(self, ours: str, kind: HeadKind) -> str:
        """Return the family's name, without prefix, of a parameter of a TaskModel with a head of this kind."""
        part, _, rest = ours.partition(".")
        if part != "encoder":
            return translate(self.heads[head_group(kind)], rest)
        return translate(self.encoder, rest)

    def in_file(self, name: str) -> str:
        """Return the name in the tables of a weight named as in the file or as in transformers' class."""
        try:
            return translate(self.in_class, name)
        except KeyError:
            return name

    def stored_name(self, ours: str, kind: HeadKind) -> str:
        """Return the name of a parameter in the state dict of the family's own class."""
        name = self.name_of(ours, kind)
        inside = ours.startswith("encoder.") or (name.startswith("pooler.") and self.has_pooler_inside)
        return f"{self.prefix}.{name}" if inside and kind not in ("none", "pooler") else name

    def parted(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        """Return a stored tensor, or its parts where it is several of our matrices, by their names in the tables."""
        module, _, leaf = name.rpartition(".")
        count = self.fused.get(module.rpartition(".")[2])
        if count is None or len(tensor) % count:
            return {name: tensor}
        return {f"{module}#{k}.{leaf}": part for k, part in enumerate(tensor.chunk(count))}

    def joined(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors by the names in the tables as they are stored: parts of one matrix together."""
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            parts.setdefault(PART.sub("", name), {})[name] = tensor
        ordered = {name: [each[part] for part in sorted(each)] for name, each in parts.items()}
        return {name: each[0] if len(each) == 1 else torch.cat(each) for name, each in ordered.items()}

    def is_head_name(self, name: str) -> bool:
        """Whether a name without prefix belongs to a head of the family, one that we have or not."""
        ours = {theirs for table in self.heads.values() for theirs in table.values()}
        return any(name == head or name.startswith(f"{head}.") for head in {*ours, *self.decoder, *self.other})

    def check_head(self, kind: HeadKind, style: EncoderStyle) -> None:
        """Raise unless the family has the same head of this kind as we.

        Raises:
            ModelError: the family has no such head, or one with another activation.
        """
        if head_group(kind) not in ("none", *self.heads):
            raise ModelError(f"the head of a {self.name} must not be a {kind}: the family has none")
        if kind == "masked_lm" and self.masked_lm_activation not in (None, style.activation):
            raise ModelError(
                f"the activation of a {self.name} with a masked_lm head must be {self.masked_lm_activation!r}, "
                f"as in the head, got {style.activation!r}"
            )

    def holds(self, shape: EncoderShape, style: EncoderStyle, kind: HeadKind) -> bool:
        """Whether the family's own class in transformers can hold such a network."""
        stock = STOCK_FAMILIES[self.name]
        return (
            shape.is_stock
            and stock.ingredients(self.config_values(shape, style)) == shape.ingredients
            and (stock.may_lack_types or (shape.num_token_types > 0) == ("num_token_types" in stock.sizes))
            and (shape.embedding_size is None or "embedding_size" in stock.sizes)
            and style.position_offset == stock.position_offset(style.pad_token_id)
            and ("head_activation" in stock.style or style.head_activation == stock.head_activation)
            and (style.pooling == STOCK_POOLING or stock.reads_pooling or kind not in SEQUENCE_KINDS)
            and ("layer_norm_eps" in stock.style or style.layer_norm_eps == DISTILBERT_EPS)
            and head_group(kind) in ("none", *self.heads)
            and (kind != "masked_lm" or self.masked_lm_activation in (None, style.activation))
        )

    def config_values(self, shape: EncoderShape, style: EncoderStyle) -> dict[str, Any]:
        """Return sizes, ingredients and choices by the family's config keys, for a stock shape."""
        stock, first = STOCK_FAMILIES[self.name], shape.layers[0]
        sizes = {
            "hidden_size": shape.hidden_size,
            "vocab_size": shape.vocab_size,
            "num_positions": shape.num_positions,
            "num_token_types": shape.num_token_types,
            "num_layers": shape.num_layers,
            "num_heads": first.num_heads,
            "intermediate_size": first.intermediate_size,
            "embedding_size": shape.table_size,
        }
        values = {key: sizes[name] for name, key in stock.sizes.items()} | stock.ingredient_values(shape)
        return values | {key: getattr(style, name) for name, (key, _) in stock.style.items()}


def translate(table: Mapping[str, str], ours: str) -> str:
    """Translate a parameter name through a table of modules or parameters, where `{i}` is the layer's index."""
    layer = LAYER.match(ours)
    if layer is not None:
        return translate(table, f"layers.{{i}}.{ours[layer.end() :]}").replace("{i}", layer[1])
    if ours in table:
        return table[ours]
    module, _, leaf = ours.rpartition(".")
    return f"{table[module]}.{leaf}"


def head_group(kind: HeadKind) -> str:
    """Return the kind, with the three sequence kinds as one; an embedding has no weights, as none has."""
    if kind == "embedding":
        return "none"
    return "sequence" if kind in SEQUENCE_KINDS else kind
