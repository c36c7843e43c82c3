"""Texts to token ids: flat arrays, computed once and then memory-mapped from the token cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.data.answers import AnswerScorer
from cutbert.data.cache import Arrays, cached_arrays
from cutbert.data.entities import TagScorer
from cutbert.data.metrics import SplitScorer
from cutbert.data.questions import Questions
from cutbert.data.ranking_scorer import RankingScorer
from cutbert.data.rows import Examples, Rows
from cutbert.data.sentences import Sentences
from cutbert.data.settings import question_limit
from cutbert.data.subwords import encode_words, lost_words, token_labels
from cutbert.data.vectors import VectorScorer, VectorTexts
from cutbert.data.windows import encode_windows, span_labels
from cutbert.errors import ModelError
from cutbert.shape.head import IGNORED

FORMAT = 3
CHUNK_ROWS = 10_000


@dataclass(frozen=True, eq=False)
class Tokens:
    """Token ids of many texts, concatenated, without padding.

    Args:
        ids: int32, the ids of all rows concatenated, special tokens included.
        offsets: int64 [N + 1]; row i is `ids[offsets[i]:offsets[i + 1]]`.
        pair_starts: int32 [N], the first position in the row with token type 1 (the row's length where the
            tokenizer has a single token type), or None where texts are not in pairs.
        labels: as in Rows; for windows int64 [N, 2], the positions of an answer's first and last token; or None.
        token_labels: int64, one label per id, -100 where ignored; None where labels are not per token.
        scorer: scores logits of these rows; None where their `labels` are enough.
        notes: for the user: how much was cut off.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    pair_starts: NDArray[np.int32] | None = None
    labels: NDArray[np.generic] | None = None
    token_labels: NDArray[np.int64] | None = None
    scorer: SplitScorer | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: NDArray[np.int64]) -> Tokens:
        """Return some rows, with their labels but without a scorer."""
        positions = np.concatenate([np.arange(self.offsets[row], self.offsets[row + 1]) for row in rows])
        return Tokens(
            np.asarray(self.ids)[positions],
            np.concatenate([[0], np.cumsum(self.lengths[rows])]).astype(np.int64),
            pair_starts=None if self.pair_starts is None else self.pair_starts[rows],
            labels=None if self.labels is None else np.asarray(self.labels)[rows],
            token_labels=None if self.token_labels is None else self.token_labels[positions],
        )

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens in each row, special tokens included."""
        return np.diff(self.offsets)

    @property
    def num_scored(self) -> int:
        """What a score is of: texts, or what the scorer counts, as groups of pairs."""
        return len(self) if self.scorer is None else self.scorer.num_scored

    @property
    def is_labelled(self) -> bool:
        """Whether outputs for the rows can be scored."""
        return self.labels is not None or self.token_labels is not None or self.scorer is not None

    @cached_property
    def label_counts(self) -> NDArray[np.int64]:
        """Number of labels of each row that a loss averages over, [N]: 1, or its number of labelled tokens."""
        if self.token_labels is None:
            return np.ones(len(self), dtype=np.int64)
        counted = np.concatenate([[0], np.cumsum(self.token_labels != IGNORED)])
        return np.diff(counted[self.offsets])


def tokenize_rows(rows: Examples, tokenizer: Any, tokenizer_id: str, max_length: int, cache: bool = True) -> Tokens:
    """Return the rows' tokens.

    The tokenizer itself is not changed; its own padding and truncation settings are ignored. Pairs are
    truncated on the longer side first, sentences at their end; each window of a question is a row.

    Args:
        rows: texts, questions, sentences, or texts to judge vectors by.
        tokenizer: a fast tokenizer of transformers.
        tokenizer_id: its name, for messages and in the cache; not part of the cache's key.
        max_length: longest row in tokens, special tokens included.
        cache: read from and write to the token cache.

    Raises:
        ModelError: the tokenizer is not a fast one, or `max_length` only has room for its special tokens.
        DataError: the cache cannot be written.
    """

    def arrays_of(pairs: bool, columns: Sequence[Sequence[str]], how: str, encode: Callable[[Any], Arrays]) -> Arrays:
        engine = plain_engine(tokenizer, tokenizer_id, max_length, pairs=pairs)
        if not cache:
            return encode(engine)
        key = cache_key(columns, f"{engine.to_str()} {engine.encode_special_tokens}", max_length, how)
        return cached_arrays(key, lambda: encode(engine), f"{len(rows)} rows by the tokenizer of {tokenizer_id}")

    if isinstance(rows, Questions):
        columns, how = [rows.question, rows.context], f"windows, {rows.stride} shared"
        arrays = arrays_of(True, columns, how, lambda engine: encode_windows(rows, engine, max_length))
        return window_tokens(rows, arrays, max_length)
    if isinstance(rows, Sentences):
        arrays = arrays_of(False, rows.words, "words", lambda engine: encode_words(rows, engine))
        return word_tokens(rows, arrays, max_length)
    scorer: SplitScorer | None = None
    texts = Rows(rows.text) if isinstance(rows, VectorTexts) else rows
    assert isinstance(texts, Rows)
    if isinstance(rows, VectorTexts):
        scorer = VectorScorer(rows)
    elif texts.groups is not None and texts.labels is not None:
        scorer = RankingScorer(texts.groups, texts.labels)
    columns = [texts.text] if texts.text_pair is None else [texts.text, texts.text_pair]
    arrays = arrays_of(len(columns) > 1, columns, "texts", lambda engine: encode(texts, engine))
    return Tokens(
        arrays["ids"],
        arrays["offsets"],
        arrays.get("pair_starts"),
        texts.labels,
        scorer=scorer,
        notes=cut_notes(int(arrays["num_cut"][0]), len(rows), max_length),
    )


def cut_notes(num_cut: int, num_texts: int, max_length: int) -> tuple[str, ...]:
    """Return the note that texts were cut, where any was."""
    return (f"{num_cut:,} of {num_texts:,} texts are cut at {max_length} tokens",) if num_cut else ()


def window_tokens(questions: Questions, arrays: Arrays, max_length: int) -> Tokens:
    """Return the tokens of questions with the answers' positions as labels."""
    labels, cut = span_labels(questions, arrays), int(arrays["num_cut"][0])
    note = f"{cut:,} questions of more than {question_limit(max_length)} tokens are cut to that"
    return Tokens(
        ids=arrays["ids"],
        offsets=arrays["offsets"],
        pair_starts=arrays["pair_starts"],
        labels=labels,
        scorer=None if labels is None else AnswerScorer(questions, arrays),
        notes=(note,) if cut else (),
    )


def word_tokens(sentences: Sentences, arrays: Arrays, max_length: int) -> Tokens:
    """Return the tokens of sentences with the words' labels on their first subwords."""
    labels, lost = token_labels(sentences, arrays), lost_words(sentences, arrays)
    note = (
        f"{lost:,} words are lost: after the first {max_length} tokens of their sentence, or dropped by the tokenizer"
    )
    return Tokens(
        ids=arrays["ids"],
        offsets=arrays["offsets"],
        token_labels=labels,
        scorer=None if labels is None else TagScorer(sentences, arrays),
        notes=(note,) if lost else (),
    )


def plain_engine(tokenizer: Any, tokenizer_id: str, max_length: int, pairs: bool) -> Any:
    """Return a copy of a fast tokenizer's engine that truncates at `max_length` and does not pad."""
    engine = bare_engine(tokenizer, tokenizer_id)
    special = engine.num_special_tokens_to_add(pairs)
    if max_length <= special:
        raise ModelError(f"max_length must exceed the {special} special tokens of {tokenizer_id}, got {max_length}")
    engine.enable_truncation(max_length, strategy="longest_first")
    return engine


def bare_engine(tokenizer: Any, tokenizer_id: str) -> Any:
    """Return a copy of a fast tokenizer's engine that neither truncates nor pads."""
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise ModelError(f"{tokenizer_id}: must have a fast tokenizer (tokenizer.json), got {type(tokenizer).__name__}")
    engine = Tokenizer.from_str(backend.to_str())
    engine.no_padding()
    engine.no_truncation()
    engine.encode_special_tokens = backend.encode_special_tokens
    return engine


def cache_key(columns: Sequence[Sequence[str]], tokenizer: str, max_length: int, how: str) -> str:
    """Return a hash of everything the tokens depend on."""
    digest = hashlib.sha256(f"{FORMAT} {how} {max_length} {len(columns)}\n".encode())
    digest.update(tokenizer.encode())
    for column in columns:
        digest.update(f"\n{len(column)}\n".encode())
        for start in range(0, len(column), CHUNK_ROWS):
            chunk = column[start : start + CHUNK_ROWS]
            digest.update(np.array([len(text) for text in chunk], dtype=np.int64).tobytes())
            digest.update("".join(chunk).encode())
    return digest.hexdigest()


def encode(rows: Rows, engine: Any) -> Arrays:
    """Return the arrays of Tokens, and the number of rows that were cut; CHUNK_ROWS texts at a time are objects."""
    ids, lengths, starts, cut = [], [], [], 0
    longest = engine.truncation["max_length"]
    for encodings in encode_chunks(rows, engine):
        texts = [encoding.ids for encoding in encodings]
        sizes = np.array([len(text) for text in texts], dtype=np.int64)
        ids.append(np.fromiter(chain.from_iterable(texts), dtype=np.int32, count=int(sizes.sum())))
        lengths.append(sizes)
        cut += sum(len(encoding.overflowing) > 0 for encoding in encodings if len(encoding.ids) == longest)
        if rows.text_pair is not None:
            typed = np.array([sum(encoding.type_ids) for encoding in encodings], dtype=np.int64)
            starts.append((sizes - typed).astype(np.int32))
    arrays: Arrays = {
        "ids": np.concatenate(ids or [np.empty(0, np.int32)]),
        "offsets": np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum(),
        "num_cut": np.array([cut]),
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
