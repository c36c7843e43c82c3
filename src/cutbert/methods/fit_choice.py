"""Which networks of `fit` are taken, of all that were made: by scores on select and by costs as they were measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from cutbert.fronts.leaderboard import LeaderboardEntry
from cutbert.methods.fit_limits import Target
from cutbert.shape.budget import LATENCY

GATE = 0.005  # of the score on select, that a backend may lose of a network's own
CHANGED = 0.01  # share of what is scored whose answer changes by chance with the backend
UNCUT = 0  # the uncut model's place among the finalists


@dataclass(frozen=True)
class Finalist:
    """A network at the end of a run.

    Args:
        entry: its line on the leaderboard.
        target: the limit it was made for; None for the uncut model.
        own_score: returns its score on select in float32, which takes a while and is asked of few.
        num_scored: of select: its rows, or what else its score is a mean of, as groups of pairs.
    """

    entry: LeaderboardEntry
    target: Target | None
    own_score: Callable[[], float]
    num_scored: int

    @cached_property
    def lost(self) -> float:
        """What the backend loses of its score on select in float32."""
        return self.own_score() - self.entry.select_score

    @property
    def passes_gate(self) -> bool:
        """Whether the backend loses no more than GATE of the score on select, or no more than chance explains.

        Chance is two standard errors of the difference when a share CHANGED of what is scored is answered in another
        way, by chance for better or worse (our choice).
        """
        return self.lost <= GATE + 2 * math.sqrt(CHANGED / self.num_scored)


def choose(targets: Sequence[Target], finalists: Sequence[Finalist], least_score: float | None) -> dict[str, int]:
    """Return which finalist is taken under each limit, by the target's key; a limit that none keeps is left out.

    Args:
        targets: of the races.
        finalists: the uncut model first, then those of each race: its winner first, then the last to drop out.
        least_score: on select, under --max-drop; None without.
    """
    if least_score is None:
        best = {target.key: best_of(target, finalists) for target in targets}
        return {key: index for key, index in best.items() if index is not None}
    chosen = {}
    for group in dict.fromkeys(target.group for target in targets):
        own = [target for target in targets if target.group == group]
        fastest = fastest_of(own, finalists, least_score)
        if fastest is not None:
            key, index = fastest
            chosen[key] = index
    return chosen


def best_of(target: Target, finalists: Sequence[Finalist]) -> int | None:
    """Return the network that is taken under one limit, None where none keeps it.

    The race's winner, or where it breaks the limit as measured, the one that dropped out last. Where that clearly loses
    on the backend, the one that is best there on select takes its place, if it is better. Never one below whole layers
    on select, and never one below the uncut model where that keeps the limit.
    """
    able = [i for i, each in enumerate(finalists) if each.target == target and each.entry.within_limit]
    best = next(iter(able), None)
    for i in able:
        may_replace = finalists[i].entry.kind == "layers" or not finalists[able[0]].passes_gate
        if best is not None and may_replace and finalists[i].entry.select_score > finalists[best].entry.select_score:
            best = i
    uncut = finalists[UNCUT].entry
    if not target.keeps(costs_of(uncut)):
        return best
    if best is None:
        return UNCUT
    entry = finalists[best].entry
    is_as_good = entry.select_score >= uncut.select_score and entry.latency_ms < uncut.latency_ms
    return best if is_as_good else UNCUT


def fastest_of(targets: Sequence[Target], finalists: Sequence[Finalist], least_score: float) -> tuple[str, int] | None:
    """Return target's key and place of the fastest network that is good enough, of several sizes under one limit."""
    options = [
        (target.key, i)
        for target in targets
        for i, each in enumerate(finalists)
        if each.target == target and each.entry.within_limit
    ]
    if targets[0].keeps(costs_of(finalists[UNCUT].entry)):
        options.append((targets[0].key, UNCUT))
    enough = [each for each in options if finalists[each[1]].entry.select_score >= least_score]
    return min(enough, key=lambda each: finalists[each[1]].entry.latency_ms, default=None)


def costs_of(entry: LeaderboardEntry) -> dict[str, float]:
    """Return an entry's costs by the names of limits."""
    return {LATENCY: entry.latency_ms, "params": entry.params, "macs": entry.macs, "bytes": entry.file_bytes}


def marked(
    finalists: Sequence[Finalist],
    targets: Sequence[Target],
    chosen: Mapping[str, int],
    least_score: float | None,
    names: Mapping[str, str],
) -> list[LeaderboardEntry]:
    """Return the entries with the chosen ones marked, and where there are several limits the limit of each.

    A chosen one has the limit's name as the user gave it, of `names` by target's key; others what they were made for.
    Under --max-drop an entry below the least score on select is not within the limit.
    The uncut model is listed once more for each further limit under which it is the answer.
    """
    has_limits = len(targets) > 1
    board = []
    for i, each in enumerate(finalists):
        is_chosen = each.target is not None and chosen.get(each.target.key) == i
        limit = None
        if has_limits and each.target is not None:
            limit = names[each.target.key] if is_chosen else each.target.name
        is_enough = least_score is None or each.entry.select_score >= least_score
        within = each.entry.within_limit and is_enough
        board.append(replace(each.entry, chosen=is_chosen, limit=limit, within_limit=within))
    for target in targets:
        if chosen.get(target.key) == UNCUT:
            uncut = replace(board[UNCUT], chosen=True, limit=names[target.key] if has_limits else None)
            board = [*board, uncut] if board[UNCUT].chosen else [uncut, *board[1:]]
    return board
