"""What the verbs that make a run share: which data they work on, and opening the run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
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


def data_settings(options: Mapping[str, Any]) -> type[DataSettings] | type[TextSettings]:
    """Return the settings that say which data a method works on, where no option is of the other kind.

    Raises:
        InputError: an objective that is none, or options that say something of the other kind of data.
    """
    kind = data_kind(options)
    other: type[Any] = TextSettings if kind is DataSettings else DataSettings
    own = {each.name for each in fields(kind)}
    given = [each.name for each in fields(other) if each.name not in own and each.name in options]
    if options.get("from_scratch") is not None:
        why = "must not be given with --from-scratch"
    else:
        why = f"is for --objective {'task' if other is DataSettings else 'mlm'}"
    if given:
        raise InputError(*(f"--{name.replace('_', '-')} {why}" for name in given))
    return kind


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
    run = open_folder(place.out, verb, settings, (data, train, own), line=line, allow_changed=place.allow_changed)
    result = run.result if run.result is not None else method()(str(model), data, train, own, run)
    if isinstance(data, DataSettings) and data.select == "dev":
        result = {**result, "select_is_dev": True}
    return Run(result, run.path)


def open_folder(
    out: str, verb: str, settings: Mapping[str, Any], parts: Sequence[Any], *, line: str, allow_changed: bool
) -> RunFolder:
    """Return a verb's run folder; mistakes in its settings are told with what is wrong with the folder.

    Where the folder is right, whoever does the work checks the settings, with all else that can be wrong.

    Args:
        out, verb, settings, line, allow_changed: as of `RunFolder.open`.
        parts: the dataclasses that the settings are made of.

    Raises:
        RunError: the folder is refused; these mistakes too.
    """
    mistakes = Mistakes()
    with mistakes.collect():
        return RunFolder.open(out, verb, settings, line=line, allow_changed=allow_changed)
    for each in parts:
        with mistakes.collect():
            each.check()
    raise RunError(*mistakes.messages)
