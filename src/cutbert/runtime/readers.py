"""Answers to questions as spans of their texts: windows over long texts, the best spans over all windows.

Axes: S positions of a window.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from cutbert.errors import InputError, ModelError
from cutbert.runtime.folder import is_count
from cutbert.runtime.runner import Answer, Model, Outputs, is_pair
from cutbert.spans import best_spans

MAX_QUESTION_TOKENS = 64
STRIDE = 128  # tokens that neighbouring windows share


class Reader(Model):
    """Answers pairs of a question and a text.

    An answer has `answer`, `start` and `end` (characters of the text), `score` (the sum of the logits of its first and
    last token; None where a text has no tokens) and `best`, the spans with the highest scores, best first. Where the
    model was trained on questions without answers (SQuAD v2), `answer` is empty and `start` and `end` are 0 where that
    scores higher, and `no_answer_score` says how high.
    """

    num_best = 5

    def make_engine(self) -> Tokenizer:
        engine, self.whole = super().make_engine(), super().make_engine()
        self.whole.no_truncation()
        self.limit = min(MAX_QUESTION_TOKENS, self.max_length // 3)
        task = self.folder.record.get("task")
        task = task if isinstance(task, dict) else {}
        self.has_unanswerable = task.get("task") == "squad2"
        most = self.max_length - self.limit - engine.num_special_tokens_to_add(True) - 1
        if most < 1:
            raise ModelError(f"max_length of a reader must have room for a text, got {self.max_length}")
        stride = task.get("stride", STRIDE)
        if not is_count(stride):
            path = self.folder.path / "cutbert.json"
            raise ModelError(f"{path}: stride must be a whole number of at least 0, got {stride!r:.80}")
        self.stride = min(stride, most)
        engine.enable_truncation(self.max_length, stride=self.stride, strategy="only_second")
        return engine

    def check_input(self, given: Any, row: int) -> None:
        if not is_pair(given):
            raise InputError(f"input {row} must be a pair of a question and a text, got {given!r:.80}")

    def encode(self, inputs: Sequence[Any]) -> list[list[Any]]:
        asked = [self.shortened(question) for question, _ in inputs]
        pairs = [(question, text) for question, (_, text) in zip(asked, inputs, strict=True)]
        return [[each, *each.overflowing] for each in self.engine.encode_batch(pairs)]

    def shortened(self, question: str) -> str:
        """Return a question of at most `limit` tokens: itself, or cut after one of its tokens."""
        encoding = self.whole.encode(question, add_special_tokens=False)
        for size in range(self.limit, 0, -1):
            if len(encoding.ids) <= self.limit:
                return question
            cut = question[: encoding.offsets[size - 1][1]]
            if len(self.whole.encode(cut, add_special_tokens=False).ids) <= self.limit:
                self.num_cut += 1
                return cut
        return question

    def rows_of(self, outputs: Outputs, mask_BS: NDArray[np.int64]) -> Iterable[Any]:
        if "start_logits" in outputs:
            ends = (self.output(outputs, f"{name}_logits", mask_BS, *mask_BS.shape) for name in ("start", "end"))
            logits = np.stack(list(ends), axis=-1)
        else:
            logits = self.output(outputs, "logits", mask_BS, *mask_BS.shape, 2)
        return [row[:size].astype(np.float64) for row, size in zip(logits, mask_BS.sum(axis=1), strict=True)]

    def answer(self, given: Any, encodings: Sequence[Any], results: Sequence[Any]) -> Answer:
        text = given[1]
        spans: list[tuple[float, int, int]] = []
        for encoding, logits_S2 in zip(encodings, results, strict=True):
            offsets = encoding.offsets
            in_text = np.array(
                [side == 1 and end > start for side, (start, end) in zip(encoding.sequence_ids, offsets, strict=True)]
            )
            found = best_spans(np.where(in_text[:, None], logits_S2, -np.inf)[None], self.num_best)
            for score, first, last in zip(*(each[0].tolist() for each in found), strict=True):
                if score > -np.inf:
                    spans.append((score, offsets[first][0], offsets[last][1]))
        spans.sort(key=lambda span: span[0])
        highest = {(start, end): score for score, start, end in spans}  # neighbouring windows hold the same spans
        spans = [(score, *place) for place, score in sorted(highest.items(), key=lambda each: -each[1])]
        best = [self.span(text, *span) for span in spans[: self.num_best]]
        nothing = {"answer": "", "start": 0, "end": 0, "score": None}
        answer: Answer = {**(best[0] if best else nothing), "best": best}
        if self.has_unanswerable:
            none = min(float(logits_S2[0].sum()) for logits_S2 in results)
            answer["no_answer_score"] = none
            if not best or none > best[0]["score"]:
                answer |= {**nothing, "score": none}
        return answer

    def span(self, text: str, score: float, start: int, end: int) -> Answer:
        """Return a span without the white space around it."""
        inside = text[start:end]
        start += len(inside) - len(inside.lstrip())
        return {"answer": inside.strip(), "start": start, "end": start + len(inside.strip()), "score": score}
