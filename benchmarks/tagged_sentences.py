"""Sentences whose words are tagged by a rule, and F1 of the entities in them: of a file, and of two networks' answers.

A word of digits is a number. A word that begins with a capital is part of a name, but at the beginning of a sentence
only if none of the sentences has it without the capital. Words of a kind in a row are one entity.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.data.entities import entities
from cutbert.fronts.leaderboard import difference_of
from cutbert.fronts.paired import percentiles
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
    return float(entity_f1(counts_of([[c[2] for c in r] for r in rows], [[c[1] for c in r] for r in rows]).sum(0)))


def entity_difference(cut: Mapping[str, Any], uncut: Mapping[str, Any]) -> dict[str, float]:
    """Return F1 of entities of one network less another's, with its 95 % interval over sentences."""
    ours, theirs = (counts_of(each["predicted"], each["labels"]) for each in (cut, uncut))

    def difference(rows_RN: NDArray[np.intp]) -> NDArray[np.float64]:
        return entity_f1(ours[rows_RN].sum(-2)) - entity_f1(theirs[rows_RN].sum(-2))

    return difference_of(float(difference(np.arange(len(ours)))), *percentiles(difference, (len(ours),)))


def counts_of(given: Sequence[Sequence[str]], right: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Return for each sentence how many entities are right, given and true, [N, 3]."""
    tags = sorted({tag for each in (*given, *right) for tag in each})
    places = {tag: i for i, tag in enumerate(tags)}
    counts = []
    for pair in zip(given, right, strict=True):
        ours, true = (entities(tags, np.array([places[tag] for tag in each]), [len(each)]) for each in pair)
        counts.append([len(ours & true), len(ours), len(true)])
    return np.array(counts)


def entity_f1(counts: NDArray[np.int64]) -> Any:
    """Return F1 from counts of right, given and true entities, [..., 3]."""
    return 2 * counts[..., 0] / np.maximum(1, counts[..., 1] + counts[..., 2])
