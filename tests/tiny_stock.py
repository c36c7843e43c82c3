"""Tiny random models of every family, built by transformers itself, with tokenizers made in code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedModel, PreTrainedTokenizerFast

WORDS = ("a", "fine", "dull", "film", "is", "this", "that", "very", "good", "bad", "##ish", "?", ".")
BERT = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ROBERTA = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
ROBERTA_LIKE = ("roberta", "xlm-roberta", "camembert", "mpnet")
PREFIXES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "camembert": "Camembert",
    "electra": "Electra",
    "distilbert": "DistilBert",
    "mpnet": "MPNet",
    "modernbert": "ModernBert",
    "nomic_bert": "NomicBert",
    "gte": "Gte",
    "deberta-v2": "DebertaV2",
}
SUFFIXES = {
    "base": "Model",
    "single_label": "ForSequenceClassification",
    "multi_label": "ForSequenceClassification",
    "regression": "ForSequenceClassification",
    "token": "ForTokenClassification",
    "span": "ForQuestionAnswering",
    "masked_lm": "ForMaskedLM",
}
PROBLEMS = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}
VOCAB_SIZE = 29
WITHOUT_SPAN = ("nomic_bert", "gte")


def tiny_tokenizer(family: str = "bert") -> PreTrainedTokenizerFast:
    """Return a WordPiece tokenizer whose special tokens have the family's ids."""
    special = ROBERTA if family in ROBERTA_LIKE else BERT
    vocab = {token: i for i, token in enumerate([*special.values(), *WORDS])}
    backend = Tokenizer(models.WordPiece(vocab, unk_token=special["unk"]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{special['cls']} $A {special['sep']}",
        pair=f"{special['cls']} $A {special['sep']} $B:1 {special['sep']}:1",
        special_tokens=[(special[name], vocab[special[name]]) for name in ("cls", "sep")],
    )
    more = {"bos_token": special["cls"], "eos_token": special["sep"]} if family in ROBERTA_LIKE else {}
    has_types = family in ("bert", "electra", "nomic_bert", "gte")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=["input_ids", *(["token_type_ids"] if has_types else []), "attention_mask"],
        **{f"{name}_token": token for name, token in special.items()},
        **more,
    )


def tiny_config(family: str, kind: str = "base", **more: Any) -> transformers.PretrainedConfig:
    """Return the config of a tiny model of 2 layers."""
    if family == "distilbert":
        sizes: dict[str, Any] = {"dim": 24, "n_heads": 4, "n_layers": 2, "hidden_dim": 20}
        sizes["max_position_embeddings"] = 16
    else:
        sizes = {
            "hidden_size": 24,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "intermediate_size": 20,
            "max_position_embeddings": 18 if family in ROBERTA_LIKE else 16,
            "type_vocab_size": 1 if family in ROBERTA_LIKE else 2,
            "layer_norm_eps": 1e-5,
        }
    if family == "gte":
        sizes["pad_token_id"] = 0
    if family == "electra":
        sizes["embedding_size"] = 10
    if family == "deberta-v2":  # texts are longer than the distances that have a bucket each
        sizes |= {"type_vocab_size": 0, "relative_attention": True, "share_att_key": True, "pos_att_type": "p2c|c2p"}
        sizes |= {"position_buckets": 6, "norm_rel_ebd": "layer_norm", "position_biased_input": False}
    if family == "modernbert":  # the second layer is local, and its window is shorter than the texts
        sizes = {key: size for key, size in sizes.items() if key not in ("type_vocab_size", "layer_norm_eps")}
        sizes |= {"num_hidden_layers": 3, "global_attn_every_n_layers": 2, "local_attention": 4}
        sizes |= {"pad_token_id": 0, "cls_token_id": 2, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3}
    labels = {"single_label": 3, "multi_label": 3, "regression": 1, "token": 5}.get(kind, 2)
    values = {"id2label": {i: f"name{i}" for i in range(labels)}, "label2id": {f"name{i}": i for i in range(labels)}}
    if kind in PROBLEMS:
        values["problem_type"] = PROBLEMS[kind]
    return transformers.CONFIG_MAPPING[family](vocab_size=VOCAB_SIZE, **(sizes | values | more))


def randomise(model: torch.nn.Module, seed: int = 0) -> None:
    """Draw every parameter anew, norms and biases too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            parameter.copy_(centre + 0.3 * torch.randn(parameter.shape, generator=generator))


def tiny_model(family: str, kind: str = "base", **more: Any) -> PreTrainedModel:
    """Return transformers' own model, all parameters random."""
    cls = getattr(transformers, PREFIXES[family] + SUFFIXES[kind])
    model = cls(tiny_config(family, kind, **more))
    randomise(model)
    return model.eval()


def save_tiny(folder: Path, family: str = "bert", kind: str = "base", **more: Any) -> Path:
    """Save a tiny stock model with its tokenizer."""
    tiny_model(family, kind, **more).save_pretrained(folder)
    tiny_tokenizer(family).save_pretrained(folder)
    return folder


def tiny_batch(family: str) -> dict[str, torch.Tensor]:
    """Return a padded batch of pairs of different lengths."""
    tokenizer = tiny_tokenizer(family)
    firsts = ["a fine film", "this is a very dull film .", "good"]
    seconds = ["is that good ?", "that is very bad .", "bad ?"]
    return dict(tokenizer(firsts, seconds, padding=True, return_tensors="pt"))
