"""Answers and their scores are those of the official scripts; the fast search is an exhaustive one."""

from __future__ import annotations

import re
import string
from collections import Counter

import numpy as np
import pytest
from tiny_tokenizer import build_tokenizer

from cutbert.data.answers import AnswerScorer, normalized, right_answers, word_f1
from cutbert.data.questions import AnswerSpan, Questions
from cutbert.data.tokens import Tokens, tokenize_rows
from cutbert.spans import MAX_ANSWER_TOKENS, best_spans


def official_normalize(text: str) -> str:
    """`normalize_answer` of evaluate-v1.1.py, written out."""
    lower = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", lower).split())


def official_f1(given: str, right: str, version: int) -> float:
    """`f1_score` of evaluate-v1.1.py and `compute_f1` of evaluate-v2.0.py, written out."""
    words, wanted = official_normalize(given).split(), official_normalize(right).split()
    same = sum((Counter(words) & Counter(wanted)).values())
    if version == 2 and (len(words) == 0 or len(wanted) == 0):
        return int(words == wanted)
    if same == 0:
        return 0
    precision, recall = same / len(words), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


CASES = [
    ("The Denver Broncos", "Denver Broncos", 1.0, 1.0),
    ("Denver Broncos!", "denver  broncos", 1.0, 1.0),
    ("Broncos", "Denver Broncos", 0.0, 2 / 3),
    ("an apple and the pear", "apple and pear", 1.0, 1.0),
    ("theater", "ater", 0.0, 0.0),
    ("U.S.", "us", 1.0, 1.0),
    ("24\u201310", "24-10", 0.0, 0.0),
    ("a b b", "b b b", 0.0, 0.8),
    ("", "word", 0.0, 0.0),
    ("gold gold", "gold", 0.0, 2 / 3),
]


@pytest.mark.parametrize("given, right, exact, f1", CASES)
def test_scores_of_one_answer(given: str, right: str, exact: float, f1: float) -> None:
    assert float(normalized(given) == normalized(right)) == exact
    for version in (1, 2):
        found = word_f1(normalized(given), normalized(right), version == 2)
        assert found == pytest.approx(f1) == official_f1(given, right, version)


def test_normalisation_is_the_official_one() -> None:
    rng = np.random.default_rng(0)
    letters = list("aAntTheE  .,'-\"\té\u20131")
    for _ in range(300):
        text = "".join(rng.choice(letters, size=rng.integers(0, 14)))
        assert normalized(text) == official_normalize(text), text


def test_empty_answers_differ_between_the_versions() -> None:
    assert right_answers([], True) == [""] and word_f1("", "", True) == 1.0
    assert word_f1("", "", False) == 0.0
    assert right_answers([AnswerSpan("the", 0), AnswerSpan("The end", 0)], True) == ["end"]
    assert right_answers([AnswerSpan("the", 0), AnswerSpan("The end", 0)], False) == ["", "end"]


def exhaustive(window: np.ndarray, count: int) -> list[tuple[float, int, int]]:
    """The plain twin of `best_spans`, of one window."""
    spans = [
        (window[first, 0] + window[last, 1], first, last)
        for first in range(len(window))
        for last in range(first, min(len(window), first + MAX_ANSWER_TOKENS))
    ]
    return sorted(spans, key=lambda span: (-span[0], span[2] - span[1], span[1]))[:count]


@pytest.mark.parametrize("count", [1, 5])
def test_the_best_spans_are_those_of_an_exhaustive_search(count: int) -> None:
    logits = np.round(np.random.default_rng(0).normal(size=(20, 45, 2)), 1)  # with ties
    logits[3, :, :] = -np.inf
    logits[4, 5:, 0] = logits[4, :40, 1] = -np.inf  # too far apart
    found = best_spans(logits, count)
    assert np.isinf(found[0][[3, 4]]).all() and all(each.shape == (20, count) for each in found)
    for row in np.setdiff1d(np.arange(20), [3, 4]):
        spans = zip(*(each[row].tolist() for each in found), strict=True)
        assert list(spans) == exhaustive(logits[row], count)


def asked(has_unanswerable: bool = False) -> Tokens:
    """Two questions, the first with two windows."""
    text = "the film is good , the plot is dull and warm and it is not very good a film ."
    rows = Questions(
        ["good", "film"],
        [text, "A Very dull Plot"],
        ["x", "y"],
        [
            (AnswerSpan("dull", text.index("dull")),),
            () if has_unanswerable else (AnswerSpan("dull", 7), AnswerSpan("Plot", 12)),
        ],
        has_unanswerable,
        3,
    )
    tokens = tokenize_rows(rows, build_tokenizer(), "tiny", 18, cache=False)
    assert isinstance(tokens.scorer, AnswerScorer)
    assert tokens.scorer.arrays["rows_W"].tolist() == [0, 0, 1]
    return tokens


def logits_for(tokens: Tokens, *spans: tuple[int, int, int, float]) -> np.ndarray:
    logits = np.full((len(tokens), int(tokens.lengths.max()), 2), -1.0, dtype=np.float32)
    for window, first, last, height in spans:
        logits[window, first, 0] = logits[window, last, 1] = height
    return logits


def test_the_best_window_answers_and_only_with_its_text() -> None:
    tokens = asked()
    assert tokens.scorer is not None
    high = [(0, 0, 2, 50.0), (1, 1, 2, 50.0)]  # special tokens and the question are no answers
    scored = tokens.scorer(logits_for(tokens, *high, (0, 3, 4, 3.0), (1, 3, 3, 4.0), (2, 4, 6, 2.0)))
    window = tokens.scorer.arrays["starts_T"][tokens.offsets[1] :]  # type: ignore[attr-defined]
    first = scored.outputs["answers"][0]
    assert first and tokens.scorer.questions.context[0][window[3] :].startswith(first)  # type: ignore[attr-defined]
    assert scored.outputs["answers"][1] == "Very dull Plot"
    assert scored.outputs["ids"] == ["x", "y"]
    assert scored.outputs["f1"][1] == pytest.approx(0.5) and scored.outputs["exact_match"][1] == 0.0
    assert scored.metrics["f1"] == pytest.approx(np.mean(scored.outputs["f1"]))


def test_the_best_of_several_right_answers_counts() -> None:
    tokens = asked()
    assert tokens.scorer is not None
    scored = tokens.scorer(logits_for(tokens, (2, 6, 6, 3.0)))
    assert scored.outputs["answers"][1] == "Plot" and scored.outputs["exact_match"][1] == 1.0


def test_no_answer_wins_where_it_scores_higher_in_every_window() -> None:
    tokens = asked(has_unanswerable=True)
    assert tokens.scorer is not None
    given = logits_for(tokens, (0, 0, 0, 9.0), (1, 0, 0, 2.0), (1, 4, 4, 3.0), (2, 0, 0, 5.0), (2, 4, 4, 4.0))
    scored = tokens.scorer(given)
    assert scored.outputs["answers"][0] != "" and scored.outputs["answers"][1] == ""
    assert scored.outputs["exact_match"][1] == scored.outputs["f1"][1] == 1.0
    given[0, 0], given[1, 0] = 9.0, 3.5
    assert tokens.scorer(given).outputs["answers"][0] == ""


def test_logits_that_are_not_finite_score_nothing() -> None:
    tokens = asked()
    assert tokens.scorer is not None
    logits = logits_for(tokens, (2, 6, 6, 3.0))
    logits[0, 0, 0] = np.nan
    assert tokens.scorer(logits).metrics == {"f1": 0.0, "exact_match": 0.0}
