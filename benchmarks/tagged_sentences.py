"""Sentences whose words are tagged by a rule, and F1 of the entities in a file of answers.

A word of digits is a number. A word that begins with a capital is part of a name, but at the beginning of a sentence
only if none of the sentences has it without the capital. Words of a kind in a row are one entity.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cutbert.data.entities import entities
from measure_embedding import one_line, sentences

WORD, NUMBER = re.compile(r"\w+(?:[-'.,]\w+)*|[^\w\s]"), re.compile(r"\d[\d.,]*")


def tagged(contexts: Sequence[str]) -> Iterator[list[tuple[str, str]]]:
    """Yield the sentences of texts, each word with its tag."""
    split = (WORD.findall(one_line(each)) for context in contexts for each in sentences(context))
    found = [words for words in split if words]
    small = {word for words in found for word in words if word[0].islower()}
    for words in found:
        kinds = [kind_of(word, is_first=i == 0, small=small) for i, word in enumerate(words)]
        yield [
            (word, "O" if kind is None else f"{'I' if i and kinds[i - 1] == kind else 'B'}-{kind}")
            for i, (word, kind) in enumerate(zip(words, kinds, strict=True))
        ]


def kind_of(word: str, *, is_first: bool, small: set[str]) -> str | None:
    """Return what a word is part of, by the rule."""
    if NUMBER.fullmatch(word):
        return "NUMBER"
    return "NAME" if word[0].isupper() and not (is_first and word.lower() in small) else None


def tagged_f1(path: Path) -> float:
    """Return F1 of entities of a file whose lines are word, right tag and given tag."""
    blocks = [each.split("\n") for each in path.read_text(encoding="utf-8").strip("\n").split("\n\n")]
    rows = [[line.split(" ") for line in block] for block in blocks]
    tags = sorted({tag for row in rows for _, *pair in row for tag in pair})
    places, right, both = {tag: i for i, tag in enumerate(tags)}, 0, 0
    for row in rows:
        true, given = (entities(tags, np.array([places[line[at]] for line in row]), [len(row)]) for at in (1, 2))
        right, both = right + len(true & given), both + len(true) + len(given)
    return 2 * right / max(1, both)
