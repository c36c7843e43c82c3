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
DIFFERENT = 0.1  # that two networks of one race answer in another way
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
    def chance(self) -> float:
        """What a backend may change of the score on select by chance: two standard errors of the difference when a
        share CHANGED of what is scored is answered in another way, for better or worse (our choice).
        """
        return 2 * math.sqrt(CHANGED / self.num_scored)

    @property
    def passes_gate(self) -> bool:
        """Whether the backend loses no more than GATE of the score on select, or no more than chance explains."""
        return self.lost <= GATE + self.chance


@dataclass(frozen=True)
class Drop:
    """The limit --max-drop.

    Args:
        points: that the score on select may drop.
        whole_score: the teacher's, in float32.
    """

    points: float
    whole_score: float

    def allows(self, finalists: Sequence[Finalist], index: int) -> bool:
        """Whether a network is good enough on select; to the uncut model is granted what chance explains."""
        found = finalists[index]
        granted = max(found.chance, 1 / found.num_scored) if index == UNCUT else 0.0
        return found.entry.select_score >= self.whole_score - self.points / 100 - granted

    def is_coarse_on(self, num_scored: int) -> bool:
        """Whether one row of select is more than the drop, so that it hardly tells networks apart."""
        return self.points / 100 < 1 / num_scored


def choose(targets: Sequence[Target], finalists: Sequence[Finalist], drop: Drop | None) -> dict[str, int]:
    """Return which finalist is taken under each limit, by the target's key; a limit that none keeps is left out.

    Args:
        targets: of the races.
        finalists: the uncut model first, then those of each race: its winner first, then the last to drop out.
        drop: allowed on select; None without --max-drop.
    """
    if drop is None:
        best = {target.key: best_of(target, finalists) for target in targets}
        return {key: index for key, index in best.items() if index is not None}
    chosen = {}
    for group in dict.fromkeys(target.group for target in targets):
        own = [target for target in targets if target.group == group]
        fastest = fastest_of(own, finalists, drop)
        if fastest is not None:
            key, index = fastest
            chosen[key] = index
    return chosen


def best_of(target: Target, finalists: Sequence[Finalist]) -> int | None:
    """Return the network that is taken under one limit, None where none keeps it.

    The race's winner, or where it breaks the limit as measured, the one that dropped out last. Where that clearly loses
    on the backend, the one that is best there on select takes its place, if it is better, and else one that is clearly
    better. Never one below whole layers on select, and never one below the uncut model where that keeps the limit.
    """
    able = [i for i, each in enumerate(finalists) if each.target == target and each.entry.within_limit]
    best = next(iter(able), None)
    for i in able:
        if best is not None and may_replace(finalists, able[0], best, i):
            best = i
    uncut = finalists[UNCUT].entry
    if not target.keeps(costs_of(uncut)):
        return best
    as_good = [
        i
        for i in able
        if finalists[i].entry.select_score >= uncut.select_score and finalists[i].entry.latency_ms < uncut.latency_ms
    ]
    return best if best in as_good else next(iter(as_good), UNCUT)


def may_replace(finalists: Sequence[Finalist], first: int, best: int, other: int) -> bool:
    """Whether another network takes the place of the best so far: it is better on select, and may be.

    Where the first loses nothing on the backend, only whole layers may, and not that of other whole layers: those were
    trained less, and a few rows of select say little. Any may that is better by more than these rows leave to chance:
    two standard errors of the difference when a share DIFFERENT is answered in another way (our choice).
    """
    theirs, ours = finalists[other].entry, finalists[best].entry
    ahead = theirs.select_score - ours.select_score
    is_plain = theirs.kind == "layers" and ours.kind != "layers"
    is_clear = ahead > 2 * math.sqrt(DIFFERENT / finalists[other].num_scored)
    return ahead > 0 and (is_plain or is_clear or not finalists[first].passes_gate)


def fastest_of(targets: Sequence[Target], finalists: Sequence[Finalist], drop: Drop) -> tuple[str, int] | None:
    """Return target's key and place of the fastest network that is good enough, of several sizes under one limit.

    Where select is too small for the drop, of each size only the race's winner and the first whole layers compete: of
    many hardly trained ones some would be good enough by luck.
    """
    options: list[tuple[str, int]] = []
    for target in targets:
        able = [i for i, each in enumerate(finalists) if each.target == target and each.entry.within_limit]
        if drop.is_coarse_on(finalists[UNCUT].num_scored):
            able = [*able[:1], *[i for i in able[1:] if finalists[i].entry.kind == "layers"][:1]]
        options += [(target.key, i) for i in able]
    if targets[0].keeps(costs_of(finalists[UNCUT].entry)):
        options.append((targets[0].key, UNCUT))
    enough = [each for each in options if drop.allows(finalists, each[1])]
    return min(enough, key=lambda each: finalists[each[1]].entry.latency_ms, default=None)


def costs_of(entry: LeaderboardEntry) -> dict[str, float]:
    """Return an entry's costs by the names of limits."""
    return {LATENCY: entry.latency_ms, "params": entry.params, "macs": entry.macs, "bytes": entry.file_bytes}


def marked(
    finalists: Sequence[Finalist],
    targets: Sequence[Target],
    chosen: Mapping[str, int],
    drop: Drop | None,
    names: Mapping[str, str],
) -> list[LeaderboardEntry]:
    """Return the entries with the chosen ones marked, and where there are several limits the limit of each.

    A chosen one has the limit's name as the user gave it, of `names` by target's key; others what they were made for.
    Under --max-drop an entry that drops further on select is not within the limit.
    The uncut model is listed once more for each further limit under which it is the answer.
    """
    has_limits = len(targets) > 1
    board = []
    for i, each in enumerate(finalists):
        is_chosen = each.target is not None and chosen.get(each.target.key) == i
        limit = None
        if has_limits and each.target is not None:
            limit = names[each.target.key] if is_chosen else each.target.name
        is_enough = drop is None or drop.allows(finalists, i)
        within = each.entry.within_limit and is_enough
        board.append(replace(each.entry, chosen=is_chosen, limit=limit, within_limit=within))
    for target in targets:
        if chosen.get(target.key) == UNCUT:
            uncut = replace(board[UNCUT], chosen=True, limit=names[target.key] if has_limits else None)
            board = [*board, uncut] if board[UNCUT].chosen else [uncut, *board[1:]]
    return board
