"""Which candidates of `fit` take part under one limit: proposed, the best of each kind taken, timed, repaired."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import PurePath
from typing import Any

from cutbert.bench.latency import REPEATS, time_networks
from cutbert.bench.measure_table import timed_copy
from cutbert.bench.settings import LatencySettings
from cutbert.checks import is_inside
from cutbert.errors import RunError
from cutbert.methods.fit_candidates import Candidate
from cutbert.methods.fit_cuts import KNAPSACK, Proposer, student_candidates
from cutbert.methods.fit_gates import LEAST_STEPS, MOST_STEPS, chosen_by_gates, gate_plan, gated
from cutbert.methods.fit_limits import MARGIN, Target
from cutbert.methods.fit_parts import Fitting
from cutbert.methods.fit_plan import PLAN, REPAIRED, TAKING_PART, seconds_per_step
from cutbert.methods.schubert_gates import GateOptimizer, GateView
from cutbert.model.task_model import TaskModel
from cutbert.shape.budget import LATENCY
from cutbert.shape.shape import EncoderShape
from cutbert.train.checkpoint import save_weights
from cutbert.train.loop import Stage, train_stage
from cutbert.train.progress import counter, progress_bar, say

SORTS = ("thin", "layers", "student", "sizes", "undivided", "gates")
LATER = ("undivided", "gates")  # in benchmarks/records/fit.json they won no race
TIMED = 2  # times of the candidates that may race, since some turn out to break the limit
# Of the time for a limit, that timing candidates, and repairing them, may take; the first of each kind take part in
# any case.
TIMING_SHARE, REPAIR_SHARE = 0.08, 0.12
FEWEST = 2  # candidates beside students, at least
AGAIN = 0.95  # of a limit on latency, above which a measured candidate may break it when it is measured again
GATES_SHARE = 0.1  # of the time left, for gates under one limit
LEAST_ROUND_STEPS = 60
WIDE = "-wide"  # behind a candidate's name: the wider one that may take its place
LEAST_REPAIRED = 4  # candidates, where there is no time for rounds


@dataclass(frozen=True)
class Entrant:
    """A candidate in the race.

    Args:
        candidate: what it is.
        latency_ms: measured before training, beside the uncut model.
        kl: to the teacher, as it is now.
        steps, seconds: trained so far.
        rounds: survived.
        weights: name of the file of its weights in the run's checkpoint/.
    """

    candidate: Candidate
    latency_ms: float
    kl: float
    steps: int = 0
    seconds: float = 0.0
    rounds: int = 0
    weights: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "candidate": self.candidate.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Entrant:
        if not is_inside(data["weights"]):
            raise RunError(f"weights of a candidate must be inside the run's checkpoint/, got {data['weights']!r}")
        return cls(**{**data, "candidate": Candidate.from_json(data["candidate"])})


def propose(fitting: Fitting, target: Target, seconds: Callable[[int], float]) -> tuple[list[Entrant], list[Entrant]]:
    """Return the candidates that race under a limit, repaired, the best first, and those that are out; their weights
    are kept.

    None are out where there is time for rounds. Where there is none, the best is alone in the race, and the best whole
    layers are out beside it: the plain alternative is always served and shown. Where nothing fits both are empty.

    Args:
        fitting: of the run.
        target: the limit.
        seconds: for rounds of a number of candidates; only as many as these allow take part.
    """
    proposed, wider = proposals(fitting, target)
    damages = {each.name: fitting.part_of(each).damage_of(each) for each in proposed}
    ordered = in_turns(proposed, damages)
    count = fitting.plan.decide(f"{target.key}{TAKING_PART}", lambda: affordable(fitting, ordered, seconds))
    if not ordered:
        return [], []
    candidates, times = timed(fitting, target, diverse(fitting, target, ordered, count, wider), wider)
    damages |= {each.name: fitting.own.damage_of(each) for each in candidates if each in wider}
    able = [each for each in candidates if keeps_aims(fitting, target, each, times[each.name])]
    able = able or [min(candidates, key=lambda each: times[each.name])]
    if count > 1:
        taken = in_turns(able, damages)[:count]
    else:
        nearest = nearest_first(able, damages)
        plain = [each for each in nearest if each.kind == "layers"]
        taken = list({each.name: each for each in (*nearest[: LEAST_REPAIRED - 1], *plain[:1])}.values())
        taken.sort(key=lambda each: each.name not in {each.name for each in (nearest[0], *plain[:1])})
    entrants = all_repaired(fitting, target, taken, times, damages)
    if count > 1:
        return entrants, []
    return entrants[:1], [each for each in entrants[1:] if each.candidate.kind == "layers"][:1]


def all_repaired(
    fitting: Fitting,
    target: Target,
    taken: Sequence[Candidate],
    times: Mapping[str, float],
    damages: Mapping[str, float],
) -> list[Entrant]:
    """Return candidates with their weights kept, the best first: as many as there is time to repair.

    Args:
        fitting: of the run.
        target: the limit.
        taken: those that should not be missed first.
        times, damages: by name, in milliseconds; to the teacher as they are cut.
    """
    plan, name, entrants = fitting.plan, f"{target.key}{REPAIRED}", []
    until = plan.run.seconds + REPAIR_SHARE * fitting.clock.time_for_limit_s
    known, least = plan.known(name), fewest(taken)
    with progress_bar(f"{target.name}: repair", len(taken)) as bar:
        advance = counter(bar)
        for number, each in enumerate(taken):
            if number == known or (known is None and number >= least and plan.run.seconds >= until):
                say(f"{target.name}: no time to repair {len(taken) - number} more")
                break
            entrants.append(repaired(fitting, target, each, times[each.name], damages[each.name]))
            advance()
    plan.decide(name, lambda: len(entrants))
    return sorted(entrants, key=lambda each: each.kl)


def fewest(candidates: Sequence[Candidate]) -> int:
    """Return how many candidates take part however short the time is: one of each student, and FEWEST beside them."""
    return len({each.student for each in candidates} - {None}) + FEWEST


def timed(
    fitting: Fitting, target: Target, candidates: Sequence[Candidate], wider: Sequence[Candidate]
) -> tuple[list[Candidate], dict[str, float]]:
    """Return candidates with their latencies as measured.

    Predictions are often too high: where a wider one keeps the limit, it takes the place of that of its name.

    Args:
        fitting: of the run.
        target: the limit.
        candidates: that may take part.
        wider: somewhat larger than was predicted to fit.
    """
    taken = {each.name: each for each in candidates}
    twins = [each for each in wider if each.name in taken and keeps_aims(fitting, target, each, 0.0)]
    both = [*candidates, *(replace(each, name=each.name + WIDE) for each in twins)]
    stored = fitting.plan.decide(f"{target.key}-ms", lambda: measured(fitting, target, both))
    times = {name: stored[name] for name in taken if name in stored}
    if not times:
        other = fitting.settings.plan
        plan = fitting.plan.run.path / PLAN if other is None else f"--plan {other}"
        raise RunError(f"{plan} must be of the same model, data and limits: it timed others")
    for each in twins:
        ms = stored.get(each.name + WIDE)
        if each.name in times and ms is not None and keeps_aims(fitting, target, each, ms):
            taken[each.name], times[each.name] = each, ms
    return [taken[name] for name in times], times


def keeps_aims(fitting: Fitting, target: Target, candidate: Candidate, ms: float) -> bool:
    """Whether a candidate keeps what is aimed at, with its latency as it was measured."""
    return target.load({**predicted(fitting, candidate), LATENCY: MARGIN * ms / AGAIN}) <= 1


def repaired(fitting: Fitting, target: Target, candidate: Candidate, ms: float, damage: float) -> Entrant:
    """Return a candidate with its weights kept: repaired, or as it is cut where that is closer to the teacher."""
    part = fitting.part_of(candidate)
    network = part.source.cut(candidate) if part.is_student else part.repaired(candidate)
    if not part.is_student and part.damage(network) > damage:
        network = part.source.cut(candidate)
    weights = f"{target.key}-{candidate.name}-start"
    save_weights(fitting.folder / f"{weights}.safetensors", network)
    return Entrant(candidate, ms, part.kl(network), weights=weights)


def proposals(fitting: Fitting, target: Target) -> tuple[list[Candidate], list[Candidate]]:
    """Return the candidates of all kinds under a limit, and wider ones, each for the place of that of its name."""
    own, kinds = fitting.own, fitting.settings.kinds

    def load(shape: EncoderShape) -> float:
        return target.load(fitting.costs.numbers(shape))

    proposer = Proposer(own.source, load, own.damage_of, kinds)
    candidates = proposer()
    shapes = {each.subnet for each in candidates}
    wider = [each for each in proposer.wider() if each.subnet not in shapes]
    for i, (name, part) in enumerate(fitting.parts.items()):
        if name is not None:
            stem = f"student-{i}-{PurePath(name).name}"
            students = student_candidates(name, stem, part.source, load)
            if not students:
                say(f"{target.name}: {name} is not tried, since not even one of its layers fits")
            candidates += students
    if "gates" in kinds and load(own.source.shape) > 1:
        fits = any(is_predicted_to_fit(fitting, target, each) for each in candidates)
        candidates += by_gates(fitting, target, load, is_needed=not fits)
    return candidates, wider


def by_gates(
    fitting: Fitting, target: Target, load: Callable[[EncoderShape], float], *, is_needed: bool
) -> list[Candidate]:
    """Return the candidate whose sizes are chosen by gates, where there is time to train them.

    Args:
        fitting: of the run.
        target: the limit.
        load: of a shape, above 1 for the uncut model.
        is_needed: nothing else is predicted to fit, so that the fewest steps are taken in any case.
    """
    part, plan = fitting.own, fitting.own.recipe.plan
    name = f"{target.key}-gates"

    def planned() -> int:
        return min(MOST_STEPS, max(0, int(GATES_SHARE * fitting.clock.left_s / fitting.whole_step_s)))

    steps = fitting.plan.decide(f"{name}-steps", planned)
    if steps < LEAST_STEPS and not is_needed:
        say(f"{target.name}: no time to learn gates")
        return []
    model = gated(part.source, load)
    stage_plan = gate_plan(plan, name, max(LEAST_STEPS, steps))
    stage = Stage(stage_plan, part.tokens, fitting.whole_step, view=GateView, optimizer=GateOptimizer)
    train_stage(model, stage, part.objective.engine, fitting.train, fitting.plan.run)
    return chosen_by_gates(part.source, model, load)


def diverse(
    fitting: Fitting, target: Target, ordered: Sequence[Candidate], count: int, wider: Sequence[Candidate]
) -> list[Candidate]:
    """Return the candidates that are timed: TIMED times those that take part in a race, of all kinds.

    They are fewer where there is no time, but for the first of each kind that takes part in any case.

    More layers than are predicted to fit are whole layers too, and may break the limit as measured. So the first ones
    that are predicted to fit are always timed: the plain alternative must not go with the others.

    Args:
        fitting: of the run.
        target: the limit.
        ordered: all that were proposed, of each kind in turn.
        count: how many take part.
        wider: that are timed beside those of their names.
    """
    least = fewest(ordered)
    most, twins = TIMED * max(count, LEAST_REPAIRED - 1, least), {each.name for each in wider}
    room = TIMING_SHARE * fitting.clock.time_for_limit_s / fitting.clock.timing_s(target.key)
    timed_so_far = itertools.accumulate(1 + (each.name in twins) for each in ordered)
    taken = [
        each
        for i, (each, timed) in enumerate(zip(ordered[:most], timed_so_far, strict=False))
        if i < least or timed <= room
    ]
    plain = [each for each in ordered if each.kind == "layers" and is_predicted_to_fit(fitting, target, each)]
    return taken if not plain or plain[0] in taken else [*taken, plain[0]]


def is_predicted_to_fit(fitting: Fitting, target: Target, candidate: Candidate) -> bool:
    """Whether a candidate keeps what is aimed at by the latency table."""
    return target.load(predicted(fitting, candidate)) <= 1


def predicted(fitting: Fitting, candidate: Candidate) -> dict[str, float]:
    """Return the costs of a candidate by the names of limits, latency by the table."""
    return fitting.costs.numbers(candidate.subnet.shape_in(fitting.part_of(candidate).source.shape))


def in_turns(candidates: Sequence[Candidate], damages: Mapping[str, float]) -> list[Candidate]:
    """Return one candidate of each sort in turn, then the next of each: thinner layers, whole ones, and so on.

    The sorts in LATER begin in the second turn. Each student is a sort of its own.

    Damage before training ranks networks of one sort. Between sorts it misleads: thinner layers look worse than whole
    ones before training and are better after it, and a student, which is not fine-tuned, answers by chance.
    """
    nearest = nearest_first(candidates, damages)
    found = sorted({"layers", *map(sort_of, nearest)}, key=lambda name: (SORTS.index(name.partition(" ")[0]), name))
    sorts: dict[str, list[Candidate]] = {name: [] for name in found}
    for each in nearest:
        sorts[sort_of(each)].append(each)
    sorts["layers"].sort(key=whole_layers_order)
    turns = zip_longest(*([*[None] * (name in LATER), *each] for name, each in sorts.items()))
    return [each for turn in turns for each in turn if each is not None]


def sort_of(candidate: Candidate) -> str:
    """Return which of SORTS a candidate is of, and of a student its name."""
    if candidate.student is not None:
        return f"student {candidate.student}"
    return "thin" if candidate.kind == "sizes" and candidate.name != KNAPSACK else candidate.kind


def whole_layers_order(candidate: Candidate) -> tuple[int, bool]:
    """Return what puts more layers before fewer, and of as many the first ones before others; equals keep their order.

    After training the first layers are often the best whole ones, though they are far from the teacher before it.
    """
    count = len(candidate.layers)
    return (-count, candidate.layers != tuple(range(count)))


def nearest_first(candidates: Sequence[Candidate], distance: Mapping[str, float]) -> list[Candidate]:
    """Return the candidates by their distance from the teacher."""
    return sorted(candidates, key=lambda each: distance[each.name])


def measured(fitting: Fitting, target: Target, candidates: Sequence[Candidate]) -> dict[str, float]:
    """Return the latency of each candidate as it is cut: new weights would need fewer operators in int8."""
    networks = {each.name: timed_copy(fitting.part_of(each).source.cut(each)) for each in candidates}
    say(f"{target.name}: timing {len(candidates)} candidates beside the uncut model")
    return times_of(fitting, networks)


def times_of(fitting: Fitting, networks: Mapping[str, TaskModel]) -> dict[str, float]:
    """Return the latency of networks by name, timed in turn with the uncut model and brought to its first latency."""
    latency, repeats = single_timing(fitting)
    uncut = timed_copy(fitting.own.source.model)
    times = time_networks({**networks, "uncut": uncut}, fitting.objective.lengths, latency, repeats=repeats)
    factor = fitting.costs.table.uncut_ms / times["uncut"].latency_ms
    return {name: factor * times[name].latency_ms for name in networks}


def single_timing(fitting: Fitting) -> tuple[LatencySettings, int]:
    """Return how networks are timed for their latency alone, and how often again on a busy machine.

    Not again, unless it must be quiet: what is near a limit is timed several times in a run.
    """
    latency = replace(fitting.settings.timing(fitting.train.threads, fitting.train.seed), throughput_batch_size=1)
    return latency, REPEATS if latency.require_quiet else 0


def affordable(fitting: Fitting, candidates: Sequence[Candidate], seconds: Callable[[int], float]) -> int:
    """Return how many candidates there is time for in rounds, at least one; 0 where there are none."""
    if not candidates:
        return 0
    first, part = candidates[0], fitting.part_of(candidates[0])
    speed = step_seconds(fitting, first, part.source.cut(first))
    asked_s = min(LEAST_ROUND_STEPS, part.batches_left) * part.teacher_batch_s
    for count in range(min(len(candidates), fitting.clock.candidates), 1, -1):
        needed = LEAST_ROUND_STEPS * count * speed + asked_s
        if fitting.at_once * seconds(count) / num_rounds(count) >= needed:
            return count
    return 1


def num_rounds(count: int) -> int:
    """Return the rounds in which candidates become one, the better half, rounded down, going on each time.

    >>> [num_rounds(count) for count in (1, 2, 3, 4, 7, 8)]
    [0, 1, 1, 2, 2, 3]
    """
    return count.bit_length() - 1


def step_seconds(fitting: Fitting, candidate: Candidate, network: TaskModel) -> float:
    """Return the seconds of a training step of a candidate's network, which is trained for a few steps."""
    part = fitting.part_of(candidate)
    step, engine = part.step(candidate, network.shape), part.objective.engine
    return seconds_per_step(network, part.recipe.plan, part.tokens, step, engine, fitting.train)
