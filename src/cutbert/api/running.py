"""What verbs do before anything heavy is loaded: choose their settings, check them and the models, open the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from cutbert.api.runs import Run
from cutbert.api.table import VERBS
from cutbert.api.verb import Verb
from cutbert.data.settings import DataSettings
from cutbert.data.text_settings import TextSettings
from cutbert.errors import InputError, Mistakes, ModelError, RunError
from cutbert.options import option_name
from cutbert.settings import Settings, build_settings, command_line
from cutbert.shape.folder import local_folder, read_folder_shape
from cutbert.shape.head import HeadSpec
from cutbert.train.run_folder import RunFolder

OTHER_MODELS = ("teacher", "augment_model", "against")  # fields that name a model


def is_on_text(options: Mapping[str, Any]) -> bool:
    """Return whether a method is asked to work on plain text, not on a task: masked LM, or new weights."""
    return options.get("objective") == "mlm" or options.get("from_scratch") is not None


def kinds_of(verb: Verb, options: Mapping[str, Any]) -> tuple[type[Any], ...]:
    """Return the settings a call is checked by: of task and plain text only what its objective works on.

    Raises:
        InputError: an objective that is none.
    """
    if not {DataSettings, TextSettings} <= set(verb.settings):
        return verb.settings
    objective = options.get("objective", "task")
    if objective not in ("task", "mlm"):
        raise InputError(f"--objective must be one of task, mlm, got {objective!r}")
    left_out = DataSettings if is_on_text(options) else TextSettings
    return tuple(kind for kind in verb.settings if kind is not left_out)


def refuse_other_data(verb: Verb, kinds: Sequence[type[Any]], options: Mapping[str, Any]) -> None:
    """Raise an InputError where options are of the kind of data that the objective does not work on."""
    known = {each.name for kind in kinds for each in fields(kind)}
    other = next((kind for kind in verb.settings if kind not in kinds), None)
    given = [each.name for each in fields(other) if each.name not in known and each.name in options] if other else []
    if options.get("from_scratch") is not None:
        why = "must not be given with --from-scratch"
    else:
        why = f"is for --objective {'task' if other is DataSettings else 'mlm'}"
    if given:
        raise InputError(*(f"{option_name(name)} {why}" for name in given))


def run_method(
    name: str, load: Callable[[], Callable[..., dict[str, Any]]], model: str | Path, options: Mapping[str, Any]
) -> Run:
    """Check what can be checked without torch, then return the run's stored result or run the method.

    Args:
        name: of a verb that makes a run of a model.
        load: imports the method and returns its function.
        model: the verb's word.
        options: fields of its settings.

    Raises:
        InputError: every mistake in settings, run folder and models, before the method is loaded.
    """
    verb = VERBS[name]
    kinds = kinds_of(verb, options)
    refuse_other_data(verb, kinds, options)
    place, data, own, train = build_settings(options, *kinds)
    settings = {"model": str(model), "data": asdict(data), "train": asdict(train), name: asdict(own)}
    line = command_line(name, [str(model)], place, data, train, own)
    run = open_run_folder(
        name, str(model), settings, (data, train, own), line, out=place.out, allow_changed=place.allow_changed
    )
    result = run.result if run.result is not None else load()(str(model), data, train, own, run)
    if isinstance(data, DataSettings) and data.select == "dev":
        result = {**result, "select_is_dev": True}
    return Run(name, result, run.path)


def open_run_folder(
    verb: str,
    model: str,
    settings: Mapping[str, Any],
    parts: Sequence[Settings],
    line: str,
    *,
    out: str,
    allow_changed: bool,
) -> RunFolder:
    """Return a verb's run folder; unless its run is finished, nothing is missing and the models can be used.

    Args:
        verb, settings, line, out, allow_changed: as in `RunFolder.open`.
        model: the verb's word.
        parts: the dataclasses that the settings are made of.

    Raises:
        InputError: every mistake in folder, settings and models, together.
    """
    mistakes, run = Mistakes(), None
    with mistakes.collect():
        run = RunFolder.open(out, verb, settings, line=line, allow_changed=allow_changed)
    if run is not None and run.result is not None:
        return run
    if run is None:
        collect_settings(mistakes, parts)
        raise RunError(*mistakes.messages)
    check_early(parts, [model])
    return run


def check_early(
    parts: Sequence[Settings], models: Sequence[str], check_head: Callable[[str, HeadSpec], None] | None = None
) -> None:
    """Refuse before torch is loaded, where something required is missing or a model cannot be used.

    Then every mistake in the settings is said too. Where only these are wrong they are left to the verb itself,
    which says them with what it alone can find, in the data for instance.

    Args:
        parts: settings.
        models: words of the verb; models that the settings name are checked too. A hub id is left to the hub.
        check_head: raises unless a word's head is the right one; None takes any, or a masked-LM head where the
            objective is mlm.

    Raises:
        InputError: every mistake, together.
    """
    wrong = Mistakes()
    if any(getattr(each, "objective", None) == "mlm" and getattr(each, "from_scratch", None) is None for each in parts):
        check_head = check_masked_lm
    for model in models:
        with wrong.collect():
            check_model(model, check_head)
    others = [getattr(each, name, None) for each in parts for name in OTHER_MODELS]
    for model in [other for other in others if other is not None]:
        with wrong.collect():
            check_model(model, None)
    if wrong.messages or any(True for each in parts for _ in each.missing()):
        mistakes = Mistakes()
        collect_settings(mistakes, parts)
        mistakes.extend(wrong.messages)
        mistakes.check()


def collect_settings(mistakes: Mistakes, parts: Sequence[Settings]) -> None:
    for each in parts:
        with mistakes.collect():
            each.check()


def check_model(source: str, check_head: Callable[[str, HeadSpec], None] | None) -> None:
    """Raise a ModelError where the config.json of a model on this machine cannot be read or is of no use."""
    folder = local_folder(source)
    if folder is not None:
        facts = read_folder_shape(folder)
        if check_head is not None:
            check_head(source, facts.head)


def check_masked_lm(source: str, head: HeadSpec) -> None:
    if head.kind != "masked_lm":
        raise ModelError(
            f"--objective mlm must start from a model with a masked-LM head, got {head.kind} in {source}; "
            f"cutbert pretrain trains one"
        )


def check_classifies(source: str, head: HeadSpec) -> None:
    if not head.is_sequence:
        raise ModelError(
            f"{source}: must classify whole texts to predict labels, got a head of kind {head.kind}; "
            "cutbert finetune makes such a model"
        )
