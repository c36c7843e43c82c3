"""Questions about long texts as windows of tokens, and the position of the answer in each window.

Axes: W windows, T tokens of all windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.data.cache import Arrays
from cutbert.data.questions import AnswerSpan, Questions
from cutbert.data.settings import question_limit
from cutbert.errors import ModelError

CHUNK_QUESTIONS = 1000
CHUNK_WINDOWS = 10_000
NOWHERE = np.iinfo(np.int64).max


def encode_windows(questions: Questions, engine: Any, max_length: int) -> Arrays:
    """Return the arrays of Tokens, one row per window, and arrays that map tokens back to the text.

    A window is the question and the part of the text that fits; a longer text becomes several windows, and
    neighbours share `stride` tokens of it. A question longer than 64 tokens, or than a third of a window, is cut
    to that (Devlin et al. 2018, 1810.04805, cut at 64; the third is our choice for short windows).

    Args:
        questions: the rows.
        engine: a tokenizer's engine; its truncation is changed.
        max_length: longest window in tokens, special tokens included.

    Returns:
        ids, offsets, pair_starts as in Tokens; rows_W, the question of each window; starts_T and ends_T, each
        token's characters in the text, both 0 for tokens outside it; num_cut, number of questions that were cut.

    Raises:
        ModelError: `max_length` has no room for new text besides question, special tokens and the shared tokens.
    """
    limit = question_limit(max_length)
    engine.no_truncation()
    asked = [shortened(question, engine, limit) for question in questions.question]
    most = max_length - limit - engine.num_special_tokens_to_add(True) - 1
    if questions.stride > most:
        raise ModelError(f"--stride must be at most {most} with windows of {max_length} tokens, got {questions.stride}")
    engine.enable_truncation(max_length, stride=questions.stride, strategy="only_second")
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in ("ids", "sizes", "pair_starts", "rows", "spans")}
    for row, encoding, has_types in all_windows(questions, asked, engine):
        ids = np.array(encoding.ids, dtype=np.int32)
        in_text = np.array([side == 1 for side in encoding.sequence_ids])
        parts["ids"].append(ids)
        parts["sizes"].append(np.array([len(ids)]))
        num_typed = sum(encoding.type_ids) if has_types else 0
        parts["pair_starts"].append(np.array([len(ids) - num_typed], dtype=np.int32))
        parts["rows"].append(np.array([row]))
        parts["spans"].append(np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2) * in_text[:, None])
    joined = {name: np.concatenate(each) for name, each in parts.items()}
    num_cut = sum(cut != question for cut, question in zip(asked, questions.question, strict=True))
    return {
        "ids": joined["ids"],
        "offsets": np.concatenate([np.zeros(1, np.int64), joined["sizes"]]).cumsum(),
        "pair_starts": joined["pair_starts"],
        "rows_W": joined["rows"],
        "starts_T": np.ascontiguousarray(joined["spans"][:, 0], dtype=np.int32),
        "ends_T": np.ascontiguousarray(joined["spans"][:, 1], dtype=np.int32),
        "num_cut": np.array([num_cut]),
    }


def all_windows(questions: Questions, asked: list[str], engine: Any) -> Iterator[tuple[int, Any, bool]]:
    """Yield each window with its question's row, and whether the tokenizer has two token types.

    The first window of a question decides: with a single-type tokenizer, later windows may wrongly have two types.
    """
    for start in range(0, len(asked), CHUNK_QUESTIONS):
        chunk = slice(start, start + CHUNK_QUESTIONS)
        encodings = engine.encode_batch(list(zip(asked[chunk], questions.context[chunk], strict=True)))
        for row, encoding in enumerate(encodings, start):
            for window in (encoding, *encoding.overflowing):
                yield row, window, any(encoding.type_ids)


def shortened(question: str, engine: Any, limit: int) -> str:
    """Return a question of at most `limit` tokens: itself, or cut after one of its tokens.

    A word that is cut may split into more subwords than before; then the cut moves further left.
    """
    if len(question) <= limit:  # in characters, of which a token has at least one
        return question
    encoding = engine.encode(question, add_special_tokens=False)
    size = limit
    while len(encoding.ids) > limit:
        cut = question[: encoding.offsets[size - 1][1]]
        again = engine.encode(cut, add_special_tokens=False)
        if len(again.ids) <= limit:
            return cut
        size -= 1
    return question


def span_labels(questions: Questions, arrays: Arrays) -> NDArray[np.int64] | None:
    """Return the positions of the answer's first and last token in each window, [W, 2]; None without answers.

    A window without the whole answer, and one whose question has no answer, gets 0, 0: the first special token.
    Of several right answers the first is used.
    """
    if questions.answers is None:
        return None
    spans = np.array([answer_span(answers) for answers in questions.answers], dtype=np.int64).reshape(-1, 2)
    offsets, num_windows = arrays["offsets"], len(arrays["rows_W"])
    chunks = [
        window_labels(
            spans[arrays["rows_W"][first : first + CHUNK_WINDOWS]],
            offsets[first : first + CHUNK_WINDOWS + 1],
            arrays["starts_T"],
            arrays["ends_T"],
        )
        for first in range(0, num_windows, CHUNK_WINDOWS)
    ]
    return np.concatenate(chunks or [np.empty((0, 2), np.int64)])


def answer_span(answers: tuple[AnswerSpan, ...]) -> tuple[int, int]:
    """Return first character and end of the answer to train on, without white space around it; 0, 0 for none."""
    if not answers:
        return 0, 0
    text = answers[0].text
    start = answers[0].start + len(text) - len(text.lstrip())
    return start, start + len(text.strip())


def window_labels(
    spans_W2: NDArray[np.int64], offsets: NDArray[np.int64], starts: NDArray[np.int32], ends: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Return the labels of some consecutive windows."""
    firsts, sizes = offsets[:-1] - offsets[0], np.diff(offsets)
    starts_T, ends_T = starts[offsets[0] : offsets[-1]].astype(np.int64), ends[offsets[0] : offsets[-1]]
    places_T = np.arange(len(starts_T)) - np.repeat(firsts, sizes)
    from_T, to_T = (np.repeat(side, sizes) for side in spans_W2.T)
    in_text_T = ends_T > starts_T
    inside_T = in_text_T & (ends_T > from_T) & (starts_T < to_T)
    first_W = np.minimum.reduceat(np.where(inside_T, places_T, NOWHERE), firsts)
    last_W = np.maximum.reduceat(np.where(inside_T, places_T, 0), firsts)
    begins_W = np.minimum.reduceat(np.where(in_text_T, starts_T, NOWHERE), firsts)
    is_whole_W = (begins_W <= spans_W2[:, 0]) & (np.maximum.reduceat(ends_T, firsts) >= spans_W2[:, 1])
    is_whole_W &= (first_W < NOWHERE) & (spans_W2[:, 1] > 0)
    return np.where(is_whole_W[:, None], np.stack([first_W, last_W], axis=1), 0)
