"""From settings to rows: a named task or own files, as train, select and dev."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cutbert.data.hub_rows import read_hub
from cutbert.data.labels import class_ids, class_names, multi_hot, scores, split_labels
from cutbert.data.reading import RawRows, check_mistakes, expand_files, read_files
from cutbert.data.rows import Rows
from cutbert.data.settings import DataSettings
from cutbert.data.splits import outside, sample, select_mask
from cutbert.data.tasks import TASKS, Layout, Task
from cutbert.errors import DataError
from cutbert.files import file_sha256
from cutbert.shape.head import HeadSpec

__all__ = ["Dataset", "Rows", "load_dataset", "read_texts"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """The rows of a task, split in three.

    Args:
        name: the task's name, or "own".
        head: the kind of task head the labels want, and their names in id order.
        metric: name of the primary metric, one of those `metrics_for` returns.
        train: rows to train on; none of their texts is in select.
        select: rows to choose by.
        dev: rows to report on.
        unlabeled: rows without labels for distillation; none of their texts is in select or dev.
        select_is_dev: choices are made on dev, as the papers did; to be said aloud.
        files: SHA-256 of each file that was read (of the rows, for a hub data set).
        notes: what the user should hear about the rows: some left out, some taken away.
    """

    name: str
    head: HeadSpec
    metric: str
    train: Rows
    select: Rows
    dev: Rows
    unlabeled: Rows | None = None
    select_is_dev: bool = False
    files: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass
class RawData:
    """What the files hold, before labels become numbers."""

    train: RawRows
    dev: RawRows
    select: RawRows | None = None
    unlabeled: RawRows | None = None
    paths: list[Path] = field(default_factory=list)
    hub_hashes: dict[str, str] = field(default_factory=dict)

    def labeled(self) -> list[RawRows]:
        return [rows for rows in (self.train, self.dev, self.select) if rows is not None]


def load_dataset(settings: DataSettings) -> Dataset:
    """Return the rows that the settings name.

    Raises:
        DataError: every mistake in the settings, else every mistake in the files (the first 20 in words).
    """
    settings.check()
    mistakes: list[str] = []
    raw = read_task(settings, mistakes) if settings.task else read_own(settings, mistakes)
    check_mistakes(mistakes)
    head, labels = number_labels(settings, raw, mistakes)
    check_mistakes(mistakes)
    metric = TASKS[settings.task].metric if settings.task else OWN_METRICS[head.kind]
    return split(settings, raw, labels, head, metric)


def read_texts(files: Sequence[str], text: str, text_pair: str | None = None, *, option: str = "--input") -> Rows:
    """Return the texts of files without labels, every row of them.

    Args:
        files: names or globs.
        text: column of the text.
        text_pair: column of the second text, or None.
        option: what messages call the files.

    Raises:
        DataError: every mistake in the files.
    """
    mistakes: list[str] = []
    raw = read_files(expand_files(files, option, mistakes), Layout(text, text_pair, None), mistakes)
    check_mistakes(mistakes)
    return Rows(raw.text, raw.text_pair)


OWN_METRICS = {"single_label": "accuracy", "regression": "pearson", "multi_label": "f1"}


def read_task(settings: DataSettings, mistakes: list[str]) -> RawData:
    """Read a named task from its folder or from the hub."""
    task = TASKS[settings.task or ""]
    text, *pair = (settings.text or task.layout.text, settings.text_pair or task.layout.text_pair)
    bare = Layout(text, pair[0], None)
    if settings.data_dir is not None:
        folder = task_folder(Path(settings.data_dir), task)
        return read_paths(settings, [folder / "train.tsv"], [folder / task.dev_file], task.layout, bare, mistakes)
    raw = read_paths(settings, [], [], task.layout, bare, mistakes)
    check_mistakes(mistakes)
    raw.train, raw.dev, raw.hub_hashes = read_hub(settings.task or "", task, mistakes)
    return raw


def task_folder(root: Path, task: Task) -> Path:
    """Return the folder that holds the task's files: `root/FOLDER`, or `root` itself.

    Raises:
        DataError: neither holds train.tsv and the dev file.
    """
    for folder in (root / task.folder, root):
        if (folder / "train.tsv").is_file() and (folder / task.dev_file).is_file():
            return folder
    raise DataError(
        f"--data-dir {root}: must hold {task.folder}/train.tsv and {task.folder}/{task.dev_file}, "
        f"or be the folder that holds train.tsv and {task.dev_file}"
    )


def read_own(settings: DataSettings, mistakes: list[str]) -> RawData:
    """Read own files."""
    assert settings.text is not None
    layout = Layout(
        settings.text, settings.text_pair, settings.label, labels_may_be_empty=settings.multi_label is not None
    )
    bare = Layout(settings.text, settings.text_pair, None)
    train = expand_files(settings.train, "--train", mistakes)
    dev = expand_files(settings.dev, "--dev", mistakes)
    mistakes.extend(f"--train and --dev both name {path}" for path in train if path in dev)
    return read_paths(settings, train, dev, layout, bare, mistakes)


def read_paths(
    settings: DataSettings, train: list[Path], dev: list[Path], layout: Layout, bare: Layout, mistakes: list[str]
) -> RawData:
    """Read the files of all splits; `bare` is the layout of the unlabelled ones."""
    unlabeled = expand_files(settings.unlabeled, "--unlabeled", mistakes)
    select = [] if settings.select in (None, "dev") else [Path(settings.select or "")]
    raw = RawData(train=read_files(train, layout, mistakes), dev=read_files(dev, layout, mistakes))
    raw.select = read_files(select, layout, mistakes) if select else None
    raw.unlabeled = read_files(unlabeled, bare, mistakes) if unlabeled else None
    raw.paths = [*train, *dev, *select, *unlabeled]
    return raw


def number_labels(settings: DataSettings, raw: RawData, mistakes: list[str]) -> tuple[HeadSpec, dict[int, np.ndarray]]:
    """Return the head, and the labels of each labelled part by `id` of the part."""
    parts = raw.labeled()
    task = TASKS[settings.task] if settings.task else None
    if settings.regression or (task is not None and task.regression):
        name = task.labels[0] if task else settings.label or ""
        return HeadSpec("regression", (name,)), {id(rows): scores(rows, mistakes) for rows in parts}
    if settings.multi_label is not None:
        named = {id(rows): split_labels(rows, settings.multi_label, mistakes) for rows in parts}
        names = class_names(name for labels in named[id(raw.train)] for name in labels if name)
        if not names:
            raise DataError(*mistakes, f"column {settings.label!r} of --train must hold at least one label")
        return HeadSpec("multi_label", names), {
            id(rows): multi_hot(rows, named[id(rows)], names, mistakes) for rows in parts
        }
    names = task.labels if task else class_names(raw.train.labels or [])
    if len(names) < 2:
        raise DataError(f"column {settings.label!r} of --train must hold at least 2 classes, got only {names[0]!r}")
    return HeadSpec("single_label", names), {id(rows): class_ids(rows, names, mistakes) for rows in parts}


def split(settings: DataSettings, raw: RawData, labels: dict[int, np.ndarray], head: HeadSpec, metric: str) -> Dataset:
    """Put the rows into train, select and dev."""
    notes = [f"{file}: {count} incomplete rows left out" for rows in raw.labeled() for file, count in
             rows.left_out.items()]  # fmt: skip
    train, dev = to_rows(raw.train, labels), to_rows(raw.dev, labels)
    keys = train.keys()
    if settings.select == "dev":
        kept, select = np.arange(len(train)), dev
    elif raw.select is not None:
        select = to_rows(raw.select, labels)
        kept = outside(keys, [select.keys()])
        note_gone(notes, "train", "select", len(train) - len(kept))
    else:
        mask = select_mask(keys)
        kept, select = np.flatnonzero(~mask), train.take(np.flatnonzero(mask))
    if not len(kept) or not len(select):
        raise DataError("train must have rows left after select is taken off; give more rows or another --select")
    unlabeled = None
    if raw.unlabeled is not None:
        whole = to_rows(raw.unlabeled, labels)
        free = outside(whole.keys(), [select.keys(), dev.keys()])
        note_gone(notes, "unlabeled", "select or dev", len(whole) - len(free))
        unlabeled = whole.take(free)
    first = slice(settings.max_eval_samples)
    return Dataset(
        name=settings.task or "own",
        head=head,
        metric=metric,
        train=train.take(kept[sample(len(kept), settings.max_train_samples)]),
        select=select.take(np.arange(len(select))[first]),
        dev=dev.take(np.arange(len(dev))[first]),
        unlabeled=unlabeled,
        select_is_dev=settings.select == "dev",
        files={**raw.hub_hashes, **{str(path): file_sha256(path) for path in raw.paths}},
        notes=tuple(notes),
    )


def note_gone(notes: list[str], part: str, other: str, count: int) -> None:
    if count:
        notes.append(f"{count:,} rows of {part} left out, because {other} holds the same text")


def to_rows(raw: RawRows, labels: dict[int, np.ndarray]) -> Rows:
    return Rows(text=raw.text, text_pair=raw.text_pair, labels=labels.get(id(raw)))
