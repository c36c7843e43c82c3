"""Texts to token ids, once: flat arrays, memory-mapped from the cache the next time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.data.cache import Arrays, cached_arrays
from cutbert.data.rows import Rows
from cutbert.errors import ModelError

FORMAT = 1
CHUNK_ROWS = 10_000


@dataclass(frozen=True, eq=False)
class Tokens:
    """Token ids of many texts, one after the other, no padding.

    Args:
        ids: int32, all rows' ids end to end, special tokens included.
        offsets: int64 [N + 1]; row i is `ids[offsets[i]:offsets[i + 1]]`.
        pair_starts: int32 [N], the first position in the row of token type 1 (the row's length where the
            tokenizer has one token type only), or None where texts come singly.
        labels: as in Rows, or None.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    pair_starts: NDArray[np.int32] | None = None
    labels: NDArray[np.generic] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens in each row, special tokens included."""
        return np.diff(self.offsets)


def tokenize_rows(rows: Rows, tokenizer: Any, tokenizer_id: str, max_length: int, cache: bool = True) -> Tokens:
    """Return the rows' tokens.

    The tokenizer itself is not changed; padding or truncation it is set to does by itself is ignored. Pairs
    are cut at the longer side first.

    Args:
        rows: the texts.
        tokenizer: a fast tokenizer of transformers.
        tokenizer_id: its name for people, in messages and in the cache; not part of the cache's key.
        max_length: longest row in tokens, special tokens included.
        cache: read from and write to the token cache.

    Raises:
        ModelError: the tokenizer is not a fast one, or `max_length` has no room beside its special tokens.
        DataError: the cache cannot be written.
    """
    engine = plain_engine(tokenizer, tokenizer_id, max_length, pairs=rows.text_pair is not None)
    if cache:
        key = cache_key(rows, f"{engine.to_str()} {engine.encode_special_tokens}", max_length)
        about = f"{len(rows)} rows by the tokenizer of {tokenizer_id}"
        arrays = cached_arrays(key, lambda: encode(rows, engine), about)
    else:
        arrays = encode(rows, engine)
    return Tokens(
        ids=arrays["ids"],
        offsets=arrays["offsets"],
        pair_starts=arrays.get("pair_starts"),
        labels=rows.labels,
    )


def plain_engine(tokenizer: Any, tokenizer_id: str, max_length: int, pairs: bool) -> Any:
    """Return a copy of a fast tokenizer's engine that cuts at `max_length` and does not pad."""
    engine = bare_engine(tokenizer, tokenizer_id)
    special = engine.num_special_tokens_to_add(pairs)
    if max_length <= special:
        raise ModelError(f"max_length must exceed the {special} special tokens of {tokenizer_id}, got {max_length}")
    engine.enable_truncation(max_length, strategy="longest_first")
    return engine


def bare_engine(tokenizer: Any, tokenizer_id: str) -> Any:
    """Return a copy of a fast tokenizer's engine that neither cuts nor pads."""
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise ModelError(f"{tokenizer_id}: must have a fast tokenizer (tokenizer.json), got {type(tokenizer).__name__}")
    engine = Tokenizer.from_str(backend.to_str())
    engine.no_padding()
    engine.no_truncation()
    engine.encode_special_tokens = backend.encode_special_tokens
    return engine


def cache_key(rows: Rows, tokenizer: str, max_length: int) -> str:
    """Return a hash of all that the tokens depend on."""
    digest = hashlib.sha256(f"{FORMAT} {max_length} {len(rows)} {rows.text_pair is not None}\n".encode())
    digest.update(tokenizer.encode())
    for column in (rows.text, rows.text_pair or []):
        for start in range(0, len(column), CHUNK_ROWS):
            chunk = column[start : start + CHUNK_ROWS]
            digest.update(np.array([len(text) for text in chunk], dtype=np.int64).tobytes())
            digest.update("".join(chunk).encode())
    return digest.hexdigest()


def encode(rows: Rows, engine: Any) -> Arrays:
    """Return the arrays of Tokens; some thousand texts at a time become Python objects."""
    ids, lengths, starts = [], [], []
    for encodings in encode_chunks(rows, engine):
        texts = [encoding.ids for encoding in encodings]
        sizes = np.array([len(text) for text in texts], dtype=np.int64)
        ids.append(np.fromiter(chain.from_iterable(texts), dtype=np.int32, count=int(sizes.sum())))
        lengths.append(sizes)
        if rows.text_pair is not None:
            typed = np.array([sum(encoding.type_ids) for encoding in encodings], dtype=np.int64)
            starts.append((sizes - typed).astype(np.int32))
    arrays: Arrays = {
        "ids": np.concatenate(ids or [np.empty(0, np.int32)]),
        "offsets": np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum(),
    }
    if rows.text_pair is not None:
        arrays["pair_starts"] = np.concatenate(starts or [np.empty(0, np.int32)])
    return arrays


def encode_chunks(rows: Rows, engine: Any) -> Iterator[list[Any]]:
    for start in range(0, len(rows), CHUNK_ROWS):
        chunk = slice(start, start + CHUNK_ROWS)
        if rows.text_pair is None:
            yield engine.encode_batch_fast(rows.text[chunk])
        else:
            yield engine.encode_batch_fast(list(zip(rows.text[chunk], rows.text_pair[chunk], strict=True)))
