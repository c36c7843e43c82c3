"""From settings to rows: a named task or the user's own files, split into train, select and dev."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from cutbert.data.entities import tag_metric
from cutbert.data.labels import label_reader
from cutbert.data.questions import read_questions
from cutbert.data.ranking import TOP, can_be_ranked, group_rows
from cutbert.data.reading import check_mistakes
from cutbert.data.rows import Examples, Rows, text_key
from cutbert.data.sentences import read_sentences
from cutbert.data.settings import DataSettings
from cutbert.data.sources import read_raw
from cutbert.data.splits import held_out_mask, outside, sample
from cutbert.data.tasks import TASKS
from cutbert.data.vector_files import first_judged, read_vector_parts
from cutbert.data.vectors import COSINE, Prompts, VectorTexts
from cutbert.errors import DataError
from cutbert.shape.head import HeadSpec

__all__ = ["Dataset", "Examples", "Rows", "load_dataset"]

OWN_METRICS = {"single_label": "accuracy", "regression": "pearson", "multi_label": "f1"}
Some = TypeVar("Some", bound=Examples)


@dataclass(frozen=True, eq=False)
class Dataset:
    """The rows of a task, split in three.

    Args:
        name: the task's name, or "own".
        head: kind of task head for the labels, with their names in id order.
        metric: name of the primary metric, one of those `metrics_for` or the rows' own scorer returns.
        train: rows to train on; none of their texts is in select, unless select is a given dev.
        select: rows for all choices.
        dev: rows that are only reported on.
        unlabeled: rows without labels for distillation; none of their texts is in select or dev.
        select_is_dev: whether choices are made on dev, as in the papers; always shown to the user.
        own_select_metric: what choices are made by, where that is another than the primary metric of dev.
        files: SHA-256 of each file that was read (for a hub data set, of the rows).
        notes: for the user: which rows were left out, and why.
    """

    name: str
    head: HeadSpec
    metric: str
    train: Examples
    select: Examples
    dev: Examples
    unlabeled: Examples | None = None
    select_is_dev: bool = False
    own_select_metric: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def select_metric(self) -> str:
        """Name of the metric that choices are made by."""
        return self.own_select_metric or self.metric

    def prompted(self, prompts: Prompts) -> Dataset:
        """Return an embedding model's data with its prompts before the texts."""
        select, dev = self.select, self.dev
        assert isinstance(select, VectorTexts) and isinstance(dev, VectorTexts)
        train = Rows(prompts.of_any_kind(texts_of(self.train)))
        return replace(self, train=train, select=select.prompted(prompts), dev=dev.prompted(prompts))


def load_dataset(settings: DataSettings, own: HeadSpec | None = None) -> Dataset:
    """Return the rows that the settings name.

    Without files to train on, as where nothing is learned (`ScoredData`), train is empty, and so is select unless a
    file is given.

    Args:
        settings: name a task or files.
        own: of the model that is scored, whose labels count where there are no files to train on.

    Raises:
        DataError: all mistakes in the settings, else all in the files, else all invalid labels (the first 20 in
            full).
    """
    settings.check()
    if settings.is_embedding:
        return load_vector_dataset(settings)
    files = read_parts(settings, None if settings.train else own)
    parts, notes = files.parts, list(files.notes)
    if "train" in parts:
        train, select, dev = split(settings, parts, notes)
    else:
        dev = parts["dev"]
        train = dev.take(np.arange(0))
        select = parts.get("select", train)
    unlabeled = parts.get("unlabeled")
    if unlabeled is not None:
        unlabeled = without(unlabeled, [select, dev], "unlabeled", "select or dev", notes)
    select, dev = (first_rows(rows, settings.max_eval_samples) for rows in (select, dev))
    if settings.group is not None:
        check_groups(settings, {"select": select, "dev": dev} if "train" in parts else {"dev": dev}, notes)
    return Dataset(
        name=settings.task or "own",
        head=files.head,
        metric=files.metric,
        train=train.take(sample(len(train), settings.max_train_samples)),
        select=select,
        dev=dev,
        unlabeled=unlabeled,
        select_is_dev=settings.select == "dev",
        files=files.files,
        notes=tuple(notes),
    )


def load_vector_dataset(settings: DataSettings) -> Dataset:
    """Return the texts of an embedding model; select is held out of train unless a file is given, never dev.

    Training texts that select has, or a dev of plain texts, are left out: there the teacher's vectors are the score.
    Without training texts, as where nothing is learned (`ScoredData`), select is empty unless a file is given.
    """
    files, notes = read_vector_parts(settings), list[str]()
    parts: dict[str, Examples] = {"train": files.train}
    if files.dev is not None:
        parts["dev"] = files.dev
        if files.dev.metric == COSINE:
            parts["train"] = without(files.train, [files.dev], "train", "dev", notes)
    if files.select is not None:
        parts["select"] = files.select
    if len(files.train):
        train, *others = split(settings, parts, notes)
    else:
        train, *others = files.train, parts.get("select", VectorTexts([])), parts["dev"]
    select, dev = (each if isinstance(each, VectorTexts) else VectorTexts(texts_of(each)) for each in others)
    return Dataset(
        name=settings.task or "own",
        head=HeadSpec("embedding"),
        metric=dev.metric,
        train=train.take(sample(len(train), settings.max_train_samples)),
        select=first_judged(select, settings.max_eval_samples),
        dev=first_judged(dev, settings.max_eval_samples),
        own_select_metric=None if select.metric == dev.metric else select.metric,
        files=files.hashes,
        notes=tuple(notes),
    )


def texts_of(rows: Examples) -> list[str]:
    """Return the texts of single ones."""
    assert isinstance(rows, Rows)
    return rows.text


@dataclass(frozen=True)
class ReadFiles:
    """The contents of the files: rows by split (train, perhaps dev, select and unlabeled); the rest as in Dataset."""

    parts: Mapping[str, Examples]
    head: HeadSpec
    metric: str
    files: dict[str, str]
    notes: tuple[str, ...] = ()


def read_parts(settings: DataSettings, own: HeadSpec | None) -> ReadFiles:
    """Read the rows of every split that the settings name; `own` as in `load_dataset`, None with files to train on."""
    if settings.has_questions:
        questions, files = read_questions(settings)
        return ReadFiles(questions, HeadSpec("span"), "f1", files)
    if settings.tagging:
        sentences, files = read_sentences(settings, own)
        names = sentences[settings.judging].names
        return ReadFiles(sentences, HeadSpec("token", names), tag_metric(names), files)
    return read_whole_texts(settings, own)


def read_whole_texts(settings: DataSettings, own: HeadSpec | None) -> ReadFiles:
    """Read the rows of a task with one label (or several) for each whole text; arguments as in `read_parts`."""
    raw = read_raw(settings)
    task = TASKS[settings.task] if settings.task else None
    mistakes: list[str] = []
    judging = raw.dev if raw.train is None else raw.train
    assert judging is not None
    head, number = label_reader(settings, task, judging, mistakes, own)
    parts = {
        name: Rows(rows.text, rows.text_pair, number(rows), rows.groups)
        for name, rows in (("train", raw.train), ("dev", raw.dev), ("select", raw.select))
        if rows is not None
    }
    check_mistakes(mistakes)
    if raw.unlabeled is not None:
        parts["unlabeled"] = Rows(raw.unlabeled.text, raw.unlabeled.text_pair)
    metric = task.metric if task else OWN_METRICS[head.kind]
    notes = [f"{file}: {count:,} incomplete rows left out" for file, count in raw.left_out().items()]
    if settings.group is not None:
        metric, labels = f"ndcg@{TOP}", parts[settings.judging].labels
        is_binary = labels is not None and labels.dtype == np.bool_
        loss = "binary cross-entropy of 0 and 1" if is_binary else "squared error"
        notes += [f"labels are learned by {loss}, pair by pair"] if "train" in parts else []
    return ReadFiles(parts, head, metric, raw.hashes, tuple(notes))


def split(
    settings: DataSettings, parts: Mapping[str, Examples], notes: list[str]
) -> tuple[Examples, Examples, Examples]:
    """Return train, select and dev; what no file gives of the last two is held out of train, dev first."""
    train, select, dev = parts["train"], parts.get("select"), parts.get("dev")
    if select is not None:
        train = without(train, [select], "train", "select", notes)
    if dev is None:
        train, dev = hold_out(train)
        by = "text" if settings.group is None else "group"
        notes.append(f"{len(dev):,} rows of train are held out as dev, by hash of the {by}, as no --dev is given")
    if settings.select == "dev":
        select = dev
    elif select is None:
        train, select = hold_out(train)
    if not len(train) or not len(select) or not len(dev):
        others, files = "select", "another file by --select"
        if "dev" not in parts:
            others, files = "select and dev", "files by --select and --dev"
        raise DataError(f"train must have rows besides those of {others}; give more rows, or {files}")
    return train, select, dev


def hold_out(rows: Some) -> tuple[Some, Some]:
    """Return the rows that stay, and those that are held out, by hash of the text or of the group."""
    mask = held_out_mask(split_keys(rows))
    return rows.take(np.flatnonzero(~mask)), rows.take(np.flatnonzero(mask))


def split_keys(rows: Examples) -> list[bytes]:
    """Return one key per row; rows with equal keys are in one split: equal texts, or one group."""
    groups = rows.groups if isinstance(rows, Rows) else None
    return rows.text_keys() if groups is None else [text_key(group) for group in groups]


def without(rows: Some, others: Sequence[Examples], part: str, other: str, notes: list[str]) -> Some:
    """Return the rows whose texts or groups are in none of the others, and add a note on how many were left out."""
    has_groups = isinstance(rows, Rows) and rows.groups is not None
    kept = outside(rows.text_keys(), [each.text_keys() for each in others])
    if has_groups:
        kept = np.intersect1d(kept, outside(split_keys(rows), [split_keys(each) for each in others]))
    dropped = len(rows) - len(kept)
    if dropped:
        shared = "group or text" if has_groups else "text"
        notes.append(f"{dropped:,} rows of {part} left out, because {other} holds the same {shared}")
    return rows.take(kept)


def first_rows(rows: Some, count: int | None) -> Some:
    """Return the first `count` rows; of rows in groups the first groups with no more rows together."""
    if count is None or count >= len(rows):
        return rows
    names = rows.groups if isinstance(rows, Rows) else None
    kept = np.arange(count)
    if names is not None:
        groups = group_rows(names)
        num_kept = max(1, int((np.cumsum([len(group) for group in groups]) <= count).sum()))
        kept = np.sort(np.concatenate(groups[:num_kept]))
    return rows.take(kept)


def check_groups(settings: DataSettings, parts: Mapping[str, Examples], notes: list[str]) -> None:
    """Add a note on how many groups of each split are scored.

    Raises:
        DataError: a split has no group that says anything of a model.
    """
    mistakes = []
    for name, rows in parts.items():
        assert isinstance(rows, Rows) and rows.groups is not None and rows.labels is not None
        relevance = [np.asarray(rows.labels[group], dtype=np.float64) for group in group_rows(rows.groups)]
        single = sum(len(each) == 1 for each in relevance)
        none = sum(len(each) > 1 and each.max() == 0 for each in relevance)
        counted = sum(can_be_ranked(each) for each in relevance)
        equal = len(relevance) - counted - single - none
        parts_of = ((single, "one row only"), (none, "no relevant row"), (equal, "equally relevant rows only"))
        left_out = ", ".join(f"{count:,} with {what}" for count, what in parts_of if count)
        if not counted:
            mistakes.append(
                f"{name} must have a group (--group {settings.group}) in which some rows are more relevant than "
                f"others, got {len(relevance):,} groups: {left_out}"
            )
        left_out = f"; left out: {left_out}" if left_out else ""
        notes.append(f"{name}: {counted:,} of {len(relevance):,} groups are scored{left_out}")
    check_mistakes(mistakes)
