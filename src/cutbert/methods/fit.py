"""`fit`: a model, data and a limit in; the best network under the limit out, as the file that is served.

The order of a run: look (what the uncut model takes where it is served, what a limit can mean), teacher, candidates
(proposed under each limit, repaired by least squares, ranked without training), rounds (successive halving: the half
that is closer to the teacher goes on with more steps), the winner's last training, and the end (export, gate, timing
of the exported file, leaderboard). The look is in `fit_look`, what can be proposed in `fit_cuts`, what takes part in
`fit_proposals`, rounds and last training in `fit_race`, the end in `fit_end` (its files in `fit_served`, their times in
`fit_finalists`, its choice in `fit_choice`); what hangs on time, and how it is kept, in `fit_plan`.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from cutbert.data.dataset import Dataset
from cutbert.data.settings import DataSettings
from cutbert.errors import InputError, InterruptedRun, Mistakes, ModelError
from cutbert.folders.load import output_rows
from cutbert.folders.sentence import read_embedder
from cutbert.folders.tokenizer import tokenizer_of
from cutbert.methods.fit_end import finish, finish_early
from cutbert.methods.fit_limits import check_counted
from cutbert.methods.fit_look import look, uncut_seconds
from cutbert.methods.fit_parts import compared_by_similarity
from cutbert.methods.fit_plan import FEWEST_SERVED, Clock, FitPlan, end_of, seconds_per_step
from cutbert.methods.fit_race import race, train_winners
from cutbert.methods.fit_run import Fitting
from cutbert.methods.fit_settings import PLANNED, FitSettings
from cutbert.methods.fit_teacher import make_teacher
from cutbert.methods.fit_training import places
from cutbert.shape.cost import cost_of
from cutbert.shape.source import Models, ModelSource
from cutbert.train.progress import say
from cutbert.train.ray_cluster import check_answers
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings
from cutbert.work.distill import LabelStep
from cutbert.work.finetune import check_teacher
from cutbert.work.inputs import Inputs, check_inputs
from cutbert.work.objective import Objective, TaskObjective
from cutbert.work.plans import FINETUNE
from cutbert.work.run import carry_out

FINE_TUNINGS, LEAST_S = 6, 300.0  # the time where none is given
FEW_ROWS = 1_000  # to train on
# Candidates by the time for a limit from which on they take part: few, since what the others take is not the winner's.
# In benchmarks/records/fit.json it was always among the first four in turn.
CANDIDATES = {640.0: 8, 160.0: 4, 0.0: 3}
# Below this time for each limit gates are not tried: they cost a tenth of eight minutes, and longer a look, and in the
# runs of benchmarks/records/fit.json that had room for them they won no race.
GATES_TIME_S = 600.0
STAGES = {
    "look": "look",
    "teacher": "teacher",
    "propose": "candidates",
    "rounds": "rounds",
    "last": "the winner's training",
    "end": "export, scores and latencies",
}
END_SHARE = 0.35  # of the time, that exporting, scoring and timing all candidates may take


def fit(
    models: Models, data: DataSettings, train: TrainSettings, settings: FitSettings, run: RunFolder
) -> dict[str, Any]:
    """Return the best network under each limit, of all that the time allows to try.

    Args:
        models: the model; a teacher, students.
        data: a task with labels, or texts for an embedding model, which is its own teacher.
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
    """Raise unless task, teacher and students go together, counted limits can be reached, and a cluster answers."""
    mistakes, head = Mistakes(), inputs.head
    mistakes.extend(f"{name} must not be given: fit plans it, within --time" for name in train.given(*PLANNED))
    if head.kind != "embedding":
        with mistakes.collect():
            check_teacher(inputs, logit_weight=1.0)
    with mistakes.collect():
        check_answers(settings.ray_address)
    if settings.plan is not None and not Path(settings.plan).is_dir():
        mistakes.add(f"--plan must be a run of fit, got {settings.plan}, which is no folder")
    for name in settings.student:
        with mistakes.collect(f"--student {name}: "):
            check_student(inputs.models.others[f"student {name}"], inputs)
    with mistakes.collect():
        check_counted(settings, inputs)
    mistakes.check(InputError)


def check_student(student: ModelSource, inputs: Inputs) -> None:
    """Raise unless a student has a tokenizer, and no head or one with the task's labels; or makes vectors.

    Of a task with outputs per token the tokenizer must be MODEL's.
    """
    mistakes, head = Mistakes(), inputs.head
    if head.kind == "embedding":
        with mistakes.collect():
            read_embedder(student.name, student.folder)
    is_other = student.head.is_sequence == head.is_sequence and student.head.num_outputs
    if head.num_outputs and is_other and output_rows(student.head, head)[0] is None:
        wanted = f"with the labels {head.label_words}" if head.labels else f"of kind {head.kind}"
        mistakes.add(f"must have no head, or one {wanted}, got {student.head.words}")
    with mistakes.collect():
        own = tokenizer_of(student).get_vocab()
        if not head.reads_text and own != tokenizer_of(inputs.model).get_vocab():
            mistakes.add(f"must have the tokenizer of {inputs.model}: outputs are learned per token")
    mistakes.check(ModelError)


def fit_within(objective: Objective, settings: FitSettings, train: TrainSettings, run: RunFolder) -> None:
    """Look, make the teacher, propose, train in rounds, finish: the whole of `fit`."""
    assert isinstance(objective, TaskObjective)
    others = objective.inputs.models.others
    students = [others[f"student {name}"] for name in settings.student if "student" in settings.kinds]
    objective = compared_by_similarity(objective, students)
    plan = FitPlan.of(run, settings.plan)
    with run.timing("look"):
        limit_s = settings.time or plan.known("time_limit_s") or default_time(objective, train)
        settings = without_late_gates(settings, limit_s)
        at_once = plan.known("at_once") or places(settings, train, run.path)
        costs, targets = look(objective, settings, train, plan)
        plan.decide("at_once", lambda: at_once)
        shares = {target.key: target.share_of(costs.table.uncut_ms) for target in targets}
        if settings.time is None:  # the end must not take it all
            uncut_s = uncut_seconds(objective, plan.decisions["look"])
            limit_s = max(limit_s, uncut_s * end_of(FEWEST_SERVED * list(shares.values())) / END_SHARE)
        clock = start_clock(objective, settings, plan, plan.decide("time_limit_s", lambda: limit_s), shares)
    warn_of_few_rows(objective.data)
    with run.timing("teacher"):
        make_teacher(objective, train, plan, clock)
    fitting = Fitting.of(objective, settings, train, plan, clock, costs, at_once)
    try:
        races = [race(fitting, target, number, len(targets)) for number, target in enumerate(targets)]
        fitting.forget_looks()
        races = train_winners(fitting, races)
        with run.timing("end"):
            finish(fitting, races)
    except (InterruptedRun, KeyboardInterrupt):
        finish_early(fitting, targets)
        raise
    timings = run.data["timings"]
    say("time: " + ", ".join(f"{words} {timings[name]:.0f} s" for name, words in STAGES.items() if name in timings))


def warn_of_few_rows(data: Dataset) -> None:
    """Say where there are few rows to imitate on, and which option takes more."""
    if len(data.train) < FEW_ROWS and data.unlabeled is None:
        is_embedding = data.head.kind == "embedding"
        more = "more texts in --train help" if is_embedding else "--unlabeled adds texts of their kind"
        say(f"{len(data.train):,} rows are few to imitate on: {more}")


def default_time(objective: TaskObjective, train: TrainSettings) -> float:
    """Return the seconds for everything where the user gives none: those of FINE_TUNINGS, at least LEAST_S."""
    scratch, step = copy.deepcopy(objective.loaded.model), LabelStep(objective.losses)
    speed = seconds_per_step(scratch, FINETUNE, objective.train_tokens, step, objective.engine, train)
    steps = FINETUNE.num_steps(math.ceil(len(objective.train_tokens) / FINETUNE.batch_size))
    return max(LEAST_S, FINE_TUNINGS * steps * speed)


def without_late_gates(settings: FitSettings, limit_s: float) -> FitSettings:
    """Return settings without gates where the time for each limit is short.

    They stay where the user named kinds, or limits a size: only gates cut hidden units, and with them the token table.
    """
    is_asked_for = settings.is_given("kinds") or settings.max_params is not None or settings.max_bytes is not None
    limits = max(1, len(settings.max_latency_ms), len(settings.max_latency_share))
    if limit_s >= GATES_TIME_S * limits or is_asked_for or "gates" not in settings.kinds:
        return settings
    named = "gates,student" if settings.student else "gates"
    least = f"--time {GATES_TIME_S * limits / 60:.0f}m or more"
    say(f"gates are not tried: they need {least}, or --kinds {named}, which may name others too, but not all")
    return replace(settings, kinds=tuple(each for each in settings.kinds if each != "gates"))


def start_clock(
    objective: TaskObjective, settings: FitSettings, plan: FitPlan, limit_s: float, shares: Mapping[str, float]
) -> Clock:
    """Return the clock: the time for everything, what of it the end needs, and how many candidates it has room for.

    Args:
        objective, settings, plan: of the run.
        limit_s: seconds for everything.
        shares: of the uncut model's latency, by the limit's key.
    """
    uncut_s = uncut_seconds(objective, plan.decisions["look"])
    by_time = next(count for least_s, count in CANDIDATES.items() if limit_s / len(shares) >= least_s)
    candidates = settings.candidates or by_time
    while candidates > 1 and uncut_s * end_of(candidates * list(shares.values())) > END_SHARE * limit_s:
        candidates -= 1
    if settings.candidates is not None and candidates < settings.candidates:
        say(
            f"{candidates} of --candidates {settings.candidates} take part: to export, score and time more would take "
            f"over {100 * END_SHARE:.0f} % of the time"
        )
    say(f"time: {limit_s / 60:.1f} minutes for everything, of which {plan.run.seconds:.0f} s are spent")
    shape, head = objective.loaded.model.shape, objective.loaded.model.head_spec
    table = shape.vocab_size * (shape.embedding_size or shape.hidden_size)
    return Clock(plan, limit_s, uncut_s, candidates, shares, 1 - table / cost_of(shape, head).params)
