"""What is reported of the networks of a depth run: scores, costs, and the paired comparison with the full model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cutbert.bench.memory import file_bytes
from cutbert.errors import RunError
from cutbert.files import read_json
from cutbert.fronts.outputs import answers_of, chance_fact
from cutbert.fronts.paired import Paired, compare
from cutbert.fronts.score import read_outputs
from cutbert.methods.depth_networks import FULL, TRUNCATED, DepthRun, ScoredDepth
from cutbert.work.training_memory import TrainingMemory


def report_of(
    depth_run: DepthRun,
    networks: Sequence[ScoredDepth],
    memory: Mapping[str, TrainingMemory],
    choosing_seconds: float,
    selectors: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return what is reported of the chosen network, and of the full one and all depths where they were made.

    Args:
        depth_run: what the networks were made from.
        networks: fine-tuned and scored.
        memory: of the compared ones, by folder.
        choosing_seconds: what the choice took.
        selectors: by selector and rule, its depth and scores; empty where they are not reported.
    """
    run, chosen = depth_run.run, summary(networks, depth_run.chosen)
    report = {
        "num_layers": depth_run.num_layers,
        "metric": depth_run.objective.metric,
        **{key: chosen[key] for key in ("score", "scores", "select_score", "params", "macs")},
        "seeds": list(depth_run.seeds),
        "seconds": choosing_seconds + chosen["training_seconds"] + chosen["scoring_seconds"],
        "choosing_seconds": choosing_seconds,
        "training_seconds": chosen["training_seconds"],
        "scoring_seconds": chosen["scoring_seconds"],
        "total_seconds": run.seconds,
        "peak_bytes": memory["model"].peak_bytes,
        "before_bytes": memory["model"].before_bytes,
        "file_bytes": file_bytes(run.path / "model"),
        "truncated": str(run.path / TRUNCATED),
    }
    if selectors:
        report["selectors"] = selectors
    own = [net.entry for net in networks if net.depth == depth_run.chosen]
    best = max(own, key=lambda entry: entry.select_score)
    report |= chance_fact(run.path, best.name, depth_run.objective.metric)
    if FULL in depth_run.compared:
        report |= beside_full(depth_run, networks, memory[FULL])
    return report | (all_depths(depth_run, networks, selectors) if depth_run.settings.all_depths else {})


def summary(networks: Sequence[ScoredDepth], depth: int) -> dict[str, Any]:
    """Return scores and seconds of one depth, means over its seeds."""
    own = [net for net in networks if net.depth == depth]
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


def beside_full(depth_run: DepthRun, networks: Sequence[ScoredDepth], memory: TrainingMemory) -> dict[str, Any]:
    """Return the full model's numbers, and the paired comparison of the chosen depth with it."""
    full = summary(networks, depth_run.num_layers)
    result = {
        "full_score": full["score"],
        "full_scores": full["scores"],
        "full_select_score": full["select_score"],
        "full_params": full["params"],
        "full_macs": full["macs"],
        "full_seconds": full["training_seconds"] + full["scoring_seconds"],
        "full_peak_bytes": memory.peak_bytes,
        "full_before_bytes": memory.before_bytes,
        "full_file_bytes": file_bytes(depth_run.run.path / FULL),
        "margin": depth_run.settings.margin,
    }
    if depth_run.chosen == depth_run.num_layers:
        return {**result, "verdict": "the full model was chosen"}
    paired = against(depth_run, depth_run.chosen)
    return {
        **result,
        "verdict": paired.verdict(depth_run.settings.margin),
        "difference": paired.to_json(),
        "p_value": paired.p_value,
    }


def against(depth_run: DepthRun, depth: int) -> Paired:
    """Compare a depth with the full model on the rows of dev."""
    one, other = (
        [depth_run.outputs_file(each, seed) for seed in depth_run.seeds] for each in (depth, depth_run.num_layers)
    )
    return compare_stored(one, other, depth_run.objective.metric)


def compare_stored(one: Sequence[Path], other: Sequence[Path], metric: str) -> Paired:
    """Compare two depths by the files of their outputs on the same rows, one a seed."""
    ours, theirs = ([read_json(path, RunError, read_outputs) for path in paths] for paths in (one, other))
    if isinstance(ours[0].get(metric), list):  # a score of each group
        of_ours, of_theirs = ([np.asarray(each[metric], dtype=np.float64) for each in side] for side in (ours, theirs))
        return compare("mean", of_ours, of_theirs, np.zeros_like(of_ours[0]))
    answers, others = ([answers_of(each) for each in side] for side in (ours, theirs))
    return compare(metric, answers, others, np.asarray(ours[0]["labels"], dtype=np.float64))


def all_depths(
    depth_run: DepthRun, networks: Sequence[ScoredDepth], selectors: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return every depth's scores, the best depth on dev, and how far below it each selector's choice stays."""
    depths = [summary(networks, depth) for depth in range(1, depth_run.num_layers + 1)]
    for each in depths[:-1]:
        paired = against(depth_run, each["depth"])
        each |= {"difference": paired.to_json(), "verdict": paired.verdict(depth_run.settings.margin)}
    scores = [each["score"] for each in depths]
    best = max(scores)
    regrets = {name: {**each, "regret": best - scores[each["depth"] - 1]} for name, each in selectors.items()}
    return {
        "series": depths,
        "oracle_depth": scores.index(best) + 1,
        "oracle_score": best,
        "oracle_looks_at": "dev",
        "regret": best - scores[depth_run.chosen - 1],
        "selectors": regrets,
    }


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
