"""The leaderboard of one run of `fit`: everything that was tried under the limits, scored and timed, and the choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from cutbert.checks import (
    COUNT,
    FLAG,
    MEASURED,
    NUMBER,
    NUMBERS,
    OBJECT,
    PAIR,
    POSITIVE,
    TEXT,
    TEXTS,
    Check,
    are,
    is_count,
    is_number,
    is_object,
    is_text,
    list_of,
    mistakes_of,
)  # fmt: skip
from cutbert.errors import RunError
from cutbert.files import read_json, write_json
from cutbert.fronts.leaderboard_view import leaderboard_table, leaderboard_view
from cutbert.shape.shape import EncoderShape
from cutbert.table import Shown, View

FORMAT_VERSION = 1
LEADERBOARD = "leaderboard.json"
Kind = Literal["teacher", "layers", "sizes", "undivided", "gates", "student"]
KINDS = get_args(Kind)
DIFFERENCE = ("mean", "low", "high")


@dataclass(frozen=True, kw_only=True, repr=False)
class LeaderboardEntry(Shown):
    """One network that `fit` tried, as it would be delivered.

    Args:
        name: what it is, in short; the same network on two backends has one name.
        kind: how it was made: the uncut model, whole layers left out, heads and neurons cut, feed-forwards left out,
            sizes chosen by gates, or a new small network.
        backend: what ran it, for the score as well as for the times.
        score, metrics: on dev, fractions of 1.
        select_score: the same metric on the select split, or one of its own; all choices use this one.
        latency_ms, latency_p95_ms: median and 95th percentile at batch 1.
        throughput_per_s: texts per second at the measured batch size.
        params, macs: cost with its task head, macs at 128 tokens.
        file_bytes: size of the exported file.
        steps: optimizer updates spent on it.
        train_seconds: spent on training it.
        within_limit: whether it meets every limit.
        chosen: whether it is the answer, or with several limits the answer under `limit`.
        shape: its sizes.
        layers: the uncut model's layers it keeps; None where it is no part of the uncut model.
        kl: divergence of its answers from the teacher's, in nats, mean over rows of select and held out.
        interval: 95 % interval of score over dev's rows.
        difference: mean, low and high of its score less that of `Leaderboard.uncut` on the same rows of dev.
        latency_q1_ms, latency_q3_ms: quartiles of the latency.
        rounds: how many rounds of the race it survived.
        limit: the limit it was chosen under where there are several, such as "2 ms".
        note: for the reader.
    """

    name: str
    kind: Kind
    backend: str
    score: float
    select_score: float
    metrics: dict[str, float]
    latency_ms: float
    latency_p95_ms: float
    throughput_per_s: float
    params: int
    macs: int
    file_bytes: int
    steps: int
    train_seconds: float
    within_limit: bool
    chosen: bool
    shape: EncoderShape
    layers: tuple[int, ...] | None = None
    kl: float | None = None
    interval: tuple[float, float] | None = None
    difference: dict[str, float] | None = None
    latency_q1_ms: float | None = None
    latency_q3_ms: float | None = None
    rounds: int = 0
    limit: str | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object; what is None is left out."""
        data = {each.name: getattr(self, each.name) for each in fields(self)}
        data["shape"] = self.shape.to_json()
        for name in ("layers", "interval"):
            data[name] = None if data[name] is None else list(data[name])
        return {key: value for key, value in data.items() if value is not None}

    def view(self) -> View:
        return (leaderboard_table([self]),)

    @classmethod
    def from_json(cls, data: Any, where: str = "entry") -> LeaderboardEntry:
        """Read an entry from parsed JSON.

        Args:
            data: as to_json writes it.
            where: begins each message.

        Raises:
            RunError: keys are missing or unknown, or values are not what they must be; all mistakes together.
        """
        mistakes = mistakes_of(data, where, RunError, required=REQUIRED, optional=OPTIONAL)
        shape = None
        if is_object(data.get("shape")):
            with mistakes.collect(f"{where}: "):
                shape = EncoderShape.from_json(data["shape"])
        mistakes.check(RunError)
        tuples = {name: tuple(data[name]) for name in ("layers", "interval") if name in data}
        return cls(**{**data, **tuples, "shape": shape})


REQUIRED: dict[str, Check] = {
    "name": TEXT,
    "kind": (lambda value: is_text(value) and value in KINDS, f"one of {', '.join(KINDS)}"),
    "backend": TEXT,
    "score": NUMBER,
    "select_score": NUMBER,
    "metrics": NUMBERS,
    "latency_ms": POSITIVE,
    "latency_p95_ms": NUMBER,
    "throughput_per_s": NUMBER,
    "params": COUNT,
    "macs": COUNT,
    "file_bytes": COUNT,
    "steps": COUNT,
    "train_seconds": NUMBER,
    "within_limit": FLAG,
    "chosen": FLAG,
    "shape": OBJECT,
}
OPTIONAL: dict[str, Check] = {
    "layers": (list_of(is_count), "a list of layers"),
    "kl": NUMBER,
    "interval": PAIR,
    "difference": (
        lambda value: are(is_number)(value) and set(value) >= set(DIFFERENCE),
        "a JSON object of numbers with mean, low and high",
    ),
    "latency_q1_ms": NUMBER,
    "latency_q3_ms": NUMBER,
    "rounds": COUNT,
    "limit": TEXT,
    "note": TEXT,
}
BOARD: dict[str, Check] = {
    "metric": TEXT,
    "entries": (lambda value: isinstance(value, list), "a list of entries"),
    "limits": OBJECT,
    "backend": TEXT,
    "measured": MEASURED,
    "plan": OBJECT,
    "notes": TEXTS,
}
BOARD_OPTIONAL: dict[str, Check] = {"tokenizer_ms": NUMBER, "select_is_dev": FLAG, "own_select_metric": TEXT}


def difference_of(mean: float, low: float, high: float) -> dict[str, float]:
    """Return a mean and its interval as an entry's difference."""
    return dict(zip(DIFFERENCE, (mean, low, high), strict=True))


@dataclass(frozen=True, repr=False)
class Leaderboard(Shown):
    """Everything that one run of `fit` tried, and what it chose.

    Args:
        metric: name of the primary metric.
        entries: in order; no two with the same name, backend and limit.
        limits: the limits as given, by their option, such as max_latency_ms.
        backend: what the limits hold on, and what the chosen network is exported for.
        measured: conditions of the latencies, as bench.latency.conditions returns them.
        plan: what was planned for the time there was.
        notes: for the reader.
        tokenizer_ms: median time to tokenize a text, which is in no latency; None where it was not measured.
        select_is_dev: whether choices were made on dev itself.
        own_select_metric: what select is scored by, where that is another metric.
    """

    metric: str
    entries: tuple[LeaderboardEntry, ...]
    limits: dict[str, Any]
    backend: str
    measured: dict[str, Any]
    plan: dict[str, Any]
    notes: tuple[str, ...] = ()
    tokenizer_ms: float | None = None
    select_is_dev: bool = False
    own_select_metric: str | None = None

    def __iter__(self) -> Iterator[LeaderboardEntry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def chosen(self) -> tuple[LeaderboardEntry, ...]:
        """The chosen network, with several limits one for each; empty where nothing met them."""
        return tuple(entry for entry in self.entries if entry.chosen)

    def chosen_for(self, limit: str | None) -> LeaderboardEntry:
        """Return what was chosen under one of several limits, such as "2 ms".

        Raises:
            RunError: nothing was chosen under it, or the run had one limit, which needs no name; says what there is.
        """
        for entry in self.chosen:
            if entry.limit == limit:
                return entry
        if [entry.limit for entry in self.chosen] == [None]:
            raise RunError(f"the run had one limit alone: chosen[0] is its answer, got {limit!r}")
        known = ", ".join(str(entry.limit) for entry in self.chosen) or "none, as nothing was chosen"
        raise RunError(f"limit must be one of {known}, got {limit!r}")

    @property
    def uncut(self) -> LeaderboardEntry | None:
        """The uncut model on the leaderboard's backend, else on any; None where it is not listed."""
        uncut = [entry for entry in self.entries if entry.kind == "teacher"]
        return next((entry for entry in uncut if entry.backend == self.backend), uncut[0] if uncut else None)

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "metric": self.metric,
            "entries": [entry.to_json() for entry in self.entries],
            "limits": self.limits,
            "backend": self.backend,
            "measured": self.measured,
            "plan": self.plan,
            "notes": list(self.notes),
        }
        if self.tokenizer_ms is not None:
            data["tokenizer_ms"] = self.tokenizer_ms
        if self.own_select_metric is not None:
            data["own_select_metric"] = self.own_select_metric
        return {**data, "select_is_dev": True} if self.select_is_dev else data

    def view(self) -> View:
        return leaderboard_view(self)

    @classmethod
    def from_json(cls, data: Any, where: str = "leaderboard") -> Leaderboard:
        """Read a leaderboard from parsed JSON.

        Args:
            data: as to_json writes it.
            where: begins each message.

        Raises:
            RunError: keys are missing or unknown, or values are not what they must be; all mistakes together.
        """
        mistakes = mistakes_of(data, where, RunError, required=BOARD, optional=BOARD_OPTIONAL)
        entries = []
        for i, each in enumerate(data["entries"] if isinstance(data.get("entries"), list) else ()):
            with mistakes.collect():
                entries.append(LeaderboardEntry.from_json(each, f"{where}: entry {i}"))
        for key, count in Counter((entry.name, entry.backend, entry.limit) for entry in entries).items():
            if count > 1:
                mistakes.add(f"{where}: {key[0]} on {key[1]} must be listed once for each limit, got it {count} times")
        mistakes.check(RunError)
        return cls(**{**data, "entries": tuple(entries), "notes": tuple(data["notes"])})

    def save(self, run: Path) -> None:
        """Write leaderboard.json into a run folder, whole or not at all."""
        write_json(run / LEADERBOARD, {"format_version": FORMAT_VERSION, **self.to_json()})

    @classmethod
    def load(cls, run: Path) -> Leaderboard:
        """Read leaderboard.json of a run folder.

        Raises:
            RunError: there is none, or it has an unknown format or is damaged.
        """
        path = run / LEADERBOARD
        if not path.is_file():
            raise RunError(f"{run}: must be a run with a leaderboard ({LEADERBOARD}), such as cutbert fit makes")
        data = read_json(path, RunError)
        version = data.pop("format_version", None) if isinstance(data, dict) else None
        if version != FORMAT_VERSION:
            raise RunError(f"{path}: format_version must be {FORMAT_VERSION}, got {version!r}")
        return cls.from_json(data, str(path))
