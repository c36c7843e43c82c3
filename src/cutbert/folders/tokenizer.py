"""Loading and saving tokenizers: fast ones only, with padding and truncation off."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from cutbert.errors import ModelError
from cutbert.files import read_json, write_json
from cutbert.lacks import library_errors
from cutbert.model.style import EncoderStyle
from cutbert.shape.shape import EncoderShape
from cutbert.shape.source import TOKENIZER_FILES, ModelSource, check_tokenizer

TRIAL = "a \u2603 zq9, 漢字"  # known words and unknown ones
# Keys in which transformers keeps the padding and truncation set in a tokenizer.json.
PADDING_KEYS = ("max_length", "stride", "truncation_strategy", "pad_to_multiple_of", "pad_token_type_id")
CONFIG_FILE = "tokenizer_config.json"
OWN_KEYS = ("backend", "is_local", "local_files_only")  # of transformers 5 itself, which others do not know
EXTRA = "extra_special_tokens"
GENERIC = {"TokenizersBackend": "PreTrainedTokenizerFast"}  # a class of transformers 5 -> its name in all versions


def load_tokenizer(folder: Path, shape: EncoderShape, style: EncoderStyle) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a model folder.

    Raises:
        ModelError: there is no tokenizer, it is not a fast one, it has more tokens than the model's table, or it cannot
            encode a text.
    """
    check_tokenizer(folder)
    for file in filter(Path.is_file, map(folder.joinpath, TOKENIZER_FILES)):
        file.open("rb").close()  # transformers calls a file missing or broken that may not be read
    with library_errors(f"{folder}: the tokenizer cannot be read", folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"{folder}: the tokenizer must be a fast one (tokenizer.json), got {type(tokenizer).__name__}")
    last_id = max(tokenizer.get_vocab().values(), default=0)
    if last_id >= shape.vocab_size:
        raise ModelError(f"{folder}: ids of the tokenizer must lie below vocab_size {shape.vocab_size}, got {last_id}")
    plain = plain_tokenizer(tokenizer, shape, style)
    with library_errors(f"{folder}: the tokenizer cannot be used", folder), quiet_stderr():
        check_encodes(plain.backend_tokenizer, shape.vocab_size)
    return plain


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Drop what is written to the standard error, where a panic tells programmers its place."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def check_encodes(engine: Tokenizer, vocab_size: int) -> None:
    """Raise unless a tokenizer encodes a text and a pair to ids of the token table.

    Raises:
        ValueError: an id that is not in the table, which a template of special tokens may hold.
        BaseException: tokenizers' own errors.
    """
    for encoding in (*engine.encode_batch([TRIAL, (TRIAL, TRIAL)]), engine.encode(TRIAL, add_special_tokens=False)):
        if max(encoding.ids, default=0) >= vocab_size:
            raise ValueError(f"its ids must lie below vocab_size {vocab_size}, got {max(encoding.ids)}")


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


def save_tokenizer_for_loaders(
    folder: Path, tokenizer: PreTrainedTokenizerFast, shape: EncoderShape, style: EncoderStyle, longest: int
) -> None:
    """Write a tokenizer's files as other loaders and older versions of transformers read them.

    It gives token types where the model tells them apart, whatever it gave before, and nowhere else.

    Args:
        folder: of the model.
        tokenizer, shape, style: as in `save_tokenizer`.
        longest: tokens at which a loader cuts a text.
    """
    save_tokenizer(folder, tokenizer, shape, style)
    data = read_json(folder / CONFIG_FILE)
    kept = {key: value for key, value in data.items() if key not in OWN_KEYS}
    more = {}
    if isinstance(kept.get(EXTRA), list):  # version 4 takes it for tokens by names; the other key is read by all
        more = {"additional_special_tokens": kept.pop(EXTRA)}
    name = str(kept.get("tokenizer_class"))
    names = ["input_ids", *(["token_type_ids"] if shape.num_token_types > 1 else []), "attention_mask"]
    values = {"tokenizer_class": GENERIC.get(name, name), "model_max_length": longest, "model_input_names": names}
    write_json(folder / CONFIG_FILE, kept | more | values)
    tokens = {key: str(token) for key, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    write_json(folder / "special_tokens_map.json", tokens | more)
