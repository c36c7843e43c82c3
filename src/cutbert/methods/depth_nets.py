"""The networks of a depth run: the first layers, as many as are asked for, fine-tuned, scored and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cutbert.fronts.front import Entry
from cutbert.fronts.score import PREDICTIONS, score_points, whole_point
from cutbert.hub.load import load_model
from cutbert.hub.provenance import extend_provenance
from cutbert.hub.save import save_model
from cutbert.methods.depth_choice import Choice
from cutbert.methods.depth_memory import TrainingMemory, training_memory
from cutbert.methods.depth_settings import DepthSettings
from cutbert.methods.finetune import FINETUNE, LabelStep, save_trained
from cutbert.methods.prepare import Prepared
from cutbert.methods.recipes import override_plan
from cutbert.model.task_model import TaskModel
from cutbert.shape.subnet import Subnet
from cutbert.surgery.extract import extract
from cutbert.train.checkpoint import load_weights, read_position
from cutbert.train.loop import Stage
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import StagePlan, TrainSettings
from cutbert.train.turns import train_in_turns

TRUNCATED, FULL = "truncated", "full"


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
