"""The data that a finished run was made on, found again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cutbert.data.settings import DataSettings
from cutbert.errors import RunError
from cutbert.settings import build_settings
from cutbert.train.run_folder import RunFolder


def data_of(source: RunFolder, data_dir: str | None) -> DataSettings:
    """Return the settings of a run's data.

    Args:
        source: a run on a task.
        data_dir: where the task's data is now; None for where it was.

    Raises:
        RunError: a run on plain text, which records no rows.
    """
    stored: dict[str, Any] = dict(source.settings.get("data") or {})
    if not stored or "sequence_length" in stored:
        raise RunError(f"{source.path}: must be a run on a task, whose data can be read again; got one on plain text")
    if data_dir is not None:
        stored["data_dir"] = data_dir
    (data,) = build_settings(stored, DataSettings)
    assert isinstance(data, DataSettings)
    return data


def check_same_data(source: RunFolder, files: Mapping[str, str]) -> None:
    """Raise a RunError unless data files are what the run was trained on, wherever they lie."""
    then, now = sorted(source.data["facts"]["data"].values()), sorted(files.values())
    if then != now:
        raise RunError(f"{source.path}: data files must be those of the run, got others: {', '.join(files)}")
