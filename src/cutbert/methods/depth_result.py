"""What a depth run found: the chosen network's numbers, the full one's beside it, and the series of all depths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cutbert.bench.memory import file_bytes
from cutbert.files import read_json
from cutbert.fronts.outputs import answers_of
from cutbert.fronts.paired import Paired, compare
from cutbert.methods.depth_memory import TrainingMemory
from cutbert.methods.depth_nets import FULL, TRUNCATED, Job, Net


def result_of(job: Job, nets: Sequence[Net], memory: Mapping[str, TrainingMemory]) -> dict[str, Any]:
    """Return the result: the choice, the chosen network, the full one and the series where they were made."""
    choice, run = job.choice, job.run
    chosen = summary(nets, choice.depth)
    result = {
        "out": str(run.path),
        "chosen_depth": choice.depth,
        "num_layers": job.num_layers,
        "selector": choice.by,
        "depth_scores": choice.depth_scores,
        "gain": choice.gain,
        "metric": job.prepared.data.metric,
        **{key: chosen[key] for key in ("score", "scores", "select_score", "params", "macs")},
        "seeds": list(job.seeds),
        "seconds": choice.seconds + chosen["training_seconds"] + chosen["scoring_seconds"],
        "choosing_seconds": choice.seconds,
        "training_seconds": chosen["training_seconds"],
        "scoring_seconds": chosen["scoring_seconds"],
        "total_seconds": run.seconds,
        "peak_bytes": memory["model"].peak_bytes,
        "before_bytes": memory["model"].before_bytes,
        "file_bytes": file_bytes(run.path / "model"),
        "truncated": str(run.path / TRUNCATED),
    }
    if len(choice.scores) > 1 or job.settings.all_depths:
        result["selectors"] = {
            name: {"depth": depth, **({"scores": choice.scores[name]} if name in choice.scores else {})}
            for name, depth in choice.depths.items()
        }
    if FULL in job.compared:
        result |= beside_full(job, nets, memory[FULL])
    return result | (series_of(job, nets, result["selectors"]) if job.settings.all_depths else {})


def summary(nets: Sequence[Net], depth: int) -> dict[str, Any]:
    """Return scores and seconds of one depth, means over its seeds."""
    own = [net for net in nets if net.depth == depth]
    return {
        "depth": depth,
        "score": mean([net.entry.score for net in own]),
        "scores": [net.entry.score for net in own],
        "select_score": mean([net.entry.select_score for net in own]),
        "params": own[0].entry.params,
        "macs": own[0].entry.macs,
        "training_seconds": mean([net.training_seconds for net in own]),
        "scoring_seconds": mean([net.scoring_seconds for net in own]),
    }


def beside_full(job: Job, nets: Sequence[Net], memory: TrainingMemory) -> dict[str, Any]:
    """Return the full model's numbers, and what may be said of the chosen one beside it."""
    full = summary(nets, job.num_layers)
    result = {
        "full_score": full["score"],
        "full_scores": full["scores"],
        "full_select_score": full["select_score"],
        "full_params": full["params"],
        "full_macs": full["macs"],
        "full_seconds": full["training_seconds"] + full["scoring_seconds"],
        "full_peak_bytes": memory.peak_bytes,
        "full_before_bytes": memory.before_bytes,
        "full_file_bytes": file_bytes(job.run.path / FULL),
        "margin": job.settings.margin,
    }
    if job.choice.depth == job.num_layers:
        return {**result, "verdict": "the full model was chosen"}
    found = against(job, job.choice.depth)
    return {
        **result,
        "verdict": found.verdict(job.settings.margin),
        "difference": found.to_json(),
        "p_value": found.p_value,
    }


def against(job: Job, depth: int) -> Paired:
    """Compare a depth with the full model on the rows of dev."""
    one, other = ([job.answers_file(each, seed) for seed in job.seeds] for each in (depth, job.num_layers))
    return compare_stored(one, other, job.prepared.data.metric)


def compare_stored(one: Sequence[Path], other: Sequence[Path], metric: str) -> Paired:
    """Compare two depths by the files of their outputs on the same rows, one a seed."""
    ours, theirs = ([answers_of(read_json(path)) for path in paths] for paths in (one, other))
    return compare(metric, ours, theirs, np.asarray(read_json(one[0])["labels"], dtype=np.float64))


def series_of(job: Job, nets: Sequence[Net], selectors: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return every depth's scores, the best depth on dev, and how far below it each selector's choice stays."""
    series = [summary(nets, depth) for depth in range(1, job.num_layers + 1)]
    for each in series[:-1]:
        found = against(job, each["depth"])
        each |= {"difference": found.to_json(), "verdict": found.verdict(job.settings.margin)}
    scores = [each["score"] for each in series]
    best = max(scores)
    regrets = {name: {**each, "regret": best - scores[each["depth"] - 1]} for name, each in selectors.items()}
    return {
        "series": series,
        "oracle_depth": scores.index(best) + 1,
        "oracle_score": best,
        "oracle_looks_at": "dev",
        "regret": best - scores[job.choice.depth - 1],
        "selectors": regrets,
    }


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
