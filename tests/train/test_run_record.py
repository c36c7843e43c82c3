"""A run's record begins with what it was asked for, and is read only where it is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cutbert.errors import RunError
from cutbert.files import write_json
from cutbert.train.run_record import RECORD, new_record, read_record

BEGUN = new_record("dynabert", {"model": "m", "train": {"seed": 7}}, "cutbert dynabert m")


def test_a_record_begins_with_what_was_asked_for(tmp_path: Path) -> None:
    assert (BEGUN["command"], BEGUN["line"], BEGUN["seed"]) == ("dynabert", "cutbert dynabert m", 7)
    assert "seed" not in new_record("dynabert", {}, "")
    write_json(tmp_path / RECORD, BEGUN)
    assert read_record(tmp_path) == BEGUN


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"must be a run folder \(with run.json\), but is not empty and holds no run"):
        read_record(tmp_path)
    with pytest.raises(RunError, match="but is no folder with a run"):
        read_record(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({**BEGUN, "format_version": 9}, "format_version must be 1, got 9"),
        ([], "format_version must be 1, got None"),
        ({**BEGUN, "timings": {"total": "3"}, "result": [1]}, "must have timings, result as a run writes them"),
        ({**BEGUN, "timings": None}, "must have timings as a run writes them; give another --out"),
    ],
)
def test_a_damaged_record_is_refused(stored: Any, message: str, tmp_path: Path) -> None:
    write_json(tmp_path / RECORD, stored)
    with pytest.raises(RunError, match=message):
        read_record(tmp_path)
