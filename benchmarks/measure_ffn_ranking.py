"""Does CKA, or importance, say which feed-forward a model can do without? Reads a finished sweep of ffn_ranking.toml.

There each feed-forward of a teacher is removed alone, and the network scored before and after healing. Rank
correlations are over all feed-forwards of all teachers, ranked within their teacher; positive where what the measure
calls more expensive costs more points of the select split.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, rankdata, spearmanr

from cutbert.analysis.ffn_change import ffn_changes
from cutbert.fronts.front import Front
from cutbert.shape.pattern import feed_forward_layers
from cutbert.surgery.importance import measure_importance
from cutbert.sweeps.folder import StoredRun, SweepFolder
from cutbert.train.progress import say
from recording import make_parser, parse, recorded
from workload import prepare_task

STEP = "without"
MEASURES = ("cka", "importance")
LOSSES = ("unhealed", "healed")


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("sweep", type=Path, help="folder of the finished sweep")
    parser.add_argument("--samples", type=int, default=2048, help="training rows that the measures look at")
    args = parse(parser, argv)
    runs = [run for run in SweepFolder.read(args.sweep).runs if run.step == STEP]
    seeds = sorted({int(run.options.get("seed", 0)) for run in runs})
    record = recorded("ffn_ranking", args, lambda: measure(args, runs), seeds=seeds)
    for name, found in record["correlations"].items():
        print(f"{name}: rank correlation {found['rho']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]")


def measure(args: argparse.Namespace, runs: Sequence[StoredRun]) -> dict[str, Any]:
    """Return measures and losses of every feed-forward, and how their ranks agree."""
    of_teacher: dict[str, list[StoredRun]] = {}
    for run in runs:
        of_teacher.setdefault(run.model, []).append(run)
    rows = [row for each in of_teacher.values() for row in rows_of(args, each)]
    correlations = {
        f"{measure}_and_loss_{loss}": correlation(rows, measure, f"loss_{loss}_points")
        for measure in MEASURES
        for loss in LOSSES
    }
    return {"correlations": correlations, "feed_forwards": rows}


def rows_of(args: argparse.Namespace, runs: Sequence[StoredRun]) -> list[dict[str, Any]]:
    """Return one row for each feed-forward of a teacher that a run of the sweep removed."""
    say(f"{runs[0].model}: measures")
    measures = measures_of(args, runs[0])
    rows = []
    for run in runs:
        (layer,) = set(measures["cka"]) - set(run.options["ffn_keep"])
        losses = losses_of(Front.load(args.sweep / "runs" / run.name))
        rows.append(
            {"teacher": Path(run.model).name, "layer": layer, **{m: measures[m][layer] for m in MEASURES}, **losses}
        )
    return rows


def measures_of(args: argparse.Namespace, run: StoredRun) -> dict[str, dict[int, float]]:
    """Return CKA's change and the importance of each feed-forward on training rows, with all feed-forwards there."""
    given = {name: run.options.get(name) for name in ("task", "data_dir", "max_train_samples")}
    inputs = argparse.Namespace(model=run.model, threads=args.threads, **given)
    with tempfile.TemporaryDirectory() as work:
        task = prepare_task(inputs, Path(work))
    seed, model = int(run.options.get("seed", 0)), task.loaded.model
    batches = task.sample(model, args.samples, seed)
    neurons = measure_importance(model, batches).neurons
    return {
        "cka": ffn_changes(model, batches, seed=seed),
        "importance": {layer: float(neurons[layer].sum()) for layer in feed_forward_layers(model.shape)},
    }


def losses_of(front: Front) -> dict[str, float]:
    """Return the points that the model loses without one feed-forward, before and after healing."""
    entries = {"unhealed" if entry.name.endswith("-unhealed") else "healed": entry for entry in front}
    return {
        f"loss_{name}_{points}": 100 * (getattr(front.teacher, score) - getattr(entries[name], score))
        for name in LOSSES
        for points, score in (("points", "select_score"), ("dev_points", "score"))
    }


def correlation(rows: Sequence[Mapping[str, Any]], measure: str, loss: str) -> dict[str, float]:
    """Return Spearman's correlation of ranks within each teacher, with a bootstrap interval over rows."""
    teachers = sorted({row["teacher"] for row in rows})
    one, other = (
        np.concatenate([rankdata([row[name] for row in rows if row["teacher"] == each]) for each in teachers])
        for name in (measure, loss)
    )

    def rho(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
        return float(spearmanr(x, y).statistic)

    interval = bootstrap(
        (one, other),
        rho,
        paired=True,
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return {"rho": rho(one, other), "low": float(interval.low), "high": float(interval.high), "count": len(one)}


if __name__ == "__main__":
    main()
