"""A claim, what came out of testing it, and the rule that gives the verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from scipy.stats import spearmanr

from results import (
    CANNOT_TELL,
    CONTRADICTED,
    NOT_RUN,
    NOT_SHOWN,
    SHOWN,
    TASKS,
    Gap,
    developed_on,
    flaw_of,
    has_record,
    link_to,
    listed,
    several,
    since,
    task_title,
    tasks_of,
)

BETTER, NO_WORSE, FASTER = 0.0, -0.01, 1.0  # what an interval must lie above
WEAK = tuple(f"{name}_mrpc" for name in ("family", "cuts", "undivided", "int8", "search"))  # under-trained teachers


@dataclass(frozen=True)
class Trend:
    """How the feed-forwards that learned cuts keep change from the first layer to the last.

    Args:
        name: of the cuts.
        shapes: neurons by layer, of each cut.
        num_seeds: that were trained.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    num_seeds: int

    @property
    def slopes(self) -> list[float]:
        """Spearman's rank correlation of a layer's place with its neurons, cut by cut."""
        return [float(spearmanr(range(len(each)), each).statistic) for each in self.shapes]

    @property
    def text(self) -> str:
        return f"{self.name}: {several(self.slopes)} in {len(self.shapes)} cut{'s' * (len(self.shapes) > 1)}"

    def verdict(self, floor: float) -> str:
        if self.num_seeds < 3:
            return CANNOT_TELL
        if all(each > floor for each in self.slopes):
            return SHOWN
        return CONTRADICTED if all(each < floor for each in self.slopes) else NOT_SHOWN


@dataclass(frozen=True)
class Fact:
    """What is counted and has no interval.

    Args:
        text: what was counted.
        holds: whether it is as claimed; None where it decides nothing.
    """

    text: str
    holds: bool | None = None

    def verdict(self, floor: float) -> str:
        return CANNOT_TELL if self.holds is None else SHOWN if self.holds else CONTRADICTED


@dataclass(frozen=True)
class Speed:
    """How many times as fast ours is, round by round.

    Args:
        name: of what was timed.
        q1, median, q3: over rounds.
    """

    name: str
    q1: float
    median: float
    q3: float

    @property
    def text(self) -> str:
        return f"{self.name}: {self.median:.2f} times [{self.q1:.2f}, {self.q3:.2f}]"

    def verdict(self, floor: float) -> str:
        return SHOWN if self.q1 > floor else CONTRADICTED if self.q3 < floor else NOT_SHOWN


Finding = Gap | Trend | Fact | Speed


@dataclass(frozen=True)
class Claim:
    """A row of the page.

    Args:
        name: of the row, short.
        says: the paper's words and figure, or ours.
        ran: what was run here, in words; {tasks} stands for the records' tasks.
        records: whose figures are shown; where each comes from is a table of its own.
        found: returns what came out; None where nothing that bears on it was run.
        floor: what differences must lie above.
        flaw: why the run cannot decide; empty where it can, or where the record says it itself.
        is_of_fit: whether it says that `fit` is good, which tasks that it was developed on cannot decide.
        decides: the command of the run that would, or will again.
    """

    name: str
    says: str
    ran: str = ""
    records: tuple[str, ...] = ()
    found: Callable[[], Sequence[Finding]] | None = None
    floor: float = BETTER
    flaw: str = ""
    decides: str = ""
    is_of_fit: bool = False

    @property
    def findings(self) -> Sequence[Finding]:
        """What came out; nothing where it was not run, or a record of it is not there yet."""
        return self.found() if self.found and all(map(has_record, self.records)) else ()

    @property
    def unfair(self) -> str:
        """Why the run cannot decide, by the claim, its records and their tasks; empty where it can."""
        tasks = developed_on(*self.records) if self.is_of_fit else ""
        return " ".join(filter(None, [self.flaw, flaw_of(*self.records), tasks]))

    @property
    def verdict(self) -> str:
        """The verdict by the rule that the page states."""
        found = self.findings
        if not found:
            return NOT_RUN
        if self.unfair:
            return CANNOT_TELL
        means = [one for one in found if isinstance(one, Gap) and one.task == "mean"]
        each = {one.verdict(self.floor) for one in means or found}
        if CONTRADICTED in each:
            return CONTRADICTED
        return CANNOT_TELL if CANNOT_TELL in each else SHOWN if each == {SHOWN} else NOT_SHOWN

    def verdict_on(self, found: Finding) -> str:
        """Return the verdict on one of the findings alone."""
        return CANNOT_TELL if self.unfair else found.verdict(self.floor)

    @property
    def tasks(self) -> str:
        """The tasks of its records, where these are of `fit`."""
        return listed([task_title(task) for name in self.records for task in tasks_of(name)])

    @property
    def mark(self) -> str:
        """What stands beside MRPC where its teachers are weak."""
        return "†" if set(self.records) & set(WEAK) else ""

    def row(self, notes: Notes) -> list[str]:
        """Return the cells of the page's row; what many rows say is a note."""
        found = self.findings
        links = " ".join(map(link_to, self.records)) if found else ""
        shown = "<br>".join(labelled(each, self.mark) for each in found)
        changed = since(*self.records) if found else ""
        remarks = notes.refer(" ".join(filter(None, [self.unfair, changed]))) if found else ""
        title = "Again" if self.verdict in (SHOWN, CONTRADICTED) else "To decide"
        decides = f"<br>{title}: {self.decides}" if self.decides else ""
        said = self.ran.replace("{tasks}", self.tasks) if self.is_of_fit and found else self.ran
        ran = f"{said}: {links}" if links else ""
        return [f"**{self.name}.** {self.says}", ran, f"{shown}{remarks}{decides}".removeprefix("<br>"), self.verdict]


class Notes:
    """Remarks below tables, each once, by letters: " (a)" stands where the first is meant.

    >>> notes = Notes()
    >>> notes.refer("Weak."), notes.refer("Weak."), notes.text
    (' (a)', ' (a)', '(a) Weak.\\n')
    """

    def __init__(self) -> None:
        self.letters: dict[str, str] = {}

    def refer(self, remark: str) -> str:
        """Return the mark of a remark; empty where there is none."""
        if not remark:
            return ""
        return f" ({self.letters.setdefault(remark, ascii_lowercase[len(self.letters)])})"

    @property
    def text(self) -> str:
        """All remarks, a paragraph each."""
        return "\n".join(f"({letter}) {remark}\n" for remark, letter in self.letters.items())


def labelled(found: Finding, mark: str) -> str:
    """Return what came out, after its task where it has one; MRPC's carries the mark of weak teachers."""
    task = TASKS.get(found.task, found.task) if isinstance(found, Gap) else ""
    return f"{task} {found.text}".strip().replace("MRPC", f"MRPC{mark}")
