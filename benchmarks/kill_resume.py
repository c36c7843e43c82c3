"""SIGKILLs at random moments of a small `cutbert dynabert`, restarted until done; weights equal to the bit?

A run folder is killed again and again, and restarted by the same command, until it is finished; then the next run
begins, until enough kills have fallen. Moments are uniform over half the time an uninterrupted run takes, counted from
each start: a run is killed several times, and the later kills fall late in it, since every start goes on where the last
one was.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutbert.files import file_sha256
from cutbert.train.progress import say
from recording import make_parser, recorded
from workload import add_inputs, weights_of

COMPARED = ("teacher/model.safetensors", "model/model.safetensors", "predictions/*.json")


@dataclass(frozen=True)
class Attempt:
    """How one process of a run ended.

    Args:
        seconds: it lived.
        was_killed: or came to its end.
    """

    seconds: float
    was_killed: bool


def main() -> None:
    parser = make_parser(__doc__)
    add_inputs(parser)
    parser.set_defaults(max_train_samples=600)
    parser.add_argument("--max-eval-samples", type=int, default=200)
    parser.add_argument("--epochs", type=float, default=2.0, help="of the teacher and of the family")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    record = recorded("kill_resume", args, lambda: measure(args), seeds=[args.seed])
    runs = record["runs"]
    equal = sum(run["is_equal"] for run in runs)
    kills = sum(len(run["kills"]) for run in runs)
    print(f"{kills} kills in {len(runs)} runs; {equal} of {len(runs)} ended with the uninterrupted run's bits")
    sys.exit(0 if equal == len(runs) else 1)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run once undisturbed, then kill and restart runs until enough kills have fallen."""
    moments = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as work:
        whole = Path(work) / "whole"
        undisturbed = attempt(command(args, whole), None)
        wanted = digests(whole)
        say(f"undisturbed: {undisturbed.seconds:.1f} s")
        runs: list[dict[str, Any]] = []
        while (left := args.kills - sum(len(run["kills"]) for run in runs)) > 0:
            out = Path(work) / f"run{len(runs)}"
            kills = killed_run(command(args, out), out, undisturbed.seconds, left, moments)
            found = digests(out)
            differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
            runs.append({"kills": kills, "is_equal": not differing, "differing_files": differing})
            say(f"run {len(runs)}: {len(kills)} kills, {'equal' if not differing else f'differs: {differing}'}")
    return {
        "run": command(args, Path("OUT"))[1:],
        "compared_files": sorted(wanted),
        "undisturbed_s": round(undisturbed.seconds, 2),
        "kills": sum(len(run["kills"]) for run in runs),
        "all_equal": all(run["is_equal"] for run in runs),
        "runs": runs,
    }


def command(args: argparse.Namespace, out: Path) -> list[str]:
    """Return the command that is killed and restarted."""
    options: dict[str, Any] = {
        "--task": "sst2",
        "--data-dir": args.data_dir,
        "--max-train-samples": args.max_train_samples,
        "--max-eval-samples": args.max_eval_samples,
        "--epochs": args.epochs,
        "--checkpoint-seconds": 1,
        "--threads": args.threads,
        "--out": out,
    }
    words = [str(word) for name, value in options.items() if value is not None for word in (name, value)]
    return [sys.executable, "-m", "cutbert", "dynabert", weights_of(args), *words, "--json"]


def killed_run(
    words: list[str], out: Path, whole_seconds: float, most: int, moments: random.Random
) -> list[dict[str, Any]]:
    """Kill and restart one run until it is finished, at most `most` times; return where each kill fell."""
    kills: list[dict[str, Any]] = []
    while True:
        limit = moments.uniform(0, whole_seconds / 2) if len(kills) < most else None
        done = attempt(words, limit)
        if not done.was_killed:
            return kills
        kills.append({"lived_s": round(done.seconds, 2), **state_of(out)})
        say(f"killed after {done.seconds:.1f} s: {kills[-1]}")


def attempt(words: list[str], limit: float | None) -> Attempt:
    """Run a command to its end, or kill it after some seconds.

    Raises:
        CalledProcessError: it failed by itself.
    """
    begun = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Attempt(time.monotonic() - begun, True)
    if process.returncode != 0:
        print(errors, file=sys.stderr)
        raise subprocess.CalledProcessError(process.returncode, words)
    return Attempt(time.monotonic() - begun, False)


def state_of(out: Path) -> dict[str, Any]:
    """Return what a killed run had left: saved stages and steps, scored subnets, last line of log.

    The phase is the last one run.json knows of; it is written every few seconds, so it may lag behind.
    """
    if not (out / "run.json").is_file():
        return {"phase": "before the run folder"}
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    begun = [name for name in record["timings"] if name != "total"]
    saved = {
        path.parent.parent.name: json.loads(path.read_text(encoding="utf-8"))["step"]
        for path in sorted(out.glob("checkpoint/*/*/position.json"))
    }
    return {
        "phase": begun[-1] if begun else "loading",
        "finished_stages": sorted(path.stem for path in out.glob("checkpoint/*.safetensors")),
        "saved_steps": saved,
        "scored": len(list(out.glob("predictions/*.json"))),
        "last_log": last_log(out / "log.jsonl"),
    }


def last_log(path: Path) -> dict[str, Any] | None:
    """Return stage and step of the last whole line of log.jsonl."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for line in reversed(lines):
        try:
            found = json.loads(line)
        except ValueError:  # the line the kill cut off
            continue
        return {"stage": found.get("stage"), "step": found.get("step")}
    return None


def digests(run: Path) -> dict[str, str]:
    """Return the SHA-256 of every weight and prediction of a run, by its path in the run."""
    files = [path for pattern in COMPARED for path in run.glob(pattern)]
    return {str(path.relative_to(run)): file_sha256(path) for path in files}


if __name__ == "__main__":
    main()
