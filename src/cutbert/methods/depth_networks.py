"""The networks of a depth run: the first layers of a model, fine-tuned, scored and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cutbert.folders.load import load_model
from cutbert.folders.provenance import extend_provenance
from cutbert.folders.save import save_model
from cutbert.fronts.entry import Entry
from cutbert.fronts.outputs import chance_note
from cutbert.fronts.score import PREDICTIONS, whole_point
from cutbert.methods.depth_settings import DepthSettings
from cutbert.model.task_model import TaskModel
from cutbert.shape.source import find_model
from cutbert.surgery.extract import with_layers
from cutbert.train.checkpoint import load_weights, read_position
from cutbert.train.interleaved import train_interleaved
from cutbert.train.loop import Stage
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import StagePlan, TrainSettings
from cutbert.work.distill import LabelStep
from cutbert.work.objective import TaskObjective, load_for
from cutbert.work.plans import FINETUNE
from cutbert.work.training_memory import TrainingMemory, training_memory

TRUNCATED, FULL = "truncated", "full"


@dataclass(frozen=True)
class ScoredDepth:
    """One fine-tuned network, scored.

    Args:
        depth, seed: what it was made from.
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
class DepthRun:
    """Fine-tunes, scores and stores the first layers of a model, at one depth or several.

    Args:
        objective: the task; holds the pre-trained model.
        chosen: layers of the network that is kept.
        train, settings: as given.
        run: the run's folder.
    """

    objective: TaskObjective
    chosen: int
    train: TrainSettings
    settings: DepthSettings
    run: RunFolder

    @property
    def num_layers(self) -> int:
        return self.objective.loaded.model.shape.num_layers

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.settings.seeds or (self.train.seed,)

    @property
    def compared(self) -> dict[str, int]:
        """The folders whose networks are kept and measured, with their depths."""
        has_full = self.settings.against_full or self.settings.all_depths
        return {"model": self.chosen} | ({FULL: self.num_layers} if has_full else {})

    @property
    def plan(self) -> StagePlan:
        return FINETUNE.overridden(self.train)

    def train_all(self) -> list[ScoredDepth]:
        """Fine-tune and score every network asked for: those that are compared in turn, others one by one."""
        kept = sorted(set(self.compared.values()))
        others = [depth for depth in range(1, self.num_layers + 1) if depth not in kept]
        networks = []
        for seed in self.seeds:
            for depths in (kept, *([depth] for depth in others if self.settings.all_depths)):
                networks += self.train_some(depths, seed)
        return networks

    def train_some(self, depths: Sequence[int], seed: int) -> list[ScoredDepth]:
        """Fine-tune networks of some depths side by side, where they are not finished, and score them."""
        engine = self.objective.engine
        models = {depth: self.cut(depth, seed) for depth in depths}
        step = LabelStep(self.objective.losses)
        pairs = [
            (model, Stage(replace(self.plan, name=name_of(depth, seed)), self.objective.train_tokens, step))
            for depth, model in models.items()
            if not self.is_finished(depth, seed)
        ]
        with self.run.timing("train"):
            train_interleaved(pairs, engine, replace(self.train, seed=seed), self.run)
        networks = [self.scored(depth, seed, model) for depth, model in models.items()] if engine.is_main else []
        engine.accelerator.wait_for_everyone()
        return networks

    def cut(self, depth: int, seed: int) -> TaskModel:
        """Return the first layers of the pre-trained model, with a head made from the seed where that is new."""
        loaded = self.objective.loaded
        if seed != self.train.seed:
            loaded = load_for(self.objective.inputs.model, self.objective.data, seed)
        return first_layers(loaded.model, depth).to(self.objective.engine.device)

    def is_finished(self, depth: int, seed: int) -> bool:
        return self.position_file(depth, seed).is_file() and self.outputs_file(depth, seed).is_file()

    def position_file(self, depth: int, seed: int) -> Path:
        return self.run.path / "checkpoint" / f"{name_of(depth, seed)}.json"

    def outputs_file(self, depth: int, seed: int) -> Path:
        return self.run.path / PREDICTIONS / f"{name_of(depth, seed)}.json"

    def scored(self, depth: int, seed: int, model: TaskModel) -> ScoredDepth:
        """Score a fine-tuned network on select and dev; weights that are no longer needed are removed."""
        name = name_of(depth, seed)
        point = replace(whole_point(model.shape, name), depth_mult=depth / self.num_layers)
        with self.run.timing("score"), self.run.timing(f"score-{name}"):
            entry = self.objective.score(self.run, model, [point])[0]
        note = chance_note(self.run.path, name, self.objective.metric) if self.objective.engine.is_main else None
        if note is not None:
            say(f"{name}: {note}")
        position = self.position_file(depth, seed)
        if depth not in self.compared.values():
            position.with_suffix(".safetensors").unlink(missing_ok=True)
        spent = float(self.run.data["timings"][f"score-{name}"])
        return ScoredDepth(depth, seed, entry, read_position(position).seconds, spent)

    def save_truncated(self) -> None:
        """Write the first layers as they were before fine-tuning, with the head the model came with."""
        folder = self.run.path / TRUNCATED
        if not folder.exists():
            loaded = load_model(self.objective.inputs.model)
            provenance = extend_provenance(loaded.provenance, self.run.line, scores={})
            save_model(
                folder,
                first_layers(loaded.model, self.chosen),
                loaded.tokenizer,
                provenance=provenance,
                sentence=self.objective.sentence,
            )

    def memory(self, name: str) -> TrainingMemory:
        """Return what fine-tuning one of the compared networks takes."""
        depth, objective = self.compared[name], self.objective
        source = objective.inputs.model
        if depth < self.num_layers:
            source = find_model(self.run.path / TRUNCATED).reading(source.pooling or "auto")
        folder = self.run.path / "checkpoint" / "memory" / str(depth)
        teacher = objective.inputs.model if objective.data.head.kind == "embedding" else None
        head, tokens = objective.data.head, objective.train_tokens
        return training_memory(source, head, self.plan, self.train, tokens, folder, teacher)

    def save_best(self, networks: Sequence[ScoredDepth]) -> None:
        """Write each compared depth's network of the seed that is best on select."""
        for name, depth in self.compared.items():
            if not (self.run.path / name).exists():
                best = max((each for each in networks if each.depth == depth), key=lambda each: each.entry.select_score)
                model = self.cut(depth, best.seed)
                load_weights(self.position_file(depth, best.seed).with_suffix(".safetensors"), model)
                self.objective.save(self.run, model, best.entry, name)


def name_of(depth: int, seed: int) -> str:
    """Return the name of a network: of its stage and of its predictions."""
    return f"depth-{depth}-seed-{seed}"


def first_layers(model: TaskModel, depth: int) -> TaskModel:
    """Return the first layers of a network as one of their own, with its head.

    Source:
        Fan et al. 2021 (2111.10951): the top layers are dropped.
    """
    return with_layers(model, range(depth))
