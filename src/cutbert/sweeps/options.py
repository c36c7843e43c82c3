"""The options of a plan's steps, read and checked by the settings classes that make the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from cutbert.errors import InputError, Mistakes
from cutbert.options import Option, given_words, options_of
from cutbert.settings import build_settings
from cutbert.sweeps.plan import Given, Plan, Step

MODEL = "model"
THE_SWEEPS_OWN = "out"

# For each verb that makes a run: its settings dataclasses, given values of its options.
Verbs = Mapping[str, Callable[[Mapping[str, Any]], tuple[type[Any], ...]]]


@dataclass(frozen=True)
class Form:
    """What a step's verb takes.

    Args:
        kinds: its settings dataclasses.
        options: by field name; the run's folder is none of them.
    """

    kinds: tuple[type[Any], ...]
    options: Mapping[str, Option]

    def takes(self, name: str) -> bool:
        return name == MODEL or name in self.options


def form_of(plan: Plan, step: Step, verbs: Verbs) -> Form:
    """Return what a step's verb takes, as far as values that hold for all its runs decide it.

    Raises:
        InputError: such a value is none of its option's.
    """
    layers = (plan.defaults, step.options, plan.overrides)
    kinds = verbs[step.verb]({name: each.value for layer in layers for name, each in layer.items()})
    options = options_of(*kinds)
    del options[THE_SWEEPS_OWN]
    return Form(kinds, options)


def typed_options(form: Form, place: str, given: Mapping[str, Given], mistakes: Mistakes) -> dict[str, Any]:
    """Return options as settings hold them, those at their default left out; what is wrong goes to `mistakes`.

    Args:
        form: what the verb takes; all given is of it.
        place: of the step in the plan.
        given: references resolved.
        mistakes: collects.
    """
    options: dict[str, Any] = {}
    wrong = Mistakes()
    for name, each in given.items():
        try:
            options[name] = parse_value(form.options[name], each.value)
        except InputError as error:
            wrong.extend(f"{each.place}: {mistake}" for mistake in error.mistakes)
    mistakes.extend(wrong.found)
    if not wrong.found:
        check_settings(form, place, options, mistakes)
    defaults = {each.name: each.default for kind in form.kinds for each in fields(kind)}
    return {name: value for name, value in options.items() if value != defaults[name]}


def check_settings(form: Form, place: str, options: Mapping[str, Any], mistakes: Mistakes) -> None:
    """Let the settings themselves say what does not fit together."""
    found = Mistakes()
    with found.collect():
        for made in build_settings({**options, THE_SWEEPS_OWN: "-"}, *form.kinds):
            if hasattr(made, "check"):
                with found.collect():
                    made.check()
    mistakes.extend(f"{place}: {mistake}" for mistake in found.found)


def parse_value(option: Option, value: Any) -> Any:
    """Return a value of the plan as the command line would read it.

    Raises:
        InputError: it is no value of this option.
    """
    if option.is_flag:
        if not isinstance(value, bool):
            raise InputError(f"{option.name} must be true or false, got {value!r}")
        return value
    if isinstance(value, list) and not option.is_list:
        raise InputError(f"{option.name} takes one value, got {value!r}; values to try one after the other go in grid")
    values = value if isinstance(value, list) else [value]
    if not values:
        raise InputError(f"{option.name} must have at least one value, got an empty list")
    wrong = [each for each in values if isinstance(each, bool) or not isinstance(each, str | int | float)]
    if wrong:
        raise InputError(f"{option.name} must be text or a number, got {wrong[0]!r}")
    return option.parse([str(each) for each in values])


def words_of(form: Form, options: Mapping[str, Any], *, without: str) -> list[str]:
    """Return options as words of a command line, but for one."""
    given = {name: value for name, value in options.items() if name != without}
    return [word for name, value in given.items() for word in given_words(form.options[name].name, value)]
