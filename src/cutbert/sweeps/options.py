"""The options of a plan's steps, parsed and checked by the same settings classes as the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from cutbert.errors import InputError, Mistakes
from cutbert.options import Option, given_words, options_of
from cutbert.settings import build_settings
from cutbert.sweeps.plan import PlanValue, Step, SweepPlan

MODEL = "model"
OUT = "out"


@dataclass(frozen=True)
class SweptVerb:
    """A verb that makes a run.

    Args:
        kinds: returns its settings dataclasses, given values of its options.
        without: fields of theirs that are no options of this verb.
    """

    kinds: Callable[[Mapping[str, Any]], tuple[type[Any], ...]]
    without: tuple[str, ...] = ()


Verbs = Mapping[str, SweptVerb]


@dataclass(frozen=True)
class VerbOptions:
    """The options a step's verb takes.

    Args:
        kinds: its settings dataclasses.
        options: by field name, those of the command line but for the run's folder (--out).
    """

    kinds: tuple[type[Any], ...]
    options: Mapping[str, Option]

    def takes(self, name: str) -> bool:
        return name == MODEL or name in self.options


def verb_options(plan: SweepPlan, step: Step, verbs: Verbs) -> VerbOptions:
    """Return the options a step's verb takes, given the values that are the same for all its runs.

    Raises:
        InputError: one of those values is not valid for its option.
    """
    layers = (plan.defaults, step.options, plan.overrides_of(step.name))
    verb = verbs[step.verb]
    kinds = verb.kinds({name: each.value for layer in layers for name, each in layer.items()})
    left_out = (OUT, *verb.without)
    return VerbOptions(kinds, {name: each for name, each in options_of(*kinds).items() if name not in left_out})


def typed_options(
    accepted: VerbOptions, place: str, given: Mapping[str, PlanValue], mistakes: Mistakes
) -> dict[str, Any]:
    """Return options as settings types, without those at their default; mistakes are added to `mistakes`.

    Args:
        accepted: options of the verb; every given one is among them.
        place: of the step in the plan, for messages.
        given: values, with references resolved.
        mistakes: collects.
    """
    options: dict[str, Any] = {}
    wrong = Mistakes()
    for name, each in given.items():
        try:
            options[name] = parse_value(accepted.options[name], each.value)
        except InputError as error:
            wrong.extend(f"{each.place}: {mistake}" for mistake in error.mistakes)
    mistakes.extend(wrong.messages)
    if not wrong.messages:
        check_settings(accepted, place, options, mistakes)
    defaults = {each.name: each.default for kind in accepted.kinds for each in fields(kind)}
    return {name: value for name, value in options.items() if value != defaults[name]}


def check_settings(accepted: VerbOptions, place: str, options: Mapping[str, Any], mistakes: Mistakes) -> None:
    """Collect the mistakes that the settings' own checks raise."""
    collected = Mistakes()
    with collected.collect():
        for made in build_settings({**options, OUT: "-"}, *accepted.kinds):
            if hasattr(made, "check"):
                with collected.collect():
                    made.check()
    mistakes.extend(f"{place}: {mistake}" for mistake in collected.messages)


def parse_value(option: Option, value: Any) -> Any:
    """Return a value of the plan as the command line would parse it.

    Raises:
        InputError: it is not valid for this option.
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


def words_of(accepted: VerbOptions, options: Mapping[str, Any], *, without: str) -> list[str]:
    """Return options as words of a command line, all but one."""
    given = {name: value for name, value in options.items() if name != without}
    return [word for name, value in given.items() for word in given_words(accepted.options[name].name, value)]
