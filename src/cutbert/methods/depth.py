"""Depth before fine-tuning: choose how many of the first layers a task needs, and fine-tune those only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cutbert.bench.memory import file_bytes
from cutbert.data.settings import DataSettings
from cutbert.files import read_json
from cutbert.fronts.front import Entry
from cutbert.fronts.paired import Answers, Paired, compare
from cutbert.fronts.score import PREDICTIONS, score_points, whole_point
from cutbert.hub.load import load_model
from cutbert.hub.provenance import extend_provenance
from cutbert.hub.save import save_model
from cutbert.methods.depth_choice import Choice, check_choices, stored_choice
from cutbert.methods.depth_memory import TrainingMemory, training_memory
from cutbert.methods.depth_settings import DepthSettings
from cutbert.methods.finetune import FINETUNE, LabelStep, save_trained
from cutbert.methods.prepare import Prepared, check_inputs, prepare
from cutbert.methods.recipes import override_plan
from cutbert.model.task_model import TaskModel
from cutbert.shape.subnet import Subnet
from cutbert.surgery.extract import extract
from cutbert.train.checkpoint import load_weights, read_position
from cutbert.train.loop import Stage
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import StagePlan, TrainSettings
from cutbert.train.turns import train_in_turns

CHOICE = "choice.json"
TRUNCATED, FULL = "truncated", "full"


def depth(
    model: str, data: DataSettings, train: TrainSettings, settings: DepthSettings, run: RunFolder
) -> dict[str, Any]:
    """Choose a number of layers on the frozen model, fine-tune the first so many, and compare where asked to.

    Args:
        model: hub id, model folder or run folder, pre-trained, with or without a head.
        data: a task with labels of whole texts.
        train: training flags of every fine-tuning.
        settings: how a depth is chosen and what is compared.
        run: opened run folder; receives truncated/ (the first layers before fine-tuning), model/ (after it), full/
            with `against_full`.

    Returns:
        The result with the keys out, chosen_depth, depth_scores, score, metric, seconds, and others of `result_of`.

    Raises:
        InputError: mistakes in settings, model or data, all together, before anything is made.

    Source:
        Fan et al. 2021 (2111.10951): drop the top layers, then fine-tune. The criterion is ours.
    """
    dataset = check_inputs(data, train, settings, models=(model,))
    check_choices(model, dataset, settings, train.seed)
    with run.start():
        prepared = prepare(model, dataset, data.length_limit, train, run)
        if not prepared.loaded.has_new_head:
            say(
                f"{model} has a head for these labels already: its layers may be fine-tuned, not only pre-trained",
                shown=prepared.engine.is_main,
            )
        with run.timing("choose"):
            choice = stored_choice(prepared, settings, train.seed, run.path / CHOICE)
        job = Job(model, prepared, choice, train, settings, run)
        say(f"depth: {choice.depth} of {job.num_layers} layers, by {choice.by}", shown=job.is_main)
        nets = job.train_all()
        if prepared.engine.is_main:
            job.save_truncated()
            with run.timing("memory"):
                memory = {name: job.memory(name) for name in job.compared}
            job.save_best(nets)
            run.finish(result_of(job, nets, memory))
        prepared.engine.accelerator.wait_for_everyone()
    return RunFolder.read(run.path).result or {}


@dataclass(frozen=True)
class Net:
    """One fine-tuned network, scored.

    Args:
        depth, seed: what it was made of.
        entry: its scores and costs.
        training_seconds: of its own steps.
        scoring_seconds: of select and dev.
    """

    depth: int
    seed: int
    entry: Entry
    training_seconds: float
    scoring_seconds: float


@dataclass(frozen=True)
class Job:
    """What every network of a run is made from."""

    source: str
    prepared: Prepared
    choice: Choice
    train: TrainSettings
    settings: DepthSettings
    run: RunFolder

    @property
    def num_layers(self) -> int:
        return self.prepared.loaded.model.shape.num_layers

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.settings.seeds or (self.train.seed,)

    @property
    def compared(self) -> dict[str, int]:
        """The folders whose networks are kept and measured, with their depths."""
        has_full = self.settings.against_full or self.settings.all_depths
        return {"model": self.choice.depth} | ({FULL: self.num_layers} if has_full else {})

    @property
    def plan(self) -> StagePlan:
        return override_plan(FINETUNE, self.train)

    def train_all(self) -> list[Net]:
        """Fine-tune and score every network asked for: those that are compared in turn, others one by one."""
        kept = sorted(set(self.compared.values()))
        others = [depth for depth in range(1, self.num_layers + 1) if depth not in kept]
        nets = []
        for seed in self.seeds:
            for depths in (kept, *([depth] for depth in others if self.settings.all_depths)):
                nets += self.train_nets(depths, seed)
        return nets

    def train_nets(self, depths: Sequence[int], seed: int) -> list[Net]:
        """Fine-tune and score networks of some depths in turn, but those that are finished."""
        models = {depth: self.cut(depth, seed) for depth in depths}
        pairs = [
            (model, Stage(replace(self.plan, name=name_of(depth, seed)), self.prepared.train, LabelStep(model)))
            for depth, model in models.items()
            if not self.is_finished(depth, seed)
        ]
        train = replace(self.train, seed=seed)
        with self.run.timing("train"):
            train_in_turns(pairs, self.prepared.engine, train, self.run)
        nets = [self.scored(depth, seed, model) for depth, model in models.items()] if self.is_main else []
        self.prepared.engine.accelerator.wait_for_everyone()
        return nets

    @property
    def is_main(self) -> bool:
        return self.prepared.engine.is_main

    def cut(self, depth: int, seed: int) -> TaskModel:
        """Return the first layers of the pre-trained model, with a head made from the seed where that is new."""
        loaded = self.prepared.loaded
        if seed != self.train.seed:
            loaded = load_model(self.source, self.prepared.data.head, seed=seed)
        return first_layers(loaded.model, depth).to(self.prepared.engine.device)

    def is_finished(self, depth: int, seed: int) -> bool:
        return self.position_file(depth, seed).is_file() and self.answers_file(depth, seed).is_file()

    def position_file(self, depth: int, seed: int) -> Path:
        return self.run.path / "checkpoint" / f"{name_of(depth, seed)}.json"

    def answers_file(self, depth: int, seed: int) -> Path:
        return self.run.path / PREDICTIONS / f"{name_of(depth, seed)}.json"

    def scored(self, depth: int, seed: int, model: TaskModel) -> Net:
        """Score a fine-tuned network on select and dev; weights that nobody asks for any more are removed."""
        name, prepared = name_of(depth, seed), self.prepared
        point = replace(whole_point(model.shape, name), depth_mult=depth / self.num_layers)
        with self.run.timing("score"), self.run.timing(f"score-{name}"):
            entry = score_points(
                self.run, model, [point], select=prepared.select, dev=prepared.dev, metric=prepared.data.metric
            )[0]
        position = self.position_file(depth, seed)
        if depth not in self.compared.values():
            position.with_suffix(".safetensors").unlink(missing_ok=True)
        spent = float(self.run.data["timings"][f"score-{name}"])
        return Net(depth, seed, entry, read_position(position).seconds, spent)

    def save_truncated(self) -> None:
        """Write the first layers as they were before fine-tuning, with the head the model came with."""
        folder = self.run.path / TRUNCATED
        if not folder.exists():
            loaded = load_model(self.source)
            provenance = extend_provenance(loaded.provenance, self.run.line, scores={})
            save_model(folder, first_layers(loaded.model, self.choice.depth), loaded.tokenizer, provenance=provenance)

    def memory(self, name: str) -> TrainingMemory:
        """Return what fine-tuning one of the compared networks takes."""
        is_cut = self.compared[name] < self.num_layers
        source = str(self.run.path / TRUNCATED) if is_cut else self.source
        folder = self.run.path / "checkpoint" / "memory" / str(self.compared[name])
        head = self.prepared.data.head
        return training_memory(source, head, self.plan, self.train, self.prepared.train, folder)

    def save_best(self, nets: Sequence[Net]) -> None:
        """Write each compared depth's network of the seed that is best on select."""
        for name, depth in self.compared.items():
            if not (self.run.path / name).exists():
                best = max((net for net in nets if net.depth == depth), key=lambda net: net.entry.select_score)
                model = self.cut(depth, best.seed)
                load_weights(self.position_file(depth, best.seed).with_suffix(".safetensors"), model)
                save_trained(self.prepared, model, best.entry, self.run, name)


def name_of(depth: int, seed: int) -> str:
    """Return the name of a network: of its stage and of its predictions."""
    return f"depth-{depth}-seed-{seed}"


def first_layers(model: TaskModel, depth: int) -> TaskModel:
    """Return the first layers of a network as one of their own, with its head."""
    whole = Subnet.full(model.shape)
    return extract(model, Subnet(whole.layers[:depth], whole.hidden_size))


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
    truth = np.asarray(read_json(one[0])["labels"], dtype=np.float64)
    kind = job.prepared.data.head.kind
    ours, theirs = ([answers_of(read_json(path), kind) for path in paths] for paths in (one, other))
    return compare(job.prepared.data.metric, ours, theirs, truth)


def answers_of(stored: Mapping[str, Any], kind: str) -> Answers:
    """Return the class of each row, the number in regression, or 0 and 1 for each of several labels."""
    logits = np.asarray(stored["logits"], dtype=np.float64)
    if kind == "multi_label":
        return (logits > 0).astype(np.float64)
    return logits[:, 0] if kind == "regression" else logits.argmax(axis=1).astype(np.float64)


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
