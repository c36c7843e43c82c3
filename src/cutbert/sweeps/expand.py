"""From a plan to its runs: the product of the grid, references resolved, every option checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from cutbert.errors import InputError, Mistakes
from cutbert.sweeps.options import MODEL, THE_SWEEPS_OWN, Form, Verbs, form_of, typed_options, words_of
from cutbert.sweeps.plan import REFERENCE, Axis, Given, Needs, Plan, Step, near, read_plan

RUNS = "runs"
OUT_IS_OURS = "the sweep gives every run its folder"
THE_ENGINES_OWN = "threads"
MOST_CHARACTERS = 150  # of a run's name, which names a folder and a log


@dataclass(frozen=True)
class Run:
    """One run of a sweep.

    Args:
        name: of its folder.
        step: of the plan it belongs to.
        labels: its value on each axis.
        seeds: those of the axes whose values are seeds.
        options: of its command, typed, without --out and without those at their default.
        after: names of the runs it uses.
        needs: of a machine.
        words: its command without `cutbert` and without --threads.
    """

    name: str
    step: str
    verb: str
    labels: Mapping[str, str]
    seeds: frozenset[str]
    model: str
    options: Mapping[str, Any]
    after: tuple[str, ...]
    needs: Needs
    words: tuple[str, ...]


def read_runs(path: Path, sets: Sequence[str], verbs: Verbs, out: Path) -> list[Run]:
    """Return the runs of a plan, each after those it uses.

    Args:
        path: plan file.
        sets: what --set says.
        verbs: that a step may run.
        out: folder of the sweep.

    Raises:
        InputError: every mistake in the plan, together, each with its place.
    """
    mistakes = Mistakes()
    plan = read_plan(path, sets, mistakes)
    runs = Expansion(plan, out, mistakes).runs(verbs)
    found = dict.fromkeys(mistakes.found)
    if found:
        raise InputError(*(each if each.startswith("--set") else f"{path}: {each}" for each in found))
    return runs


@dataclass
class Expansion:
    """The work of expanding one plan; what is wrong goes to `mistakes`.

    Args:
        forms: what each step's verb takes.
        axes: of each step, those of the steps it refers to first.
    """

    plan: Plan
    out: Path
    mistakes: Mistakes
    forms: dict[str, Form] = field(default_factory=dict)
    axes: dict[str, dict[str, Axis]] = field(default_factory=dict)

    def runs(self, verbs: Verbs) -> list[Run]:
        for step in self.plan.steps.values():
            self._find_form(step, verbs)
        steps = [step for step in self.plan.steps.values() if step.name in self.forms]
        self._check_names(steps)
        found: list[Run] = []
        for step in self._ordered(steps):
            self._find_axes(step)
            found += self._runs_of(step)
        return found

    def _find_form(self, step: Step, verbs: Verbs) -> None:
        place = f"steps.{step.name}"
        if step.verb not in verbs:
            close = near(step.verb, tuple(verbs))
            self.mistakes.add(f"{place}.verb must be one of {', '.join(verbs)}, got {step.verb!r}{close}")
            return
        try:
            self.forms[step.name] = form_of(self.plan, step, verbs)
        except InputError as error:
            self.mistakes.extend(f"{place}: {mistake}" for mistake in error.mistakes)

    def _check_names(self, steps: Sequence[Step]) -> None:
        """Note options that no verb has, and references to steps that are none."""
        axes = [axis.key for axis in self.plan.grid]
        for step in steps:
            form = self.forms[step.name]
            for name in step.shared or ():
                if name not in axes:
                    self.mistakes.add(f"steps.{step.name}.axes: {name!r} is no axis of grid{near(name, axes)}")
            for name, each in (*step.options.items(), *choices_of(step.axes), *self._for_one_step(step.name)):
                if not form.takes(name):
                    close = near(name, (MODEL, *form.options))
                    why = f"{step.verb} has no such option{close}"
                    self.mistakes.add(f"{each.place}: {OUT_IS_OURS if name == THE_SWEEPS_OWN else why}")
        for axis in self.plan.grid:
            names = dict.fromkeys(name for choice in axis.choices for name in choice.of_steps)
            for name in names.keys() - self.plan.steps.keys():
                close = near(name, tuple(self.plan.steps))
                self.mistakes.add(f"{axis.place}.{name} must be a step, since it is a table of options{close}")
        if len(steps) == len(self.plan.steps):
            known = (MODEL, *dict.fromkeys(name for step in steps for name in self.forms[step.name].options))
            shared = (*self.plan.defaults.items(), *choices_of(self.plan.grid), *self.plan.overrides.items())
            for name, each in shared:
                if name not in known:
                    self.mistakes.add(f"{each.place}: no step's verb has an option {name}{near(name, known)}")
        for each in self._all_values():
            for name in each.references():
                if name not in self.plan.steps:
                    close = near(name, tuple(self.plan.steps))
                    self.mistakes.add(f"{each.place}: {{{name}}} must name a step{close}")

    def _for_one_step(self, step: str) -> Iterator[tuple[str, Given]]:
        """Yield the options that the plan's grid sets for one step alone."""
        for axis in self.plan.grid:
            for choice in axis.choices:
                yield from choice.of_steps.get(step, {}).items()

    def _all_values(self) -> Iterator[Given]:
        for step in self.plan.steps.values():
            yield from step.options.values()
            yield from (each for _, each in (*choices_of(step.axes), *self._for_one_step(step.name)))
        yield from self.plan.defaults.values()
        yield from (each for _, each in choices_of(self.plan.grid))
        yield from self.plan.overrides.values()

    def _ordered(self, steps: Sequence[Step]) -> Iterator[Step]:
        """Yield the steps, each after those it refers to; a circle is noted and left out."""
        done: set[str] = set()
        waiting = list(steps)
        while waiting:
            ready = [step for step in waiting if not self._references(step) - done]
            if not ready:
                if len(steps) == len(self.plan.steps):
                    names = ", ".join(step.name for step in waiting)
                    self.mistakes.add(f"steps must not refer to each other in a circle: {names}")
                return
            yield from ready
            done |= {step.name for step in ready}
            waiting = [step for step in waiting if step.name not in done]

    def _references(self, step: Step) -> set[str]:
        """Return the steps that some run of a step uses."""
        axes = [axis for axis in (*self.plan.grid, *step.axes) if self._is_on(step, axis)]
        values = [*self._layer(step, {}).values(), *(each for _, each in choices_of(axes, step.name))]
        return {name for each in values for name in each.references() if name in self.plan.steps}

    def _is_on(self, step: Step, axis: Axis) -> bool:
        """Return whether a step has runs for each value of an axis: the axis sets what the step leaves open."""
        models = [each for name, each in choices_of([axis], step.name) if name == MODEL]
        if axis.option_names(step.name) <= self.plan.overrides.keys() and not any(each.references() for each in models):
            return False  # --set gives one value for all; models that are other steps' runs stay
        if axis in step.axes:
            return True
        if step.shared is not None:
            return axis.key in step.shared
        own = step.options.keys() | {name for each in step.axes for name in each.option_names(step.name)}
        return any(self.forms[step.name].takes(name) and name not in own for name in axis.option_names(step.name))

    def _find_axes(self, step: Step) -> None:
        inherited = {key: axis for name in sorted(self._references(step)) for key, axis in self.axes[name].items()}
        own = {axis.key: axis for axis in (*self.plan.grid, *step.axes) if self._is_on(step, axis)}
        ranks = {axis.key: i for i, axis in enumerate(self.plan.grid)}  # the grid's first, in its order
        both = inherited | own
        self.axes[step.name] = dict(sorted(both.items(), key=lambda item: ranks.get(item[0], len(ranks))))

    def _layer(self, step: Step, chosen: Mapping[str, Given]) -> dict[str, Given]:
        """Return the values of one run: defaults, what its axes choose, the step's own, what --set says."""
        form, overrides = self.forms[step.name], dict(self.plan.overrides)
        given = {**self.plan.defaults, **chosen, **step.options}
        if MODEL in given and given[MODEL].references():
            overrides.pop(MODEL, None)
        return {name: each for name, each in {**given, **overrides}.items() if form.takes(name)}

    def _runs_of(self, step: Step) -> Iterator[Run]:
        axes = self.axes[step.name]
        for choices in product(*(axis.choices for axis in axes.values())):
            chosen: dict[str, Given] = {}
            for axis, choice in sorted(zip(axes.values(), choices, strict=True), key=lambda pair: pair[0] in step.axes):
                if self._is_on(step, axis):
                    chosen |= choice.options_of(step.name)
            labels = {key: choice.label for key, choice in zip(axes, choices, strict=True)}
            run = self._run(step, labels, self._layer(step, chosen))
            if run is not None:
                yield run

    def _run(self, step: Step, labels: Mapping[str, str], given: dict[str, Given]) -> Run | None:
        place, name = f"steps.{step.name}", run_name(step.name, labels)
        if len(name) > MOST_CHARACTERS:
            self.mistakes.add(f"{place}: a run's name must be shorter than {name}; give long values names")
        used = [ref for each in given.values() for ref in each.references() if ref in self.axes]
        names = {ref: run_name(ref, {key: labels[key] for key in self.axes[ref]}) for ref in used}
        resolved = {option: self._resolved(each, names) for option, each in given.items()}
        model = resolved.pop(MODEL, None)
        if model is None or not isinstance(model.value, str) or not model.value:
            self.mistakes.add(f"{place}.model must be given: a model, or {{STEP}} for the run of another step")
            return None
        form = self.forms[step.name]
        options = typed_options(form, place, {n: each for n, each in resolved.items() if form.takes(n)}, self.mistakes)
        words = (
            step.verb,
            model.value,
            "--out",
            str(self.out / RUNS / name),
            *words_of(form, options, without=THE_ENGINES_OWN),
        )
        seeds = frozenset(key for key, axis in self.axes[step.name].items() if axis.is_seed)
        after = tuple(dict.fromkeys(names.values()))
        return Run(name, step.name, step.verb, labels, seeds, model.value, options, after, step.needs, words)

    def _resolved(self, given: Given, names: Mapping[str, str]) -> Given:
        """Return a value with the folders of runs in place of references."""

        def folder(text: Any) -> Any:
            if not isinstance(text, str):
                return text
            return REFERENCE.sub(lambda found: str(self.out / RUNS / names.get(found[1], found[1])), text)

        value = given.value
        return replace(given, value=[folder(each) for each in value] if isinstance(value, list) else folder(value))


def choices_of(axes: Iterable[Axis], step: str = "") -> Iterator[tuple[str, Given]]:
    """Yield every option that axes set for all steps, and for one where it is named, with its value."""
    for axis in axes:
        for choice in axis.choices:
            yield from choice.options_of(step).items()


def run_name(step: str, labels: Mapping[str, str]) -> str:
    """Return what a run and its folder are called: its step, then its value on each axis."""
    return "-".join([step, *(f"{key}={label}" for key, label in labels.items())])
