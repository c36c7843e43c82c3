"""Loading and saving tokenizers: fast ones only, with padding and truncation off."""

from __future__ import annotations

import copy
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from cutbert.errors import ModelError
from cutbert.model.style import EncoderStyle
from cutbert.shape.shape import EncoderShape
from cutbert.shape.source import ModelSource

FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
)
# Keys in which transformers keeps the padding and truncation set in a tokenizer.json.
PADDING_KEYS = ("max_length", "stride", "truncation_strategy", "pad_to_multiple_of", "pad_token_type_id")


def load_tokenizer(folder: Path, shape: EncoderShape, style: EncoderStyle) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a model folder.

    Raises:
        ModelError: there is no tokenizer, it is not a fast one, or it has more tokens than the model's table.
    """
    if not any((folder / name).is_file() for name in FILES):
        raise ModelError(f"{folder} must hold a tokenizer ({', '.join(FILES)}), got none")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # the errors of transformers and tokenizers have no common base class
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(f"{folder}: the tokenizer cannot be read: {reason}") from None
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"{folder}: the tokenizer must be a fast one (tokenizer.json), got {type(tokenizer).__name__}")
    last_id = max(tokenizer.get_vocab().values(), default=0)
    if last_id >= shape.vocab_size:
        raise ModelError(f"{folder}: ids of the tokenizer must lie below vocab_size {shape.vocab_size}, got {last_id}")
    return plain_tokenizer(tokenizer, shape, style)


def tokenizer_of(source: ModelSource) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a model, without its weights. Errors as in `load_tokenizer`."""
    return load_tokenizer(source.folder, source.shape, EncoderStyle.from_json(source.facts.style_data))


def plain_tokenizer(
    tokenizer: PreTrainedTokenizerFast, shape: EncoderShape, style: EncoderStyle
) -> PreTrainedTokenizerFast:
    """Return a copy that pads and truncates only when asked, with the model's longest input as model_max_length."""
    plain = copy.deepcopy(tokenizer)
    plain.backend_tokenizer.no_padding()
    plain.backend_tokenizer.no_truncation()
    for name in PADDING_KEYS:
        plain.init_kwargs.pop(name, None)
    plain.model_max_length = shape.num_positions - style.position_offset
    return plain


def save_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerFast, shape: EncoderShape, style: EncoderStyle) -> None:
    """Write a tokenizer's files, padding and truncation off."""
    plain_tokenizer(tokenizer, shape, style).save_pretrained(folder)
