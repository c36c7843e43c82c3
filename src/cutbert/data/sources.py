"""The raw rows of a task, from its files, from the hub or from the user's own files: train, dev, select, unlabelled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cutbert.data.reading import RawRows, check_mistakes, empty_rows, expand_files, read_files, read_records
from cutbert.data.records import Record
from cutbert.data.settings import DataSettings
from cutbert.data.tasks import TASKS, FileLayout, Task
from cutbert.data.text_sources import SUFFIXES, lines_of
from cutbert.errors import DataError
from cutbert.files import file_sha256
from cutbert.lacks import refuse_lack
from cutbert.printable import reason_of

HUB_NAME = "nyu-mll/glue"


@dataclass(frozen=True)
class RawData:
    """The rows of all files, before labels become numbers.

    Args:
        train: labelled rows to train on and, without a select file, to take select from; None to score on dev alone.
        dev: labelled rows that are only reported on, or None: some of train are then held out.
        select: labelled rows for all choices, or None.
        unlabeled: rows without labels, or None.
        hashes: SHA-256 of each file (for a hub data set, of the rows).
    """

    train: RawRows | None
    dev: RawRows | None
    select: RawRows | None
    unlabeled: RawRows | None
    hashes: dict[str, str] = field(default_factory=dict)

    def left_out(self) -> dict[str, int]:
        """Return how many incomplete rows were left out of each file."""
        parts = (self.train, self.dev, self.select)
        return {file: count for rows in parts if rows is not None for file, count in rows.left_out.items()}


def read_raw(settings: DataSettings) -> RawData:
    """Read all rows that the settings name.

    Raises:
        DataError: all mistakes in the files together (the first 20 in full).
    """
    if settings.task is None:
        return read_own(settings)
    task = TASKS[settings.task]
    unlabeled = FileLayout(settings.text or task.layout.text, settings.text_pair or task.layout.text_pair, None)
    if settings.data_dir is None:
        return read_from_hub(settings, task, unlabeled)
    folder = task_folder(Path(settings.data_dir), task)
    return read_paths(settings, [folder / "train.tsv"], [folder / task.dev_file], task.layout, unlabeled, [])


def task_folder(root: Path, task: Task) -> Path:
    """Return the folder with the task's files: its own folder in the root, or `root` itself.

    Raises:
        DataError: neither has train.tsv and the dev file.
    """
    for folder in (root / task.folder, root):
        if (folder / "train.tsv").is_file() and (folder / task.dev_file).is_file():
            return folder
    raise DataError(
        f"--data-dir {root}: must hold {task.folder}/train.tsv and {task.folder}/{task.dev_file}, "
        f"or be the folder that holds train.tsv and {task.dev_file}"
    )


def read_from_hub(settings: DataSettings, task: Task, unlabeled: FileLayout) -> RawData:
    """Read train and dev from the hub; before that, the files that the settings name."""
    mistakes: list[str] = []
    local = read_paths(settings, [], [], task.layout, unlabeled, mistakes)
    train, dev, hashes = read_hub(settings.task or "", task, mistakes)
    check_mistakes(mistakes)
    return RawData(train, dev, local.select, local.unlabeled, {**hashes, **local.hashes})


def read_own(settings: DataSettings) -> RawData:
    """Read the user's own files."""
    text, pair = settings.text or "", settings.text_pair
    layout = FileLayout(
        text, pair, settings.label, labels_may_be_empty=settings.multi_label is not None, group=settings.group
    )
    mistakes: list[str] = []
    train = expand_files(settings.train, "--train", mistakes)
    dev = expand_files(settings.dev, "--dev", mistakes)
    mistakes.extend(f"--train and --dev must not both name {path}" for path in train if path in dev)
    return read_paths(settings, train, dev, layout, FileLayout(text, pair, None), mistakes)


def read_paths(
    settings: DataSettings,
    train: Sequence[Path],
    dev: Sequence[Path],
    layout: FileLayout,
    unlabeled_layout: FileLayout,
    mistakes: list[str],
) -> RawData:
    """Read the given files of train and dev, and the select and unlabelled files of the settings."""
    unlabeled = expand_files(settings.unlabeled, "--unlabeled", mistakes)
    select = [Path(settings.select)] if settings.select not in (None, "dev") else []
    mistakes.extend(
        f"--select and --dev must not both name {path}: --select dev says so" for path in select if path in dev
    )
    rows = [read_files(paths, layout, mistakes) for paths in (train, dev, select)]
    bare = read_unlabeled(unlabeled, unlabeled_layout, mistakes)
    check_mistakes(mistakes)
    return RawData(
        train=rows[0] if train else None,
        dev=rows[1] if dev else None,
        select=rows[2] if select else None,
        unlabeled=bare if unlabeled else None,
        hashes={str(path): file_sha256(path) for path in (*train, *dev, *select, *unlabeled)},
    )


def read_unlabeled(paths: Sequence[Path], layout: FileLayout, mistakes: list[str]) -> RawRows:
    """Read files of texts without labels: of one layout, or with a text in each line, where texts stand alone."""
    lines = [path for path in paths if path.name.endswith(SUFFIXES)]
    rows = read_files([path for path in paths if path not in lines], layout, mistakes)
    for path in lines:
        if layout.text_pair is not None:
            mistakes.append(f"{path}: has no pairs; of these --unlabeled must be a file with columns")
            continue
        texts = lines_of(path, mistakes)
        rows.text += texts
        rows.places += [(str(path), number, None) for number in range(1, len(texts) + 1)]
    return rows


def read_hub(name: str, task: Task, mistakes: list[str]) -> tuple[RawRows, RawRows, dict[str, str]]:
    """Return train, dev and the SHA-256 of their rows, from the hub (as Parquet) or its cache on this machine.

    Raises:
        DataError: the task is not on the hub, or the hub cannot be reached.
    """
    if not task.hub_text:
        raise DataError(f"--task {name} is not on the hub; give --data-dir")
    parts, files = [], {}
    for split in ("train", task.hub_dev):
        source = f"{HUB_NAME} {name} {split}"
        rows, digest = read_split(load_split(name, HUB_NAME, name, split=split), source, task, mistakes)
        parts.append(rows)
        files[source] = digest
    return parts[0], parts[1], files


def load_split(task: str, *source: str, split: str) -> Any:
    """Return one split of a data set on the hub; `source` is its name and, where it has several, its configuration."""
    import datasets

    try:
        return datasets.load_dataset(*source, split=split)
    except Exception as error:  # the hub's client raises many kinds offline; they mean the same to the user
        refuse_lack(error)
        reason = reason_of(error)
        raise DataError(f"--task {task}: {source[0]} cannot be had from the hub ({reason}); give --data-dir") from error


def read_split(data: Any, source: str, task: Task, mistakes: list[str]) -> tuple[RawRows, str]:
    """Return the rows of one hub split and the SHA-256 of them."""
    layout = FileLayout(
        task.hub_text[0],
        task.hub_text[1] if len(task.hub_text) > 1 else None,
        "label",
        skip_incomplete=task.layout.skip_incomplete,
    )
    rows = empty_rows(layout)
    read_records(hub_records(data, layout, task), source, layout, rows, mistakes)
    digest = hashlib.sha256()
    for column in (rows.text, rows.text_pair or [], rows.labels or []):
        digest.update("\n".join(column).encode())
    return rows, digest.hexdigest()


def hub_records(data: Any, layout: FileLayout, task: Task) -> Iterator[Record]:
    """Yield rows with labels as in the official files: names where the hub has ids.

    An id without a name stays a number, which the label reader then refuses.
    """
    names = task.hub_labels or task.labels
    for row, item in enumerate(data, 1):
        label = item["label"]
        if not task.regression and 0 <= label < len(names):
            label = names[label]
        yield Record(row, None, (*(item[column] for column in layout.text_columns), label))
