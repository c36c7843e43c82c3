"""What all settings dataclasses share: option names, checks, and the command line they stand for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from cutbert.errors import Mistakes


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Where a run lives."""

    out: str = field(metadata={"help": "Run folder: absent, empty, or this command's own run, which then goes on."})
    allow_changed: bool = field(
        default=False,
        metadata={"help": "Resume although machine, threads or versions changed; not to the bit then."},
    )


def option_name(each: Field[Any]) -> str:
    """Return how a settings field is written on the command line."""
    return str(each.metadata.get("flag", "--" + each.name.replace("_", "-")))


def is_required(each: Field[Any]) -> bool:
    """Return whether a settings field has no default."""
    return each.default is MISSING and each.default_factory is MISSING


def build_settings(options: Mapping[str, Any], *kinds: type[Any]) -> list[Any]:
    """Return one instance of each settings dataclass, made of keyword arguments.

    A field that several of them have goes to all of them. Lists become tuples. Instances with a `check`
    are checked.

    Raises:
        InputError: unknown or missing arguments, or settings out of range; all mistakes together.
    """
    mistakes = Mistakes()
    known = {each.name for kind in kinds for each in fields(kind)}
    for name in options.keys() - known:
        near = get_close_matches(name, known, n=1)
        mistakes.add(f"unknown argument {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    for name in sorted(
        {each.name for kind in kinds for each in fields(kind) if is_required(each)} - options.keys()
    ):
        mistakes.add(f"argument {name!r} must be given")
    mistakes.check()
    made = []
    for kind in kinds:
        names = {each.name for each in fields(kind)}
        given = {name: plain(value) for name, value in options.items() if name in names}
        with mistakes.collect():
            made.append(kind(**given))
            if hasattr(made[-1], "check"):
                made[-1].check()
    mistakes.check()
    return made


def plain(value: Any) -> Any:
    """Return lists as tuples and paths as text, as settings hold them."""
    if isinstance(value, list | tuple):
        return tuple(plain(each) for each in value)
    return str(value) if hasattr(value, "__fspath__") else value


def command_line(verb: str, words: Sequence[str], *settings: Any) -> str:
    """Return the command that stands for words and settings, defaults left out."""
    parts = ["cutbert", verb, *words]
    for each in settings:
        defaults = {item.name: item.default for item in fields(each)}
        for item in fields(each):
            value = asdict(each)[item.name]
            if value != defaults[item.name] and value is not None:
                parts += option_words(option_name(item), value)
    return shlex.join(parts)


def option_words(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [name if value else "--no-" + name.removeprefix("--")]
    if isinstance(value, tuple | list):
        return [word for each in value for word in (name, str(each))]
    return [name, str(value)]
