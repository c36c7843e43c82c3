"""`fit`: a model, data and a limit in; the best network under the limit out, as the file that is served.

The order of a run: look (what the uncut model takes where it is served, what a limit can mean), teacher, candidates
(proposed under each limit, repaired by least squares, ranked without training), rounds (successive halving: the half
that is closer to the teacher goes on with more steps), the winner's last training, and the end (export, gate, timing
of the exported file, leaderboard). What can be proposed is in `fit_cuts`, what takes part in `fit_proposals`,
rounds and last training in `fit_race`, the end in `fit_end` (its files in `fit_served`, its choice in `fit_choice`);
what hangs on time, and how it is kept, in `fit_plan`.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cutbert.bench.backends import BACKENDS
from cutbert.bench.latency_table import LatencyTable
from cutbert.data.rows import Rows
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import bare_engine
from cutbert.data.vectors import VectorTexts
from cutbert.errors import BudgetError, InputError, InterruptedRun, Mistakes, ModelError
from cutbert.fronts.measure import timed_table
from cutbert.hub.load import named, output_rows
from cutbert.hub.sentence import read_embedder
from cutbert.hub.tokenizer import tokenizer_of
from cutbert.methods.fit_end import finish, finish_early
from cutbert.methods.fit_limits import Costs, Target, check_counted, targets_of
from cutbert.methods.fit_parts import Fitting
from cutbert.methods.fit_plan import Clock, FitPlan, end_of, seconds_per_step
from cutbert.methods.fit_race import race, train_winners
from cutbert.methods.fit_settings import PLANNED, FitSettings
from cutbert.methods.fit_teacher import make_teacher
from cutbert.methods.fit_training import places
from cutbert.shape.source import Models, ModelSource
from cutbert.train.machine import num_threads
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings
from cutbert.work.distill import LabelStep
from cutbert.work.inputs import Inputs, check_inputs
from cutbert.work.objective import Objective, TaskObjective
from cutbert.work.plans import FINETUNE
from cutbert.work.run import carry_out

FINE_TUNINGS, LEAST_S = 6, 300.0  # the time where none is given
TIMED_TEXTS = 64
CANDIDATE_S, FEWEST_CANDIDATES, MOST_CANDIDATES = 40, 3, 8
PROPOSING = 2.0  # times of the look, that choosing and repairing candidates under a limit takes, roughly
END_SHARE = 0.35  # of the time, that exporting, scoring and timing all candidates may take


def fit(
    models: Models, data: DataSettings, train: TrainSettings, settings: FitSettings, run: RunFolder
) -> dict[str, Any]:
    """Return the best network under each limit, of all that the time allows to try.

    Args:
        models: the model; a teacher, students.
        data: a task with labels of whole texts, or texts for an embedding model, which is its own teacher.
        train: machine, seed and checkpoints; rates and steps are planned here.
        settings: limits, time, and what is tried.
        run: opened run folder; receives model/ (one more for each further limit), leaderboard.json, plan.json and
            teacher/ where one was made.

    Returns:
        The result with the keys out, chosen, leaderboard, teacher, metric, seconds, time_limit_s.

    Raises:
        BudgetError: limits that no candidate can reach; names the range. Nothing is left then.
        InputError: mistakes in settings, models or data, all together, before anything is made.

    Source:
        Ours. Successive halving: Jamieson and Talwalkar 2016 (1502.07943).
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("fit must run in one process: it times networks, and trains one candidate after the other")
    check_method = partial(check_fit, settings, train)
    inputs = check_inputs(models, data, settings, train=train, check_method=check_method)
    return carry_out(inputs, train, run, partial(fit_within, settings=settings, train=train, run=run))


def check_fit(settings: FitSettings, train: TrainSettings, inputs: Inputs) -> None:
    """Raise unless task, teacher and students go together and counted limits can be reached; all mistakes together."""
    mistakes, head = Mistakes(), inputs.head
    if not head.reads_text:
        raise InputError(
            f"fit must have a task with labels of whole texts, or --objective embedding, got one of kind {head.kind}"
        )
    mistakes.extend(f"{name} must not be given: fit plans it, within --time" for name in train.given(*PLANNED))
    teacher = inputs.models.teacher
    if teacher is not None and head.is_sequence and output_rows(teacher.head, head)[0] is None:
        mistakes.add(f"--teacher {teacher} must have a head with the labels {', '.join(head.labels)}")
    if settings.plan is not None and not Path(settings.plan).is_dir():
        mistakes.add(f"--plan must be a run of fit, got {settings.plan}, which is no folder")
    for name in settings.student:
        with mistakes.collect(f"--student {name}: "):
            check_student(inputs.models.others[f"student {name}"], inputs)
    with mistakes.collect():
        check_counted(settings, inputs)
    mistakes.check(InputError)


def check_student(student: ModelSource, inputs: Inputs) -> None:
    """Raise unless a student has a tokenizer, and no head or one with the task's labels; or vectors of MODEL's size."""
    mistakes, head = Mistakes(), inputs.head
    if head.kind == "embedding":
        with mistakes.collect():
            read_embedder(student.name, student.folder)
        ours, its = inputs.model.shape.hidden_size, student.shape.hidden_size
        if ours != its:
            mistakes.add(f"must make vectors of {ours} numbers, as {inputs.model} does, got {its}")
    if head.is_sequence and student.head.is_sequence and output_rows(student.head, head)[0] is None:
        mistakes.add(f"must have no head, or one with the labels {', '.join(head.labels)}, got {named(student.head)}")
    with mistakes.collect():
        tokenizer_of(student)
    mistakes.check(ModelError)


def fit_within(objective: Objective, settings: FitSettings, train: TrainSettings, run: RunFolder) -> None:
    """Look, make the teacher, propose, train in rounds, finish: the whole of `fit`."""
    assert isinstance(objective, TaskObjective)
    plan = FitPlan.of(run, settings.plan)
    with run.timing("look"):
        at_once = plan.known("at_once") or places(settings, train, run.path)
        costs, targets = look(objective, settings, train, plan)
        plan.decide("at_once", lambda: at_once)
        clock = start_clock(objective, settings, train, plan, len(targets))
    with run.timing("teacher"):
        make_teacher(objective, train, plan, clock)
    fitting = Fitting.of(objective, settings, train, plan, clock, costs, at_once)
    try:
        races = [race(fitting, target, number, len(targets)) for number, target in enumerate(targets)]
        races = train_winners(fitting, races)
    except (InterruptedRun, KeyboardInterrupt):
        finish_early(fitting, targets)
        raise
    with run.timing("end"):
        finish(fitting, races)


def look(
    objective: TaskObjective, settings: FitSettings, train: TrainSettings, plan: FitPlan
) -> tuple[Costs, list[Target]]:
    """Time the uncut model and its parts where it will be served, and the tokenizer beside it.

    Further costs are predicted from these times.

    Raises:
        BudgetError: no network keeps the limits, or no time is left; nothing is kept then.
    """
    begun = plan.run.seconds  # reading the data, which may take long, comes before and is not done again
    measured = plan.known("look") or measured_look(objective, settings, train)
    table = LatencyTable.from_json(measured["table"])
    costs = Costs.of(table, objective.data.head, settings.backend)
    models = objective.inputs.models
    shapes = [objective.loaded.model.shape, *(models.others[f"student {name}"].shape for name in settings.student)]
    mistakes, targets = Mistakes(), list[Target]()
    with mistakes.collect():
        targets = targets_of(settings, costs, shapes)
    with mistakes.collect():
        check_time(settings, uncut_seconds(objective, measured), begun, plan.run.seconds - begun, len(targets))
    mistakes.check(BudgetError)
    plan.decide("look", lambda: measured)
    say(
        f"look: the uncut model takes {table.uncut_ms:.2f} ms on {settings.backend}, its tokenizer "
        f"{measured['tokenizer_ms']:.2f} ms (median, one text at a time)"
    )
    for target in targets:
        if not target.is_rung and target.keeps(costs.numbers(shapes[0])):
            say(f"{target.name}: the uncut model is within it already; a cut is taken only if it is as good")
    return costs, targets


def measured_look(objective: TaskObjective, settings: FitSettings, train: TrainSettings) -> dict[str, Any]:
    """Return the latency table, the tokenizer's time, and what it takes to load and to run the uncut model's file."""
    latency = settings.timing(train.threads, train.seed)
    table = timed_table(objective.loaded.model, ("a", "f", "h"), objective.lengths, latency)
    build_s, row_ms = serving_times(objective, settings, train)
    return {
        "table": table.to_json(),
        "tokenizer_ms": tokenizer_ms(objective),
        "build_s": build_s,
        "row_ms": row_ms,
    }


def check_time(settings: FitSettings, uncut_s: float, spent_s: float, look_s: float, num_limits: int) -> None:
    """Raise a BudgetError where --time has no room to propose, and to end with one candidate under each limit."""
    needed = spent_s + look_s * (1 + PROPOSING * num_limits) + uncut_s * end_of(num_limits)
    if settings.time is not None and needed > settings.time:
        raise BudgetError(
            f"--time must be at least {math.ceil(needed)} s here, to look, and to choose, repair and export a cut, "
            f"got {settings.time:g} s"
        )


def uncut_seconds(objective: TaskObjective, measured: Mapping[str, Any]) -> float:
    """Return what exporting, loading and scoring the uncut model takes."""
    rows = len(objective.dev) + (0 if objective.select_is_dev else len(objective.select))
    return float(measured["build_s"] + rows * measured["row_ms"] / 1000)


def tokenizer_ms(objective: TaskObjective) -> float:
    """Return the median time the tokenizer takes for a text of dev, alone."""
    rows = objective.data.dev
    assert isinstance(rows, Rows | VectorTexts)
    pairs = rows.text_pair if isinstance(rows, Rows) else None
    engine = bare_engine(objective.loaded.tokenizer, objective.loaded.source)
    times = []
    for i in range(min(TIMED_TEXTS, len(rows))):
        begun = time.perf_counter()
        engine.encode(rows.text[i], None if pairs is None else pairs[i])
        times.append(1000 * (time.perf_counter() - begun))
    return float(np.median(times))


def serving_times(objective: TaskObjective, settings: FitSettings, train: TrainSettings) -> tuple[float, float]:
    """Return the seconds to make and load the uncut model's file, and its milliseconds for a row of dev on average."""
    model, dev = objective.loaded.model, objective.dev
    begun = time.perf_counter()
    with num_threads(train.threads) as threads:
        runner = BACKENDS[settings.backend].load(model, threads)
        build_s = time.perf_counter() - begun
        rows = np.linspace(0, len(dev) - 1, min(TIMED_TEXTS, len(dev))).astype(np.int64)
        begun = time.perf_counter()
        for row in rows:
            runner(dev.ids[dev.offsets[row] : dev.offsets[row + 1]].astype(np.int64)[None])
    return build_s, 1000 * (time.perf_counter() - begun) / len(rows)


def start_clock(
    objective: TaskObjective, settings: FitSettings, train: TrainSettings, plan: FitPlan, num_limits: int
) -> Clock:
    """Return the clock: the time for everything, what of it the end needs, and how many candidates it has room for."""

    def default_time() -> float:
        if settings.time is not None:
            return settings.time
        scratch, step = copy.deepcopy(objective.loaded.model), LabelStep(objective.losses)
        speed = seconds_per_step(scratch, FINETUNE, objective.train_tokens, step, objective.engine, train)
        steps = FINETUNE.num_steps(math.ceil(len(objective.train_tokens) / FINETUNE.batch_size))
        return max(LEAST_S, FINE_TUNINGS * steps * speed)

    limit_s = plan.decide("time_limit_s", default_time)
    uncut_s = uncut_seconds(objective, plan.decisions["look"])
    by_time = min(MOST_CANDIDATES, max(FEWEST_CANDIDATES, int(limit_s / CANDIDATE_S)))
    candidates = settings.candidates or by_time
    while candidates > 1 and uncut_s * end_of(candidates * num_limits) > END_SHARE * limit_s:
        candidates -= 1
    say(f"time: {limit_s / 60:.1f} minutes for everything, of which {plan.run.seconds:.0f} s are spent")
    return Clock(plan.run, limit_s, uncut_s, candidates, num_limits)
