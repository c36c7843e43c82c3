"""From the logits of windows to answers of questions, and their scores: exact match and F1.

Axes: W windows, S positions, N questions.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cutbert.data.cache import Arrays
from cutbert.data.metrics import ScoredOutputs
from cutbert.data.questions import AnswerSpan, Questions
from cutbert.spans import best_spans

CHUNK_WINDOWS = 100
ARTICLES = re.compile(r"\b(a|an|the)\b")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, eq=False)
class AnswerScorer:
    """Decodes the answers to questions from the logits of their windows, and scores them.

    Args:
        questions: with their right answers.
        arrays: as `encode_windows` returns them.
    """

    questions: Questions
    arrays: Arrays

    @property
    def num_scored(self) -> int:
        return len(self.questions)

    def __call__(self, logits: NDArray[np.float32]) -> ScoredOutputs:
        """Return exact match and F1 as means over questions, and for each question both with the predicted answer."""
        is_finite = bool(np.isfinite(logits).all())
        predicted = self.answers(logits if is_finite else np.nan_to_num(logits))
        exact, f1 = [], []
        for answer, right in zip(predicted, self._right, strict=True):
            words = normalized(answer)
            exact.append(float(max(words == each for each in right)))
            f1.append(max(word_f1(words, each, self.questions.has_unanswerable) for each in right))
        metrics = {"f1": f1, "exact_match": exact}
        return ScoredOutputs(
            {name: float(np.mean(values)) if is_finite else 0.0 for name, values in metrics.items()},
            {"ids": self.questions.ids, "answers": predicted, **metrics},
        )

    @cached_property
    def _right(self) -> list[list[str]]:
        assert self.questions.answers is not None
        return [right_answers(each, self.questions.has_unanswerable) for each in self.questions.answers]

    def answers(self, logits: NDArray[np.float32]) -> list[str]:
        """Return the answer to each question: the span of its text whose first and last token score highest.

        It is the best span over all windows of a question (`best_spans`). Where questions may have no answer,
        the answer is empty if the first position ([CLS]) scores higher; of its scores in all windows the lowest counts.

        Source:
            Devlin et al. 2018 (1810.04805), section 4.3, with the minimum over windows and threshold 0 of the released
            run_squad.
        """
        rows_W, offsets = self.arrays["rows_W"], self.arrays["offsets"]
        score_W, first_W, last_W = self._best_spans(logits)
        order = np.lexsort((-score_W, rows_W))
        best_N = order[np.unique(rows_W[order], return_index=True)[1]]
        starts = self.arrays["starts_T"][offsets[best_N] + first_W[best_N]]
        ends = self.arrays["ends_T"][offsets[best_N] + last_W[best_N]]
        is_none_N = ~np.isfinite(score_W[best_N])
        if self.questions.has_unanswerable:
            none_N = np.full(len(self.questions), np.inf)
            np.minimum.at(none_N, rows_W, logits[:, 0].sum(axis=1, dtype=np.float64))
            is_none_N |= none_N > score_W[best_N]
        return [
            "" if is_none else context[start:end].strip()
            for is_none, context, start, end in zip(is_none_N, self.questions.context, starts, ends, strict=True)
        ]

    def _best_spans(self, logits: NDArray[np.float32]) -> tuple[NDArray[np.float64], ...]:
        """Return score, first and last position of the best span of each window; -inf where there is none."""
        chunks = []
        for first in range(0, len(logits), CHUNK_WINDOWS):
            rows = np.arange(first, min(first + CHUNK_WINDOWS, len(logits)))
            places_WS = self.arrays["offsets"][rows][:, None] + np.arange(logits.shape[1])
            real_WS = places_WS < self.arrays["offsets"][rows + 1][:, None]
            places_WS = np.where(real_WS, places_WS, 0)
            in_text_WS = real_WS & (self.arrays["ends_T"][places_WS] > self.arrays["starts_T"][places_WS])
            inside_WS2 = np.where(in_text_WS[..., None], logits[rows].astype(np.float64), -np.inf)
            chunks.append([each[:, 0] for each in best_spans(inside_WS2, 1)])
        return tuple(np.concatenate(each) for each in zip(*chunks, strict=True))


def normalized(answer: str) -> str:
    """Return an answer in lower case without punctuation, articles and extra white space.

    Source:
        `normalize_answer` of the official evaluation script of SQuAD (Rajpurkar et al. 2016, 1606.05250).
    """
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(WITHOUT_PUNCTUATION)).split())


def right_answers(answers: Sequence[AnswerSpan], has_unanswerable: bool) -> list[str]:
    """Return the right answers, normalised; an empty one where there is none.

    SQuAD v2's script drops answers that are empty once normalised, v1.1's does not.
    """
    texts = [normalized(answer.text) for answer in answers]
    if has_unanswerable:
        texts = [text for text in texts if text]
    return texts or [""]


def word_f1(given: str, right: str, has_unanswerable: bool) -> float:
    """Return F1 of an answer's words, the harmonic mean of precision and recall; both answers normalised.

    For two empty answers it is 1 in SQuAD v2's script, 0 in v1.1's.
    """
    words, right_words = given.split(), right.split()
    if has_unanswerable and not (words and right_words):
        return float(words == right_words)
    common = sum((Counter(words) & Counter(right_words)).values())
    return 2 * common / (len(words) + len(right_words)) if common else 0.0
