"""Windows hold all of a text, and their labels read back to the answer."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from tiny_tokenizer import build_tokenizer
from transformers import AutoTokenizer

from cutbert.data.answers import AnswerScorer, normalized
from cutbert.data.dataset import load_dataset
from cutbert.data.questions import AnswerSpan, Questions
from cutbert.data.settings import DataSettings, question_limit
from cutbert.data.tokens import Tokens, tokenize_rows
from cutbert.errors import ModelError

WORDS = ("the", "a", "film", "xyz", "good", "é", ",", "plot", "don't", "(dull)")


def random_questions(count: int = 30, stride: int = 4, longest: int = 60) -> Questions:
    rng = random.Random(0)
    question, context, answers = [], [], []
    for _ in range(count):
        words = rng.choices(WORDS, k=rng.randint(6, longest))
        text = "  ".join(words)
        first = rng.randrange(len(words))
        part = "  ".join(words[first : first + rng.randint(1, 3)])
        start = len("  ".join(words[:first])) + (2 if first else 0)
        question.append(" ".join(rng.choices(WORDS, k=rng.randint(1, 3))))
        context.append(text)
        answers.append((AnswerSpan(part, start),))
    answers[3] = ()
    return Questions(question, context, [str(i) for i in range(count)], answers, True, stride)


def scorer_of(tokens: Tokens) -> AnswerScorer:
    assert isinstance(tokens.scorer, AnswerScorer)
    return tokens.scorer


@pytest.mark.parametrize("token_types", [True, False])
def test_windows_equal_those_of_transformers(token_types: bool) -> None:
    rows, tokenizer = random_questions(), build_tokenizer(token_types)
    tokens = tokenize_rows(rows, tokenizer, "tiny", 40)
    wanted = tokenizer(
        rows.question, rows.context, truncation="only_second", max_length=40, stride=4,
        return_overflowing_tokens=True, return_token_type_ids=True,
    )  # fmt: skip
    found = [tokens.ids[a:b].tolist() for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)]
    assert found == wanted["input_ids"] and len(found) > len(rows)
    assert scorer_of(tokens).arrays["rows_W"].tolist() == wanted["overflow_to_sample_mapping"]
    assert tokens.pair_starts is not None
    types = [[0] * s + [1] * (n - s) for s, n in zip(tokens.pair_starts, tokens.lengths, strict=True)]
    if token_types:
        assert types == wanted["token_type_ids"]
    else:  # where transformers passes on what the engine claims of windows behind the first
        assert not any(map(any, types))


@pytest.mark.parametrize("token_types", [True, False])
def test_labels_read_back_to_the_answer(token_types: bool) -> None:
    rows = random_questions()
    tokens = tokenize_rows(rows, build_tokenizer(token_types), "tiny", 40, cache=False)
    arrays, labels = scorer_of(tokens).arrays, tokens.labels
    assert labels is not None and labels.shape == (len(tokens), 2) and rows.answers is not None
    found: dict[int, set[str]] = {}
    for window, (first, last) in enumerate(labels):
        row, offset = int(arrays["rows_W"][window]), tokens.offsets[window]
        starts, ends = (arrays[name][offset : tokens.offsets[window + 1]] for name in ("starts_T", "ends_T"))
        if last > 0:
            found.setdefault(row, set()).add(rows.context[row][starts[first] : ends[last]])
            continue
        assert (first, last) == (0, 0)
        for answer in rows.answers[row]:  # a window that says no holds no whole answer
            assert starts[ends > 0].min() > answer.start or ends.max() < answer.start + len(answer.text)
    assert found == {i: {answers[0].text} for i, answers in enumerate(rows.answers) if answers}


def test_every_character_of_a_text_is_in_a_window() -> None:
    rows = random_questions()
    arrays = scorer_of(tokenize_rows(rows, build_tokenizer(), "tiny", 40, cache=False)).arrays
    row_T = np.repeat(arrays["rows_W"], np.diff(arrays["offsets"]))
    for row, context in enumerate(rows.context):
        seen = {place for a, b in zip(arrays["starts_T"][row_T == row], arrays["ends_T"][row_T == row], strict=True)
                for place in range(a, b)}  # fmt: skip
        assert seen >= {place for place, character in enumerate(context) if not character.isspace()}


def test_a_long_question_is_cut_and_that_is_said() -> None:
    limit = question_limit(40)
    assert (limit, question_limit(384), question_limit(192)) == (13, 64, 64)
    rows = Questions(["good " * 50, "a film", "xyz" * 20], ["the plot"] * 3, None, None, False, 4)
    tokens = tokenize_rows(rows, build_tokenizer(), "tiny", 40, cache=False)
    assert tokens.lengths.tolist() == [limit + 5, 2 + 5, limit + 5]
    assert tokens.notes == ("2 questions of more than 13 tokens are cut to that",)
    assert tokens.labels is None and tokens.scorer is None and not tokens.is_labelled


def test_answers_with_space_around_them_are_found() -> None:
    rows = Questions(["film"], ["the  good plot"], ["1"], [(AnswerSpan("  good ", 3),)], False, 0)
    tokens = tokenize_rows(rows, build_tokenizer(), "tiny", 40, cache=False)
    assert tokens.labels is not None and tokens.labels.tolist() == [[4, 4]]


def test_windows_must_have_room() -> None:
    with pytest.raises(ModelError, match="--stride must be at most 23 with windows of 40 tokens, got 24"):
        tokenize_rows(random_questions(stride=24), build_tokenizer(), "tiny", 40, cache=False)
    tokenize_rows(random_questions(stride=23), build_tokenizer(), "tiny", 40, cache=False)


def test_the_cache_knows_the_stride() -> None:
    tokenizer = build_tokenizer()
    lengths = {stride: len(tokenize_rows(random_questions(stride=stride), tokenizer, "t", 40)) for stride in (1, 16)}
    assert lengths[1] < lengths[16]
    again = tokenize_rows(random_questions(stride=1), tokenizer, "t", 40)
    assert len(again) == lengths[1] and isinstance(again.ids, np.memmap)


@pytest.mark.real_data
@pytest.mark.real_weights
@pytest.mark.slow
def test_real_answers_are_read_back(real_data: Path, real_weights: Path) -> None:
    data = load_dataset(DataSettings(task="squad", data_dir=real_data))
    assert isinstance(data.dev, Questions) and data.dev.answers is not None
    assert (len(data.dev), len(data.train) + len(data.select), len(data.select)) == (10570, 11877, 1000)
    tokens = tokenize_rows(data.dev, AutoTokenizer.from_pretrained(real_weights), "minilm", 384)
    assert tokens.labels is not None and tokens.lengths.max() == 384
    logits = np.zeros((len(tokens), 384, 2), dtype=np.float32)
    has = np.flatnonzero(tokens.labels[:, 1] > 0)
    for side in (0, 1):
        logits[has, tokens.labels[has, side], side] = 10.0
    assert len(np.unique(scorer_of(tokens).arrays["rows_W"][has])) == len(data.dev)
    given = scorer_of(tokens).answers(logits)
    pairs = zip(given, data.dev.answers, strict=True)
    assert np.mean([normalized(answer) == normalized(right[0].text) for answer, right in pairs]) >= 0.995
