"""The end of `fit`: all candidates are served, scored and timed, and one is taken under each limit."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from cutbert.errors import BudgetError, MissingError
from cutbert.fronts.leaderboard import LEADERBOARD, Leaderboard
from cutbert.fronts.leaderboard_view import verdict
from cutbert.fronts.outputs import chance_note
from cutbert.methods.fit_candidates import Entrant
from cutbert.methods.fit_choice import UNCUT, Drop, Finalist, choose, marked
from cutbert.methods.fit_finalists import scored_and_timed
from cutbert.methods.fit_limits import Target
from cutbert.methods.fit_race import Race, best_so_far, last_stage
from cutbert.methods.fit_run import Fitting
from cutbert.methods.fit_served import Served, everything
from cutbert.methods.fit_settings import FitSettings
from cutbert.methods.fit_write import write_model
from cutbert.shape.budget import LATENCY
from cutbert.train.machine import num_threads
from cutbert.train.progress import say

MODEL = "model"
NOT_SHOWN = ("look",)  # decisions too long for the leaderboard; they are in plan.json


def finish(fitting: Fitting, races: Sequence[Race]) -> None:
    """Serve, score, time and choose; write models, leaderboard and result.

    Raises:
        BudgetError: nothing keeps any limit as it was measured; the leaderboard is kept.
        MissingError: the settings require a quiet machine, and it was not quiet; the same command measures again.
    """
    board, folders = end(fitting, races)
    for text in (*board.notes, verdict(board)):
        say(text)
    fitting.plan.run.finish(result_of(fitting, board, races, folders))


def finish_early(fitting: Fitting, targets: Sequence[Target]) -> None:
    """Write the best network under each limit as it is when the user stops a run; the run itself may go on later."""
    races = [each for target in targets if (each := best_so_far(fitting, target)) is not None]
    if not races:
        return
    say("stopping: the best so far is exported first; stop again to leave at once")
    try:
        board, folders = end(fitting, races, is_stopped=True)
    except (BudgetError, MissingError) as error:
        say(f"nothing is exported: {error}")
        return
    places = ", ".join(str(fitting.plan.run.path / each) for each in folders.values())
    say(f"in {places}: {verdict(board)}")


def end(fitting: Fitting, races: Sequence[Race], *, is_stopped: bool = False) -> tuple[Leaderboard, dict[str, str]]:
    """Serve, score, time and choose; write models and leaderboard; return it, and the models' folders by limit.

    Args:
        fitting: of the run.
        races: as they ended, or as they are where the user stops the run.
        is_stopped: whether he does.
    """
    run, settings, targets = fitting.plan.run, fitting.settings, [each.target for each in races]
    with num_threads(fitting.train.threads) as threads:
        served, finalists, measured, notes = scored_and_timed(fitting, everything(fitting, races), races, threads)
    drop = None if settings.max_drop is None else Drop(settings.max_drop, fitting.own.teacher_select)
    chosen, names = choose(targets, finalists, drop), {each.key: limit_name(settings, each) for each in targets}
    board = Leaderboard(
        metric=fitting.objective.metric,
        entries=tuple(marked(finalists, targets, chosen, drop, names)),
        limits=given_limits(fitting, targets),
        backend=settings.backend,
        measured=measured,
        plan={name: each for name, each in fitting.plan.decisions.items() if name not in NOT_SHOWN},
        notes=(
            *notes,
            *notes_of(fitting, finalists, races, chosen, is_stopped),
            *notes_on_drop(fitting, finalists, chosen, drop),
            *notes_of_chance(fitting, served, chosen),
            *missed_words(settings, targets, chosen),
        ),
        tokenizer_ms=fitting.plan.decisions["look"]["tokenizer_ms"],
        select_is_dev=fitting.objective.select_is_dev,
        own_select_metric=fitting.objective.data.own_select_metric,
    )
    board.save(run.path)
    if not chosen:
        rest = f"{run.path / LEADERBOARD} has what there is. The same command measures again"
        rest += "; a looser limit, or more time, must be in another folder"
        raise BudgetError(*(f"{words}; {rest}" for words in missed_words(settings, targets, chosen)))
    folders: dict[str, str] = {}
    uncut = served[UNCUT], finalists[UNCUT].entry
    for key, index in chosen.items():
        folders[key] = MODEL if not folders else f"{MODEL}-{key}"
        write_model(fitting, served[index], finalists[index], uncut, measured, folders[key])
    remove_other_models(run.path, folders.values())
    return board, folders


def remove_other_models(run: Path, kept: Collection[str]) -> None:
    """Remove the models that an end before this one, of a run that was stopped, left under limits without one now."""
    for folder in run.glob(f"{MODEL}-*"):
        if folder.name not in kept:
            shutil.rmtree(folder)


def limit_name(settings: FitSettings, target: Target) -> str:
    """Return a limit as the user gave it; of a size that is tried under --max-drop, the drop."""
    if not target.is_rung:
        return target.name
    within = f" within {target.within}" if target.within else ""
    return f"--max-drop {settings.max_drop:g}{within}"


def missed_words(settings: FitSettings, targets: Sequence[Target], chosen: Mapping[str, int]) -> list[str]:
    """Return a sentence for each limit under which nothing was taken."""
    answered = {target.group for target in targets if target.key in chosen}
    missed = {target.group: limit_name(settings, target) for target in targets if target.group not in answered}
    return [f"{name}: no network that was made keeps it as measured at the end" for name in missed.values()]


# Leaderboard and result


def given_limits(fitting: Fitting, targets: Sequence[Target]) -> dict[str, Any]:
    """Return the limits by option, as the user gave them; a share of the latency in milliseconds too."""
    settings, latencies = fitting.settings, list(dict.fromkeys(target.limits.get(LATENCY) for target in targets))
    given = {
        "max_latency_ms": one_or_all([each for each in latencies if each is not None]),
        "max_latency_share": one_or_all(settings.max_latency_share),
        **{name: getattr(settings, name) for name in ("max_params", "max_macs", "max_bytes", "max_drop")},
    }
    return {name: each for name, each in given.items() if each is not None}


def one_or_all(values: Sequence[float]) -> float | list[float] | None:
    return (values[0] if len(values) == 1 else list(values)) if values else None


def notes_of(
    fitting: Fitting, finalists: Sequence[Finalist], races: Sequence[Race], chosen: Mapping[str, int], is_stopped: bool
) -> list[str]:
    """Return what a reader of the leaderboard should know of the races."""
    notes, changes = [], fitting.plan.changes()
    for each in races:
        target = each.target
        if not each.entrants:
            notes.append(f"{target.name}: nothing of the kinds {', '.join(fitting.settings.kinds)} fits")
            continue
        winner = each.entrants[0]
        if target.key in changes:
            first, last = changes[target.key]
            notes.append(f"{target.name}: {first:,} last steps were planned, {last:,} were made, as the time allowed")
        index = chosen.get(target.key)
        if index is not None:
            taken = finalists[index]
            if not taken.passes_gate:
                lost = f"{100 * taken.lost:.1f} points of its score on select"
                notes.append(f"{target.name}: {taken.entry.name} loses {lost} on {fitting.settings.backend}")
            if index != UNCUT and taken.entry.name != winner.candidate.name:
                rest = f"takes the place of the race's winner, {winner.candidate.name}"
                notes.append(f"{target.name}: {taken.entry.name} {rest}")
        if not winner.steps:
            why = why_untrained(fitting, target, winner, is_stopped)
            notes.append(f"{target.name}: {why}; candidates are only repaired")
        absent = set(fitting.settings.student) - {one.candidate.student for one in each.entrants}
        if absent and not is_stopped:
            notes.append(f"{target.name}: {', '.join(sorted(absent))} took no part in the race")
    return notes


def notes_on_drop(
    fitting: Fitting, finalists: Sequence[Finalist], chosen: Mapping[str, int], drop: Drop | None
) -> list[str]:
    """Return what a reader should know of a limit on the drop."""
    if drop is None:
        return []
    notes, uncut, rows = [], finalists[UNCUT], finalists[UNCUT].num_scored
    if drop.is_coarse_on(rows):
        notes.append(
            f"--max-drop {drop.points:g}: of {rows:,} on select one is {100 / rows:.1f} points, so that only the "
            "winners and whole layers were compared; more rows in --select tell more"
        )
    lost = drop.whole_score - uncut.entry.select_score
    if UNCUT in chosen.values() and 100 * lost > drop.points:
        notes.append(
            f"--max-drop {drop.points:g}: no network keeps it on select, and the uncut one loses {100 * lost:.1f} "
            f"points there on {fitting.settings.backend}, which {rows:,} rows cannot tell from chance"
        )
    return notes


def notes_of_chance(fitting: Fitting, served: Sequence[Served], chosen: Mapping[str, int]) -> list[str]:
    """Return a sentence for each cut that was taken and whose score on dev is near chance."""
    taken = {served[index].name: served[index].outputs_name for index in chosen.values() if index != UNCUT}
    path, metric = fitting.plan.run.path, fitting.objective.metric
    found = {name: chance_note(path, outputs, metric) for name, outputs in taken.items()}
    return [f"{name}: {note}" for name, note in found.items() if note is not None]


def why_untrained(fitting: Fitting, target: Target, winner: Entrant, is_stopped: bool) -> str:
    """Return why the winner under a limit is as it was repaired."""
    if is_stopped:
        return "the run was stopped before training"
    if winner.rounds:
        return "no training stayed finite"
    if last_stage(target) in fitting.plan.decisions:
        return f"training made {winner.candidate.name} no better on select"
    return "there was no time to train"


def result_of(
    fitting: Fitting, board: Leaderboard, races: Sequence[Race], folders: Mapping[str, str]
) -> dict[str, Any]:
    """Return the result of the run."""
    run = fitting.plan.run
    entries = [entry.to_json() for entry in board]
    models = [
        {"limit": limit_name(fitting.settings, each.target), "out": str(run.path / folders[each.target.key])}
        for each in races
        if each.target.key in folders
    ]
    return {
        "out": str(run.path),
        "metric": board.metric,
        "chosen": board.chosen[0].name,
        "models": models,
        "leaderboard": entries,
        "teacher": entries[0],
        "verdict": verdict(board),
        **({"notes": list(board.notes)} if board.notes else {}),
        "quality": board.measured["quality"],
        "seconds": run.seconds,
        "time_limit_s": fitting.clock.limit_s,
    }
