"""Entities with their characters: a tagger's labels of words, and the entities that they mark."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from cutbert.errors import InputError
from cutbert.runtime.runner import Answer, Model, Outputs, is_text

MARKS = "".join(chr(i) for i in range(0x300, 0x20000) if unicodedata.category(chr(i))[0] == "M")  # they join letters
WORD = re.compile(rf"[\w{MARKS}]+(?:['\u2019.&-][\w{MARKS}]+)*|[^\w\s]")
OUTSIDE = "O"
MARKED = re.compile(r"([BIESLU])-(.+)", re.DOTALL)
BEGINS, ENDS = "BSU", "ESLU"


class Tagger(Model):
    """Tags texts, or sentences given as lists of words.

    An answer has `words`, their `labels`, and `entities`, each with `label`, `text`, and `start` and `end`: characters
    of a text; of a list of words its first word and the one after its last. A text is split at spaces and punctuation;
    who needs other words gives them. A word's label is that of its first subword; a word without one (cut off) is O
    where there is such a label, else None.
    """

    def make_engine(self) -> Tokenizer:
        engine = engine_for_words(super().make_engine())
        engine.no_padding()
        return engine

    def check_input(self, given: Any, row: int) -> None:
        is_words = isinstance(given, tuple | list) and all(is_text(each) for each in given)
        if not (is_text(given) or is_words):
            raise InputError(f"input {row} must be a text or a list of words, got {given!r:.80}")

    def encode(self, inputs: Sequence[Any]) -> list[list[Any]]:
        encodings = self.engine.encode_batch([words_of(each)[0] for each in inputs], is_pretokenized=True)
        self.num_cut += sum(len(each.overflowing) > 0 for each in encodings)
        return [[each] for each in encodings]

    def rows_of(self, outputs: Outputs, mask_BS: NDArray[np.int64]) -> Iterable[Any]:
        best_BS = self.output(outputs, "logits", mask_BS, *mask_BS.shape, len(self.folder.labels)).argmax(axis=-1)
        return [row[:size] for row, size in zip(best_BS, mask_BS.sum(axis=1), strict=True)]

    def answer(self, given: Any, encodings: Sequence[Any], results: Sequence[Any]) -> Answer:
        words, places = words_of(given)
        names = self.folder.labels
        labels: list[str | None] = [OUTSIDE if OUTSIDE in names else None] * len(words)
        before = None
        for word, label in zip(encodings[0].word_ids, results[0], strict=True):
            if word is not None and word != before:
                labels[word] = names[label]
            before = word
        return {"words": words, "labels": labels, "entities": list(entities_of(given, words, places, labels))}


def engine_for_words(engine: Tokenizer) -> Tokenizer:
    """Return an engine that treats every word as if a space came before it, as taggers are trained."""
    data = json.loads(engine.to_str())
    step = data.get("pre_tokenizer") or {}
    for each in step.get("pretokenizers", [step]):
        if each.get("type") == "ByteLevel":
            each["add_prefix_space"] = True
        if each.get("type") == "Metaspace":
            each["prepend_scheme"] = "always"
    return Tokenizer.from_str(json.dumps(data))


def words_of(given: str | Sequence[str]) -> tuple[list[str], list[tuple[int, int]]]:
    """Return the words of an input, and where each starts and ends: in characters of a text, else in words.

    >>> words_of("Ada's, 1843")
    (["Ada's", ',', '1843'], [(0, 5), (5, 6), (7, 11)])
    """
    if not isinstance(given, str):
        return list(given), [(i, i + 1) for i in range(len(given))]
    found = list(WORD.finditer(given))
    return [each[0] for each in found], [each.span() for each in found]


def entities_of(
    given: str | Sequence[str], words: Sequence[str], places: Sequence[tuple[int, int]], labels: Sequence[str | None]
) -> Iterator[Answer]:
    """Yield the entities that labels of words mark.

    An entity begins at B and S (U), at any label whose type is not that of the word before, and at I or E (L) after O
    and after an end; it ends at E and S and before whatever begins or is O.

    Source:
        The script of Tjong Kim Sang and De Meulder 2003 (cs/0306050), conlleval.
    """
    first, kind, is_open = 0, "", False
    for i, label in enumerate([*labels, OUTSIDE]):
        found = MARKED.fullmatch(label or OUTSIDE)
        mark, this = (found[1], found[2]) if found else ("", "")
        if is_open and (not found or mark in BEGINS or this != kind):
            yield entity(given, words, places, kind, first, i)
            is_open = False
        if found and not is_open:
            first, kind, is_open = i, this, True
        if is_open and mark in ENDS:
            yield entity(given, words, places, kind, first, i + 1)
            is_open = False


def entity(
    given: str | Sequence[str],
    words: Sequence[str],
    places: Sequence[tuple[int, int]],
    kind: str,
    first: int,
    stop: int,
) -> Answer:
    start, end = places[first][0], places[stop - 1][1]
    text = given[start:end] if isinstance(given, str) else " ".join(words[first:stop])
    return {"label": kind, "text": text, "start": start, "end": end}
