"""Which candidates of `fit` take part under one limit: proposed, the best of each kind taken, timed, repaired."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import PurePath

from cutbert.methods.fit_candidates import LEAST_REPAIRED, Candidate, Entrant, fewest
from cutbert.methods.fit_cuts import KNAPSACK, Proposer, student_candidates
from cutbert.methods.fit_gates import LEAST_STEPS, MOST_STEPS, chosen_by_gates, gate_plan, gated
from cutbert.methods.fit_limits import Target
from cutbert.methods.fit_plan import REPAIRED, TAKING_PART, seconds_per_step
from cutbert.methods.fit_run import Fitting
from cutbert.methods.fit_timing import diverse, is_predicted_to_fit, keeps_aims, timed, with_a_safe_one
from cutbert.methods.schubert_gates import GateOptimizer, GateView
from cutbert.model.task_model import TaskModel
from cutbert.shape.budget import LATENCY
from cutbert.shape.shape import EncoderShape
from cutbert.train.checkpoint import save_weights
from cutbert.train.loop import Stage, train_stage
from cutbert.train.progress import counter, progress_bar, say

SORTS = ("thin", "layers", "student", "sizes", "undivided", "gates")
LATER = ("undivided", "gates")  # in benchmarks/records/fit.json they won no race
REPAIR_SHARE = 0.12  # of the time for a limit, that repairing candidates may take
GATES_SHARE = 0.1  # of the time left, for gates under one limit
LEAST_ROUND_STEPS = 60


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
    proposed, sized_by = proposals(fitting, target)
    damages = {each.name: fitting.part_of(each).damage_of(each) for each in proposed}
    ordered = in_turns(proposed, damages)
    count = fitting.plan.decide(f"{target.key}{TAKING_PART}", lambda: affordable(fitting, ordered, seconds))
    if not ordered:
        return [], []
    candidates, times = timed(fitting, target, diverse(fitting, target, ordered, count), sized_by)
    damages |= {each.name: fitting.own.damage_of(each) for each in candidates if each not in proposed}
    able = [each for each in candidates if keeps_aims(fitting, target, each, times[each.name])]
    able = able or [min(candidates, key=lambda each: times[each.name])]
    if count > 1:
        in_order = in_turns(able, damages)
        taken = with_a_safe_one(fitting, target, in_order[:count], in_order, times)
    else:
        nearest = nearest_first(able, damages)
        plain = [each for each in nearest if each.kind == "layers"]
        best_first = (nearest[0], *plain[:1], *nearest[1 : LEAST_REPAIRED - 1])
        taken = list({each.name: each for each in best_first}.values())
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


def repaired(fitting: Fitting, target: Target, candidate: Candidate, ms: float, damage: float) -> Entrant:
    """Return a candidate with its weights kept: repaired, or as it is cut where that is closer to the teacher."""
    part = fitting.part_of(candidate)
    network = part.source.cut(candidate) if part.is_student else part.repaired(candidate)
    if not part.is_student and part.damage(network) > damage:
        network = part.source.cut(candidate)
    weights = f"{target.key}-{candidate.name}-start"
    save_weights(fitting.folder / f"{weights}.safetensors", network)
    return Entrant(candidate, ms, part.kl(network), weights=weights)


def proposals(
    fitting: Fitting, target: Target
) -> tuple[list[Candidate], Callable[[Candidate, float], Candidate | None]]:
    """Return the candidates of all kinds under a limit, and what sizes one again, as `timed` asks for."""
    own, kinds = fitting.own, fitting.settings.kinds

    def load(shape: EncoderShape, factor: float = 1.0) -> float:
        numbers = fitting.costs.numbers(shape)
        return target.load({**numbers, LATENCY: factor * numbers[LATENCY]} if factor != 1 else numbers)

    def sized_by(candidate: Candidate, factor: float) -> Candidate | None:
        return replace(proposer, load=partial(load, factor=factor)).again(candidate)

    proposer = Proposer(own.source, load, own.damage_of, kinds)
    candidates = proposer()
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
    return candidates, sized_by


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
