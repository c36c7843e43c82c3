"""What `fit` sees before it begins: what the uncut model takes where it is served, what a limit can mean, whether the
time is enough.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cutbert.bench.latency_table import LatencyTable
from cutbert.bench.measure_table import NUM_CHECKED, part_shapes
from cutbert.data.questions import Questions
from cutbert.data.rows import Examples, Rows
from cutbert.data.sentences import Sentences
from cutbert.data.tokens import bare_engine
from cutbert.data.vectors import VectorTexts
from cutbert.errors import BudgetError, Mistakes
from cutbert.exporters.trimming import tokens_that_stay
from cutbert.fronts.measure import timed_table
from cutbert.methods.fit_limits import Costs, Target, gated_dims, targets_of
from cutbert.methods.fit_plan import FitPlan, end_of
from cutbert.methods.fit_served import served_network
from cutbert.methods.fit_settings import FitSettings
from cutbert.methods.fit_teacher import LEAST_STEPS, teacher_step_s
from cutbert.shape.cost import cost_of
from cutbert.train.machine import num_threads
from cutbert.train.progress import say
from cutbert.train.settings import TrainSettings
from cutbert.work.objective import TaskObjective

TIMED_TEXTS = 64
TIMING_ROWS = 264  # that a network runs to be timed at the end, where the machine is quiet
# Networks of the look, that choosing and repairing candidates under the first limit takes as long as, at least, and
# under each further one: parts of the model are looked at once.
PROPOSING, PROPOSING_MORE = 40, 16
LOOK_OF_BUILD = 0.1  # of making the uncut model's file, that a network of the look takes at the very least


def look(
    objective: TaskObjective, settings: FitSettings, train: TrainSettings, plan: FitPlan
) -> tuple[Costs, list[Target]]:
    """Time the uncut model and its parts where it will be served, and the tokenizer beside it.

    Further costs are predicted from these times.

    Raises:
        BudgetError: no network keeps the limits, or no time is left; nothing is kept then.
    """
    known = plan.known("look")
    step_s = known["step_s"] if known is not None else teacher_step_s(objective, train, plan)
    begun = plan.run.seconds  # reading the data, which may take long, comes before and is not done again
    networks = num_timed(objective, settings)

    def check_room(served: Mapping[str, Any], look_s: float, shares: Sequence[float], repeats: int = 0) -> None:
        uncut_s, teacher_s = uncut_seconds(objective, served), LEAST_STEPS * step_s
        network_s = look_s / networks / (1 + repeats)
        check_time(settings, uncut_s, teacher_s, begun + look_s, network_s, shares)

    measured = known or {**measured_look(objective, settings, train, check_room), "step_s": step_s}
    table = LatencyTable.from_json(measured["table"])
    served = served_tokens(objective) if settings.trim_vocab else {}
    costs = Costs(table, objective.data.head, measured["bytes_per_param"], served)
    models = objective.inputs.models
    shapes = [objective.loaded.model.shape, *(models.others[f"student {name}"].shape for name in settings.student)]
    mistakes, targets = Mistakes(), list[Target]()
    with mistakes.collect():
        targets = targets_of(settings, costs, shapes)
    if known is None:  # a run that goes on has used its time for what is there already
        with mistakes.collect():
            # On a busy machine the look timed all networks several times; what comes after it does not.
            shares = [target.share_of(table.uncut_ms) for target in targets]
            check_room(measured, plan.run.seconds - begun, shares, table.measured["quality"]["repeats"])
    mistakes.check(BudgetError)
    plan.decide("look", lambda: measured)
    say(
        f"look: the uncut model takes {table.uncut_ms:.2f} ms on {settings.backend}, its tokenizer "
        f"{measured['tokenizer_ms']:.2f} ms (median, one text at a time)"
    )
    for target in targets:
        if not target.is_rung and target.keeps(costs.of_uncut(shapes[0])):
            say(f"{target.name}: the uncut model is within it already; a cut is taken only if it is as good")
    return costs, targets


def served_tokens(objective: TaskObjective) -> dict[int, int]:
    """Return how many tokens of the model stay when its vocabulary is trimmed, by their number now."""
    data = objective.data
    tokens = objective.train_tokens
    if data.unlabeled is not None:
        tokens = objective.tokenize(data.train.joined(data.unlabeled))
    kept = tokens_that_stay(objective.loaded, tokens, objective.sentence)
    return {objective.loaded.model.shape.vocab_size: len(kept)}


def measured_look(
    objective: TaskObjective,
    settings: FitSettings,
    train: TrainSettings,
    check_room: Callable[[Mapping[str, Any], float, Sequence[float]], None],
) -> dict[str, Any]:
    """Return the latency table, the tokenizer's time, and what it takes to load and to run the uncut model's file.

    Args:
        objective, settings, train: of the run.
        check_room: raises where there is no time, given what is known by now, the least that the look takes, and the
            shares of the limits; called before the table, which takes longest, is measured.

    Raises:
        BudgetError: looking alone would take the time there is.
    """
    latency = settings.timing(train.threads, train.seed)
    served = {"tokenizer_ms": tokenizer_ms(objective), **serving_costs(objective, settings, train)}
    check_room(served, LOOK_OF_BUILD * served["build_s"] * num_timed(objective, settings), [0.0])
    table = timed_table(objective.loaded.model, cut_dims(objective, settings), objective.lengths, latency)
    return {"table": table.to_json(), **served}


def cut_dims(objective: TaskObjective, settings: FitSettings) -> tuple[str, ...]:
    """Return the dimensions in which candidates may differ from the model."""
    cuts_hidden = "gates" in settings.kinds and "h" in gated_dims(objective.data.head)
    return ("a", "f", "h") if cuts_hidden or settings.student else ("a", "f")


def num_timed(objective: TaskObjective, settings: FitSettings) -> int:
    """Return how many networks the look times: parts, cuts that check the table, and the uncut model."""
    return len(part_shapes(objective.loaded.model.shape, cut_dims(objective, settings))) + NUM_CHECKED + 1


def check_time(
    settings: FitSettings,
    uncut_s: float,
    teacher_s: float,
    spent_s: float,
    network_s: float,
    shares: Sequence[float],
) -> None:
    """Raise a BudgetError where --time has no room for teacher, proposals, and one candidate under each limit.

    Args:
        settings: of the run.
        uncut_s: what exporting, loading, scoring and timing the uncut model takes.
        teacher_s: what the shortest fine-tuning takes; 0 where there is none.
        spent_s: before candidates are proposed, the look counted.
        network_s: what a network of the look takes.
        shares: of the uncut model's latency that models may take: one for each to make.
    """
    proposing_s = network_s * (PROPOSING + PROPOSING_MORE * (len(shares) - 1))
    needed = spent_s + teacher_s + proposing_s + uncut_s * end_of(shares)
    if settings.time is not None and needed > settings.time:
        scoring = uncut_s * end_of(shares)
        hint = f"; {scoring:.0f} s of it are for scores, see --max-eval-samples" if scoring > needed / 2 else ""
        if teacher_s > needed / 2:
            hint = f"; {teacher_s:.0f} s of it are {LEAST_STEPS} steps of fine-tuning, see --max-length"
        tuning = "fine-tune, " if teacher_s else ""
        raise BudgetError(
            f"--time must be at least {math.ceil(needed)} s here, to look, and to {tuning}choose, repair and export a "
            f"cut, got {settings.time:g} s{hint}"
        )


def uncut_seconds(objective: TaskObjective, measured: Mapping[str, Any]) -> float:
    """Return what exporting, loading, scoring and timing the uncut model takes."""
    rows = len(objective.dev) + (0 if objective.select_is_dev else len(objective.select)) + TIMING_ROWS
    return float(measured["build_s"] + rows * measured["row_ms"] / 1000)


def tokenizer_ms(objective: TaskObjective) -> float:
    """Return the median time the tokenizer takes for a text of dev, alone."""
    rows = objective.data.dev
    engine = bare_engine(objective.loaded.tokenizer, objective.loaded.source)
    times = []
    for text, pair in texts_of(rows.take(np.arange(min(TIMED_TEXTS, len(rows))))):
        begun = time.perf_counter()
        engine.encode(text, pair, is_pretokenized=isinstance(text, list))
        times.append(1000 * (time.perf_counter() - begun))
    return float(np.median(times))


def texts_of(rows: Examples) -> list[tuple[Any, Any]]:
    """Return each row as its text, or its words, and the text beside it, if any."""
    if isinstance(rows, Questions):
        return list(zip(rows.question, rows.context, strict=True))
    if isinstance(rows, Sentences):
        return [(words, None) for words in rows.words]
    assert isinstance(rows, Rows | VectorTexts)
    if isinstance(rows, VectorTexts) or rows.text_pair is None:
        return [(text, None) for text in rows.text]
    return list(zip(rows.text, rows.text_pair, strict=True))


def serving_costs(objective: TaskObjective, settings: FitSettings, train: TrainSettings) -> dict[str, float]:
    """Return what the uncut model's file takes: seconds to make and load it, milliseconds for a row of dev on average,
    and its bytes for each parameter.
    """
    model, dev = objective.loaded.model, objective.dev
    begun = time.perf_counter()
    with num_threads(train.threads) as threads:
        runner, file_bytes = served_network(settings.backend, model, threads)
        build_s = time.perf_counter() - begun
        rows = np.linspace(0, len(dev) - 1, min(TIMED_TEXTS, len(dev))).astype(np.int64)
        begun = time.perf_counter()
        for row in rows:
            runner(dev.ids[dev.offsets[row] : dev.offsets[row + 1]].astype(np.int64)[None])
    row_ms = 1000 * (time.perf_counter() - begun) / len(rows)
    params = cost_of(model.shape, model.head_spec).params
    return {"build_s": build_s, "row_ms": row_ms, "bytes_per_param": file_bytes / params}
