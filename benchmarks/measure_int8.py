"""What a server would load: teacher, fewer layers, a family's best at shares of the teacher's cost, and others by name.

All are timed on every backend in one interleaved run, at batch 1 over the task's lengths. A subnet is the best on
select within a share of the teacher's multiply-adds; scores in the table are dev's, of the very file that is timed.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cutbert
from cutbert.fronts.front import Front
from cutbert.fronts.pick import choose
from cutbert.shape.budget import Limits
from recording import make_parser, numbers, parse, recorded


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--run", type=Path, required=True, help="run folder of cutbert dynabert, searched or not")
    parser.add_argument("--teacher", required=True, help="run folder of its teacher")
    parser.add_argument("--layers", type=Path, help="run folder of fewer layers distilled from the same teacher")
    parser.add_argument(
        "--also", type=named, action="append", default=[], metavar="NAME=RUN", help="a further run, named; repeat"
    )
    parser.add_argument("--task", required=True)
    parser.add_argument("--data-dir", default=os.environ.get("CUTBERT_DATA"), help="folder of the GLUE tasks")
    parser.add_argument(
        "--shares", type=numbers, default=[2, 3, 4, 8, 16], help="of the teacher's cost, by commas: 1/2, ..."
    )
    parser.add_argument("--backends", default="torch,onnx,onnx-int8", help="by commas, torch among them")
    parser.add_argument("--work", type=Path, default=Path("runs/int8"), help="folder of the networks picked")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--max-eval-samples", type=int, help="score on this many rows only")
    args = parse(parser, argv)
    record = recorded(f"int8_{args.task}", args, lambda: measure(args), seeds=[0])
    print(markdown(record))


def named(text: str) -> tuple[str, str]:
    """Return the parts of NAME=RUN; RUN may hold further equals signs."""
    name, equals, run = text.partition("=")
    if not (name and equals and run):
        raise argparse.ArgumentTypeError(f"must be NAME=RUN, got {text!r}")
    return name, run


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Pick, measure side by side, and return a row for each network and backend."""
    networks = {"teacher": args.teacher} | fewer_layers(args) | dict(args.also) | picked(args)
    result = cutbert.measure(
        *networks.values(),
        task=args.task,
        data_dir=args.data_dir,
        max_eval_samples=args.max_eval_samples,
        backend=args.backends.split(","),
        rounds=args.rounds,
        threads=args.threads,
    ).to_json()
    names = {path: name for name, path in networks.items()}
    rows = [{"name": names[row["model"]], **row, "model": Path(row["model"]).name} for row in result["models"]]
    whole = {row["backend"]: row for row in rows if row["name"] == "teacher"}
    for row in rows:
        row["macs_share"] = row["macs"] / whole[row["backend"]]["macs"]
        row["latency_share"] = row["latency_ms"] / whole[row["backend"]]["latency_ms"]
        row["points_below_float_teacher"] = 100 * (whole["torch"]["score"] - row["score"])
    return {"task": args.task, "metric": result["metric"], "measured": result["measured"], "networks": rows}


def fewer_layers(args: argparse.Namespace) -> dict[str, str]:
    """Return the folder of the one subnet of the run of fewer layers."""
    if args.layers is None:
        return {}
    out = args.work / f"{args.task}-layers"
    if not out.exists():
        (entry,) = Front.load(args.layers)
        cutbert.pick(args.layers, max_macs=entry.macs, out=out)
    return {"fewer layers": str(out)}


def picked(args: argparse.Namespace) -> dict[str, str]:
    """Return the folder of the best network at each share, but for shares that none meets or whose best is there."""
    front = Front.load(args.run)
    folders: dict[str, str] = {}
    names: set[str] = set()
    for share in args.shares:
        limit = front.teacher.macs // share
        if all(entry.macs > limit for entry in front):
            continue
        best = choose(front, Limits(max_macs=limit)).name
        if best in names:
            continue
        names.add(best)
        out = args.work / f"{args.task}-{share}"
        if not out.exists():
            cutbert.pick(args.run, max_macs=limit, out=out)
        folders[f"1/{share} of the multiply-adds"] = str(out)
    return folders


def markdown(record: dict[str, Any]) -> str:
    lines = [
        f"| network | backend | dev {record['metric']} | MACs | p50 (ms) | p95 (ms) | share | texts/s | MB |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in record["networks"]:
        cells = [
            row["name"],
            row["backend"],
            f"{100 * row['score']:.2f}",
            f"{row['macs_share']:.3f}",
            f"{row['latency_ms']:.2f}",
            f"{row['latency_p95_ms']:.2f}",
            f"{row['latency_share']:.2f}",
            f"{row['throughput_per_s']:.0f}",
            f"{row['file_bytes'] / 1e6:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
