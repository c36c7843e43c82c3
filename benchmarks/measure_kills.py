"""SIGKILLs at random moments, resumed by the same command until done: of one verb, of a sweep, or of every verb.

`run`: a run folder is killed and restarted until it is finished; then the next run begins, until enough kills have
fallen. Moments are uniform over half the time an uninterrupted run takes, counted from each start: a run is killed
several times, and the later kills fall late in it. Its weights and predictions must equal an uninterrupted run's to
the bit. `fit` is the same of runs of fit, which take the plan of the uninterrupted one.

`sweep`: two tasks and two seeds of a teacher and a family of it. A call of the sweep is killed once some run has saved
a new checkpoint and some random seconds have passed. No run may be lost or done twice, and the same plan on Ray must
give the same scores.

`verbs`: every command that leaves something behind, on tiny models, each try killed up to eight times, after random
seconds or before a random change of a file. What is left must equal what an unkilled command leaves, to the bit where
no times are in it, with nothing beside: in its folders, in the token cache, among temporary files. A measurement that
is stopped goes on in --work.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cutbert.files import file_sha256, read_json
from cutbert.train.progress import say
from recording import make_parser, names, numbers, parse, recorded
from workload import add_inputs, cutbert_json, model_of, option

COMPARED = ("teacher/model.safetensors", "model/model.safetensors", "predictions/*.json")
MOST_KILLS = 8  # of one try of `verbs`
MOST_SECONDS = 10.0  # from a sweep's new checkpoint to its kill
POLL_SECONDS = 0.05
PLAN = """
[defaults]
data_dir = "{data_dir}"
max_train_samples = {rows}
max_eval_samples = {eval_rows}
threads = {threads}
epochs = {epochs}
checkpoint_seconds = 0.5

[grid]
task = {tasks}
seed = {seeds}

[steps.teacher]
verb = "finetune"
model = "{model}"

[steps.family]
verb = "dynabert"
model = "{{teacher}}"
recipe = "paper"
width_mult = [1.0, 0.5]
depth_mult = [1.0, 0.5]
"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    add_inputs(parser)
    parser.set_defaults(max_train_samples=600)
    parser.add_argument("what", choices=("run", "fit", "sweep", "verbs"))
    parser.add_argument("--work", type=Path, help="folder of `verbs`, to go on in; None for a temporary one")
    parser.add_argument("--only", type=names, default=[], help="commands of `verbs`, by commas; none for all")
    parser.add_argument("--tasks", default="sst2,mrpc", help="of the sweep, by commas")
    parser.add_argument("--seeds", type=numbers, default=[0, 1], help="of the sweep, by commas")
    parser.add_argument("--max-eval-samples", type=int, default=200)
    parser.add_argument("--epochs", type=float, default=2.0, help="of each training")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--time", type=float, default=120.0, help="seconds of the uninterrupted run of fit")
    parser.add_argument("--max-macs", type=int, default=700_000_000, help="limit of fit")
    parser.add_argument("--ray", action=argparse.BooleanOptionalAction, default=True, help="the sweep on Ray too")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parse(parser, argv)
    name = {"run": "kill_resume", "fit": "fit_kills", "sweep": "sweep_kills", "verbs": "kills"}[args.what]
    measure = {"sweep": kill_sweep, "verbs": kill_verbs}.get(args.what, kill_runs)
    record = recorded(name, args, lambda: measure(args), seeds=[args.seed])
    print(
        *(
            f"{key} {record[key]}"
            for key in ("kills", "all_equal", "lost", "left_over", "done_twice", "ray_is_equal")
            if key in record
        )
    )
    if not record["holds"]:
        sys.exit(1)


def kill_runs(args: argparse.Namespace) -> dict[str, Any]:
    """Run once undisturbed, then kill and restart runs until enough kills have fallen."""
    moments = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as work:
        whole = Path(work) / "whole"
        begun = time.monotonic()
        words_of = run_words if args.what == "run" else partial(fit_words, plan=None)
        completes(words_of(args, whole), None)
        undisturbed_s, expected = time.monotonic() - begun, digests(whole)
        say(f"undisturbed: {undisturbed_s:.1f} s")
        runs: list[dict[str, Any]] = []
        if args.what == "fit":
            words_of = partial(fit_words, plan=whole)
        while (left := args.kills - sum(len(run["kills"]) for run in runs)) > 0:
            out = Path(work) / f"run{len(runs)}"
            kills = killed_run(words_of(args, out), out, undisturbed_s, left, moments)
            got = digests(out)
            differing = sorted(name for name in expected.keys() | got.keys() if expected.get(name) != got.get(name))
            runs.append({"kills": kills, "is_equal": not differing, "differing_files": differing})
            say(f"run {len(runs)}: {len(kills)} kills, {'equal' if not differing else f'differs: {differing}'}")
    all_equal = all(run["is_equal"] for run in runs)
    return {
        "run": words_of(args, Path("OUT"))[1:],
        "compared_files": sorted(expected),
        "undisturbed_s": round(undisturbed_s, 2),
        "kills": sum(len(run["kills"]) for run in runs),
        "all_equal": all_equal,
        "holds": all_equal,
        "runs": runs,
    }


def run_words(args: argparse.Namespace, out: Path) -> list[str]:
    """Return the command that is killed and restarted."""
    options: dict[str, Any] = {
        "--task": args.task,
        "--data-dir": args.data_dir,
        "--max-train-samples": args.max_train_samples,
        "--max-eval-samples": args.max_eval_samples,
        "--epochs": args.epochs,
        "--checkpoint-seconds": 1,
        "--threads": args.threads,
        "--out": out,
    }
    words = [word for name, value in options.items() for word in option(name, value)]
    return [sys.executable, "-m", "cutbert", "dynabert", model_of(args), *words, "--json"]


def fit_words(args: argparse.Namespace, out: Path, *, plan: Path | None) -> list[str]:
    """Return the command of fit; a plan is the run whose decisions are taken."""
    options: dict[str, Any] = {
        "--task": args.task,
        "--data-dir": args.data_dir,
        "--max-train-samples": args.max_train_samples,
        "--max-eval-samples": args.max_eval_samples,
        "--max-macs": args.max_macs,
        "--time": args.time if plan is None else None,
        "--plan": plan,
        "--checkpoint-seconds": 1,
        "--threads": args.threads,
        "--out": out,
    }
    words = [word for name, value in options.items() for word in option(name, value)]
    return [sys.executable, "-m", "cutbert", "fit", model_of(args), *words, "--json"]


def killed_run(
    words: list[str], out: Path, whole_seconds: float, most: int, moments: random.Random
) -> list[dict[str, Any]]:
    """Kill and restart one run until it is finished, at most `most` times; return where each kill fell."""
    kills: list[dict[str, Any]] = []
    while True:
        begun = time.monotonic()
        if completes(words, moments.uniform(0, whole_seconds / 2) if len(kills) < most else None):
            return kills
        phases = list(read_json(out / "run.json")["timings"]) if (out / "run.json").is_file() else []
        saved = len(list(out.glob("checkpoint/*/*/position.json")))
        lived = round(time.monotonic() - begun, 2)
        kills.append({"lived_s": lived, "phase": phases[-1] if phases else "loading", "saved_stages": saved})
        say(f"killed: {kills[-1]}")


def completes(words: list[str], limit: float | None) -> bool:
    """Return whether a command came to its end, or was killed after some seconds.

    Raises:
        CalledProcessError: it failed by itself.
    """
    try:
        subprocess.run(words, stdout=subprocess.DEVNULL, timeout=limit, check=True)
    except subprocess.TimeoutExpired:  # run() has killed it
        return False
    return True


def digests(run: Path) -> dict[str, str]:
    """Return the SHA-256 of every weight and prediction of a run, by its path in the run."""
    files = [path for pattern in COMPARED for path in run.glob(pattern)]
    return {str(path.relative_to(run)): file_sha256(path) for path in files}


def kill_verbs(args: argparse.Namespace) -> dict[str, Any]:
    """Kill one command after the other until enough kills have fallen."""
    from killed_verbs import Place, commands, killed_try

    with tempfile.TemporaryDirectory() as temporary:
        place = Place((args.work or Path(temporary)).resolve(), model_of(args))
        chosen = [each for each in commands(place.base) if not args.only or each.name in args.only]
        kept = place.folder / "tries.jsonl"
        tries = [json.loads(line) for line in kept.open()] if kept.is_file() else []
        while (left := args.kills - sum(len(each["kills"]) for each in tries)) > 0:
            moments = random.Random(f"{args.seed}-{len(tries)}")
            command, most = chosen[len(tries) % len(chosen)], min(left, moments.randint(1, MOST_KILLS))
            tries.append(killed_try(place, command, f"try{len(tries)}", most, moments))
            with kept.open("a") as file:
                file.write(json.dumps(tries[-1]) + "\n")
            say(f"{len(tries)}: {tries[-1]}")
    lost, left_over = (sum(bool(each[key]) for each in tries) for key in ("lost", "left_over"))
    by_command = {
        command.name: sum(len(each["kills"]) for each in tries if each["command"] == command.name) for command in chosen
    }
    return {
        "kills": sum(by_command.values()),
        "by_command": by_command,
        "lost": lost,
        "left_over": left_over,
        "holds": lost == left_over == 0,
        "tries": tries,
    }


def kill_sweep(args: argparse.Namespace) -> dict[str, Any]:
    """Kill and resume one sweep, then compute the same plan on Ray."""
    moments = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as work:
        plan, out, on_ray = (Path(work) / name for name in ("plan.toml", "killed", "ray"))
        plan.write_text(plan_text(args), encoding="utf-8")
        kills: list[dict[str, Any]] = []
        finished: dict[str, str] = {}
        while len(kills) < args.kills and (lived := killed_sweep(plan, out, moments)) is not None:
            now = finished_at(out)
            changed = [name for name, when in finished.items() if now.get(name) != when]
            finished |= now
            kills.append({"lived_s": round(lived, 2), "finished": len(now), "changed": changed})
            say(f"killed after {lived:.1f} s: {len(now)} runs finished")
        resumed = cutbert_json("sweep", str(plan), "--out", str(out))
        scores = {name: networks(out / "runs" / name) for name in finished_at(out)}
        changed = [name for name, when in finished_at(out).items() if finished.get(name, when) != when]
        lost = sum(run["status"] != "finished" for run in resumed["runs"])
        twice = len({name for kill in kills for name in kill["changed"]} | set(changed))
        found: dict[str, Any] = {"kills": len(kills), "lost": lost, "done_twice": twice}
        if args.ray:
            cutbert_json("sweep", str(plan), "--out", str(on_ray), "--engine", "ray")
            found["ray_is_equal"] = scores == {name: networks(on_ray / "runs" / name) for name in scores}
    return {
        "plan": plan_text(args).replace(model_of(args), "MODEL"),
        "runs": len(resumed["runs"]),
        **found,
        "holds": lost == twice == 0 and found.get("ray_is_equal", True),
        "each_kill": kills,
        "scores": scores,
    }


def plan_text(args: argparse.Namespace) -> str:
    """Return the plan that is killed."""
    return PLAN.format(
        data_dir=Path(args.data_dir).resolve(),
        rows=args.max_train_samples,
        eval_rows=args.max_eval_samples,
        threads=args.threads or 1,
        epochs=args.epochs,
        tasks=json.dumps(args.tasks.split(",")),
        seeds=args.seeds,
        model=model_of(args),
    )


def killed_sweep(plan: Path, out: Path, moments: random.Random) -> float | None:
    """Start the sweep and kill it; return the seconds it lived, None where it ended before."""
    begun = time.monotonic()
    words = [sys.executable, "-m", "cutbert", "sweep", str(plan), "--out", str(out)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    known = set(checkpoints(out))
    while process.poll() is None and set(checkpoints(out)) <= known:
        time.sleep(POLL_SECONDS)
    try:
        process.wait(moments.uniform(0, MOST_SECONDS))
        return None
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return time.monotonic() - begun


def checkpoints(out: Path) -> list[Path]:
    """Return the checkpoints of all runs of a sweep."""
    return list(out.glob("runs/*/checkpoint/*/*/position.json"))


def finished_at(out: Path) -> dict[str, str]:
    """Return when each finished run of a sweep ended, by name."""
    records = {path.parent.name: read_json(path) for path in out.glob("runs/*/run.json")}
    return {name: record["finished"] for name, record in records.items() if "finished" in record}


def networks(run: Path) -> dict[str, list[float]]:
    """Return dev and select score of every network of a run."""
    result = read_json(run / "run.json")["result"]
    entries = [result["teacher"], *result["subnets"]] if "subnets" in result else [{"name": "model", **result}]
    return {entry["name"]: [entry["score"], entry["select_score"]] for entry in entries}


if __name__ == "__main__":
    main()
