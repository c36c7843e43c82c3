"""Raw labels to ids, scores or multi-hot rows; labels that cannot be are named by file and row."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cutbert.data.reading import RawRows

INTEGER = re.compile(r"[+-]?[0-9]+")


def class_names(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the different labels in id order: by number where all are integers, else as text."""
    names = set(labels)
    if all(INTEGER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def class_ids(rows: RawRows, names: tuple[str, ...], mistakes: list[str]) -> NDArray[np.int64]:
    """Return the id of each row's label; a label outside `names` is a mistake."""
    known = {name: i for i, name in enumerate(names)}
    labels = rows.labels or []
    mistakes.extend(unknown_label(rows, i, label, names) for i, label in enumerate(labels) if label not in known)
    return np.array([known.get(label, 0) for label in labels], dtype=np.int64)


def split_labels(rows: RawRows, separator: str, mistakes: list[str]) -> list[list[str]]:
    """Return each row's labels; an empty field means none, an empty part between separators is a mistake."""
    found = []
    for i, label in enumerate(rows.labels or []):
        parts = [part.strip() for part in label.split(separator)] if label else []
        if "" in parts:
            mistakes.append(f"{rows.place(i)}: a label between separators {separator!r} is empty in {label!r}")
        found.append(parts)
    return found


def multi_hot(
    rows: RawRows, parts: list[list[str]], names: tuple[str, ...], mistakes: list[str]
) -> NDArray[np.float32]:
    """Return 1 where a row has a label, [N, C]; a label outside `names` is a mistake."""
    known = {name: i for i, name in enumerate(names)}
    hot = np.zeros((len(parts), len(names)), dtype=np.float32)
    for i, labels in enumerate(parts):
        for label in labels:
            if label in known:
                hot[i, known[label]] = 1.0
            elif label:
                mistakes.append(unknown_label(rows, i, label, names))
    return hot


def scores(rows: RawRows, mistakes: list[str]) -> NDArray[np.float32]:
    """Return each row's label as a number; anything but a finite number is a mistake."""
    values = np.zeros(len(rows.labels or []), dtype=np.float32)
    for i, label in enumerate(rows.labels or []):
        try:
            value = float(label.replace("_", "?"))
        except ValueError:
            value = math.nan
        if abs(value) <= np.finfo(np.float32).max:
            values[i] = value
        else:
            mistakes.append(f"{rows.place(i)}: label must be a finite number, got {label!r}")
    return values


def unknown_label(rows: RawRows, index: int, label: str, names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return f"{rows.place(index)}: label must be one of {shown}, got {label!r}"
