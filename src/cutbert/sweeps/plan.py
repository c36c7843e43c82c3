"""A plan file as data: its steps, grid and defaults, each value with its place in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cutbert.errors import InputError, Mistakes
from cutbert.options import did_you_mean
from cutbert.parsing import parse_toml

PARTS = ("defaults", "needs", "grid", "steps")
NEEDS = ("cores", "gpus", "memory_gib")
MOST_NEED = 100_000
STEP_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
REFERENCE = re.compile(r"\{(\w+)\}")
NOT_IN_A_LABEL = re.compile(r"[^A-Za-z0-9._,=+-]+")


@dataclass(frozen=True)
class PlanValue:
    """A value in a plan and its place there, as a dotted path."""

    value: Any
    place: str

    def texts(self) -> list[str]:
        """Return the value's strings."""
        values = self.value if isinstance(self.value, list) else [self.value]
        return [each for each in values if isinstance(each, str)]

    def references(self) -> list[str]:
        """Return the names in braces in the value: steps whose runs it refers to."""
        return [name for text in self.texts() for name in REFERENCE.findall(text)]


@dataclass(frozen=True)
class AxisValue:
    """One value of an axis.

    Args:
        label: what runs are called by it.
        options: that it sets, for every step that is on the axis.
        of_steps: further options, by step.
    """

    label: str
    options: Mapping[str, PlanValue]
    of_steps: Mapping[str, Mapping[str, PlanValue]] = field(default_factory=dict)

    def options_of(self, step: str) -> dict[str, PlanValue]:
        """Return the options it sets for one step."""
        return {**self.options, **self.of_steps.get(step, {})}


@dataclass(frozen=True)
class Axis:
    """An axis of the grid: runs are made for each of its values.

    Args:
        key: its name; a step's own axis has the step's name before it, so that keys are unique.
        place: in the plan.
        choices: its values.
    """

    key: str
    place: str
    choices: tuple[AxisValue, ...]

    @property
    def is_seed(self) -> bool:
        """Whether its values are seeds, over which scores are averaged."""
        return self.key.rpartition(".")[2] == "seed"

    def option_names(self, step: str) -> set[str]:
        """Return the options that it sets for one step."""
        return {name for choice in self.choices for name in choice.options_of(step)}


@dataclass(frozen=True)
class Needs:
    """What one run needs of a machine; None leaves it to the engine."""

    cores: int | None = None
    gpus: float = 0.0
    memory_gib: float | None = None


@dataclass(frozen=True)
class Step:
    """One kind of run: a verb with its own options and its own axes.

    Args:
        shared: axes of the plan's grid that apply to it; None for all that set an option it takes and leaves open.
    """

    name: str
    verb: str
    options: Mapping[str, PlanValue]
    axes: tuple[Axis, ...]
    needs: Needs
    shared: tuple[str, ...] | None = None


@dataclass(frozen=True)
class SweepPlan:
    """A plan as written, with references and grid not yet resolved.

    Args:
        defaults, grid: for every step whose verb takes these options.
        steps: by name, in the order of the file.
        overrides: values of --set for every step that takes them.
        set_of_steps: the options, by step, that --set gives for one step alone.
    """

    defaults: Mapping[str, PlanValue]
    grid: tuple[Axis, ...]
    steps: Mapping[str, Step]
    overrides: Mapping[str, PlanValue]
    set_of_steps: Mapping[str, frozenset[str]]

    def overrides_of(self, step: str) -> dict[str, PlanValue]:
        """Return the values of --set for every step that hold for this one: those that are not set for it alone."""
        own = self.set_of_steps.get(step, frozenset())
        return {name: each for name, each in self.overrides.items() if name not in own}


def read_plan(path: Path, sets: Sequence[str], mistakes: Mistakes) -> SweepPlan:
    """Read a plan; mistakes in its form are added to `mistakes`, and the parts with mistakes left out.

    Args:
        path: TOML file.
        sets: NAME=VALUE, as --set takes them.
        mistakes: collects.

    Raises:
        InputError: the file cannot be read as TOML at all.
    """
    document = read_toml(path)
    overrides, set_of_steps = apply_sets(document, sets, mistakes)
    unknown = [name for name in document if name not in PARTS]
    mistakes.extend(f"{name} must be one of {', '.join(PARTS)}{did_you_mean(name, PARTS)}" for name in unknown)
    tables = {name: as_table(document.get(name, {}), name, mistakes) for name in PARTS}
    if not tables["steps"]:
        mistakes.add("steps must have at least one step: [steps.NAME] with verb and model")
    defaults = {name: PlanValue(value, f"defaults.{name}") for name, value in tables["defaults"].items()}
    needs = read_needs(tables["needs"], "needs", Needs(), mistakes)
    grid = read_axes(tables["grid"], "grid", "", mistakes)
    steps = {}
    for name, value in tables["steps"].items():
        step = read_step(name, as_table(value, f"steps.{name}", mistakes), needs, mistakes)
        if step is not None:
            steps[name] = step
    return SweepPlan(defaults, grid, steps, overrides, set_of_steps)


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: PLAN must be a file that can be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path}: PLAN must be TOML: {error}") from None


def apply_sets(
    document: dict[str, Any], sets: Sequence[str], mistakes: Mistakes
) -> tuple[dict[str, PlanValue], dict[str, frozenset[str]]]:
    """Write dotted --set values into the document; return those without a dot, for every step, and what of a step
    alone was set.
    """
    overrides: dict[str, PlanValue] = {}
    set_of_steps: dict[str, frozenset[str]] = {}
    for text in sets:
        name, equals, word = text.partition("=")
        parts = name.split(".")
        if not equals or not all(parts) or (not word and len(parts) == 1):
            mistakes.add(f"--set must be NAME=VALUE, got {text!r}")
        elif len(parts) == 1:
            overrides[name] = PlanValue(toml_value(word), f"--set {name}")
        else:
            place = parts if parts[0] in PARTS else ["steps", *parts]
            put(document, place, word, text, mistakes)
            if place[0] == "steps" and len(place) == 3 and word:
                set_of_steps[place[1]] = set_of_steps.get(place[1], frozenset()) | {place[2]}
    return overrides, set_of_steps


def put(document: dict[str, Any], parts: Sequence[str], word: str, text: str, mistakes: Mistakes) -> None:
    """Set a value deep in the document, or with an empty word remove the value there; steps cannot be added."""
    if parts[0] == "steps" and parts[1] not in document.get("steps", {}):
        mistakes.add(f"--set {text}: must name a part of the plan ({', '.join(PARTS)}) or a step of it")
        return
    table = document
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            mistakes.add(f"--set {text}: {part} is a value of the plan, not a table")
            return
    if word:
        table[parts[-1]] = toml_value(word)
    elif table.pop(parts[-1], None) is None:
        mistakes.add(f"--set {text}: there is nothing in the plan to leave out")


def toml_value(word: str) -> Any:
    """Return a word parsed as a TOML value, or as text where it is not one."""
    try:
        return parse_toml(f"value = {word}")["value"]
    except ValueError:
        return word


def read_step(name: str, table: Mapping[str, Any], needs: Needs, mistakes: Mistakes) -> Step | None:
    """Return a step of a plan, None where it has no name or verb.

    Args:
        name, table: as the plan has it under [steps].
        needs: of a machine, where the step says nothing.
        mistakes: collects.
    """
    place = f"steps.{name}"
    if not STEP_NAME.fullmatch(name):
        mistakes.add(f"{place}: a step's name must be letters, digits and _, beginning with a letter")
        return None
    verb = table.get("verb")
    if not isinstance(verb, str):
        mistakes.add(f"{place}.verb must be given: what the step runs")
        return None
    axes = read_axes(as_table(table.get("grid", {}), f"{place}.grid", mistakes), f"{place}.grid", f"{name}.", mistakes)
    own = read_needs(as_table(table.get("needs", {}), f"{place}.needs", mistakes), f"{place}.needs", needs, mistakes)
    shared = table.get("axes")
    if shared is not None and not (isinstance(shared, list) and all(isinstance(each, str) for each in shared)):
        mistakes.add(f"{place}.axes must be a list of axes of grid, got {shared!r}")
        shared = None
    options = {
        option: PlanValue(value, f"{place}.{option}")
        for option, value in table.items()
        if option not in ("verb", "grid", "needs", "axes")
    }
    twice = [option for axis in axes for option in axis.option_names(name) if option in options]
    mistakes.extend(f"{place}.{option} must not be given beside {place}.grid, which sets it too" for option in twice)
    return Step(name, verb, options, axes, own, None if shared is None else tuple(shared))


def read_axes(table: Mapping[str, Any], place: str, prefix: str, mistakes: Mistakes) -> tuple[Axis, ...]:
    """Return the axes of a grid, of the plan or of one step.

    Args:
        table: lists of values by the axis's name.
        place: of the table, for messages.
        prefix: of the axes' keys: the step's name and a dot, empty for the plan's own grid.
        mistakes: collects.
    """
    axes = []
    for name, values in table.items():
        at = f"{place}.{name}"
        if not STEP_NAME.fullmatch(name):
            mistakes.add(f"{at}: the name of an axis must be letters, digits and _, beginning with a letter")
        elif not isinstance(values, list) or not values:
            mistakes.add(f"{at} must be a list of values, got {values!r}")
        else:
            choices = tuple(read_choices(name, values, at, mistakes, is_shared=not prefix))
            labels = [choice.label for choice in choices]
            double = dict.fromkeys(label for label in labels if labels.count(label) > 1)
            mistakes.extend(f"{at} must have values of different names, got {label!r} twice" for label in double)
            axes.append(Axis(prefix + name, at, choices))
    return tuple(axes)


def read_choices(
    name: str, values: Sequence[Any], place: str, mistakes: Mistakes, *, is_shared: bool
) -> Iterator[AxisValue]:
    """Yield the choices of an axis: plain values of the option it is named by, or tables of several options.

    Args:
        name: of the axis.
        values: as the plan has them.
        place: of the axis, for messages.
        mistakes: collects.
        is_shared: whether it is an axis of the plan's grid, where a table within a table has options of one step.
    """
    for value in values:
        if not isinstance(value, dict):
            yield AxisValue(label_of(value), {name: PlanValue(value, place)})
        elif not isinstance(value.get("name"), str):
            mistakes.add(f"{place}: a table among the values must have a name, which runs are called by, got {value!r}")
        else:
            options = {option: each for option, each in value.items() if option != "name"}
            of_steps = {step: each for step, each in options.items() if is_shared and isinstance(each, dict)}
            yield AxisValue(
                label_of(value["name"]),
                {
                    option: PlanValue(each, f"{place}.{option}")
                    for option, each in options.items()
                    if option not in of_steps
                },
                {
                    step: {option: PlanValue(each, f"{place}.{step}.{option}") for option, each in table.items()}
                    for step, table in of_steps.items()
                },
            )


def label_of(value: Any) -> str:
    """Return a value as a part of a folder's name, such as 0.5 or 1,2,3."""
    values = value if isinstance(value, list) else [value]
    text = ",".join(str(each).lower() if isinstance(each, bool) else str(each) for each in values)
    return NOT_IN_A_LABEL.sub("-", text).strip("-.") or "-"


def read_needs(table: Mapping[str, Any], place: str, base: Needs, mistakes: Mistakes) -> Needs:
    """Return the needs in a table, over the `base` of all steps."""
    for name, value in table.items():
        is_whole = name == "cores"
        if name not in NEEDS:
            mistakes.add(f"{place}.{name} must be one of {', '.join(NEEDS)}")
        elif (
            isinstance(value, bool)
            or not isinstance(value, int if is_whole else int | float)
            or not is_whole <= value <= MOST_NEED
        ):
            kind = f"an integer in 1..{MOST_NEED}" if is_whole else f"a number in 0..{MOST_NEED}"
            mistakes.add(f"{place}.{name} must be {kind}, got {value!r}")
        else:
            base = replace(base, **{name: value})
    return base


def as_table(value: Any, place: str, mistakes: Mistakes) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    mistakes.add(f"{place} must be a table, got {value!r}")
    return {}
