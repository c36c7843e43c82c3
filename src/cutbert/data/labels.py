"""Raw labels to ids, scores or multi-hot rows; invalid labels are reported by file and row."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.data.reading import RawRows
from cutbert.data.settings import DataSettings
from cutbert.data.tasks import Task
from cutbert.errors import DataError
from cutbert.shape.head import HeadSpec

INTEGER = re.compile(r"[+-]?[0-9]+")
MAX_SHOWN = 10
FLOAT32_MAX = float(np.finfo(np.float32).max)
LabelReader = Callable[[RawRows], NDArray[Any]]


def label_reader(
    settings: DataSettings, task: Task | None, train: RawRows, mistakes: list[str]
) -> tuple[HeadSpec, LabelReader]:
    """Return the head for the labels of train, and the function that turns raw labels into numbers for it.

    Args:
        settings: say what the labels are.
        task: the named task, whose labels are fixed, or None.
        train: the rows that must have every label.
        mistakes: collects the function's mistakes.

    Raises:
        DataError: train has too few different labels or numbers.
    """
    if settings.group is not None:
        return HeadSpec("regression", (settings.label or "",)), relevance_reader(settings, train, mistakes)
    if settings.regression or (task is not None and task.regression):
        name = task.labels[0] if task else settings.label or ""
        if not task:
            check_numbers(train, settings.label)
        return HeadSpec("regression", (name,)), lambda rows: scores(rows, mistakes)
    separator = settings.multi_label
    if separator is not None:
        names = class_names(part for label in train.labels or [] for part in parts_of(label, separator) if part)
        check_names(names, 1, settings.label)
        return HeadSpec("multi_label", names), lambda rows: multi_hot(rows, separator, names, mistakes)
    names = task.labels if task else class_names(train.labels or [])
    check_names(names, 2, settings.label)
    return HeadSpec("single_label", names), lambda rows: class_ids(rows, names, mistakes)


def class_names(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the different labels in id order: by number where all are integers, else as text."""
    names = set(labels)
    if all(INTEGER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def check_names(names: tuple[str, ...], least: int, column: str | None) -> None:
    if len(names) < least:
        raise DataError(f"column {column!r} of --train must hold {least} or more different labels, got {len(names)}")


def check_numbers(train: RawRows, column: str | None) -> None:
    """Raise unless numbers differ; labels that are no numbers are told elsewhere."""
    found: list[str] = []
    if len(set(scores(train, found).tolist())) < 2 and not found:
        raise DataError(f"column {column!r} of --train must hold 2 or more different numbers, got 1")


def class_ids(rows: RawRows, names: tuple[str, ...], mistakes: list[str]) -> NDArray[np.int64]:
    """Return the id of each row's label; a label outside `names` is a mistake."""
    known = {name: i for i, name in enumerate(names)}
    labels = rows.labels or []
    mistakes.extend(unknown_label(rows.place(i), each, names) for i, each in enumerate(labels) if each not in known)
    return np.array([known.get(label, 0) for label in labels], dtype=np.int64)


def parts_of(label: str, separator: str) -> list[str]:
    """Return the labels in one field; an empty field has none."""
    return [part.strip() for part in label.split(separator)] if label else []


def multi_hot(rows: RawRows, separator: str, names: tuple[str, ...], mistakes: list[str]) -> NDArray[np.float32]:
    """Return 1 where a row has a label, [N, C]; a label outside `names` is a mistake, and so is an empty one."""
    known = {name: i for i, name in enumerate(names)}
    labels = rows.labels or []
    hot = np.zeros((len(labels), len(names)), dtype=np.float32)
    for i, label in enumerate(labels):
        for part in parts_of(label, separator):
            if part in known:
                hot[i, known[part]] = 1.0
            elif part:
                mistakes.append(unknown_label(rows.place(i), part, names))
            else:
                mistakes.append(f"{rows.place(i)}: no label beside {separator!r} must be empty, got {label!r}")
    return hot


def scores(rows: RawRows, mistakes: list[str]) -> NDArray[np.float32]:
    """Return each row's label as a number; anything but a finite number is a mistake."""
    values = np.zeros(len(rows.labels or []), dtype=np.float32)
    for i, label in enumerate(rows.labels or []):
        try:
            value = float(label) if "_" not in label else math.nan
        except ValueError:
            value = math.nan
        if abs(value) <= FLOAT32_MAX:
            values[i] = value
        else:
            mistakes.append(f"{rows.place(i)}: label must be a finite number, got {label!r}")
    return values


def relevance_reader(settings: DataSettings, train: RawRows, mistakes: list[str]) -> LabelReader:
    """Return the function that says how relevant rows are: bool where all labels of train are 0 or 1, else float32.

    The kind of number chooses the loss, binary cross-entropy or squared error. With --regression 0 and 1 are numbers
    too.
    """
    found: list[str] = []
    is_binary = not settings.regression and bool(np.isin(scores(train, found), (0.0, 1.0)).all()) and not found

    def relevance(rows: RawRows) -> NDArray[Any]:
        values = scores(rows, mistakes)
        wanted = "0 or 1, as those of --train are" if is_binary else "0 or larger"
        wrong = ~np.isin(values, (0.0, 1.0)) if is_binary else values < 0
        labels = rows.labels or []
        mistakes.extend(
            f"{rows.place(i)}: with --group a label must be {wanted}, got {labels[i]!r}"
            for i in np.flatnonzero(wrong).tolist()
        )
        return values > 0 if is_binary else values

    return relevance


def unknown_label(place: str, label: str, names: tuple[str, ...]) -> str:
    """Return the message about a label outside `names`, at a place in a file."""
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return f"{place}: label must be one of {', '.join(names[:MAX_SHOWN])}{more}, got {label!r}"
