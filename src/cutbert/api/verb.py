"""A verb as data, and what the table of verbs makes of a function: its signature and its help."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from itertools import groupby
from typing import Any, TypeVar, cast

from cutbert.lacks import naming_lacks
from cutbert.options import Option, options_of
from cutbert.settings import GROUPS, MachineSettings

Function = TypeVar("Function", bound=Callable[..., Any])
HELP_WIDTH = 78


@dataclass(frozen=True)
class Word:
    """A positional argument; `is_many` takes all that are left, at least one, `is_optional` may be left out."""

    name: str
    help: str
    is_many: bool = False
    is_optional: bool = False

    @property
    def usage(self) -> str:
        name = self.name + ("..." if self.is_many else "")
        return f"[{name}]" if self.is_optional else name


@dataclass(frozen=True)
class Verb:
    """One verb, of the command line and of Python.

    Args:
        name: as typed.
        summary: one sentence for the help.
        words: positional arguments, in order; only the last may be many.
        settings: dataclasses whose fields are the options.
        without: fields that are no options of this verb.
        resumes: whether an interrupted call goes on when it is given again.
        pipes: whether `--out -` is standard output, where nothing else is printed then.
    """

    name: str
    summary: str
    words: tuple[Word, ...]
    settings: tuple[type[Any], ...]
    without: tuple[str, ...] = ()
    resumes: bool = False
    pipes: bool = False

    def options(self) -> dict[str, Option]:
        """Return the options that have an effect, by field name, each once, in the order of the settings."""
        return {name: each for name, each in options_of(*self.settings).items() if name not in self.without}

    def ignored_options(self) -> dict[str, Option]:
        """Return the options that are accepted without effect, so that scripts may pass the same to all verbs."""
        return {name: each for name, each in options_of(MachineSettings).items() if name not in self.options()}

    def listed_options(self) -> list[Option]:
        """Return the options as the help lists them: by heading, of each the common ones first."""
        return sorted(self.options().values(), key=lambda each: (GROUPS.index(each.group), not each.is_common))


class ListedSignature(inspect.Signature):
    """A signature with every option as a parameter, for completion; printed short, since the help lists them."""

    def __str__(self) -> str:
        words = [name for name, each in self.parameters.items() if each.kind is not inspect.Parameter.KEYWORD_ONLY]
        required = [
            name
            for name, each in self.parameters.items()
            if each.kind is inspect.Parameter.KEYWORD_ONLY and each.default is inspect.Parameter.empty
        ]
        kinds = {name: self.parameters[name].kind for name in words}
        shown = ["*" + name if kinds[name] is inspect.Parameter.VAR_POSITIONAL else name for name in words]
        star = [] if inspect.Parameter.VAR_POSITIONAL in kinds.values() or not required else ["*"]
        return f"({', '.join([*shown, *star, *required, '**options'])}) -> {self.return_annotation}"

    def format(self, *, max_width: int | None = None) -> str:
        return str(self)


def documented(verbs: Mapping[str, Verb]) -> Callable[[Function], Function]:
    """Return a decorator that shows a verb's options in a function's signature and lists them in its help.

    The function raises what the machine lacks as errors of ours.
    """

    def decorate(verb_function: Function) -> Function:
        verb = verbs[verb_function.__name__]
        own = inspect.signature(verb_function)

        @wraps(verb_function)
        def function(*words: Any, **options: Any) -> Any:
            with naming_lacks():
                return verb_function(*words, **options)

        shown = {each.name: each for each in own.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD}
        for name, each in verb.options().items():
            default = inspect.Parameter.empty if each.is_required else each.field.default
            shown.setdefault(
                name,
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=each.field.type),
            )
        signature = ListedSignature(list(shown.values()), return_annotation=own.return_annotation)
        function.__signature__ = signature  # type: ignore[attr-defined]
        own_lines = inspect.cleandoc(function.__doc__ or "").splitlines()
        text = "\n".join(line for each in own_lines for line in wrapped(each))
        function.__doc__ = f"{text}\n\n{options_text(verb.listed_options())}"
        return cast(Function, function)

    return decorate


def wrapped(line: str) -> list[str]:
    """Return a line of a docstring in the width of the help, what follows indented further."""
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(line, HELP_WIDTH, subsequent_indent=indent + "    " if indent else "") or [""]


def options_text(options: Iterable[Option]) -> str:
    """Return a list of options under their headings, wrapped."""
    lines = ["Options, by keyword; None where not given:"]
    for group, listed in groupby(options, key=lambda each: each.group):
        lines += ["", f"{group}:"]
        for each in listed:
            lines.append(f"    {each.field.name}: {each.field.type}")
            lines += textwrap.wrap(each.help, HELP_WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return "\n".join(lines)
