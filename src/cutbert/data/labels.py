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
from cutbert.options import option_name
from cutbert.shape.head import HeadKind, HeadSpec

INTEGER = re.compile(r"[+-]?[0-9]+")
MAX_SHOWN = 10
FLOAT32_MAX = float(np.finfo(np.float32).max)
LabelReader = Callable[[RawRows], NDArray[Any]]


def label_reader(
    settings: DataSettings, task: Task | None, rows: RawRows, mistakes: list[str], own: HeadSpec | None = None
) -> tuple[HeadSpec, LabelReader]:
    """Return the head for the labels of some rows, and the function that turns raw labels into numbers for it.

    Args:
        settings: say what the labels are.
        task: the named task, whose labels are fixed, or None.
        rows: of train, which must have every label; of dev where nothing is trained.
        mistakes: collects the function's mistakes.
        own: of the model that is scored, whose labels count in place of those of the rows: see `own_names`.

    Raises:
        DataError: the rows have too few different labels or numbers.
    """
    if settings.group is not None:
        return HeadSpec("regression", (settings.label or "",)), relevance_reader(settings, rows, mistakes)
    if settings.regression or (task is not None and task.regression):
        name = task.labels[0] if task else settings.label or ""
        if not task:
            check_numbers(rows, settings)
        return HeadSpec("regression", (name,)), lambda rows: scores(rows, mistakes)
    separator = settings.multi_label
    if separator is not None:
        parts = (part for label in rows.labels or [] for part in parts_of(label, separator) if part)
        names = own_names(own, "multi_label") or checked_names(parts, 1, settings)
        return HeadSpec("multi_label", names), lambda rows: multi_hot(rows, separator, names, mistakes)
    fixed = task.labels if task else own_names(own, "single_label")
    names = fixed or checked_names(rows.labels or [], 2, settings)
    return HeadSpec("single_label", names), lambda rows: class_ids(rows, names, mistakes)


def class_names(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the different labels in id order: by number where all are integers, else as text."""
    names = set(labels)
    if all(INTEGER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def own_names(own: HeadSpec | None, kind: HeadKind) -> tuple[str, ...]:
    """Return the names of a model's labels, in id order; none where it is of another kind, or they have no names."""
    return own.labels if own is not None and own.kind == kind and own.has_names else ()


def checked_names(labels: Iterable[str], least: int, settings: DataSettings) -> tuple[str, ...]:
    """Return the different labels in id order, at least so many, or raise a DataError."""
    names = class_names(labels)
    if len(names) < least:
        raise DataError(f"{column_of(settings)} must hold {least} or more different labels, got {len(names)}")
    return names


def check_numbers(rows: RawRows, settings: DataSettings) -> None:
    """Raise unless numbers differ; labels that are no numbers are told elsewhere."""
    found: list[str] = []
    if len(set(scores(rows, found).tolist())) < 2 and not found:
        raise DataError(f"{column_of(settings)} must hold 2 or more different numbers, got 1")


def column_of(settings: DataSettings) -> str:
    """Return the column of the labels for messages, with the files that must have every one."""
    return f"column {settings.label!r} of {option_name(settings.judging)}"


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


def relevance_reader(settings: DataSettings, rows: RawRows, mistakes: list[str]) -> LabelReader:
    """Return the function that says how relevant rows are: bool where all labels of some are 0 or 1, else float32.

    The kind of number chooses the loss, binary cross-entropy or squared error. With --regression 0 and 1 are numbers
    too.
    """
    found: list[str] = []
    is_binary = not settings.regression and bool(np.isin(scores(rows, found), (0.0, 1.0)).all()) and not found

    def relevance(rows: RawRows) -> NDArray[Any]:
        values = scores(rows, mistakes)
        wanted = f"0 or 1, as those of {option_name(settings.judging)} are" if is_binary else "0 or larger"
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
