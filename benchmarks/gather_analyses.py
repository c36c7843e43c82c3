"""Gathers what `cutbert analyze` says of two networks, run by run, into one record: CKA of attention, and probes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cutbert.files import read_json
from recording import make_parser, parse, recorded


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("folder", type=Path, help="of run folders of `cutbert analyze`, called TASK-NAME; only read")
    args = parse(parser, argv)
    recorded("representations", args, lambda: {"tasks": gathered(args.folder)}, seeds=[0])


def gathered(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what was compared, by task and name.

    Raises:
        SystemExit: there is no such folder.
    """
    if not folder.is_dir():
        raise SystemExit(f"{folder} must be a folder of runs of `cutbert analyze`, and is not there")
    tasks: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.iterdir()):
        task, _, name = path.name.partition("-")
        result, run = read_json(path / "analysis.json"), read_json(path / "run.json")
        sites = result["cka_sites"]["attention"]
        probes = [result["probe"], result["probe_against"]]
        tasks.setdefault(task, {})[name] = {
            "cka_attention": [row[layer] for layer, row in enumerate(sites)],
            "cka": result["cka"],
            "largest_probe_difference": max(abs(probes[0][at]["score"] - probes[1][at]["score"]) for at in probes[0]),
            "probes": [{at: each["score"] for at, each in side.items()} for side in probes],
            "num_rows": result["num_rows"],
            "seconds": run["timings"]["total"],
        }
    return tasks


if __name__ == "__main__":
    main()
