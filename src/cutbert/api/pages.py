"""The verb that shows runs to people: report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cutbert.api.result import Result
from cutbert.pages.settings import ReportSettings
from cutbert.settings import build_settings, takes


@takes(ReportSettings)
def report(*runs: str | Path, **options: Any) -> Result:
    """Write one HTML page of one run or several; it opens offline.

    Args:
        runs: run folders, finished; of a demo, its folder.
        options: fields of ReportSettings.

    Raises:
        InputError: no runs, unfinished or damaged ones, a file in the way; all together, before anything is written.
        MissingError: jinja2 is not installed; says how to get it.
    """
    (settings,) = build_settings(options, ReportSettings)
    from cutbert.pages.page import write_report

    return Result(write_report([str(run) for run in runs], settings))
