"""The verb that looks into models: analyze."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from cutbert.analysis.settings import AnalyzeSettings
from cutbert.api.result import Result
from cutbert.data.settings import DataSettings
from cutbert.errors import InputError, Mistakes
from cutbert.settings import build_settings, command_line, takes
from cutbert.train.run_folder import RunFolder


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
        line = command_line("analyze", [str(model)], data, settings)
        plain = {"model": str(model), "data": asdict(data), "analyze": own}
        mistakes = Mistakes()
        with mistakes.collect():
            # Nothing is taken over from an unfinished run, so that another machine is no hindrance.
            run = RunFolder.open(settings.out, "analyze", plain, line=line, allow_changed=True)
        if mistakes.found:
            for each in (data, settings):
                with mistakes.collect():
                    each.check()
        mistakes.check(InputError)
    if run is not None and run.result is not None:
        return Result(run.result)
    from cutbert.analysis.analyze import analyze

    return Result(analyze(str(model), data, settings, run))
