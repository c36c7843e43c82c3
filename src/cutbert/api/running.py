"""What the verbs that make a run share: which data they work on, and opening the run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cutbert.api.runs import Run
from cutbert.data.settings import DataSettings
from cutbert.data.text_settings import TextSettings
from cutbert.errors import InputError, Mistakes, RunError
from cutbert.settings import RunSettings, build_settings, command_line
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings


def is_on_text(options: Mapping[str, Any]) -> bool:
    """Return whether a method is asked to work on plain text, not on a task: masked LM, or new weights."""
    return options.get("objective") == "mlm" or options.get("from_scratch") is not None


def data_kind(options: Mapping[str, Any]) -> type[DataSettings] | type[TextSettings]:
    """Return the settings that say which data a method works on.

    Raises:
        InputError: an objective that is none.
    """
    objective = options.get("objective", "task")
    if objective not in ("task", "mlm"):
        raise InputError(f"objective must be one of task, mlm, got {objective!r}")
    return TextSettings if is_on_text(options) else DataSettings


def run_method(
    verb: str,
    method: Callable[[], Callable[..., dict[str, Any]]],
    kinds: tuple[type[Any], type[Any]],
    model: str | Path,
    options: Mapping[str, Any],
) -> Run:
    """Open the run folder, then return its stored result or run the method.

    Args:
        verb: its name.
        method: loads and returns its function.
        kinds: settings of its data, and its own.
        model: the verb's word.
        options: fields of these, of TrainSettings and of RunSettings.
    """
    data, train, own, place = build_settings(options, kinds[0], TrainSettings, kinds[1], RunSettings)
    settings = {"model": str(model), "data": asdict(data), "train": asdict(train), verb: asdict(own)}
    line = command_line(verb, [str(model)], place, data, train, own)
    mistakes = Mistakes()
    with mistakes.collect():
        run = RunFolder.open(place.out, verb, settings, line=line, allow_changed=place.allow_changed)
    if mistakes.found:
        for each in (data, train, own):
            with mistakes.collect():
                each.check()
    mistakes.check(RunError)
    result = run.result if run.result is not None else method()(str(model), data, train, own, run)
    if isinstance(data, DataSettings) and data.select == "dev":
        result = {**result, "select_is_dev": True}
    return Run(result, run.path)
