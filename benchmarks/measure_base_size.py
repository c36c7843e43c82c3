"""Every method of the plan `base_size.toml` at shares of its teacher's int8 latency, as the file that is served.

All networks are timed in one interleaved run at batch 1 over the lengths of dev's texts, and score dev, on ONNX Runtime
in int8. Under a limit a method has the best on select of its networks that keep it; of a family that is chosen by the
latencies of its own front, of `fit` it is what it took. Differences are paired, with intervals over dev's rows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cutbert
from cutbert.bench.backends import BACKENDS
from cutbert.bench.latency import conditions, sample_lengths, time_runners
from cutbert.bench.measure import MeasuredModel, load_candidate, load_on_backend
from cutbert.bench.memory import file_bytes
from cutbert.bench.settings import BackendName, LatencySettings
from cutbert.data.dataset import Dataset, load_dataset
from cutbert.data.settings import DataSettings
from cutbert.errors import BudgetError
from cutbert.files import read_json, scratch_folder
from cutbert.fronts.front import Front
from cutbert.fronts.leaderboard import Leaderboard
from cutbert.fronts.paired import METRICS, AnswerValues, compare
from cutbert.fronts.pick import choose
from cutbert.shape.budget import Limits
from cutbert.shape.cost import cost_of
from cutbert.shape.source import find_model
from cutbert.sweeps.expand import RUNS
from cutbert.sweeps.folder import StoredRun, SweepFolder
from cutbert.train.machine import num_threads
from cutbert.train.runner import run_rows
from fit_beside_layers import model_name
from recording import make_parser, parse, recorded, shares

BACKEND: BackendName = "onnx-int8"
TEACHER, RIVAL = "teacher", "plain"
SLACK = 1.05  # of a limit, for noise between two timings


@dataclass(frozen=True)
class Network:
    """A network to serve.

    Args:
        method: the step of the plan.
        name: of the network in its run.
        folder: its model folder.
        select_score: of its run, in float32; of `fit` in int8.
        steps: it was trained for, in its own run.
        seconds: that its run took, with everything else the run made.
        limit: the share of the latency it was made for; None where it is what it is.
    """

    method: str
    name: str
    folder: Path
    select_score: float
    steps: int
    seconds: float
    limit: float | None = None


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("sweep", type=Path, help="folder of the sweep; only read")
    parser.add_argument("--data-dir", help="folder of the GLUE tasks; None for the hub's")
    parser.add_argument("--shares", type=shares, default=[0.5, 0.25, 0.125], help="of the int8 latency, by commas")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--work", type=Path, default=Path("runs/base_size_picked"), help="folder of networks picked")
    args = parse(parser, argv)
    record = recorded("base_size", args, lambda: measure(args), seeds=[0])
    for task in record["tasks"]:
        for row in task["networks"]:
            print(json.dumps(row))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure each task of the sweep by itself."""
    sweep = SweepFolder.read(args.sweep)
    states = sweep.states()
    done = [run for run in sweep.runs if states[run.name].status == "finished"]
    tasks = list(dict.fromkeys(run.labels["data"] for run in done))
    return {
        "shares": args.shares,
        "unfinished": [run.name for run in sweep.runs if run not in done],
        "tasks": [measure_task(task, [run for run in done if run.labels["data"] == task], args) for task in tasks],
    }


def measure_task(task: str, runs: Sequence[StoredRun], args: argparse.Namespace) -> dict[str, Any]:
    """Time and score every network of one task, and compare those that keep a limit."""
    networks = [each for run in runs for each in networks_in(run, task, args)]
    data = DataSettings(task=task, data_dir=args.data_dir)
    dataset = load_dataset(data)
    settings = LatencySettings(backend=BACKEND, rounds=args.rounds, threads=args.threads)
    rows: list[dict[str, Any]] = []
    answers: list[AnswerValues] = []
    with num_threads(args.threads) as threads, scratch_folder() as scratch:
        candidates = [load_candidate(find_model(each.folder), dataset, data) for each in networks]
        loaded = [load_on_backend(each, BACKEND, scratch / f"{i}.onnx", threads) for i, each in enumerate(candidates)]
        first = candidates[0]
        assert first.dev is not None
        lengths = sample_lengths(first.dev.lengths)
        times = time_runners(
            {str(i): each.runner for i, each in enumerate(loaded)},
            lengths,
            settings,
            vocab_size=min(each.loaded.model.shape.vocab_size for each in candidates),
            sizes={str(i): each.sized for i, each in enumerate(loaded)},
        )
        for i, (network, each) in enumerate(zip(networks, loaded, strict=True)):
            answers.append(classes_of(each.candidate, each.runner, dataset))
            rows.append(row_of(network, each.candidate, times[str(i)].to_json(), file_bytes(each.path)))
    truth = np.asarray(first.dev.labels, dtype=np.float64)
    whole = next(i for i, row in enumerate(rows) if row["method"] == TEACHER)
    for row, found in zip(rows, answers, strict=True):
        row["score"] = float(METRICS[dataset.metric](found, truth))
        row["share"] = row["latency_ms"] / rows[whole]["latency_ms"]
    under = {
        f"{share:g}": under_limit(share, rows, answers, answers[whole], truth, dataset.metric) for share in args.shares
    }
    return {
        "task": task,
        "metric": dataset.metric,
        "measured": conditions(settings, lengths, threads, "cpu", times.quality),
        "networks": rows,
        "under": under,
    }


def networks_in(run: StoredRun, task: str, args: argparse.Namespace) -> Iterator[Network]:
    """Yield what a run made: its model, what `fit` took, or the best of its front."""
    folder = args.sweep / RUNS / run.name
    stored = read_json(folder / "run.json")
    seconds = float(stored["timings"]["total"])
    if run.verb == "fit":
        chosen = Leaderboard.load(folder).chosen
        for number, (entry, share) in enumerate(zip(chosen, args.shares, strict=True), 1):
            model = folder / model_name(number)
            yield Network(run.step, entry.name, model, entry.select_score, entry.steps, seconds, share)
    elif (folder / "front.json").is_file():
        for name, model, select_score, share in picked(run, folder, task, args):
            yield Network(run.step, name, model, select_score, steps_of(folder), seconds, share)
    else:
        selected = stored["result"]["select_score"]
        yield Network(run.step, run.step, folder / "model", selected, steps_of(folder), seconds)


def picked(
    run: StoredRun, folder: Path, task: str, args: argparse.Namespace
) -> Iterator[tuple[str, Path, float, float | None]]:
    """Yield name, folder and score on select of a family's best under each limit, of other fronts of the best."""
    front = Front.load(folder)
    limits: dict[float | None, Limits] = {None: Limits()}
    if run.verb == "dynabert" and len(list(front)) > 1:
        front = front.on(BACKEND, folder)
        assert front.teacher.latency_ms is not None
        limits = {share: Limits(max_latency_ms=share * front.teacher.latency_ms) for share in args.shares}
    for number, (share, limit) in enumerate(limits.items()):
        try:
            entry = choose(front, limit)
        except BudgetError:
            continue  # a family has no network so small
        out = args.work / f"{run.name}-{number}"
        if not out.exists():
            cutbert.pick(str(folder), out=str(out), max_macs=entry.macs)
        yield entry.name, out, entry.select_score, share


def steps_of(folder: Path) -> int:
    """Return the steps of all stages of a run, by its log."""
    last: dict[str, int] = {}
    for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if "step" in entry:
            last[entry["stage"]] = max(last.get(entry["stage"], 0), int(entry["step"]))
    return sum(last.values())


def classes_of(candidate: MeasuredModel, runner: Any, dataset: Dataset) -> AnswerValues:
    """Return the task's class that a network gives to each row of dev."""
    assert candidate.dev is not None
    logits = run_rows(runner, candidate.loaded.model, candidate.dev, max_tokens=BACKENDS[BACKEND].batch_tokens)
    if candidate.columns is not None:
        logits = logits[..., candidate.columns]
    return np.asarray(logits.argmax(axis=1), dtype=np.float64)


def row_of(network: Network, candidate: MeasuredModel, times: Mapping[str, Any], size: int) -> dict[str, Any]:
    model = candidate.loaded.model
    cost = cost_of(model.shape, model.head_spec)
    return {
        "method": network.method,
        "name": network.name,
        "limit": network.limit,
        "select_score": network.select_score,
        "steps": network.steps,
        "run_seconds": network.seconds,
        "params": cost.params,
        "macs": cost.macs,
        "file_bytes": size,
        **times,
    }


def under_limit(
    share: float,
    rows: Sequence[Mapping[str, Any]],
    answers: Sequence[AnswerValues],
    teacher: AnswerValues,
    truth: AnswerValues,
    metric: str,
) -> dict[str, dict[str, Any]]:
    """Return for each method which network it has under a limit, less the teacher and less any plain layers."""
    best: dict[str, int] = {}
    for i, row in enumerate(rows):
        method = row["method"]
        keeps = row["limit"] == share or (row["limit"] is None and row["share"] <= SLACK * share)
        if keeps and (method not in best or row["select_score"] > rows[best[method]]["select_score"]):
            best[method] = i
    return {
        method: {"network": i, "minus_teacher": gap(answers[i], teacher, truth, metric)}
        | (
            {"minus_plain": gap(answers[i], answers[best[RIVAL]], truth, metric)}
            if RIVAL in best and method != RIVAL
            else {}
        )
        for method, i in best.items()
    }


def gap(one: AnswerValues, other: AnswerValues, truth: AnswerValues, metric: str) -> dict[str, float]:
    paired = compare(metric, [one], [other], truth)
    return {"mean": paired.difference, "low": paired.low, "high": paired.high}


if __name__ == "__main__":
    main()
