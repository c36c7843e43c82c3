"""The verb that looks into models: analyze."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from cutbert.analysis.settings import AnalyzeSettings
from cutbert.api.result import Result
from cutbert.api.running import open_folder
from cutbert.data.settings import DataSettings
from cutbert.settings import build_settings, command_line, takes


@takes(DataSettings, AnalyzeSettings)
def analyze(model: str | Path, **options: Any) -> Result:
    """Look into a model, alone or beside another: CKA between layers, linear probes, importance by layer.

    Args:
        model: hub id, model folder or run folder.
        options: fields of DataSettings and AnalyzeSettings.

    Raises:
        InputError: mistakes in the arguments, the data or the models, before anything is made.
        MissingError: pictures are asked for and matplotlib is not installed.
    """
    data, settings = build_settings(options, DataSettings, AnalyzeSettings)
    run = None
    if settings.out is not None:
        own = {name: value for name, value in asdict(settings).items() if name != "out"}
        plain = {"model": str(model), "data": asdict(data), "analyze": own}
        line = command_line("analyze", [str(model)], data, settings)
        # Nothing is taken over from an unfinished run, so that another machine is no hindrance.
        run = open_folder(settings.out, "analyze", plain, (data, settings), line=line, allow_changed=True)
    if run is not None and run.result is not None:
        return Result(run.result)
    from cutbert.analysis.analyze import analyze

    return Result(analyze(str(model), data, settings, run))
