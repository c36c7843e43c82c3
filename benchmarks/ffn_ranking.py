"""Does CKA, or importance, say which feed-forward a model can do without? Each is removed alone, scored and healed.

Rank correlations are over all feed-forwards of all tasks, ranked within their task; positive where what the measure
calls dearer costs more. Every removal has a run folder of its own under --work and is not made twice.
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

from alternatives import numbers, place
from cutbert.analysis.ffn_change import ffn_changes
from cutbert.data.dataset import load_dataset
from cutbert.data.settings import DataSettings
from cutbert.fronts.front import Front
from cutbert.methods.objectives import TaskObjective
from cutbert.methods.prepare import prepare
from cutbert.shape.pattern import feed_forward_layers
from cutbert.surgery.importance import measure_importance
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings
from cuts import epochs_of, train
from recording import make_parser, recorded
from workload import add_inputs

MEASURES = ("cka", "importance")
LOSSES = ("unhealed", "healed")


def main() -> None:
    parser = make_parser(__doc__)
    add_inputs(parser)
    parser.add_argument("--tasks", default="sst2,cola,mrpc", help="by commas")
    parser.add_argument("--teacher", required=True, help="run folder of a trained teacher, by {task} and {seed}")
    parser.add_argument("--work", default="runs/ffn-{task}-{seed}", help="folder of the runs")
    parser.add_argument("--seeds", type=numbers, default=[0], help="by commas")
    parser.add_argument("--steps", type=int, default=100, help="optimizer steps of each healing")
    parser.add_argument("--samples", type=int, default=2048, help="training rows that measures look at")
    parser.add_argument("--max-eval-samples", type=int, help="score on so many rows of each split only")
    args = parser.parse_args()
    record = recorded("ffn_ranking", args, lambda: measure(args), seeds=args.seeds)
    for name, found in record["correlations"].items():
        print(f"{name}: rank correlation {found['rho']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return measures and losses of every feed-forward, and how their ranks agree."""
    rows = [row for task in args.tasks.split(",") for seed in args.seeds for row in rows_of(args, task, seed)]
    correlations = {
        f"{measure}_and_loss_{loss}": correlation(rows, measure, f"loss_{loss}_points")
        for measure in MEASURES
        for loss in LOSSES
    }
    return {"steps": args.steps, "correlations": correlations, "feed_forwards": rows}


def rows_of(args: argparse.Namespace, task: str, seed: int) -> list[dict[str, Any]]:
    """Return one row for each feed-forward of a task's teacher; losses are of the select split."""
    teacher = place(args.teacher, task, seed)
    scores = measures_of(args, task, seed, teacher)
    rows = []
    for layer in scores["cka"]:
        losses = losses_without(args, task, seed, teacher, layer, [each for each in scores["cka"] if each != layer])
        rows.append({"task": task, "seed": seed, "layer": layer, **{m: scores[m][layer] for m in MEASURES}, **losses})
    return rows


def measures_of(args: argparse.Namespace, task: str, seed: int, teacher: Path) -> dict[str, dict[int, float]]:
    """Return CKA's change and the importance of each feed-forward on training rows, all feed-forwards there."""
    data = DataSettings(task=task, data_dir=args.data_dir, max_train_samples=args.max_train_samples)
    settings = TrainSettings(threads=args.threads, seed=seed)
    say(f"{task} seed {seed}: measures")
    with tempfile.TemporaryDirectory() as work:
        run = RunFolder.open(Path(work) / "prepared", "benchmark", {})
        prepared = prepare(str(teacher), load_dataset(data), data.length_limit, settings, run)
    model = prepared.loaded.model
    batches = TaskObjective(prepared).sample(model, args.samples, seed)
    neurons = measure_importance(model, batches).neurons
    return {
        "cka": ffn_changes(model, batches, seed=seed),
        "importance": {layer: float(neurons[layer].sum()) for layer in feed_forward_layers(model.shape)},
    }


def losses_without(
    args: argparse.Namespace, task: str, seed: int, teacher: Path, layer: int, others: Sequence[int]
) -> dict[str, float]:
    """Return the points that the model loses without one feed-forward, before and after healing."""
    say(f"{task} seed {seed}: without the feed-forward of layer {layer}")
    out = place(args.work, task, seed) / f"without-{layer}"
    args.task = task  # what `train` and `epochs_of` read
    words = ["undivided", str(teacher), "--ffn-keep", ",".join(map(str, others))]
    train(args, seed, out, [*words, "--epochs", epochs_of(args, args.steps)])
    front = Front.load(out)
    found = {"unhealed" if entry.name.endswith("-unhealed") else "healed": entry for entry in front}
    return {
        f"loss_{name}_{points}": 100 * (getattr(front.teacher, score) - getattr(found[name], score))
        for name in LOSSES
        for points, score in (("points", "select_score"), ("dev_points", "score"))
    }


def correlation(rows: Sequence[Mapping[str, Any]], measure: str, loss: str) -> dict[str, float]:
    """Return Spearman's correlation of ranks within each task and seed, with a bootstrap interval over rows."""
    groups = sorted({(row["task"], row["seed"]) for row in rows})
    ranks = [
        [rankdata([row[name] for row in rows if (row["task"], row["seed"]) == group]) for name in (measure, loss)]
        for group in groups
    ]
    one, other = (np.concatenate([group[i] for group in ranks]) for i in (0, 1))

    def rho(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
        return float(spearmanr(x, y).statistic)

    found = bootstrap(
        (one, other),
        rho,
        paired=True,
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = found.confidence_interval
    return {"rho": rho(one, other), "low": float(low), "high": float(high), "count": len(one)}


if __name__ == "__main__":
    main()
