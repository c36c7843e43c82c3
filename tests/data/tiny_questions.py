"""A few paragraphs with questions, in SQuAD's layout, made in code."""

from __future__ import annotations

import json
from typing import Any

WORDS = ("film", "good", "plot", "dull", "warm", "it", "is", "not", "very")


def paragraph(number: int, questions: int = 2, length: int = 24, answered: bool = True) -> dict[str, Any]:
    """Return a text whose i-th question is about its word number 5 * i + 2."""
    words = [WORDS[(number + 2 * i) % len(WORDS)] + chr(97 + (number + i) % 26) for i in range(length)]
    asked = []
    for i in range(questions):
        place = (5 * i + 2) % length
        start = len(" ".join(words[:place])) + 1
        answers = [{"text": words[place], "answer_start": start}] if answered or i % 2 == 0 else []
        asked.append({"id": f"{number}-{i}", "question": f"is it {WORDS[i % len(WORDS)]} ?", "answers": answers})
    return {"context": " ".join(words), "qas": asked}


def squad(first: int, count: int, **options: Any) -> dict[str, Any]:
    """Return an article of some paragraphs, all different."""
    return {
        "version": "x",
        "data": [{"title": "t", "paragraphs": [paragraph(first + i, **options) for i in range(count)]}],
    }


def squad_text(first: int, count: int, **options: Any) -> str:
    return json.dumps(squad(first, count, **options))
