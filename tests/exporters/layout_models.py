"""Tiny models of free and stock shapes with a real BERT tokenizer, and a sentence-transformers folder of one."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from pathlib import Path

from random_models import random_model
from transformers import BertTokenizer, DebertaV2Tokenizer, MPNetTokenizer, PreTrainedTokenizerFast, RobertaTokenizer

from cutbert.folders.save import save_model
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.ingredients import Ingredients
from cutbert.shape.pooling import Pooling
from cutbert.shape.shape import EncoderShape, LayerShape
from tiny_families import INGREDIENTS
from tiny_runs import PROVENANCE, SPECIAL, WORDS

VOCAB = (*SPECIAL, *WORDS, "##ish", ",", ".")
FREE = EncoderShape(
    hidden_size=24,
    layers=(LayerShape(4, 5, 4, 17), LayerShape(0, 0, 0, 9), LayerShape(3, 8, 6, 0)),
    vocab_size=len(VOCAB),
    num_positions=40,
)
LETTERS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", *string.ascii_lowercase)
MPNET_VOCAB = ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "[UNK]", *WORDS, "##ish", ",", ".")
MARKS = ("dull", "very")  # further special tokens
PIECES = (*SPECIAL, "▁", *string.ascii_lowercase)
EVEN_KEYS = (LayerShape(4, 6, 4, 17), *FREE.layers[1:])
SHAPES = {  # of a free shape in each family: RoBERTa's line has one token type, DistilBERT and others none
    "bert": FREE,
    "electra": replace(FREE, embedding_size=12),
    "distilbert": replace(FREE, num_token_types=0),
    "roberta": replace(FREE, num_token_types=1, vocab_size=len(LETTERS)),
    "mpnet": replace(FREE, num_token_types=0, vocab_size=len(MPNET_VOCAB), ingredients=Ingredients(num_bias_heads=4)),
    "modernbert": replace(
        FREE, layers=EVEN_KEYS, num_token_types=0, ingredients=INGREDIENTS["modernbert"].of_layers((0, 1, 2))
    ),
    "nomic_bert": replace(FREE, layers=EVEN_KEYS, ingredients=INGREDIENTS["nomic_bert"]),
    "gte": replace(FREE, layers=EVEN_KEYS, ingredients=INGREDIENTS["gte"]),
    "deberta-v2": replace(FREE, num_token_types=0, vocab_size=len(PIECES), ingredients=INGREDIENTS["deberta-v2"]),
}
NEW = ("mpnet", "modernbert", "nomic_bert", "gte", "deberta-v2")  # made of other things than BERT
STOCK = EncoderShape.uniform(
    hidden_size=24, num_layers=2, num_heads=4, intermediate_size=20, vocab_size=len(VOCAB), num_positions=40
)
TEXTS = ("A good film, not a bad book.", "dull", "very very fine and goodish " * 12)  # the last is longer than fits
PAIRS = (("a good film", "a bad book."), ("dull", "a fine, fine film"))
QUESTION, PASSAGE = "a good film", "not a bad book, a very fine film and a dull book"


def bert_tokenizer() -> BertTokenizer:
    """Return the tokenizer class of BERT itself: other loaders know it by its name."""
    return BertTokenizer(vocab={token: i for i, token in enumerate(VOCAB)}, do_lower_case=True)


def family_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of a family's own class; RoBERTa's and DeBERTa's of single letters, ELECTRA's with MARKS."""
    if family == "roberta":
        return RobertaTokenizer(vocab={token: i for i, token in enumerate(LETTERS)}, merges=[])
    if family == "mpnet":
        return MPNetTokenizer(vocab={token: i for i, token in enumerate(MPNET_VOCAB)})
    if family == "deberta-v2":
        return DebertaV2Tokenizer(vocab=[(piece, -float(piece in SPECIAL)) for piece in PIECES])
    if family == "modernbert":
        engine = bert_tokenizer()
        return PreTrainedTokenizerFast(tokenizer_object=engine.backend_tokenizer, **engine.special_tokens_map)
    tokenizer = bert_tokenizer()
    if family == "electra":
        tokenizer.add_special_tokens({"extra_special_tokens": list(MARKS)})
    return tokenizer


def save_layout_model(
    folder: Path, head: HeadSpec, shape: EncoderShape = FREE, pooling: Pooling = "cls", family: str = "bert"
) -> TaskModel:
    """Write a model folder with all parameters random; return the model."""
    model = random_model(shape, head, family, pooling=pooling)
    save_model(folder, model, family_tokenizer(family), provenance=PROVENANCE)
    return model


def add_modules(folder: Path, *, pooling: str = "mean", normalize: bool = True, more: tuple[str, ...] = ()) -> None:
    """Make a bare encoder's folder one of sentence-transformers, with a longest text of 30 tokens and a prompt."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else []), *more]
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    key = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens"}[pooling]
    files = {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": 999, f"pooling_mode_{key}": True},
        "sentence_bert_config.json": {"max_seq_length": 30, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {"query": "a film ", "document": "very "},
            "similarity_fn_name": "cosine",
        },
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(data))
