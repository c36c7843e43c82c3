"""What verbs do before anything heavy is loaded: choose their settings, check them and the models, open the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

from cutbert.api.runs import Run
from cutbert.api.table import VERBS
from cutbert.api.verb import Verb
from cutbert.data.settings import DataSettings
from cutbert.data.text_settings import TextSettings
from cutbert.errors import InputError, Mistakes, ModelError, RunError
from cutbert.methods.objective_settings import ObjectiveName
from cutbert.options import option_name
from cutbert.settings import Settings, build_settings, command_line
from cutbert.shape.folder import local_folder
from cutbert.shape.source import Models, ModelSource, find_model
from cutbert.train.run_folder import RunFolder

OTHER_MODELS = ("teacher", "augment_model", "against")  # fields that name a model
STUDENTS = "student"  # the field that names several


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
    if objective not in get_args(ObjectiveName):
        raise InputError(f"--objective must be one of {', '.join(get_args(ObjectiveName))}, got {objective!r}")
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
        model: the positional MODEL.
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
    parts = (data, train, own)
    run = open_run_folder(name, settings, parts, line, out=place.out, allow_changed=place.allow_changed)
    result = run.result
    if result is None:
        models = find_models(parts, model)
        result = load()(models, data, train, own, run)
    if isinstance(data, DataSettings) and data.select == "dev":
        result = {**result, "select_is_dev": True}
    return Run(name, result, run.path)


def open_run_folder(
    verb: str, settings: Mapping[str, Any], parts: Sequence[Settings], line: str, *, out: str, allow_changed: bool
) -> RunFolder:
    """Return a verb's run folder.

    Args:
        verb, settings, line, out, allow_changed: as in `RunFolder.open`.
        parts: the dataclasses that the settings are made of.

    Raises:
        RunError: the folder is refused; mistakes in the settings too.
    """
    mistakes = Mistakes()
    with mistakes.collect():
        return RunFolder.open(out, verb, settings, line=line, allow_changed=allow_changed)
    collect_settings(mistakes, parts)
    raise RunError(*mistakes.messages)


CheckHead = Callable[[ModelSource], None]


def find_models(parts: Sequence[Settings], model: str | Path, check_head: CheckHead | None = None) -> Models:
    """Return the models of a verb, found once, and further ones that its settings name.

    The model's new head of whole texts reads what --pooling says; further models keep their own heads.

    Args:
        parts: settings.
        model: the positional MODEL.
        check_head: as in `find_all`; where the objective is mlm a masked-LM head is asked for.

    Raises:
        InputError: as in `find_all`.
    """
    if any(getattr(each, "objective", None) == "mlm" and getattr(each, "from_scratch", None) is None for each in parts):
        check_head = check_masked_lm
    named = {name: getattr(each, name, None) for each in parts for name in OTHER_MODELS if hasattr(each, name)}
    given = {name: value for name, value in named.items() if value is not None}
    given |= {f"{STUDENTS} {name}": name for each in parts for name in getattr(each, STUDENTS, ())}
    first, *others = find_all(parts, [model], check_head, named=given)
    for each in parts:
        if isinstance(each, DataSettings):
            first = first.reading(each.pooling)
    return Models(first, dict(zip(given, others, strict=True)))


def find_all(
    parts: Sequence[Settings],
    models: Sequence[str | Path],
    check_head: CheckHead | None = None,
    *,
    named: Mapping[str, str | Path] | None = None,
) -> list[ModelSource]:
    """Return where models are; torch is not loaded yet, and nothing is downloaded while anything else is wrong.

    Where only ranges of settings are wrong and every model is a folder, they are left to the verb itself, which reports
    them together with what it alone can find out, in the data for instance.

    Args:
        parts: settings.
        models: the positional MODELs.
        check_head: raises unless the first one's head is the right one; None for any.
        named: further models, by the field that names them (and, of several, a name after it); mistakes in them begin
            with its option.

    Returns:
        The models in order, those of `named` last.

    Raises:
        InputError: a model that cannot be used, or something required that is missing, with every mistake in the
            settings.
    """
    wrong, in_settings = Mistakes(), Mistakes()
    collect_settings(in_settings, parts)
    references: list[tuple[str | Path, str]] = [(model, "") for model in models]
    references += [(model, f"{option_name(field.partition(' ')[0])}: ") for field, model in (named or {}).items()]
    folders: list[Path | None] = []
    for model, prefix in references:
        with wrong.collect(prefix):
            folders.append(local_folder(model))
    needs_hub = None in folders
    sources: list[ModelSource] = []
    if not needs_hub or not (wrong.messages or in_settings.messages):
        for i, (model, prefix) in enumerate(references):
            with wrong.collect(prefix):
                source = find_model(model)
                if check_head is not None and i == 0:
                    check_head(source)
                sources.append(source)
    is_missing = any(True for each in parts for _ in each.missing())
    if wrong.messages or is_missing or (in_settings.messages and needs_hub):
        in_settings.extend(dict.fromkeys(wrong.messages))
        in_settings.check()
    return sources


def collect_settings(mistakes: Mistakes, parts: Sequence[Settings]) -> None:
    for each in parts:
        with mistakes.collect():
            each.check()


def check_masked_lm(source: ModelSource) -> None:
    if source.head.kind != "masked_lm":
        raise ModelError(
            f"--objective mlm must start from a model with a masked-LM head, got {source.head.kind} in {source}; "
            f"cutbert pretrain trains one"
        )
