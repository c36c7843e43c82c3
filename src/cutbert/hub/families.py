"""The families of transformers as tables: their names for the parameters and classes of the same encoder."""

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
TOKEN_TABLE = "encoder.embeddings.token.weight"

BERT_ENCODER = {
    "embeddings.token": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "embeddings.projection": "embeddings_project",
    "layers.{i}.attention.query": "encoder.layer.{i}.attention.self.query",
    "layers.{i}.attention.key": "encoder.layer.{i}.attention.self.key",
    "layers.{i}.attention.value": "encoder.layer.{i}.attention.self.value",
    "layers.{i}.attention.output": "encoder.layer.{i}.attention.output.dense",
    "layers.{i}.attention.norm": "encoder.layer.{i}.attention.output.LayerNorm",
    "layers.{i}.feed_forward.up": "encoder.layer.{i}.intermediate.dense",
    "layers.{i}.feed_forward.down": "encoder.layer.{i}.output.dense",
    "layers.{i}.feed_forward.norm": "encoder.layer.{i}.output.LayerNorm",
}
DISTILBERT_ENCODER = {
    "embeddings.token": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "embeddings.projection": "embeddings_project",
    "layers.{i}.attention.query": "transformer.layer.{i}.attention.q_lin",
    "layers.{i}.attention.key": "transformer.layer.{i}.attention.k_lin",
    "layers.{i}.attention.value": "transformer.layer.{i}.attention.v_lin",
    "layers.{i}.attention.output": "transformer.layer.{i}.attention.out_lin",
    "layers.{i}.attention.norm": "transformer.layer.{i}.sa_layer_norm",
    "layers.{i}.feed_forward.up": "transformer.layer.{i}.ffn.lin1",
    "layers.{i}.feed_forward.down": "transformer.layer.{i}.ffn.lin2",
    "layers.{i}.feed_forward.norm": "transformer.layer.{i}.output_layer_norm",
}
MPNET_ENCODER = {
    "embeddings.token": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.projection": "embeddings_project",
    "embeddings.relative": "encoder.relative_attention_bias",
    "layers.{i}.attention.bias_heads": "encoder.layer.{i}.attention.bias_heads",  # ours: the family has them in order
    "layers.{i}.attention.query": "encoder.layer.{i}.attention.attn.q",
    "layers.{i}.attention.key": "encoder.layer.{i}.attention.attn.k",
    "layers.{i}.attention.value": "encoder.layer.{i}.attention.attn.v",
    "layers.{i}.attention.output": "encoder.layer.{i}.attention.attn.o",
    "layers.{i}.attention.norm": "encoder.layer.{i}.attention.LayerNorm",
    "layers.{i}.feed_forward.up": "encoder.layer.{i}.intermediate.dense",
    "layers.{i}.feed_forward.down": "encoder.layer.{i}.output.dense",
    "layers.{i}.feed_forward.norm": "encoder.layer.{i}.output.LayerNorm",
}
MODERNBERT_ENCODER = {
    "embeddings.token": "embeddings.tok_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.norm",
    "embeddings.projection": "embeddings_project",
    "layers.{i}.attention.query": "layers.{i}.attn.Wqkv#0",
    "layers.{i}.attention.key": "layers.{i}.attn.Wqkv#1",
    "layers.{i}.attention.value": "layers.{i}.attn.Wqkv#2",
    "layers.{i}.attention.output": "layers.{i}.attn.Wo",
    "layers.{i}.attention.norm": "layers.{i}.attn_norm",
    "layers.{i}.feed_forward.up": "layers.{i}.mlp.Wi#0",
    "layers.{i}.feed_forward.gate": "layers.{i}.mlp.Wi#1",
    "layers.{i}.feed_forward.down": "layers.{i}.mlp.Wo",
    "layers.{i}.feed_forward.norm": "layers.{i}.mlp_norm",
    "norm": "final_norm",
}
NOMIC_ENCODER = {  # as transformers writes it: the names of its first release
    "embeddings.token": "embeddings.word_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "emb_ln",
    "embeddings.projection": "embeddings_project",
    "layers.{i}.attention.query": "encoder.layers.{i}.attn.Wqkv#0",
    "layers.{i}.attention.key": "encoder.layers.{i}.attn.Wqkv#1",
    "layers.{i}.attention.value": "encoder.layers.{i}.attn.Wqkv#2",
    "layers.{i}.attention.output": "encoder.layers.{i}.attn.out_proj",
    "layers.{i}.attention.norm": "encoder.layers.{i}.norm1",
    "layers.{i}.feed_forward.up": "encoder.layers.{i}.mlp.fc12",
    "layers.{i}.feed_forward.gate": "encoder.layers.{i}.mlp.fc11",
    "layers.{i}.feed_forward.down": "encoder.layers.{i}.mlp.fc2",
    "layers.{i}.feed_forward.norm": "encoder.layers.{i}.norm2",
}
NOMIC_CLASS = {  # the names in transformers' class, of which a file may be made too
    "embeddings.LayerNorm": "emb_ln",
    "layers.{i}.self_attn.q_proj": "encoder.layers.{i}.attn.Wqkv#0",
    "layers.{i}.self_attn.k_proj": "encoder.layers.{i}.attn.Wqkv#1",
    "layers.{i}.self_attn.v_proj": "encoder.layers.{i}.attn.Wqkv#2",
    "layers.{i}.self_attn.o_proj": "encoder.layers.{i}.attn.out_proj",
    "layers.{i}.post_attention_layernorm": "encoder.layers.{i}.norm1",
    "layers.{i}.mlp.gate_proj": "encoder.layers.{i}.mlp.fc12",
    "layers.{i}.mlp.up_proj": "encoder.layers.{i}.mlp.fc11",
    "layers.{i}.mlp.down_proj": "encoder.layers.{i}.mlp.fc2",
    "layers.{i}.post_mlp_layernorm": "encoder.layers.{i}.norm2",
}
DEBERTA_ENCODER = BERT_ENCODER | {
    "embeddings.distance": "encoder.rel_embeddings",
    "embeddings.distance_norm": "encoder.LayerNorm",
    "layers.{i}.attention.query": "encoder.layer.{i}.attention.self.query_proj",
    "layers.{i}.attention.key": "encoder.layer.{i}.attention.self.key_proj",
    "layers.{i}.attention.value": "encoder.layer.{i}.attention.self.value_proj",
}
POOLER = {"dense": "pooler.dense"}
TOKEN = {"out": "classifier"}
SPAN = {"out": "qa_outputs"}
BERT_HEADS = {
    "pooler": POOLER,
    "sequence": {"dense": "pooler.dense", "out": "classifier"},
    "token": TOKEN,
    "span": SPAN,
    "masked_lm": {
        "dense": "cls.predictions.transform.dense",
        "norm": "cls.predictions.transform.LayerNorm",
        "bias": "cls.predictions.bias",
    },
}
NOMIC_HEADS = {
    "sequence": {"dense": "pooler.dense", "out": "classifier"},
    "token": TOKEN,
    "masked_lm": {
        "dense": "cls.predictions.transform.dense",
        "norm": "cls.predictions.transform.layer_norm",
        "bias": "cls.predictions.bias",
    },
}
DEBERTA_HEADS = {kind: table for kind, table in BERT_HEADS.items() if kind != "pooler"}
ROBERTA_HEADS = {
    "pooler": POOLER,
    "sequence": {"dense": "classifier.dense", "out": "classifier.out_proj"},
    "token": TOKEN,
    "span": SPAN,
    "masked_lm": {"dense": "lm_head.dense", "norm": "lm_head.layer_norm", "bias": "lm_head.bias"},
}
ELECTRA_HEADS = {
    "sequence": {"dense": "classifier.dense", "out": "classifier.out_proj"},
    "token": TOKEN,
    "span": SPAN,
    "masked_lm": {
        "dense": "generator_predictions.dense",
        "norm": "generator_predictions.LayerNorm",
        "bias": "generator_lm_head.bias",
    },
}
DISTILBERT_HEADS = {
    "sequence": {"dense": "pre_classifier", "out": "classifier"},
    "token": TOKEN,
    "span": SPAN,
    "masked_lm": {"dense": "vocab_transform", "norm": "vocab_layer_norm", "bias": "vocab_projector.bias"},
}
PREDICTION = {"dense": "head.dense", "norm": "head.norm"}
MODERNBERT_HEADS = {
    "sequence": PREDICTION | TOKEN,
    "token": PREDICTION | TOKEN,
    "span": PREDICTION | TOKEN,
    "masked_lm": PREDICTION | {"bias": "decoder.bias"},
}
BOS_AND_EOS = {"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id"}
CLS_AND_SEP = {
    "bos_token_id": "cls_token_id",
    "eos_token_id": "sep_token_id",
    "cls_token_id": "cls_token_id",
    "sep_token_id": "sep_token_id",
}
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
        parts: dict[str, list[Tensor]] = {}
        for name, tensor in tensors.items():
            parts.setdefault(PART.sub("", name), []).append(tensor)
        return {name: each[0] if len(each) == 1 else torch.cat(each) for name, each in parts.items()}

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


def roberta_like(name: str, prefix: str = "roberta", encoder: Mapping[str, str] = BERT_ENCODER) -> Family:
    """Return a family with RoBERTa's heads and special tokens, under another name.

    Args:
        name: transformers' model_type.
        prefix: of its encoder's weights.
        encoder: the names of these.
    """
    return Family(
        name=name,
        prefix=prefix,
        encoder=encoder,
        heads=ROBERTA_HEADS,
        decoder={"lm_head.decoder.weight": TOKEN_TABLE, "lm_head.decoder.bias": "head.bias"},
        special_ids=BOS_AND_EOS,
        masked_lm_activation="gelu",
    )


TABLES = (
    Family(
        name="bert",
        prefix="bert",
        encoder=BERT_ENCODER,
        heads=BERT_HEADS,
        decoder={"cls.predictions.decoder.weight": TOKEN_TABLE, "cls.predictions.decoder.bias": "head.bias"},
        other=("cls.seq_relationship",),
    ),
    roberta_like("roberta"),
    roberta_like("xlm-roberta"),
    roberta_like("camembert"),
    Family(
        name="electra",
        prefix="electra",
        encoder=BERT_ENCODER,
        heads=ELECTRA_HEADS,
        decoder={"generator_lm_head.weight": TOKEN_TABLE},
        other=("discriminator_predictions", "sequence_summary"),
        masked_lm_activation="gelu",
    ),
    Family(
        name="distilbert",
        prefix="distilbert",
        encoder=DISTILBERT_ENCODER,
        heads=DISTILBERT_HEADS,
        decoder={"vocab_projector.weight": TOKEN_TABLE},
    ),
    roberta_like("mpnet", "mpnet", MPNET_ENCODER),
    Family(
        name="modernbert",
        prefix="model",
        encoder=MODERNBERT_ENCODER,
        heads=MODERNBERT_HEADS,
        decoder={"decoder.weight": TOKEN_TABLE},
        special_ids=CLS_AND_SEP,
        fused={"Wqkv": 3, "Wi": 2},
    ),
    Family(
        name="nomic_bert",
        prefix="nomic_bert",
        encoder=NOMIC_ENCODER,
        heads=NOMIC_HEADS,
        decoder={"cls.predictions.decoder.weight": TOKEN_TABLE, "cls.predictions.decoder.bias": "head.bias"},
        fused={"Wqkv": 3},
        in_class=NOMIC_CLASS,
    ),
    Family(
        name="deberta-v2",
        prefix="deberta",
        encoder=DEBERTA_ENCODER,
        heads=DEBERTA_HEADS,
        decoder={"cls.predictions.decoder.weight": TOKEN_TABLE, "cls.predictions.decoder.bias": "head.bias"},
        other=("lm_predictions", "mask_predictions", "embeddings.position_embeddings"),
        has_pooler_inside=False,
    ),
)
FAMILIES = {family.name: family for family in TABLES}  # as in STOCK_FAMILIES


def family_of(name: str) -> Family:
    """Return a family by transformers' model_type.

    Raises:
        ModelError: no family of that name; the message lists them.
    """
    if name not in FAMILIES:
        raise ModelError(f"model_type must be one of {', '.join(FAMILIES)}, got {name!r}")
    return FAMILIES[name]
