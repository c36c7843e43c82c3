"""What the records say, as values: scores over seeds, a difference with its interval, and how both are shown."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORDS, DOCS = ROOT / "benchmarks" / "records", ROOT / "docs"
TASKS = {"sst2": "SST-2", "cola": "CoLA", "mrpc": "MRPC"}
WEAK_TASKS = TASKS | {"mrpc": "MRPC†"}  # where MRPC's teachers are under-trained
METRICS = {"sst2": "accuracy", "cola": "Matthews", "mrpc": "accuracy"}
HEADS = tuple(f"{name}, {METRICS[task]}" for task, name in TASKS.items())
HALF, THIRD = "params_encoder=0.5", "params_encoder=0.35"  # the budgets of cuts_TASK; the second is near a third

DEVELOPED_ON = tuple(TASKS)  # tasks whose scores were looked at while `fit` was written, whatever the model

Record = Mapping[str, Any]


_folders = [RECORDS]  # the first that has a record is read


def read_first_from(folder: Path) -> None:
    """Let the records of a folder stand for those of the same name in the repository."""
    _folders.insert(0, folder.resolve())
    read_record.cache_clear()


def path_of(name: str) -> Path:
    """Return a record's file; that of the repository where there is none."""
    paths = [folder / f"{name}.json" for folder in _folders]
    return next((path for path in paths if path.is_file()), paths[-1])


@cache
def read_record(name: str) -> Record:
    record: Record = json.loads(path_of(name).read_text(encoding="utf-8"))
    return record


def has_record(name: str) -> bool:
    return path_of(name).is_file()


def since(*names: str) -> str:
    """Return what has changed since records were made, in their own words, and how much more plain layers were allowed
    than `fit`; empty where nothing has that matters."""
    return " ".join(filter(None, [said_of(names, "since"), *map(looser_limits, names)]))


def rival_shares(name: str) -> list[float]:
    """Return the limits of plain layers in a record of `fit`, which may be looser than `fit`'s."""
    record = read_record(name)
    return list(record.get("rival_shares") or record["shares"])


def looser_limits(name: str) -> str:
    """Return which limits plain layers had in a record of `fit` that gave them looser ones; empty of other records."""
    if not has_record(name) or not read_record(name).get("rival_shares"):
        return ""
    theirs, ours = rival_shares(name), read_record(name)["shares"][: len(rival_shares(name))]
    if theirs == ours:
        return ""
    words = [" and ".join(map(limit_text, limits)) for limits in (theirs, ours)]
    return f"Plain layers were allowed {words[0]} of the latency where `fit` was allowed {words[1]}."


def flaw_of(*names: str) -> str:
    """Return why records cannot decide a claim, in their own words; empty where they can."""
    return said_of(names, "flaw")


def developed_on(*names: str) -> str:
    """Return that `fit` was developed on tasks of some records, and on which where not on all; empty where on none."""
    tasks = dict.fromkeys(task for name in names if has_record(name) for task in tasks_of(name))
    known = [task for task in tasks if task in DEVELOPED_ON]
    if not known:
        return ""
    if len(known) < len(tasks):
        return f"`fit` was developed on {listed([task_title(task) for task in known])}."
    return f"`fit` was developed on {'these tasks' if len(tasks) > 1 else 'this task'}."


def tasks_of(name: str) -> list[str]:
    """Return the tasks of a record of `fit`, or of several methods at once."""
    record = read_record(name)
    return list(dict.fromkeys(row["task"] for row in record.get("summary") or record.get("tasks", ())))


def remarks_on(*names: str) -> str:
    """Return what figures of `fit` must be read with, by their records and by their tasks."""
    return " ".join(filter(None, [flaw_of(*names), since(*names), developed_on(*names)]))


def said_of(names: Sequence[str], key: str) -> str:
    """Return what was added to records by hand under a key, each text once."""
    found = [read_record(name).get(key, "") for name in names if has_record(name)]
    return " ".join(dict.fromkeys(filter(None, found)))


def since_line(*names: str) -> str:
    """Return the same as a paragraph to stand below a table; empty where there is nothing to say."""
    changed = since(*names)
    return f"\n{changed}\n" if changed else ""


def link_to(name: str) -> str:
    """Return the Markdown link from a page to a record."""
    return f"[{name}]({os.path.relpath(path_of(name), DOCS)})"


@dataclass(frozen=True)
class Gap:
    """The difference of two networks' scores on the same rows.

    Args:
        task: whose rows; "mean" for the mean over tasks.
        mean: a fraction of 1, the mean over seeds.
        low, high: 95 % interval over rows; None where the record has none.
        by_seed: the seeds' differences, empty where they were not recorded.
    """

    task: str
    mean: float
    low: float | None
    high: float | None
    by_seed: tuple[float, ...]

    @staticmethod
    def read(task: str, found: Mapping[str, Any], by_seed: Sequence[float] | None = None) -> Gap:
        """Return what a record says of a difference; its seeds are its own, or given."""
        mean = found["difference"] if "difference" in found else found["mean"]
        return Gap(task, mean, found.get("low"), found.get("high"), tuple(found.get("by_seed", by_seed or ())))

    @property
    def half_width(self) -> float:
        """Half the interval's length."""
        assert self.low is not None and self.high is not None
        return (self.high - self.low) / 2

    @property
    def text(self) -> str:
        """The difference in points, its interval over rows, and its deviation over seeds."""
        interval = "" if self.low is None else f" [{points(self.low)}, {points(self.high)}]"
        return f"{points(self.mean)}{interval}{self.spread}"

    @property
    def spread(self) -> str:
        if len(self.by_seed) > 1:
            return f" ± {100 * statistics.stdev(self.by_seed):.1f}"
        return " (one seed)" if len(self.by_seed) == 1 else " (seeds not recorded)"

    def verdict(self, floor: float) -> str:
        """Return whether it is above a floor, by the rule of the page."""
        if self.low is None or self.high is None or len(self.by_seed) < 3:
            return CANNOT_TELL
        if self.low > floor and all(each > floor for each in self.by_seed):
            return SHOWN
        return CONTRADICTED if self.high < floor and all(each < floor for each in self.by_seed) else NOT_SHOWN


SHOWN, NOT_SHOWN, CONTRADICTED, CANNOT_TELL, NOT_RUN = (
    "shown",
    "not shown",
    "contradicted",
    "cannot be told here",
    "not run yet",
)


def points(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.1f}"


def score(scores: Sequence[float]) -> str:
    """Return the mean in points, with its deviation over seeds where there are several."""
    mean = f"{100 * statistics.mean(scores):.1f}"
    return f"{mean} ± {100 * statistics.stdev(scores):.1f}" if len(scores) > 1 else mean


def several(values: Sequence[float], digits: int = 2) -> str:
    """Return the range of some values."""
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def listed(words: Sequence[str]) -> str:
    """Return words as a list in a sentence: "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """Return a Markdown table whose first columns are text and whose others are numbers."""
    rule = "|" + "---|" * text_columns + "---:|" * (len(head) - text_columns)
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rows), ""])


def run_of(record: Record, **which: Any) -> Mapping[str, Any]:
    """Return the only run of a record whose values are these."""
    (entry,) = (each for each in record["runs"] if all(each[name] == value for name, value in which.items()))
    return dict(entry)


def has_run(record: Record, **which: Any) -> bool:
    return any(all(each[name] == value for name, value in which.items()) for each in record["runs"])


def cut(task: str, variant: str, budget: str) -> Mapping[str, Any]:
    """Return schubert's cut, or layers of the same budget (variant "layers")."""
    return run_of(read_record(f"cuts_{task}"), variant=variant, budget=budget)


def cut_gap(task: str, variant: str, budget: str) -> Gap:
    """Return a cut less the layers of the same number of encoder parameters."""
    ours, layers = cut(task, variant, budget), cut(task, "layers", budget)
    return Gap.read(task, ours["minus_layers"], differences(ours["scores"], layers["scores"]))


def family_title(*tasks: str) -> str:
    """Return whose networks the tables of backends have beside plain layers: a family's, or what `search` found too."""
    is_searched = any("/search/" in read_record(f"int8_{task}")["command"] for task in tasks)
    return "`dynabert` and its `search`" if is_searched else "`dynabert`"


def fit_summary(name: str) -> list[Mapping[str, Any]]:
    """Return the rows of a record of `fit`, without networks that were taken by a fault since mended (`faulty`)."""
    return [
        {key: value for key, value in row.items() if not is_faulty(name, row["task"], row["limit"], key)}
        for row in read_record(name)["summary"]
    ]


def is_faulty(name: str, task: str, limit: int, key: str) -> bool:
    """Return whether a network of a record's row, or a difference from it, is not to be shown."""
    network = key.rpartition(" ")[2]
    return {"task": task, "limit": limit, "network": network} in read_record(name).get("faulty", ())


def fit_mean(limit: int, rival: str, record: str = "fit") -> Gap:
    """Return the mean over tasks of `fit_gap` under one limit; tasks have rows of their own, so half widths add up as
    variances do."""
    gaps = [fit_gap(row, rival, record) for row in fit_summary(record) if row["limit"] == limit]
    mean = statistics.mean(gap.mean for gap in gaps)
    half = math.hypot(*(gap.half_width for gap in gaps)) / len(gaps)
    by_seed = [statistics.mean(each) for each in zip(*(gap.by_seed for gap in gaps), strict=True)]
    return Gap("mean", mean, mean - half, mean + half, tuple(by_seed))


def mean_cut_gap(variant: str, budget: str) -> Gap:
    """Return the mean over the three tasks of `cut_gap`."""
    (found,) = (
        each["mean"]
        for each in read_record("cuts_mean")["runs"]
        if each["variant"] == variant and each["budget"] == budget
    )
    by_task = [cut_gap(task, variant, budget).by_seed for task in TASKS]
    return Gap.read("mean", found, [statistics.mean(each) for each in zip(*by_task, strict=True)])


def kept(task: str, variant: str) -> Mapping[str, Any]:
    """Return a network of undivided's record."""
    return run_of(read_record(f"undivided_{task}"), variant=variant)


def kept_gap(task: str, variant: str, rival: str) -> Gap:
    """Return a network of undivided's record less its teacher, or less "layers" or "importance" with 3 kept."""
    ours = kept(task, variant)
    theirs = read_record(f"undivided_{task}")["teacher"] if rival == "teacher" else kept(task, f"{rival}-3")
    return Gap.read(task, ours[f"minus_{rival}"], differences(ours["scores"], theirs["scores"]))


def family_gap(task: str, name: str) -> Gap:
    """Return a family's member less its teacher."""
    networks = {each["name"]: each for each in read_record(f"family_{task}")["networks"]}
    ours, teacher = networks[name], networks["teacher"]
    return Gap.read(task, ours["minus_teacher"], differences(seeds_of(ours), seeds_of(teacher)))


def seeds_of(network: Mapping[str, Any]) -> tuple[float, ...]:
    """Return a network's scores by seed; one where only one was trained."""
    return tuple(network.get("scores", [network["score"]]))


def differences(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, ...]:
    return tuple(a - b for a, b in zip(ours, theirs, strict=True))


def fit_gap(row: Mapping[str, Any], rival: str, record: str = "fit") -> Gap:
    """Return what fit took less "uncut" or "layers", of a row of a record's summary."""
    return Gap.read(limit_title(record, row["task"], row["limit"]), row[f"fit - {rival}"])


def limit_title(record: str, task: str, limit: int) -> str:
    """Return what a difference of fit's is of: a task, and where there are several limits which."""
    shares = read_record(record)["shares"]
    return f"{task_title(task)} at {limit_text(shares[limit])}" if len(shares) > 1 else task_title(task)


def task_title(task: str) -> str:
    return TASKS.get(task, {"stsb": "STS-B"}.get(task, task.upper()))


def limit_text(share: float) -> str:
    """Return a share of the latency in two digits, or three where they say more: 0.33, 0.125."""
    return f"{share:.3f}" if abs(share - round(share, 2)) > 0.004 else f"{share:.2f}"


def minutes_of(name: str) -> str:
    """Return the time of a run of fit, shared by its limits."""
    return minutes_for(name, len(read_record(name)["shares"]))


def rival_minutes_of(name: str) -> str:
    """Return the time of a run of plain layers, which have as long for each of their limits, maybe of fewer."""
    return minutes_for(name, len({row["limit"] for row in fit_summary(name) if "layers" in row}))


def minutes_for(name: str, limits: int) -> str:
    record = read_record(name)
    minutes = record["time_s"] * limits / len(record["shares"]) / 60
    return f"{minutes:.0f} minutes" + (f" for {limits} limits" if limits > 1 else "")
