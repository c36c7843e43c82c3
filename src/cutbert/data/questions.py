"""Questions about texts, answered by a span of the text: SQuAD v1.1 and v2, from its own JSON files or from the hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.data.reading import check_mistakes, expand_files, read_files
from cutbert.data.records import Record, read_text
from cutbert.data.rows import text_key
from cutbert.data.settings import DataSettings
from cutbert.data.sources import load_split
from cutbert.data.tasks import QUESTION_TASKS, FileLayout, QuestionTask
from cutbert.errors import DataError
from cutbert.files import file_sha256
from cutbert.parsing import is_encodable, parse_json

HUB_SPLITS = {"train": "train", "dev": "validation"}


@dataclass(frozen=True)
class AnswerSpan:
    """A span of a text: its characters, and the index of the first."""

    text: str
    start: int


@dataclass(frozen=True, eq=False)
class Questions:
    """Questions, each with the text that answers it.

    Args:
        question, context: the two texts of each row.
        ids: names of the rows, or None where they have none.
        answers: for each row all right answers, the one to train on first; empty where the text has none;
            None in rows without labels.
        has_unanswerable: whether a model may answer that the text has no answer (SQuAD v2).
        stride: tokens that neighbouring windows of a long text share.
    """

    question: list[str]
    context: list[str]
    ids: list[str] | None
    answers: list[tuple[AnswerSpan, ...]] | None
    has_unanswerable: bool
    stride: int

    def __len__(self) -> int:
        return len(self.question)

    def take(self, indices: NDArray[np.integer]) -> Questions:
        """Return the rows at `indices`, in that order."""
        return Questions(
            [self.question[i] for i in indices],
            [self.context[i] for i in indices],
            None if self.ids is None else [self.ids[i] for i in indices],
            None if self.answers is None else [self.answers[i] for i in indices],
            self.has_unanswerable,
            self.stride,
        )

    def joined(self, others: Questions) -> Questions:
        """Return these rows followed by others, without labels."""
        question, context = [*self.question, *others.question], [*self.context, *others.context]
        return Questions(question, context, None, None, self.has_unanswerable, self.stride)

    def text_keys(self) -> list[bytes]:
        """Return one key per row; all questions about one text have the same key, so that they are in one split."""
        known = {context: text_key(context) for context in set(self.context)}
        return [known[context] for context in self.context]


def read_questions(settings: DataSettings) -> tuple[dict[str, Questions], dict[str, str]]:
    """Read the splits of a question-answering task; return them and the SHA-256 of each file.

    Raises:
        DataError: all mistakes in the files together (the first 20 in full).
    """
    task, mistakes = QUESTION_TASKS[settings.task or ""], list[str]()
    parts, hashes = {}, {}
    files = {} if settings.data_dir is None else task_files(Path(settings.data_dir), task)
    if settings.select not in (None, "dev"):
        files["select"] = Path(str(settings.select))
    for part, path in files.items():
        parts[part] = read_squad(path, task, settings.stride, mistakes)
        hashes[str(path)] = file_sha256(path) if path.is_file() else ""
    unlabeled = expand_files(settings.unlabeled, "--unlabeled", mistakes)
    if settings.unlabeled:
        layout = FileLayout(settings.text or "question", settings.text_pair or "context", None)
        rows = read_files(unlabeled, layout, mistakes)
        parts["unlabeled"] = Questions(
            rows.text, rows.text_pair or [], None, None, task.has_unanswerable, settings.stride
        )
    check_mistakes(mistakes)
    hashes |= {str(path): file_sha256(path) for path in unlabeled}
    if settings.data_dir is None:
        for part, split in HUB_SPLITS.items():
            name = f"{task.hub} {split}"
            data = load_split(settings.task or "", task.hub, split=split)
            parts[part], hashes[name] = read_hub_split(data, name, task, settings.stride, mistakes)
        check_mistakes(mistakes)
    return parts, hashes


def task_files(root: Path, task: QuestionTask) -> dict[str, Path]:
    """Return the files of train and dev, in the task's folder of the root or in `root` itself.

    Raises:
        DataError: neither folder has both, or a folder has several files for one of them.
    """
    for folder in (root / task.folder, root):
        candidates = {part: files_of(folder, part, task) for part in ("train", "dev")}
        if not all(candidates.values()):
            continue
        mistakes = [
            f"{folder}: must hold one file {part}*{task.version}.json (or .json.gz), got {names_of(paths)}"
            for part, paths in candidates.items()
            if len(paths) > 1
        ]
        if mistakes:
            raise DataError(*mistakes)
        return {part: paths[0] for part, paths in candidates.items()}
    names = [f"{part}-{task.version}.json" for part in ("train", "dev")]
    inside = " and ".join(f"{task.folder}/{name}" for name in names)
    raise DataError(
        f"--data-dir {root}: must hold {inside} (or .json.gz), or be the folder that holds {' and '.join(names)}"
    )


def names_of(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths)


def files_of(folder: Path, part: str, task: QuestionTask) -> list[Path]:
    """Return the files of a folder that could be a split: parts of the official file have longer names."""
    return sorted(path for ending in (".json", ".json.gz") for path in folder.glob(f"{part}*{task.version}{ending}"))


def read_squad(path: Path, task: QuestionTask, stride: int, mistakes: list[str]) -> Questions:
    """Read a JSON file in SQuAD's layout; mistakes in it are added to `mistakes`."""
    try:
        articles = read_articles(path)
    except DataError as error:
        mistakes.extend(error.mistakes)
        return empty_questions(task, stride)
    return collect(squad_rows(articles), str(path), task, stride, mistakes)


def read_articles(path: Path) -> Any:
    """Return what a JSON file in SQuAD's layout has under `data`.

    Raises:
        DataError: it cannot be read, or is no such file.
    """
    text = read_text(path)
    try:
        return parse_json(text, any_value=True)["data"]
    except (ValueError, LookupError, TypeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: must be JSON in SQuAD's layout, an object with 'data', got {problem}") from None


def squad_records(path: Path) -> Iterator[Record]:
    """Yield the questions of a JSON file in SQuAD's layout, each with its text; they need no answers.

    Raises:
        DataError: as in `read_articles`.
    """
    known: set[str] = set()
    for row, (place, name, question, context, _) in enumerate(squad_rows(read_articles(path)), 1):
        problem = question_problem(name, question, context, [], QUESTION_TASKS["squad2"])
        if problem is None and name in known:
            problem = f"'id' must be there once, got {name!r:.40} again"
        if problem is None:
            known.add(name)
            cells = {"id": name, "question": question, "context": context}
            yield Record(row, None, (question, context), None, cells)
        else:
            yield Record(row, None, (), f"{place}: {problem}")


RawQuestion = tuple[str, Any, Any, Any, Any]


def squad_rows(articles: Any) -> Iterator[RawQuestion]:
    """Yield place, id, question, context and answers (text and start) of every question; None for what is missing."""
    for a, article in enumerate(as_objects(articles), 1):
        for p, paragraph in enumerate(as_objects(article.get("paragraphs")), 1):
            for q, asked in enumerate(as_objects(paragraph.get("qas")), 1):
                answers = asked.get("answers")
                if isinstance(answers, list):
                    answers = [(each.get("text"), each.get("answer_start")) for each in as_objects(answers)]
                place = f"article {a}, paragraph {p}, question {q}"
                yield place, asked.get("id"), asked.get("question"), paragraph.get("context"), answers


def as_objects(value: Any) -> list[dict[str, Any]]:
    """Return a list of JSON objects, with {} for items that are not objects; [{}] where the value is not a list."""
    return [each if isinstance(each, dict) else {} for each in value] if isinstance(value, list) else [{}]


def collect(raw: Iterator[RawQuestion], file: str, task: QuestionTask, stride: int, mistakes: list[str]) -> Questions:
    """Return the valid rows; each of the others adds a message to `mistakes`."""
    rows, before = empty_questions(task, stride), len(mistakes)
    assert rows.ids is not None and rows.answers is not None
    for place, name, question, context, answers in raw:
        problem = question_problem(name, question, context, answers, task)
        if problem is not None:
            mistakes.append(f"{file}: {place}: {problem}")
            continue
        rows.ids.append(name)
        rows.question.append(question)
        rows.context.append(context)
        rows.answers.append(tuple(AnswerSpan(text, start) for text, start in answers))
    if not len(rows) and len(mistakes) == before:
        mistakes.append(f"{file}: has no rows")
    return rows


def question_problem(name: Any, question: Any, context: Any, answers: Any, task: QuestionTask) -> str | None:
    """Return what is wrong with a row, or None."""
    for key, value in (("id", name), ("question", question), ("context", context)):
        if not isinstance(value, str) or not is_encodable(value):
            return f"{key!r} must be text, got {value!r:.40}"
    if not context.strip():
        return "'context' must not be empty"
    if not isinstance(answers, list):
        return f"'answers' must be a list, got {answers!r:.40}"
    if not answers and not task.has_unanswerable:
        return "must have an answer; --task squad2 has questions without"
    for text, start in answers:
        whole = isinstance(text, str) and isinstance(start, int) and start >= 0
        if not whole or not text.strip() or context[start : start + len(text)] != text:
            return f"an answer must be at its answer_start, got {text!r:.40} at {start!r}"
    return None


def empty_questions(task: QuestionTask, stride: int) -> Questions:
    return Questions([], [], [], [], task.has_unanswerable, stride)


def read_hub_split(
    data: Sequence[Any], name: str, task: QuestionTask, stride: int, mistakes: list[str]
) -> tuple[Questions, str]:
    """Return the rows of one hub split and the SHA-256 of them."""

    def raw_questions() -> Iterator[RawQuestion]:
        for row, item in enumerate(data, 1):
            answers = list(zip(item["answers"]["text"], item["answers"]["answer_start"], strict=True))
            yield f"row {row}", item["id"], item["question"], item["context"], answers

    rows = collect(raw_questions(), name, task, stride, mistakes)
    digest = hashlib.sha256()
    for column in (rows.ids or [], rows.question, rows.context):
        digest.update("\n".join(column).encode())
    digest.update(repr([[(answer.text, answer.start) for answer in each] for each in rows.answers or []]).encode())
    return rows, digest.hexdigest()
