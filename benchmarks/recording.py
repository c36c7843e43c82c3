"""Records of benchmarks: one JSON file each, with commit, command, machine, versions and seeds."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cutbert.files import read_json, write_json
from cutbert.train.engine import default_threads
from cutbert.train.machine import describe_machine, describe_versions
from cutbert.train.progress import say

FORMAT_VERSION = 1
ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "benchmarks" / "records"


def make_parser(script: str, about: str | None) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(
        prog=Path(script).name, description=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the record")
    parser.add_argument("--again", action="store_true", help="measure again although the record is there")
    parser.add_argument("--threads", type=int, help="CPU threads; None for all cores")
    return parser


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed arguments, with the whole command as `command`.

    Args:
        parser: of `make_parser`.
        argv: words behind the script's name; None for those of this process.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    args = parser.parse_args(words)
    args.command = shlex.join(["python", f"benchmarks/{parser.prog}", *words])
    return args


def numbers(text: str) -> list[int]:
    """Return the integers of a list by commas."""
    return [int(part) for part in text.split(",")]


def names(text: str) -> list[str]:
    """Return the words of a list by commas."""
    return [part.strip() for part in text.split(",")]


def shares(text: str) -> list[float]:
    """Return the numbers of a list by commas."""
    return [float(part) for part in text.split(",")]


def recorded(
    name: str, args: argparse.Namespace, measure: Callable[[], Mapping[str, Any]], *, seeds: Sequence[int]
) -> dict[str, Any]:
    """Return the record of a benchmark: the one that is there, or a new one.

    Args:
        name: of the file, without .json.
        args: as returned by `parse`.
        measure: returns the measured numbers; called only where there is no record yet.
        seeds: of everything random in it.
    """
    path = args.records / f"{name}.json"
    if path.is_file() and not args.again:
        say(f"{path} is there already; --again measures again")
        return dict(read_json(path))
    head = header(name, args, seeds)
    measured = dict(measure())
    record = {**head, "finished": now(), **measured}
    write_json(path, record)
    say(f"written: {path}")
    return record


def record_so_far(
    name: str, args: argparse.Namespace, seeds: Sequence[int], about: Callable[[], Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a record that grows part by part: as `write_part` left it, or a new one.

    Args:
        name, args, seeds: as in `recorded`.
        about: returns what a new one has behind its header.
    """
    path = args.records / f"{name}.json"
    if path.is_file() and not args.again:
        return dict(read_json(path))
    return {**header(name, args, seeds), **about()}


def write_part(record: dict[str, Any], args: argparse.Namespace) -> None:
    """Write a record that has grown by a part, with the time by now as that of its end."""
    path = args.records / f"{record['name']}.json"
    record["finished"] = now()
    write_json(path, record)
    say(f"written: {path}")


def measure_seeds(record: dict[str, Any], args: argparse.Namespace, measure: Callable[[int, Any], Any]) -> None:
    """Measure a cell for each seed that a record lacks, and write the record after each."""
    done = {cell["seed"] for cell in record["cells"]}
    for seed in args.seeds:
        if seed not in done:
            record["cells"].append(measure(seed, args))
            write_part(record, args)


def header(name: str, args: argparse.Namespace, seeds: Sequence[int]) -> dict[str, Any]:
    """Return what every record begins with, as it is now; arguments as in `recorded`."""
    return {
        "format_version": FORMAT_VERSION,
        "name": name,
        "commit": git("rev-parse", "HEAD"),
        "has_uncommitted_changes": bool(git("status", "--porcelain", "src")),
        "command": args.command,
        "started": now(),
        "finished": None,
        "machine": describe_machine(args.threads or default_threads()),
        "versions": describe_versions(),
        "seeds": list(seeds),
    }


def git(*words: str) -> str:
    """Return what a git command that only reads prints, empty outside a repository."""
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    return done.stdout.strip()


def spread(values: ArrayLike, unit: str) -> dict[str, Any]:
    """Return count, median, quartiles and extremes of a sample, keys ending in their unit."""
    array = np.asarray(values, dtype=np.float64)
    names = ("min", "q1", "median", "q3", "max")
    quantiles = zip(names, np.quantile(array, (0.0, 0.25, 0.5, 0.75, 1.0)), strict=True)
    return {"count": len(array), **{f"{name}_{unit}": float(f"{value:.6g}") for name, value in quantiles}}


def clock_of(threads: int) -> Callable[[], float]:
    """Return the clock of what runs on one thread, the processor's, which other work hardly changes, or on several."""
    return time.process_time if threads == 1 else time.perf_counter


def clock_name(threads: int) -> str:
    return "processor time" if threads == 1 else "elapsed time"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
