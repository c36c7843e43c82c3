"""SIGKILLs of a small sweep, resumed until done: is a run lost or done twice, and does Ray give the same scores?

The plan is two tasks and two seeds of a teacher and a family of it. A call of the sweep is killed once some run has
saved a new checkpoint and some random seconds have passed, so that kills fall into different runs; then the same call
goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cutbert.train.progress import say
from recording import make_parser, recorded
from workload import add_inputs, weights_of

PLAN = """
[defaults]
data_dir = "{data_dir}"
max_train_samples = {rows}
max_eval_samples = 200
threads = {threads}
epochs = 1
checkpoint_seconds = 0.5

[grid]
task = ["sst2", "mrpc"]
seed = [0, 1]

[steps.teacher]
verb = "finetune"
model = "{model}"

[steps.family]
verb = "dynabert"
model = "{{teacher}}"
recipe = "paper"
width_mult = [1.0, 0.5]
depths = [6, 3]
"""


def main() -> None:
    parser = make_parser(__doc__)
    add_inputs(parser)
    parser.set_defaults(max_train_samples=600, threads=1)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    record = recorded("sweep_kills", args, lambda: measure(args), seeds=[args.seed])
    kept = record["lost"] == 0 and record["done_twice"] == 0
    print(f"{len(record['kills'])} kills: {record['lost']} runs lost, {record['done_twice']} done twice")
    print(f"scores through Ray are the same: {record['ray_is_equal']}")
    sys.exit(0 if kept and record["ray_is_equal"] else 1)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Kill and resume one sweep, then compute the same plan through Ray."""
    moments = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as work:
        plan = Path(work) / "plan.toml"
        values = {"rows": args.max_train_samples, "threads": args.threads, "model": weights_of(args)}
        plan.write_text(PLAN.format(data_dir=Path(args.data_dir).resolve(), **values), encoding="utf-8")
        out = Path(work) / "killed"
        kills: list[dict[str, Any]] = []
        finished: dict[str, str] = {}
        while len(kills) < args.kills:
            lived = killed(command(plan, out), out, moments)
            if lived is None:
                break
            now = finished_at(out)
            twice = [name for name, when in finished.items() if now.get(name) != when]
            finished |= now
            kills.append({"lived_s": round(lived, 2), "finished": len(now), "changed": twice})
            say(f"killed after {lived:.1f} s: {len(now)} runs finished")
        resumed = called(command(plan, out))
        changed = [name for name, when in finished_at(out).items() if finished.get(name, when) != when]
        through_ray = called(command(plan, Path(work) / "ray", "--engine", "ray"))
        scores = {name: networks(out / "runs" / name) for name in finished_at(out)}
        return {
            "plan": plan.read_text(encoding="utf-8").replace(values["model"], "MODEL"),
            "runs": len(resumed["runs"]),
            "kills": kills,
            "lost": sum(run["status"] != "finished" for run in resumed["runs"]),
            "done_twice": len({name for kill in kills for name in kill["changed"]} | set(changed)),
            "ray_is_equal": scores == {name: networks(Path(work) / "ray" / "runs" / name) for name in scores},
            "ray_finished": sum(run["status"] == "finished" for run in through_ray["runs"]),
            "scores": scores,
        }


def command(plan: Path, out: Path, *words: str) -> list[str]:
    """Return the call of the sweep."""
    return [sys.executable, "-m", "cutbert", "sweep", str(plan), "--out", str(out), *words, "--json"]


def killed(words: list[str], out: Path, moments: random.Random) -> float | None:
    """Start the sweep and kill it; return the seconds it lived, None where it ended before."""
    begun = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    known = set(saved(out))
    while process.poll() is None and set(saved(out)) <= known:
        time.sleep(0.05)
    try:
        process.wait(moments.uniform(0, 10))
        return None
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return time.monotonic() - begun


def called(words: list[str]) -> dict[str, Any]:
    """Return the result of a call of the sweep that is left alone."""
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def saved(out: Path) -> list[Path]:
    """Return the checkpoints of all runs."""
    return list(out.glob("runs/*/checkpoint/*/*/position.json"))


def finished_at(out: Path) -> dict[str, str]:
    """Return when each finished run ended, by name."""
    records = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in out.glob("runs/*/run.json")}
    return {name: record["finished"] for name, record in records.items() if "finished" in record}


def networks(run: Path) -> dict[str, list[float]]:
    """Return dev and select score of every network of a run."""
    result = json.loads((run / "run.json").read_text(encoding="utf-8"))["result"]
    entries = [result["teacher"], *result["subnets"]] if "subnets" in result else [{"name": "model", **result}]
    return {entry["name"]: [entry["score"], entry["select_score"]] for entry in entries}


if __name__ == "__main__":
    main()
