"""Data augmentation for distillation: more training texts by replacing words, as in TinyBERT and DynaBERT."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cutbert.data.reading import check_mistakes
from cutbert.data.records import open_lines
from cutbert.data.rows import Examples, Rows, text_key
from cutbert.data.settings import AugmentSettings
from cutbert.errors import DataError
from cutbert.parsing import is_encodable

# What a reader takes for one word, with attached characters: film2, don't, 's, well-made.
STRETCH = re.compile(r"['\u2019]?\w+(?:['\u2019-]\w+)*")
CANDIDATE = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
CHUNK_ROWS = 256


@dataclass(frozen=True)
class OpenWord:
    """A word that may be replaced, and the text around it."""

    before: str
    word: str
    after: str


CandidateSource = Callable[[Sequence[OpenWord]], list[list[str]]]
ProposedWords = Callable[[list[str]], list[list[str]]]


def augment_rows(
    rows: Rows, source: CandidateSource, settings: AugmentSettings, *, seed: int, keep_out: Sequence[Examples] = ()
) -> Rows:
    """Return the rows unchanged, each once, followed by their variants.

    In each of N rounds every word that is alphabetic and not a stop word is replaced with probability p by one of
    its M best candidates. Variants keep the row's label; distillation does not use it. A variant that equals
    a row, another variant or a row of `keep_out` is left out. The result depends on the rows, the candidates
    and the seed only.

    Args:
        rows: the training rows.
        source: gives candidates, best first, for each open word.
        settings: M, p and N.
        seed: of the run, at least 0.
        keep_out: rows whose texts must not be made, such as select and dev.

    Raises:
        DataError: the source does not return one list of candidates per word.

    Source:
        Jiao et al. 2020 (TinyBERT, 1909.10351), algorithm 1; Hou et al. 2020 (DynaBERT, 2004.04037) take it over.
        Departures: every word is masked as a whole, however many subwords it has; and each side of a pair is varied
        next to the other side's original (the release pairs the second side with the first one's last variant).
    """
    seen = {key for part in (rows, *keep_out) for key in part.text_keys()}
    text, origin = list(rows.text), list(range(len(rows)))
    pair = None if rows.text_pair is None else list(rows.text_pair)
    sides = [rows.text] if rows.text_pair is None else [rows.text, rows.text_pair]
    for side, texts in enumerate(sides):
        for index, variant in vary_texts(texts, source, settings, f"{seed}:{side}"):
            left = variant if side == 0 else rows.text[index]
            right = None if rows.text_pair is None else variant if side == 1 else rows.text_pair[index]
            key = text_key(left, right)
            if key in seen:
                continue
            seen.add(key)
            text.append(left)
            origin.append(index)
            if pair is not None and right is not None:
                pair.append(right)
    return Rows(text, pair, None if rows.labels is None else rows.labels[np.array(origin, dtype=np.int64)])


def vary_texts(
    texts: Sequence[str], source: CandidateSource, settings: AugmentSettings, seed: str
) -> Iterator[tuple[int, str]]:
    """Yield N variants of each text with the text's index."""
    for start in range(0, len(texts), CHUNK_ROWS):
        chunk = texts[start : start + CHUNK_ROWS]
        spans = [open_spans(text) for text in chunk]
        words = [
            OpenWord(text[:first], text[first:last], text[last:])
            for text, open_words in zip(chunk, spans, strict=True)
            for first, last in open_words
        ]
        lists = source(words) if words else []
        if len(lists) != len(words):
            raise DataError(f"a source of candidates must return {len(words)} lists, one per word, got {len(lists)}")
        proposed = iter(lists)
        for offset, (text, open_words) in enumerate(zip(chunk, spans, strict=True)):
            choices = [usable(text[span[0] : span[1]], next(proposed), settings.num_candidates) for span in open_words]
            rng = random.Random(f"{seed}:{start + offset}")
            for _ in range(settings.num_rounds):
                yield start + offset, replace_words(text, open_words, choices, settings.replace_prob, rng)


def open_spans(text: str) -> list[tuple[int, int]]:
    """Return the spans of the words that may be replaced: alphabetic and not stop words."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return [
        match.span()
        for match in STRETCH.finditer(text)
        if match.group().isalpha() and match.group().lower() not in ENGLISH_STOP_WORDS
    ]


def usable(word: str, candidates: Sequence[str], limit: int) -> list[str]:
    """Return the first `limit` candidates that are whole words other than the word itself, in its case."""
    words: list[str] = []
    for candidate in candidates:
        if CANDIDATE.fullmatch(candidate) and candidate.lower() != word.lower():
            words.append(candidate.capitalize() if word[0].isupper() and candidate.islower() else candidate)
        if len(words) == limit:
            break
    return words


def replace_words(
    text: str, spans: Sequence[tuple[int, int]], choices: Sequence[Sequence[str]], prob: float, rng: random.Random
) -> str:
    """Return the text with each open word replaced with probability `prob`; everything else is kept."""
    parts, end = [], 0
    for (first, last), candidates in zip(spans, choices, strict=True):
        if candidates and rng.random() < prob:
            parts += [text[end:first], rng.choice(candidates)]
            end = last
    return "".join([*parts, text[end:]])


def masked_lm_source(propose: ProposedWords, mask_token: str) -> CandidateSource:
    """Return a source of candidates from a masked-LM model.

    Args:
        propose: takes texts with one mask token each, returns words for it, best first; subwords such as `##ly`
            among them are skipped.
        mask_token: the tokenizer's, such as `[MASK]`.
    """
    return lambda words: propose([f"{word.before}{mask_token}{word.after}" for word in words])


def word_list_source(table: Mapping[str, Sequence[str]]) -> CandidateSource:
    """Return a source of candidates from a table of lower-case words; words outside it have none."""
    return lambda words: [list(table.get(word.word.lower(), ())) for word in words]


def read_word_list(path: Path) -> dict[str, list[str]]:
    """Read a word list: a word, a tab, its candidates with spaces between, best first.

    Raises:
        DataError: the file cannot be read, or a line has another form or repeats a word.
    """
    table: dict[str, list[str]] = {}
    mistakes = []
    for number, line in open_lines(path):
        word, _, candidates = line.partition("\t")
        word = word.strip().lower()
        if not word or not candidates.split() or not is_encodable(line):
            mistakes.append(f"{path}: line {number} must be a word, a tab and its candidates, in UTF-8")
        elif word in table:
            mistakes.append(f"{path}: line {number} must not give the word {word!r} again")
        table[word] = candidates.split()
    check_mistakes(mistakes)
    return table
