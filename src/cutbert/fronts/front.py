"""The front of one run: its scored subnets with their costs, and which of them nothing beats."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cutbert.checks import (
    FLAG,
    MEASURED,
    OBJECT,
    POSITIVE,
    TEXT,
    TEXTS,
    Check,
    are,
    has,
    mistakes_of,
    or_null,
)  # fmt: skip
from cutbert.errors import RunError
from cutbert.files import read_json, write_json
from cutbert.fronts.entry import LATENCIES, LATENCY_CHECKS, Entry
from cutbert.fronts.leaderboard import LEADERBOARD
from cutbert.fronts.view import front_view
from cutbert.table import Shown, View

FORMAT_VERSION = 1
FRONT = "front.json"
TEACHER_INT8 = "teacher_int8"
OF_TIMES, _ = has({}, {name: or_null(check) for name, check in LATENCY_CHECKS.items()})
TIMES: Check = (
    lambda value: OF_TIMES(value) and value.keys() <= set(LATENCIES),
    f"a JSON object of numbers by {', '.join(LATENCIES)}",
)
OF_BACKEND, _ = has({"measured": MEASURED, "times": (are(TIMES[0]), "times by name")})
OTHERS: Check = (are(OF_BACKEND), "a JSON object of measured conditions and times by backend")
FRONT_REQUIRED: dict[str, Check] = {
    "metric": TEXT,
    "teacher": OBJECT,
    "subnets": (lambda value: isinstance(value, list), "a list of entries"),
    "select_is_dev": FLAG,
}
FRONT_OPTIONAL: dict[str, Check] = {
    "own_select_metric": TEXT,
    "measured": MEASURED,
    "near_chance": TEXT,
    TEACHER_INT8: has({"latency_ms": POSITIVE}, LATENCY_CHECKS),
    "others": OTHERS,
    "warnings": TEXTS,
}


@dataclass(frozen=True, repr=False)
class Front(Shown):
    """The table of all scored subnets of a run; the entries with `on_front` are those that nothing beats.

    Args:
        metric: name of the primary metric.
        teacher: the uncut model, even where --teacher names another one.
        subnets: in the run's order; names are unique.
        select_is_dev: whether choices were made on dev itself.
        measured: conditions of the entries' latencies: backend, machine, threads, lengths.
        near_chance: a sentence where the uncut model's dev score is near chance.
        teacher_int8: the LATENCIES of the uncut model in int8 on ONNX Runtime, timed beside the entries; None where
            they are int8 themselves, or were not timed on the CPU.
        own_select_metric: what select is scored by, where that is another metric.
        others: latencies on other backends, by backend: `measured`, their conditions, and `times`, by entry's name.
    """

    metric: str
    teacher: Entry
    subnets: tuple[Entry, ...]
    select_is_dev: bool = False
    measured: dict[str, Any] | None = None
    near_chance: str | None = None
    teacher_int8: dict[str, Any] | None = None
    others: dict[str, Any] = field(default_factory=dict)
    own_select_metric: str | None = None

    def __post_init__(self) -> None:
        subnets = tuple(replace(entry, on_front=is_on_front(entry, self.subnets)) for entry in self.subnets)
        object.__setattr__(self, "subnets", subnets)
        object.__setattr__(self, "teacher", replace(self.teacher, on_front=is_on_front(self.teacher, self.subnets)))

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.subnets)

    def __len__(self) -> int:
        return len(self.subnets)

    def __getitem__(self, name: str) -> Entry:
        """Return the subnet of that name.

        Raises:
            RunError: there is no such subnet; lists the names.
        """
        for entry in self.subnets:
            if entry.name == name:
                return entry
        raise RunError(f"subnet must be one of {', '.join(entry.name for entry in self.subnets)}, got {name!r}")

    @property
    def backends(self) -> tuple[str, ...]:
        """The backends it was measured on, those of the entries' latencies first."""
        return (*([] if self.measured is None else [self.measured["backend"]]), *self.others)

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "metric": self.metric,
            "select_is_dev": self.select_is_dev,
            "teacher": self.teacher.to_json(),
            "subnets": [entry.to_json() for entry in self.subnets],
        }
        for key in ("measured", "near_chance", TEACHER_INT8, "own_select_metric"):
            if getattr(self, key) is not None:
                data[key] = getattr(self, key)
        return {**data, "others": self.others} if self.others else data

    def view(self) -> View:
        return front_view(self.to_json())

    def on(self, backend: str, run: Path) -> Front:
        """Return the front with the latencies of one backend in its entries.

        Args:
            backend: its name.
            run: the run's folder, for the error.

        Raises:
            RunError: it was never measured on that backend; names the command that does.
        """
        if self.measured is not None and self.measured["backend"] == backend:
            return self
        if backend not in self.others:
            option = [] if backend == "torch" else ["--backend", backend]
            remedy = f"`{shlex.join(['cutbert', 'front', str(run), '--measure', *option])}` measures them here"
            if self.backends:
                remedy += f"; --backend {' or '.join(self.backends)} takes those there are"
            raise RunError(f"{run}: needs measured latencies on {backend}, and there are none; {remedy}")
        stored = self.others[backend]
        return self.with_times(stored["times"], stored["measured"])

    def extended(self, entries: Sequence[Entry]) -> Front:
        """Return the front with further subnets; one whose name is known replaces the old one."""
        by_name = {entry.name: entry for entry in (*self.subnets, *entries)}
        return replace(self, subnets=tuple(by_name.values()))

    def with_times(self, times: Mapping[str, Mapping[str, Any]], measured: dict[str, Any]) -> Front:
        """Return the front with these latencies in its entries; the old ones, of another backend, go to `others`.

        Args:
            times: the LATENCIES of the teacher and of each subnet, by name, and perhaps of TEACHER_INT8; a subnet
                added since then has none.
            measured: their conditions.
        """
        others = dict(self.others)
        if self.measured is not None:
            entries = (self.teacher, *self)
            own: dict[str, Any] = {each.name: {key: getattr(each, key) for key in LATENCIES} for each in entries}
            if self.teacher_int8 is not None:
                own[TEACHER_INT8] = self.teacher_int8
            others[self.measured["backend"]] = {"measured": self.measured, "times": own}
        others.pop(measured["backend"], None)
        unknown: dict[str, Any] = dict.fromkeys(LATENCIES)
        return replace(
            self,
            teacher=replace(self.teacher, **times[self.teacher.name]),
            subnets=tuple(replace(entry, **times.get(entry.name, unknown)) for entry in self),
            measured=measured,
            teacher_int8=dict(times[TEACHER_INT8]) if TEACHER_INT8 in times else None,
            others=others,
        )

    @classmethod
    def from_json(cls, data: Any, where: str = "front") -> Front:
        """Read a front from parsed JSON; arguments and errors as in `Entry.from_json`."""
        mistakes = mistakes_of(data, where, RunError, required=FRONT_REQUIRED, optional=FRONT_OPTIONAL)
        mistakes.check(RunError)
        with mistakes.collect():
            teacher = Entry.from_json(data["teacher"], f"{where}: teacher")
        subnets = []
        for i, each in enumerate(data["subnets"]):
            with mistakes.collect():
                subnets.append(Entry.from_json(each, f"{where}: subnet {i}"))
        for name, count in Counter(entry.name for entry in subnets).items():
            if count > 1:
                mistakes.add(f"{where}: {name} must be listed once, got it {count} times")
        mistakes.check(RunError)
        known = {name: data[name] for name in data if name != "warnings"}
        return cls(**{**known, "teacher": teacher, "subnets": tuple(subnets)})

    def save(self, run: Path) -> None:
        """Write front.json into a run folder; its entries have torch's latencies where these are known."""
        front = self.on("torch", run) if "torch" in self.others else self
        write_json(run / FRONT, {"format_version": FORMAT_VERSION, **front.to_json()})

    @classmethod
    def load(cls, run: Path) -> Front:
        """Read front.json of a run folder.

        Raises:
            RunError: there is no front, or it has an unknown format or is damaged.
        """
        path = run / FRONT
        if (run / LEADERBOARD).is_file():
            raise RunError(
                f"{run} is a run of fit, which makes no front: its network is in {run / 'model'}, and all that it "
                f"tried is in {run / LEADERBOARD} (cutbert.open_run({str(run)!r}).leaderboard)"
            )
        if not path.is_file():
            raise RunError(
                f"{run}: must be a run with a front ({FRONT}), such as cutbert dynabert makes; there is none"
            )
        data = read_json(path, RunError)
        version = data.pop("format_version", None) if isinstance(data, dict) else None
        if version != FORMAT_VERSION:
            raise RunError(f"{path}: format_version must be {FORMAT_VERSION}, got {version!r}")
        return cls.from_json(data, str(path))


def is_on_front(entry: Entry, others: Sequence[Entry]) -> bool:
    """Return whether no other entry has at least the score for at most the MACs, one of the two better."""
    return not any(
        other.select_score >= entry.select_score
        and other.macs <= entry.macs
        and (other.select_score > entry.select_score or other.macs < entry.macs)
        for other in others
    )
