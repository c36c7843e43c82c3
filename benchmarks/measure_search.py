"""What a search adds to a family's grid: area under the front, and score at equal cost, for several search seeds.

The family is copied; each seed searches a copy of its own, so that a killed benchmark goes on where it was. At each
share of the teacher's multiply-adds or measured latency the grid and the searched front give what has the best
select score; dev is compared.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import cutbert
from cutbert.files import replacing_folder
from cutbert.fronts.entry import Entry
from cutbert.fronts.front import Front
from cutbert.fronts.search import hypervolume
from recording import make_parser, numbers, parse, recorded

SHARES = (1 / 2, 1 / 3, 1 / 4, 1 / 8, 1 / 16)
Cost = Callable[[Entry], float]


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--run", type=Path, required=True, help="run folder of cutbert dynabert; only read")
    parser.add_argument("--name", required=True, help="of the record, such as sst2")
    parser.add_argument("--work", type=Path, default=Path("runs/search"), help="folder of the copies")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], help="search seeds by commas")
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--keep", type=int, default=16)
    parser.add_argument("--sample", type=int, help="rows of select for trials; None for all")
    parser.add_argument("--train-steps", type=int, default=0)
    parser.add_argument("--backend", default="onnx-int8")
    parser.add_argument("--cost", default="macs", help="macs or latency_ms")
    args = parse(parser, argv)
    record = recorded(f"search_{args.name}", args, lambda: measure(args), seeds=args.seeds)
    for cost in ("macs", "latency_ms"):
        print(cost, record["mean_difference_points"][cost])


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Search once a seed, and compare."""
    rows = [compare(args, seed, searched(args, seed)) for seed in args.seeds]
    differences = {
        cost: {
            share: mean(found)
            for share in rows[0]["at"][cost]
            if (
                found := [each for row in rows if (each := row["at"][cost][share].get("difference_points")) is not None]
            )
        }
        for cost in ("macs", "latency_ms")
    }
    return {"run": args.run.name, "trials": args.trials, "mean_difference_points": differences, "searches": rows}


def searched(args: argparse.Namespace, seed: int) -> Path:
    """Return a copy of the family in which a search with a seed has been done."""
    copy = args.work / f"{args.name}-{seed}"
    if not copy.exists():
        with replacing_folder(copy) as aside:
            shutil.copytree(args.run, aside, dirs_exist_ok=True)
    cutbert.search(
        copy,
        trials=args.trials,
        keep=args.keep,
        sample=args.sample,
        train_steps=args.train_steps,
        backend=args.backend,
        cost=args.cost,
        seed=seed,
        threads=args.threads,
    )
    return copy


def compare(args: argparse.Namespace, seed: int, run: Path) -> dict[str, Any]:
    """Return areas, and the best of grid and of all at each share of the teacher's cost."""
    front = Front.load(run).on(args.backend, run)
    entries = list(front)
    grid = [entry for entry in entries if entry.search is None]
    costs: dict[str, Cost] = {"macs": lambda entry: entry.macs, "latency_ms": lambda entry: entry.latency_ms or 0.0}
    return {
        "seed": seed,
        "timings_s": {each.name: cutbert.open_run(each)["seconds"] for each in searches_of(run)},
        "found": [replace(entry, metrics={}).to_json() for entry in entries if entry.search is not None],
        "area": {
            name: {who: area(some, front.teacher, cost) for who, some in (("grid", grid), ("searched", entries))}
            for name, cost in costs.items()
        },
        "at": {
            name: {f"{share:.4g}": at_share(grid, entries, cost, share * cost(front.teacher)) for share in SHARES}
            for name, cost in costs.items()
        },
    }


def searches_of(run: Path) -> list[Path]:
    return sorted(path.parent for path in (run / "searches").glob("*/run.json"))


def area(entries: Sequence[Entry], teacher: Entry, cost: Cost) -> float:
    """Return the share of the area below a perfect select score and the teacher's cost that is dominated."""
    return hypervolume([(entry.select_score, cost(entry) / cost(teacher)) for entry in entries], 0.0, 1.0)


def at_share(grid: Sequence[Entry], every: Sequence[Entry], cost: Cost, limit: float) -> dict[str, Any]:
    """Return the best of the grid and of all below a cost, by select score; nothing where the grid has none."""
    found: dict[str, Any] = {"limit": limit}
    for who, entries in (("grid", grid), ("searched", every)):
        fitting = [entry for entry in entries if cost(entry) <= limit]
        if fitting:
            best = max(fitting, key=lambda entry: (entry.select_score, -cost(entry)))
            found[who] = {"name": best.name, "score": best.score, "select_score": best.select_score, "cost": cost(best)}
    if "grid" in found:
        found["difference_points"] = 100 * (found["searched"]["score"] - found["grid"]["score"])
    return found


if __name__ == "__main__":
    main()
