"""From a plan to its runs: the product of the grid, references resolved, every option checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from cutbert.errors import InputError, Mistakes
from cutbert.options import did_you_mean
from cutbert.parsing import is_plain
from cutbert.sweeps.options import MODEL, OUT, VerbOptions, Verbs, typed_options, verb_options, words_of
from cutbert.sweeps.plan import REFERENCE, Axis, Needs, PlanValue, Step, SweepPlan, read_plan

RUNS = "runs"
OUT_IS_OURS = "the sweep gives every run its folder"
THREADS = "threads"
MOST_RUNS = 10_000
MOST_CHARACTERS = 150  # of a run's name, which names a folder and a log


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep.

    Args:
        name: also of its folder.
        step: name of its step in the plan.
        labels: its value on each axis.
        seeds: names of the axes whose values are seeds.
        options: of its command, as settings types, without --out and without defaults.
        after: names of the runs it uses.
        needs: what it needs of a machine.
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


def read_runs(path: Path, sets: Sequence[str], verbs: Verbs, out: Path) -> list[PlannedRun]:
    """Return the runs of a plan, each after those it uses.

    Args:
        path: plan file.
        sets: values of --set.
        verbs: the verbs a step may run.
        out: folder of the sweep.

    Raises:
        InputError: all mistakes in the plan together, each with its place.
    """
    mistakes = Mistakes()
    plan = read_plan(path, sets, mistakes)
    runs = Expansion(plan, out, mistakes).runs(verbs)
    messages = dict.fromkeys(mistakes.messages)
    if messages:
        raise InputError(*(each if each.startswith("--set") else f"{path}: {each}" for each in messages))
    return runs


@dataclass
class Expansion:
    """Expands one plan into its runs; mistakes in it are added to `mistakes`.

    Args:
        plan: as read.
        out: folder of the sweep.
        mistakes: collects.
        accepted: by step, the options its verb takes.
        axes: by step, the axes its runs differ in, after those of the steps it refers to.
    """

    plan: SweepPlan
    out: Path
    mistakes: Mistakes
    accepted: dict[str, VerbOptions] = field(default_factory=dict)
    axes: dict[str, dict[str, Axis]] = field(default_factory=dict)

    def runs(self, verbs: Verbs) -> list[PlannedRun]:
        """Return all runs, each after those it uses; where there are mistakes, those that could be made."""
        for step in self.plan.steps.values():
            self._find_options(step, verbs)
        steps = [step for step in self.plan.steps.values() if step.name in self.accepted]
        self._check_names(steps)
        runs: list[PlannedRun] = []
        for step in self._ordered(steps):
            self._find_axes(step)
            count = len(runs) + math.prod(len(axis.choices) for axis in self.axes[step.name].values())
            if count > MOST_RUNS:
                self.mistakes.add(f"steps.{step.name}: a sweep must have at most {MOST_RUNS:,} runs, got {count:,}")
                return runs
            runs += self._runs_of(step)
        return runs

    def _find_options(self, step: Step, verbs: Verbs) -> None:
        """Keep what a step's verb takes."""
        place = f"steps.{step.name}"
        if step.verb not in verbs:
            close = did_you_mean(step.verb, tuple(verbs))
            self.mistakes.add(f"{place}.verb must be one of {', '.join(verbs)}, got {step.verb!r}{close}")
            return
        try:
            self.accepted[step.name] = verb_options(self.plan, step, verbs)
        except InputError as error:
            self.mistakes.extend(f"{place}: {mistake}" for mistake in error.mistakes)

    def _check_names(self, steps: Sequence[Step]) -> None:
        """Collect options that no verb has, and references to steps that do not exist."""
        for step in steps:
            self._check_step(step)
        for axis in self.plan.grid:
            names = dict.fromkeys(name for choice in axis.choices for name in choice.of_steps)
            for name in names.keys() - self.plan.steps.keys():
                close = did_you_mean(name, tuple(self.plan.steps))
                self.mistakes.add(f"{axis.place}.{name} must be a step, since it is a table of options{close}")
        if len(steps) == len(self.plan.steps):
            self._check_shared_options(steps)
        for each in self._all_values():
            for name in each.references():
                if name not in self.plan.steps:
                    close = did_you_mean(name, tuple(self.plan.steps))
                    self.mistakes.add(f"{each.place}: {{{name}}} must name a step{close}")

    def _check_step(self, step: Step) -> None:
        """Collect axes that the grid does not have, and options that the step's verb does not take."""
        accepted, axes = self.accepted[step.name], [axis.key for axis in self.plan.grid]
        for name in step.shared or ():
            if name not in axes:
                self.mistakes.add(f"steps.{step.name}.axes: {name!r} is not an axis of grid{did_you_mean(name, axes)}")
        for name, each in (*step.options.items(), *choices_of(step.axes), *self._for_one_step(step.name)):
            if not accepted.takes(name):
                close = did_you_mean(name, (MODEL, *accepted.options))
                why = f"{step.verb} has no such option{close}"
                self.mistakes.add(f"{each.place}: {OUT_IS_OURS if name == OUT else why}")

    def _check_shared_options(self, steps: Sequence[Step]) -> None:
        """Collect options for all steps that no step's verb takes."""
        known = (MODEL, *dict.fromkeys(name for step in steps for name in self.accepted[step.name].options))
        shared = (*self.plan.defaults.items(), *choices_of(self.plan.grid), *self.plan.overrides.items())
        for name, each in shared:
            if name not in known:
                self.mistakes.add(f"{each.place}: no step's verb has an option {name}{did_you_mean(name, known)}")

    def _for_one_step(self, step: str) -> Iterator[tuple[str, PlanValue]]:
        """Yield the options that the plan's grid sets for one step alone."""
        for axis in self.plan.grid:
            for choice in axis.choices:
                yield from choice.of_steps.get(step, {}).items()

    def _all_values(self) -> Iterator[PlanValue]:
        for step in self.plan.steps.values():
            yield from step.options.values()
            yield from (each for _, each in (*choices_of(step.axes), *self._for_one_step(step.name)))
        yield from self.plan.defaults.values()
        yield from (each for _, each in choices_of(self.plan.grid))
        yield from self.plan.overrides.values()

    def _ordered(self, steps: Sequence[Step]) -> Iterator[Step]:
        """Yield the steps, each after those it refers to; a circle is a mistake, and its steps are left out."""
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
        """Return the names of the steps that a step's runs refer to."""
        axes = [axis for axis in (*self.plan.grid, *step.axes) if self._is_on(step, axis)]
        values = [*self._layer(step, {}).values(), *(each for _, each in choices_of(axes, step.name))]
        return {name for each in values for name in each.references() if name in self.plan.steps}

    def _is_on(self, step: Step, axis: Axis) -> bool:
        """Return whether a step has a run for each value of an axis: the axis sets an option the step leaves open."""
        models = [each for name, each in choices_of([axis], step.name) if name == MODEL]
        if axis.option_names(step.name) <= self.plan.overrides_of(step.name).keys() and not any(
            each.references() for each in models
        ):
            return False  # --set gives one value for all; models that are other steps' runs stay
        if axis in step.axes:
            return True
        if step.shared is not None:
            return axis.key in step.shared
        own = step.options.keys() | {name for each in step.axes for name in each.option_names(step.name)}
        return any(self.accepted[step.name].takes(name) and name not in own for name in axis.option_names(step.name))

    def _find_axes(self, step: Step) -> None:
        """Keep the axes that a step's runs differ in: its own, and those of the steps it refers to."""
        inherited = {key: axis for name in sorted(self._references(step)) for key, axis in self.axes[name].items()}
        own = {axis.key: axis for axis in (*self.plan.grid, *step.axes) if self._is_on(step, axis)}
        ranks = {axis.key: i for i, axis in enumerate(self.plan.grid)}  # the grid's first, in its order
        both = inherited | own
        self.axes[step.name] = dict(sorted(both.items(), key=lambda item: ranks.get(item[0], len(ranks))))

    def _layer(self, step: Step, chosen: Mapping[str, PlanValue]) -> dict[str, PlanValue]:
        """Return the values of one run; later ones win: defaults, chosen on the axes, the step's own, --set."""
        accepted, overrides = self.accepted[step.name], self.plan.overrides_of(step.name)
        given = {**self.plan.defaults, **chosen, **step.options}
        if MODEL in given and given[MODEL].references():
            overrides.pop(MODEL, None)
        return {name: each for name, each in {**given, **overrides}.items() if accepted.takes(name)}

    def _runs_of(self, step: Step) -> Iterator[PlannedRun]:
        """Yield a run for each choice on the step's axes."""
        axes = self.axes[step.name]
        for choices in product(*(axis.choices for axis in axes.values())):
            chosen: dict[str, PlanValue] = {}
            for axis, choice in sorted(zip(axes.values(), choices, strict=True), key=lambda pair: pair[0] in step.axes):
                if self._is_on(step, axis):
                    chosen |= choice.options_of(step.name)
            labels = {key: choice.label for key, choice in zip(axes, choices, strict=True)}
            run = self._run(step, labels, self._layer(step, chosen))
            if run is not None:
                yield run

    def _run(self, step: Step, labels: Mapping[str, str], given: dict[str, PlanValue]) -> PlannedRun | None:
        """Return one run, None where it has no model.

        Args:
            step: that it is a run of.
            labels: its value on each axis.
            given: its options, references to other runs not resolved yet.
        """
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
        if not is_plain(model.value):
            self.mistakes.add(f"{place}.model must be UTF-8 text without NUL, got {model.value!a}")
            return None
        accepted = self.accepted[step.name]
        options = typed_options(
            accepted, place, {n: each for n, each in resolved.items() if accepted.takes(n)}, self.mistakes
        )
        words = (
            step.verb,
            model.value,
            "--out",
            str(self.out / RUNS / name),
            *words_of(accepted, options, without=THREADS),
        )
        seeds = frozenset(key for key, axis in self.axes[step.name].items() if axis.is_seed)
        after = tuple(dict.fromkeys(names.values()))
        return PlannedRun(name, step.name, step.verb, labels, seeds, model.value, options, after, step.needs, words)

    def _resolved(self, given: PlanValue, names: Mapping[str, str]) -> PlanValue:
        """Return a value with the folders of runs in place of references."""

        def folder(text: Any) -> Any:
            if not isinstance(text, str):
                return text
            return REFERENCE.sub(lambda match: str(self.out / RUNS / names.get(match[1], match[1])), text)

        value = given.value
        return replace(given, value=[folder(each) for each in value] if isinstance(value, list) else folder(value))


def choices_of(axes: Iterable[Axis], step: str = "") -> Iterator[tuple[str, PlanValue]]:
    """Yield every option that axes set for all steps, and for one where it is named, with its value."""
    for axis in axes:
        for choice in axis.choices:
            yield from choice.options_of(step).items()


def run_name(step: str, labels: Mapping[str, str]) -> str:
    """Return the name of a run and its folder: its step, then its value on each axis."""
    return "-".join([step, *(f"{key}={label}" for key, label in labels.items())])
