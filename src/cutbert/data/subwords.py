"""Sentences given as words, as tokens: the first subword of each word, and the label of each token.

Axes: N sentences, T tokens of all sentences.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.data.cache import Arrays
from cutbert.data.sentences import Sentences
from cutbert.shape.head import IGNORED

CHUNK_SENTENCES = 1000
NO_WORD = -1


def encode_words(sentences: Sentences, engine: Any) -> Arrays:
    """Return the arrays of Tokens, and for each token the word whose first subword it is.

    Words are tokenised one by one: their subwords do not depend on the words around them.

    Args:
        sentences: the rows.
        engine: a tokenizer's engine that truncates at the longest input.

    Returns:
        ids, offsets as in Tokens; words_T, the index of the word in its sentence, -1 for other tokens.
    """
    engine = engine_for_words(engine)
    ids: list[NDArray[np.int32]] = []
    words: list[NDArray[np.int32]] = []
    for start in range(0, len(sentences), CHUNK_SENTENCES):
        for encoding in engine.encode_batch(sentences.words[start : start + CHUNK_SENTENCES], is_pretokenized=True):
            ids.append(np.array(encoding.ids, dtype=np.int32))
            of_T = np.array([NO_WORD if word is None else word for word in encoding.word_ids], dtype=np.int32)
            is_first = np.diff(of_T, prepend=np.int32(NO_WORD)) != 0
            words.append(np.where(is_first, of_T, np.int32(NO_WORD)))
    sizes = np.array([len(each) for each in ids], dtype=np.int64)
    return {
        "ids": np.concatenate(ids or [np.empty(0, np.int32)]),
        "offsets": np.concatenate([np.zeros(1, np.int64), sizes]).cumsum(),
        "words_T": np.concatenate(words or [np.empty(0, np.int32)]),
    }


def engine_for_words(engine: Any) -> Any:
    """Return an engine that treats every word as if a space came before it.

    RoBERTa's byte-level tokens and SentencePiece's mark that space; by default the first word of a text (here every
    word, since words are tokenised one by one) would have no mark.
    """
    from cutbert.runtime import taggers

    changed = taggers.engine_for_words(engine)
    changed.encode_special_tokens = engine.encode_special_tokens
    return changed


def token_labels(sentences: Sentences, arrays: Arrays) -> NDArray[np.int64] | None:
    """Return the label of each token, [T]: its word's for a first subword, else -100; None without labels."""
    if sentences.labels is None:
        return None
    is_first_T, places = arrays["words_T"] != NO_WORD, word_places(sentences, arrays)
    labels_T = np.full(len(arrays["ids"]), IGNORED, dtype=np.int64)
    labels_T[is_first_T] = np.concatenate(sentences.labels)[places]
    return labels_T


def word_places(sentences: Sentences, arrays: Arrays) -> NDArray[np.int64]:
    """Return for each first subword the index of its word among the words of all sentences."""
    counts = [len(words) for words in sentences.words]
    firsts = np.concatenate([[0], np.cumsum(counts)])[:-1]
    words_T = arrays["words_T"]
    row_T = np.repeat(np.arange(len(counts)), np.diff(arrays["offsets"]))
    is_first_T = words_T != NO_WORD
    return firsts[row_T[is_first_T]] + words_T[is_first_T]


def lost_words(sentences: Sentences, arrays: Arrays) -> int:
    """Return the number of words without a token: those cut off at the longest input, and those the tokenizer drops."""
    return sum(map(len, sentences.words)) - int((arrays["words_T"] != NO_WORD).sum())
