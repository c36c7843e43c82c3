"""Named tasks from the hub, as Parquet through `datasets`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from cutbert.data.reading import RawRows, empty_rows, read_records
from cutbert.data.records import Record
from cutbert.data.tasks import Layout, Task
from cutbert.errors import DataError

HUB_NAME = "nyu-mll/glue"


def read_hub(name: str, task: Task, mistakes: list[str]) -> tuple[RawRows, RawRows, dict[str, str]]:
    """Return train, dev and the SHA-256 of their rows, from the hub or its cache on this machine.

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
    """Return one split of a data set on the hub; `source` is its name and, where it has several parts, the part's."""
    import datasets

    try:
        return datasets.load_dataset(*source, split=split)
    except Exception as error:  # whatever the hub's client raises offline, it means the same to the user
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"--task {task}: {source[0]} cannot be had from the hub ({reason}); give --data-dir") from error


def read_split(data: Any, source: str, task: Task, mistakes: list[str]) -> tuple[RawRows, str]:
    """Return the rows of one hub split and the SHA-256 of them."""
    layout = Layout(
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


def hub_records(data: Any, layout: Layout, task: Task) -> Iterator[Record]:
    """Yield rows with labels as the official files write them: the hub has ids where those have names.

    An id without a name stays a number, for the reader of labels to refuse.
    """
    names = task.hub_labels or task.labels
    for row, item in enumerate(data, 1):
        label = item["label"]
        if not task.regression and 0 <= label < len(names):
            label = names[label]
        yield Record(row, None, (*(item[column] for column in layout.text_columns), label))
