"""The trials of a search: networks scored on select until they are used up, and the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cutbert.bench.latency_table import LatencyTable
from cutbert.errors import BudgetError
from cutbert.fronts.front import Front
from cutbert.fronts.score import label_scores
from cutbert.fronts.search import Problem, ScoreCache, Trial, front_of, search, widest
from cutbert.fronts.search_settings import SearchSettings
from cutbert.methods.prepare import Prepared
from cutbert.methods.search_costs import numbers_of
from cutbert.model.task_model import TaskModel
from cutbert.shape.search_space import SearchSpace
from cutbert.shape.shape import EncoderShape
from cutbert.train.counting import counter
from cutbert.train.progress import progress_bar
from cutbert.train.run_folder import RunFolder

SEARCHES = "searches"
SPARE = 2  # times as many as are kept are scored on all rows, where trials are scored on a sample


@dataclass(frozen=True)
class Hunt:
    """What the parts of one search share.

    Args:
        source: the run it is in.
        run: its own folder in that run.
        settings: as given.
        prepared: the supernet and its task.
        space: where it looks.
        max_length: longest input in tokens.
        table: of latencies; None where none is asked for.
    """

    source: RunFolder
    run: RunFolder
    settings: SearchSettings
    prepared: Prepared
    space: SearchSpace
    max_length: int
    table: LatencyTable | None

    @property
    def supernet(self) -> TaskModel:
        return self.prepared.loaded.model

    @property
    def place(self) -> str:
        """The search's folder, as the run's front names it."""
        return str(self.run.path.relative_to(self.source.path))

    def numbers(self, shape: EncoderShape) -> dict[str, float]:
        """Return what a network costs, by the names that limits have for it."""
        return numbers_of(shape, self.supernet.head_spec, self.table)

    def excess(self, shape: EncoderShape) -> float:
        """Return by how much a network breaks the limits on cost."""
        return replace(self.settings, min_score=None).excess(self.numbers(shape))


def hunted(hunt: Hunt, front: Front) -> tuple[int, list[Trial]]:
    """Return how many networks were scored, and those that are worth to be kept.

    Raises:
        BudgetError: no network that was scored keeps the limits.
    """
    settings, shape = hunt.settings, hunt.supernet.shape
    seeds = [entry.subnet for entry in front if entry.folder is None and entry.search is None]
    score_of = book_of(hunt, settings.sample)
    quest = Problem(
        hunt.space,
        score_of,
        lambda subnet: hunt.numbers(subnet.shape_in(shape))[settings.cost_name],
        lambda subnet: hunt.excess(subnet.shape_in(shape)),
        settings.min_score,
    )
    with progress_bar("search", min(settings.trials, hunt.space.size)) as bar:
        advance = counter(bar)
        trials = search(
            quest,
            seeds,
            trials=settings.trials,
            seed=settings.seed,
            on_trial=lambda trial: advance(),
        )
    fitting = trials if settings.sample is None else scored_on_all(hunt, trials)
    fitting = quest.fitting(fitting)
    if not fitting:
        raise BudgetError(f"no network within the limits was found in {len(trials)} trials; loosen them or give more")
    return len(trials), widest(front_of(fitting), settings.keep)


def scored_on_all(hunt: Hunt, trials: Sequence[Trial]) -> list[Trial]:
    """Return the best trials with their scores on all rows of select: front after front, as many as may be spared."""
    left, chosen = list(trials), list[Trial]()
    while left and len(chosen) < SPARE * hunt.settings.keep:
        chosen += front_of(left)
        taken = {trial.subnet for trial in chosen}
        left = [trial for trial in left if trial.subnet not in taken]
    score_of = book_of(hunt, None)
    with progress_bar("all of select", len(chosen)) as bar:
        advance, found = counter(bar), []
        for trial in chosen:
            found.append(replace(trial, score=score_of(trial.subnet)))
            advance()
    return found


def book_of(hunt: Hunt, sample: int | None) -> ScoreCache:
    """Return what scores subnets on select or on a sample of its rows; all searches of a run share the book."""
    data, tokens = hunt.prepared.data, hunt.prepared.select
    if sample is not None and sample < len(data.select):
        rows = np.sort(np.random.default_rng(0).permutation(len(data.select))[:sample])
        tokens = hunt.prepared.tokenize(data.select.take(rows), hunt.max_length)
    path = hunt.source.path / SEARCHES / f"scores-{'all' if tokens is hunt.prepared.select else sample}.jsonl"
    model = hunt.supernet
    return ScoreCache(path, lambda subnet: label_scores(model, subnet, tokens, data.metric).score)
