"""The files of a named task or of the user's own, read into train, dev, select and unlabelled rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cutbert.data.hub_rows import read_hub
from cutbert.data.reading import RawRows, check_mistakes, expand_files, read_files
from cutbert.data.settings import DataSettings
from cutbert.data.tasks import TASKS, Layout, Task
from cutbert.errors import DataError
from cutbert.files import file_sha256


@dataclass(frozen=True)
class RawData:
    """What the files hold, before labels become numbers.

    Args:
        train: labelled rows to train on and, without a select file, to take select from.
        dev: labelled rows to report on.
        select: labelled rows to choose by, or None.
        unlabeled: rows without labels, or None.
        hashes: SHA-256 of each file (of the rows, for a hub data set).
    """

    train: RawRows
    dev: RawRows
    select: RawRows | None
    unlabeled: RawRows | None
    hashes: dict[str, str] = field(default_factory=dict)

    def left_out(self) -> dict[str, int]:
        """Return how many incomplete rows were left out of each file."""
        parts = (self.train, self.dev, self.select)
        return {file: count for rows in parts if rows is not None for file, count in rows.left_out.items()}


def read_raw(settings: DataSettings) -> RawData:
    """Return all rows that the settings name.

    Raises:
        DataError: every mistake in the files (the first 20 in words).
    """
    if settings.task is None:
        return read_own(settings)
    task = TASKS[settings.task]
    unlabeled = Layout(settings.text or task.layout.text, settings.text_pair or task.layout.text_pair, None)
    if settings.data_dir is None:
        return read_from_hub(settings, task, unlabeled)
    folder = task_folder(Path(settings.data_dir), task)
    return read_paths(settings, [folder / "train.tsv"], [folder / task.dev_file], task.layout, unlabeled, [])


def task_folder(root: Path, task: Task) -> Path:
    """Return the folder that holds the task's files: its own in the root, or `root` itself.

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


def read_from_hub(settings: DataSettings, task: Task, unlabeled: Layout) -> RawData:
    """Read train and dev from the hub, and before them the files that the settings name."""
    mistakes: list[str] = []
    local = read_paths(settings, [], [], task.layout, unlabeled, mistakes)
    train, dev, hashes = read_hub(settings.task or "", task, mistakes)
    check_mistakes(mistakes)
    return RawData(train, dev, local.select, local.unlabeled, {**hashes, **local.hashes})


def read_own(settings: DataSettings) -> RawData:
    """Read own files."""
    text, pair = settings.text or "", settings.text_pair
    layout = Layout(text, pair, settings.label, labels_may_be_empty=settings.multi_label is not None)
    mistakes: list[str] = []
    train = expand_files(settings.train, "--train", mistakes)
    dev = expand_files(settings.dev, "--dev", mistakes)
    mistakes.extend(f"--train and --dev must not both name {path}" for path in train if path in dev)
    return read_paths(settings, train, dev, layout, Layout(text, pair, None), mistakes)


def read_paths(
    settings: DataSettings,
    train: Sequence[Path],
    dev: Sequence[Path],
    layout: Layout,
    unlabeled_layout: Layout,
    mistakes: list[str],
) -> RawData:
    """Read the given files of train and dev, and the select and unlabelled files of the settings."""
    unlabeled = expand_files(settings.unlabeled, "--unlabeled", mistakes)
    select = [Path(settings.select)] if settings.select not in (None, "dev") else []
    rows = [read_files(paths, layout, mistakes) for paths in (train, dev, select)]
    bare = read_files(unlabeled, unlabeled_layout, mistakes)
    check_mistakes(mistakes)
    return RawData(
        train=rows[0],
        dev=rows[1],
        select=rows[2] if select else None,
        unlabeled=bare if unlabeled else None,
        hashes={str(path): file_sha256(path) for path in (*train, *dev, *select, *unlabeled)},
    )
