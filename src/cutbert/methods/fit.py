"""`fit`: a model, data and a limit in; the best network under the limit out, as the file that is served.

The order of a run: look (what the uncut model takes here, what a limit can mean), teacher, candidates (proposed under
each limit, repaired by least squares, ranked without training), rounds (successive halving: the better half by
divergence from the teacher goes on with twice the steps), the last training of the winner, and the end (export,
gate, timing of the exported file, leaderboard). What is proposed is in `fit_candidates`; what hangs on time, and how it
is kept, in `fit_plan`; the end in `fit_end`.

Source:
    Ours. Successive halving: Jamieson and Talwalkar 2016 (1502.07943); ranking by divergence from the teacher, since
    accuracy on a few hundred rows is noise; least-squares repair: see `surgery.repair`.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cutbert.bench.backends import check_backends
from cutbert.bench.latency_table import LatencyTable
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import Tokens
from cutbert.errors import BudgetError, InputError, Mistakes, RunError
from cutbert.files import read_json, write_json
from cutbert.fronts.measure import timed_table
from cutbert.hub.load import load_model, output_rows
from cutbert.methods.fit_candidates import Candidate, Proposer, Source
from cutbert.methods.fit_end import finish
from cutbert.methods.fit_gates import gated_candidate
from cutbert.methods.fit_limits import Costs, Target, check_counted, targets_of
from cutbert.methods.fit_plan import Clock, FitPlan, seconds_per_step
from cutbert.methods.fit_settings import FitSettings
from cutbert.methods.fit_teacher import make_teacher
from cutbert.model.task_model import TaskModel
from cutbert.shape.source import Models
from cutbert.surgery.norms import recalibrate_norms
from cutbert.surgery.repair import repair
from cutbert.train.checkpoint import load_weights, save_weights
from cutbert.train.evaluate import predict_logits, teacher_kl
from cutbert.train.loop import Stage, train_stage
from cutbert.train.pace import Pace
from cutbert.train.progress import counter, progress_bar, say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings
from cutbert.work.distill import DistillStep, layer_map
from cutbert.work.inputs import Inputs, check_inputs
from cutbert.work.losses import Teacher
from cutbert.work.objective import Objective, TaskObjective
from cutbert.work.plans import SMALL, SMALL_WEIGHTS
from cutbert.work.run import carry_out

FINE_TUNINGS, LEAST_S = 6, 300.0  # the default time
REPAIR_ROWS = 256
HELD_OUT = 500  # of --unlabeled, for ranking
LAST_SHARE = 0.55  # of the training time under a limit: the winner's, alone
LEAST_ROUND_STEPS = 30
LEAST_LAST_STEPS = 20
END_SHARE = 0.6  # of the uncut model's time to be exported and scored: a candidate's, roughly


def fit(
    models: Models, data: DataSettings, train: TrainSettings, settings: FitSettings, run: RunFolder
) -> dict[str, Any]:
    """Return the best network under each limit, of all that the time allows to try.

    Args:
        models: the model, a teacher, students.
        data: a task with labels of whole texts.
        train: machine, seed and checkpoints; rates and steps are planned here.
        settings: limits, time and what is tried.
        run: opened run folder; receives model/ (one more for each further limit), leaderboard.json, plan.json and
            teacher/ where one was made.

    Returns:
        The result with the keys out, chosen, leaderboard, teacher, seconds, time_limit_s, metric.

    Raises:
        BudgetError: limits that no candidate can reach; names the range. Nothing is left then.
        InputError: mistakes in settings, models or data, all together, before anything is made.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("fit must run in one process: candidates of a round are trained one after the other")
    inputs = check_inputs(models, data, settings, train=train, check_method=partial(check_fit, settings))
    check_backends((settings.backend,))
    return carry_out(inputs, train, run, partial(fit_within, settings=settings, train=train, run=run))


def check_fit(settings: FitSettings, inputs: Inputs) -> None:
    """Raise unless the task, the teacher and the students go together and counted limits can be reached."""
    mistakes, head = Mistakes(), inputs.head
    if not head.is_sequence:
        mistakes.add(f"fit must have a task with labels of whole texts, got one of kind {head.kind}")
    else:
        teacher = inputs.models.teacher
        if teacher is not None and output_rows(teacher.head, head)[0] is None:
            mistakes.add(f"--teacher {teacher} must have a head with the labels {', '.join(head.labels)}")
        if settings.plan is not None and not Path(settings.plan).is_dir():
            mistakes.add(f"--plan must be a run of fit, got {settings.plan}, which is no folder")
        with mistakes.collect():
            check_counted(settings, inputs)
    mistakes.check(InputError)


def fit_within(objective: Objective, settings: FitSettings, train: TrainSettings, run: RunFolder) -> None:
    """Look, make the teacher, propose, train in rounds, finish: the whole of `fit`."""
    assert isinstance(objective, TaskObjective)
    plan = FitPlan.of(run, settings.plan)
    with run.timing("look"):
        costs = look(objective, settings, train, plan)
        targets = targets_of(settings, costs, objective.loaded.model.shape)
        clock = make_clock(objective, settings, train, plan, costs, len(targets))
    with run.timing("teacher"):
        make_teacher(objective, settings, train, plan, clock)
    fitting = Fitting.of(objective, settings, train, run, plan, clock, costs)
    races = []
    for number, target in enumerate(targets):
        seconds = clock.left_s / (len(targets) - number)
        races.append(race(fitting, target, seconds))
    with run.timing("end"):
        finish(fitting, races)


# Look


def look(objective: TaskObjective, settings: FitSettings, train: TrainSettings, plan: FitPlan) -> Costs:
    """Time the uncut model and its parts where it will be served; every further cost is predicted from these."""
    model = objective.loaded.model
    latency = settings.timing(train.threads, train.seed)
    table = plan.decide(
        "table", lambda: timed_table(model, ("a", "f", "h"), objective.lengths, latency).to_json()
    ) if plan.is_writable else None
    return Costs.of(LatencyTable.from_json(table), model, objective.data.head, settings)
