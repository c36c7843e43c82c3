"""Finished runs, and the verbs that work on one: front, pick and search."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutbert.api.result import Result
from cutbert.api.table import VERBS
from cutbert.api.verb import documented
from cutbert.api.views import VIEWS
from cutbert.errors import RunError
from cutbert.files import change_mistakes
from cutbert.fronts.entry import Entry
from cutbert.fronts.front import Front
from cutbert.fronts.leaderboard import Leaderboard
from cutbert.fronts.pick import check_measured_here, choose, given_up, picked_json, save_picked
from cutbert.fronts.search_settings import SearchSettings
from cutbert.fronts.settings import FrontSettings, PickSettings
from cutbert.lacks import naming_lacks
from cutbert.settings import build_settings, command_line
from cutbert.table import Shown, View
from cutbert.train.run_folder import RunFolder
from cutbert.train.run_lock import locked

if TYPE_CHECKING:
    from cutbert.work.repaired import RepairedPick


@dataclass(frozen=True, repr=False)
class Run(Result):
    """A finished run.

    Args:
        verb: the verb that made the result.
        data: the result it stored.
        path: its folder.
    """

    path: Path

    def view(self) -> View:
        """Return its view.

        Raises:
            RunError: what is stored is no result of the verb.
        """
        try:
            return super().view()
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            problem = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise RunError(f"{self.path}: must hold a result as {self.verb} stores it, got {problem}") from error

    @property
    def front(self) -> Front:
        """Its scored and measured subnets, as they are stored now.

        Raises:
            RunError: the run's command makes no front.
        """
        return Front.load(self.path)

    @property
    def leaderboard(self) -> Leaderboard:
        """Everything that `fit` tried.

        Raises:
            RunError: the run is not one of fit.
        """
        return Leaderboard.load(self.path)

    def pick(self, **limits: Any) -> Picked:
        """Return the best subnet under limits; arguments as in `cutbert.pick`."""
        return pick(self.path, **limits)


@dataclass(frozen=True, repr=False)
class Picked(Shown):
    """A subnet picked from a run.

    Args:
        entry: its scores and costs.
        front: what it was picked from, with latencies of the backend that was limited.
        run: the run folder it comes from.
        settings: the limits it was picked under.
        out: where it was written, None where it was not.
        select_is_dev: whether it was chosen on dev itself.
        repaired: with `repair=True` what that did; the entry's scores are then those of its network.
    """

    entry: Entry
    front: Front
    run: Path
    settings: PickSettings
    out: Path | None = None
    select_is_dev: bool = False
    repaired: RepairedPick | None = None

    @cached_property
    def cut_from(self) -> dict[str, Any]:
        """The uncut model beside it, and what the cut gave up and gained, as in `fronts.pick.given_up`."""
        dev = None if self.repaired is None else self.repaired.dev
        return given_up(self.run, self.front, self.entry, dev)

    def save_pretrained(self, folder: str | Path) -> None:
        """Cut the subnet out and write it as a model folder.

        Raises:
            RunError: the folder is not empty.
            MissingError: no room on the disk, or no right to write.
        """
        settings = PickSettings(**{**asdict(self.settings), "out": str(folder)})
        settings.check()
        line = command_line("pick", [str(self.run)], settings)
        own = None if self.repaired is None else (self.repaired.repaired.network, self.repaired.dev)
        with naming_lacks():
            save_picked(self.run, self.front, self.entry, Path(folder), line, own)

    def to_json(self) -> dict[str, Any]:
        data = picked_json(self.entry, self.out, select_is_dev=self.select_is_dev, cut_from=self.cut_from)
        if self.repaired is not None:
            data["repair"] = self.repaired.to_json()
        limit, int8_ms = self.settings.max_latency_ms, self.cut_from.get("int8_latency_ms")
        if limit is not None and int8_ms is not None:
            data["cut_from"]["int8_within_limit"] = int8_ms <= limit
        measured = self.front.measured
        if measured is not None:
            data["backend"] = measured["backend"]
            if "quality" in measured:
                data["quality"] = measured["quality"]
        return data

    def view(self) -> View:
        return VIEWS["pick"](self.to_json())


def open_run(path: str | Path) -> Run:
    """Return a finished run.

    Raises:
        RunError: there is no run, or one that is not finished.
    """
    run = RunFolder.read(path)
    return Run(run.data["command"], run.finished_result, run.path)


@documented(VERBS)
def front(run: str | Path, **options: Any) -> Front:
    """Return the scored and measured subnets of a run; `measure=True` measures latencies again and stores them.

    Args:
        run: run folder of a method that makes a front.

    Raises:
        InputError: no finished run with a front, settings out of range, or a run that another process is changing.
        MissingError: `require_quiet`, and the machine was not quiet; the front is left as it was.
    """
    (settings,) = build_settings(options, FrontSettings)
    settings.check()
    stored = open_run(run).front
    if not settings.measure:
        is_asked_for = settings.is_given("backend") or settings.backend in stored.backends
        return stored.on(settings.backend, Path(run)) if is_asked_for else stored
    if wrong := list(change_mistakes(Path(run))):
        raise RunError(*wrong)
    from cutbert.fronts.measure import measure_again

    with locked(Path(run)):  # what a search adds meanwhile would be lost
        return measure_again(Path(run), Front.load(Path(run)), settings)


@documented(VERBS)
def pick(run: str | Path, **options: Any) -> Picked:
    """Return the best subnet of a run under limits, and write it where `out` is given.

    Args:
        run: run folder of a method that makes a front.

    Raises:
        BudgetError: nothing fits; names the nearest.
        InputError: no finished run with a front, latencies of another machine (with `require_quiet` of one that was
            not quiet), settings out of range, or with `repair` a run whose data is not to be found.
    """
    (settings,) = build_settings(options, PickSettings)
    settings.check()
    stored = open_run(run).front
    if settings.max_latency_ms is not None:
        stored = stored.on(settings.backend, Path(run))
        check_measured_here(Path(run), stored, require_quiet=settings.require_quiet)
    entry = choose(stored, settings, stock=settings.stock)
    out = None if settings.out is None else Path(settings.out)
    repaired = None
    if settings.repair:
        from cutbert.work.repaired import repair_pick

        repaired = repair_pick(Path(run), stored, entry, settings.data_dir)
        entry = repaired.entry
    picked = Picked(entry, stored, Path(run), settings, out, stored.select_is_dev, repaired)
    if picked.out is not None:
        picked.save_pretrained(picked.out)
    return picked


@documented(VERBS)
def search(run: str | Path, **options: Any) -> Run:
    """Search the supernet of a run beyond its grid, and add the best to the run's front.

    Args:
        run: finished run folder of dynabert on a task.

    Returns:
        The run; as a mapping the search's result. A search that was killed goes on, a finished one is returned.

    Raises:
        BudgetError: nothing keeps the limits.
        InputError: no such run, data that changed, or settings out of range, before anything is made.
    """
    (settings,) = build_settings(options, SearchSettings)
    settings.check()
    family = open_run(run)
    line = command_line("search", [str(run)], settings)
    from cutbert.methods.search import search_family

    return Run("search", search_family(RunFolder.read(family.path), settings, line), family.path)
