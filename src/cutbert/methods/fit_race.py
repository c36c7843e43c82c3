"""Candidates of `fit` under one limit, trained in rounds of which the better half goes on; then the winner, alone.

Source:
    Successive halving: Jamieson and Talwalkar 2016 (1502.07943). Networks are ranked by their divergence from the
    teacher on select and on held-out rows without labels: accuracy on a few hundred rows is noise (our choice).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cutbert.bench.measure_table import timed_copy
from cutbert.errors import RunError
from cutbert.files import read_json, write_json
from cutbert.methods.fit_candidates import Entrant
from cutbert.methods.fit_limits import Target
from cutbert.methods.fit_narrower import SUFFIX, narrower
from cutbert.methods.fit_plan import LAST
from cutbert.methods.fit_proposals import LEAST_ROUND_STEPS, num_rounds, propose
from cutbert.methods.fit_run import Fitting
from cutbert.methods.fit_timing import TWICE, keeps_aims, times_of
from cutbert.methods.fit_training import RoundTrainer, loaded, steps_within, trained, trainer_of
from cutbert.shape.budget import LATENCY
from cutbert.train.checkpoint import Position, latest_checkpoint, read_position
from cutbert.train.progress import say

ROUNDS_SHARE = 0.45  # of the training time; the rest is the winners'
LEAST_LAST_STEPS = 20
CLOSE = 0.02  # of a score, that training to the end may still make up for


@dataclass(frozen=True)
class Race:
    """The candidates under one limit.

    Args:
        target: the limit.
        entrants: the winner first; the others in the order in which they dropped out, the last first, behind them
            those that do not keep the limit as timed again. Empty where nothing fits.
    """

    target: Target
    entrants: tuple[Entrant, ...]


# Rounds


def race(fitting: Fitting, target: Target, number: int, count: int) -> Race:
    """Propose candidates for a limit, and train them in rounds until one is left.

    Args:
        fitting: of the run.
        target: the limit.
        number: races before this one, which have their winners' last training to come.
        count: of all races; all get an equal share of the time.
    """
    run, kept = fitting.plan.run, race_file(fitting, target)

    def time_for_rounds(candidates: int) -> float:
        races_left = count - number + number * (1 - ROUNDS_SHARE)
        return ROUNDS_SHARE * fitting.clock.left_with(candidates) / races_left

    if not kept.is_file():
        with run.timing("propose"):
            write_race(kept, *propose(fitting, target, time_for_rounds))
    entrants, out = read_race(kept)
    until = fitting.plan.decide(f"{target.key}-until", lambda: run.seconds + time_for_rounds(len(entrants)))
    if len(entrants) > 1:
        with run.timing("rounds"), trainer_of(fitting) as trainer:
            while len(entrants) > 1:
                after = sorted(train_round(trainer, target, entrants, until), key=lambda each: each.kl)
                entrants, out = after[: len(after) // 2], [*after[len(after) // 2 :], *out]
                write_race(kept, entrants, out)
                leader = entrants[0]
                say(
                    f"{target.name}, round {leader.rounds}: {len(after)} candidates, {leader.candidate.name} ahead "
                    f"(loss against the teacher {leader.kl:.4f} after {leader.steps:,} steps)"
                )
    if entrants:
        with run.timing("rounds"):
            winner, *others = timed_again(fitting, target, [*entrants, *out])
        write_race(kept, [winner], others)
        return Race(target, (winner, *others))
    return Race(target, ())


def timed_again(fitting: Fitting, target: Target, entrants: Sequence[Entrant]) -> list[Entrant]:
    """Return the candidates of a race in their order, those first that keep a limit on latency when timed once more.

    Of many that were timed before training, some kept the limit by chance, and would miss it as the file that is
    served. Now the few that raced are timed, with their weights, and the mean of both times counts. A winner that does
    not keep it is cut a little narrower; only where it cannot be does it make way. Whole layers stay beside what is cut
    out of them: the plain alternative is always shown.
    """
    if LATENCY not in target.limits:
        return list(entrants)

    def measured() -> dict[str, float]:
        networks = {each.candidate.name: timed_copy(loaded(fitting, each)) for each in entrants}
        return times_of(fitting, networks)

    again = fitting.plan.decide(f"{target.key}-again-ms", measured)
    times = {  # another run's plan may have timed others
        each.candidate.name: (each.latency_ms + again.get(each.candidate.name, each.latency_ms)) / 2
        for each in entrants
    }

    def is_out(each: Entrant) -> bool:
        return not keeps_aims(fitting, target, each.candidate, times[each.candidate.name], TWICE)

    winner = entrants[0]
    if is_out(winner) and SUFFIX not in winner.candidate.name:
        other = narrower(fitting, target, winner, {LATENCY: times[winner.candidate.name]})
        if other is not None:
            rest = entrants if winner.candidate.kind == "layers" else entrants[1:]
            return [other, *sorted(rest, key=is_out)]
    ordered = sorted(entrants, key=is_out)
    if ordered[0] != winner:
        name, ms = winner.candidate.name, times[winner.candidate.name]
        say(f"{target.name}: {ordered[0].candidate.name} goes on in the place of {name}, timed again at {ms:.3g} ms")
    return ordered


def race_file(fitting: Fitting, target: Target) -> Path:
    """Return where a race is kept as it is after its last round."""
    return fitting.folder / f"{target.key}-race.json"


def read_race(kept: Path) -> tuple[list[Entrant], list[Entrant]]:
    """Return the candidates that are still in a race, and those that are out."""

    def entrants_of(data: Any) -> tuple[list[Entrant], list[Entrant]]:
        return [Entrant.from_json(each) for each in data["in"]], [Entrant.from_json(each) for each in data["out"]]

    race: tuple[list[Entrant], list[Entrant]] = read_json(kept, RunError, entrants_of)
    return race


def write_race(kept: Path, entrants: Sequence[Entrant], out: Sequence[Entrant]) -> None:
    write_json(kept, {"in": [each.to_json() for each in entrants], "out": [each.to_json() for each in out]})


def train_round(trainer: RoundTrainer, target: Target, entrants: Sequence[Entrant], until: float) -> list[Entrant]:
    """Train every candidate for the same number of steps: what this round's share of the time allows.

    Args:
        trainer: of the run.
        target: the limit.
        entrants: at least two.
        until: second of the run at which all rounds are to be over.
    """
    fitting, number = trainer.fitting, entrants[0].rounds + 1

    def planned() -> int:
        seconds = (until - fitting.plan.run.seconds) / num_rounds(len(entrants))
        return max(LEAST_ROUND_STEPS, steps_within(fitting, entrants, seconds))

    steps = fitting.plan.decide(f"{target.key}-round-{number}", planned)
    return trainer([(each, f"{target.key}-{each.candidate.name}-{number}") for each in entrants], steps)


# The winners' last training


def train_winners(fitting: Fitting, races: Sequence[Race]) -> list[Race]:
    """Train the winner of each race alone, on the time that is left, and return the races with it.

    Under --max-drop only the winners that may be chosen are trained: see `promising`.
    """
    chosen = promising(fitting, races)
    after = list(races)
    for turn, index in enumerate(chosen):
        after[index] = with_last_training(fitting, races[index], len(chosen) - turn)
    return after


def with_last_training(fitting: Fitting, current: Race, left: int) -> Race:
    """Return a race whose winner was trained to the end, or stays where that makes it no better.

    Args:
        fitting: of the run.
        current: with a winner.
        left: last trainings to come, this one included; each gets an equal share of the time.
    """
    plan, target, winner = fitting.plan, current.target, current.entrants[0]
    name, kept = last_stage(target), last_file(fitting, target)
    if not kept.is_file():
        until = plan.decide(f"{name}-until", lambda: plan.run.seconds + fitting.clock.left_s / left)

        def planned() -> int:
            steps = steps_within(fitting, [winner], until - plan.run.seconds)
            return steps if steps >= LEAST_LAST_STEPS else 0

        steps = plan.decide(f"{name}-steps", planned)
        if not steps:
            say(f"{target.name}: no time is left to train {winner.candidate.name} further")
            return current
        pace = plan.pace(name, steps, lambda: until - plan.run.seconds)
        steps = pace.num_steps(Position())
        say(f"{target.name}: training {winner.candidate.name} alone, about {steps:,} steps")
        with plan.run.timing("last"):
            last = trained(fitting, winner, name, steps, pace)
        plan.decide(name, lambda: [list(change) for change in pace.changes])
        # Training on the same rows again and again may harm the one and help the other.
        if last.kl > winner.kl and select_score(fitting, last) <= select_score(fitting, winner):
            made = last.steps - winner.steps
            say(f"{target.name}: {winner.candidate.name} stays as it was: {made:,} steps made it no better on select")
            last = winner
        write_json(kept, last.to_json())
    return replace(current, entrants=(read_json(kept, RunError, Entrant.from_json), *current.entrants[1:]))


def last_stage(target: Target) -> str:
    """Return the name of the winner's last training."""
    return f"{target.key}{LAST}"


def last_file(fitting: Fitting, target: Target) -> Path:
    """Return where a winner is kept after its last training."""
    return fitting.folder / f"{last_stage(target)}-entrant.json"


def promising(fitting: Fitting, races: Sequence[Race]) -> list[int]:
    """Return which races' winners are trained to the end: all; of the sizes tried under --max-drop at most two.

    These are the fastest that is close to the drop by now, and the next larger one, in case it does not get there.
    """
    able = [i for i, each in enumerate(races) if each.entrants]
    if not any(each.target.is_rung for each in races):
        return able
    kept = fitting.folder / "promising.json"
    if not kept.is_file():
        allowed = fitting.own.teacher_select - (fitting.settings.max_drop or 0.0) / 100 - CLOSE
        chosen = []
        for group in dict.fromkeys(races[i].target.group for i in able):
            own = [i for i in able if races[i].target.group == group]
            order = sorted(own, key=lambda i: races[i].entrants[0].latency_ms)
            close = [i for i in order if select_score(fitting, races[i].entrants[0]) >= allowed]
            first = order.index(close[0] if close else order[-1])
            chosen += order[first : first + 2]
        write_json(kept, chosen)
    return list(read_json(kept, RunError, list))


def select_score(fitting: Fitting, entrant: Entrant) -> float:
    """Return an entrant's score on select, in float32."""
    return fitting.part_of(entrant.candidate).select_score(loaded(fitting, entrant))


def best_so_far(fitting: Fitting, target: Target) -> Race | None:
    """Return a limit with its best candidate as it is now, amid a training too; None before there is one."""
    if last_file(fitting, target).is_file():
        return Race(target, (read_json(last_file(fitting, target), RunError, Entrant.from_json),))
    if not race_file(fitting, target).is_file() or not read_race(race_file(fitting, target))[0]:
        return None
    best = read_race(race_file(fitting, target))[0][0]
    running = latest_checkpoint(fitting.folder / last_stage(target))
    if running is not None:
        done = read_position(running / "position.json")
        weights = str((running / "model").relative_to(fitting.folder))
        best = replace(best, weights=weights, steps=best.steps + done.step, seconds=best.seconds + done.seconds)
    return Race(target, (best,))
