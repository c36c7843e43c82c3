"""What each piece of `fit`'s training brings alone: the same network, teacher and batches, one piece changed.

Networks are thin layers as `fit` proposes them, cut from a task's fine-tuned teacher and repaired as `fit` does it, one
for each task and seed; then distilled for a fixed number of steps, once a variant. Scored on select alone, by KL to the
teacher and by the metric; dev stays unread. The record is written again after every cell, so a stopped benchmark goes
on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cutbert
from averaging import AveragingOptimizer
from cutbert.data.batches import Batch
from cutbert.data.dataset import Rows, load_dataset
from cutbert.data.settings import DataSettings
from cutbert.model.task_model import TaskModel
from cutbert.train.evaluate import predict_logits, score, teacher_kl
from cutbert.train.progress import say
from recording import make_parser, names, numbers, parse, record_so_far, write_part
from workload import (
    SMALL,
    Candidate,
    DistillStep,
    KeptLayer,
    LabelStep,
    LayerMap,
    ModelView,
    Optimizer,
    RunFolder,
    Stage,
    StepInfo,
    StudentRecipe,
    Subnet,
    TaughtSource,
    TrainSettings,
    chosen_layers,
    encoder_states,
    in_multiples,
    layer_map,
    model_of,
    objective_of,
    state_loss,
    student_step,
    train_stage,
)

DEPTH, SHARE = 3, 1 / 2  # layers, and share of their heads and neurons: what `fit` takes of MiniLM at a third
STEPS = {"sst2": 80, "cola": 80, "mrpc": 32}  # about a first round of `fit`; MRPC's take three times as long
TEACHER_RATE = 1e-4
PASSES = {"sst2": 2.0, "cola": 4.0, "mrpc": 4.0}  # of the teacher
TRAIN_ROWS = {"sst2": 10_000}
MORE_ROWS = {"sst2": "sst2", "cola": "sst2", "mrpc": "qqp"}  # whose training texts are rows without labels
MAX_MORE_ROWS = 4000
LONG = 0.25  # of select: the longest texts, judged by themselves too


@dataclass(frozen=True)
class Variant:
    """What `fit` does with one piece changed.

    Args:
        recipe: what is learned, from which layers.
        share: of heads and neurons that are kept.
        is_repaired: whether the cut is repaired before it is trained.
        steps_share: of the base's steps.
        average: decay of the mean of the weights that it ends with.
        final_share: steps on labels after it, as a share of the base's.
        more: rows without labels that join the task's: "others", of its full data or another data set, or "joined",
            pairs of its own texts, each pair one longer text.
        matched: layers are matched while training, with a matrix "fixed" at identity or "trained".
        top: the last state is not compared with its own layer's but left "free", or compared with the teacher's "last".
    """

    recipe: StudentRecipe = SMALL
    share: float = SHARE
    is_repaired: bool = True
    steps_share: float = 1.0
    average: float | None = None
    final_share: float = 0.0
    more: str | None = None
    matched: str | None = None
    top: str | None = None


def with_weights(state_map: LayerMap = "own", **weights: float) -> Variant:
    return Variant(replace(SMALL, state_map=state_map, weights=replace(SMALL.weights, **weights)))


def with_rate(rate: float) -> Variant:
    return Variant(replace(SMALL, plan=replace(SMALL.plan, learning_rate=rate)))


BASE = "as fit does it"
VARIANTS: dict[str, Variant] = {
    BASE: Variant(),
    "relations added": with_weights(relations=1.0),
    "heads and neurons wider by a sixth": Variant(share=7 / 12),
    "twice the steps": Variant(steps_share=2.0),
    "layers matched": Variant(matched="fixed"),
    "mean of the weights": Variant(average=0.98),
    "more rows": Variant(more="others"),
    "texts joined": Variant(more="joined"),
    "not repaired": Variant(is_repaired=False),
    "layers: every other": Variant(replace(SMALL, layers="spread")),
    "layers: first and last": Variant(replace(SMALL, layers="first_and_last")),
    "layers: last": Variant(replace(SMALL, layers="last")),
    "rate 6e-4": with_rate(6e-4),
    "rate 2e-4": with_rate(2e-4),
    "rate 1e-4": with_rate(1e-4),
    "rate 5e-5": with_rate(5e-5),
    "last state free": Variant(top="free"),
    "logits alone": with_weights(hidden=0.0),
    "states by the uniform map": with_weights("uniform"),
    "layers matched by a matrix": Variant(matched="trained"),
    "labels at the end": Variant(final_share=0.25),
    "last state like the last": Variant(top="last"),
}


@dataclass(frozen=True)
class Cell:
    """One network: on a task, from a seed's teacher, by a variant."""

    seed: int
    variant: str
    task: str

    @property
    def folder(self) -> str:
        return f"{self.task}-{self.seed}-{self.variant.replace(' ', '_').replace(':', '')}"


def planned(args: argparse.Namespace) -> list[Cell]:
    """Return the cells in the order they are computed: a seed after the other, of each task all variants."""
    return [
        Cell(seed, variant, task) for seed in args.seeds for task in args.tasks for variant in args.variants or VARIANTS
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--model", help="model that teachers are made from; None for MiniLM of the installed package")
    parser.add_argument("--data-dir", help="folder of the GLUE tasks; None for the hub's")
    parser.add_argument("--tasks", type=names, default=list(STEPS), help="tasks by commas")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], help="by commas")
    parser.add_argument("--variants", type=names, default=[], help="by commas; none for all")
    parser.add_argument("--depth", type=int, default=DEPTH, help="layers that are kept")
    parser.add_argument("--name", default="pilots", help="of the record")
    parser.add_argument("--steps-share", type=float, default=1.0, help="of the steps, to see whether it runs")
    parser.add_argument("--teachers", type=Path, default=Path("runs/fit"), help="folder of measure_fit.py's teachers")
    parser.add_argument("--work", type=Path, default=Path("runs/pilots"), help="folder of unfinished work")
    args = parse(parser, argv)
    record = record_so_far(args.name, args, args.seeds, lambda: {"steps": STEPS, "depth": args.depth, "cells": []})
    record["variants"] = {name: settings_of(each) for name, each in VARIANTS.items()}
    done = {cell_key(row) for row in record["cells"]}
    todo = [cell for cell in planned(args) if cell_key(vars(cell)) not in done]
    for number, cell in enumerate(todo, start=1):
        record["cells"].append({**vars(cell), **measure(cell, args)})
        record["seeds"] = sorted({row["seed"] for row in record["cells"]})
        write_part(record, args)
        say(f"{number} of {len(todo)}: {json.dumps(record['cells'][-1])}")
    if not todo:
        say(f"{record['name']} is complete")


def cell_key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("seed", "variant", "task"))


def settings_of(variant: Variant) -> dict[str, Any]:
    """Return what the record says of a variant: all its values."""
    own = {name: value for name, value in vars(variant).items() if name != "recipe"}
    recipe = variant.recipe
    return {
        "layers": recipe.layers,
        "state_map": recipe.state_map,
        **{f"{name}_weight": getattr(recipe.weights, name) for name in ("logits", "hidden", "relations")},
        "learning_rate": recipe.plan.learning_rate,
        **own,
    }


# One cell


@dataclass(frozen=True, eq=False)
class Lesson:
    """A task with its fine-tuned teacher.

    Args:
        part: rows, teacher and what is cut, as in `fit`.
        more: whose training texts are further rows.
        seed: that chooses them.
        depth: layers that are kept.
        networks: repaired ones by what they are cut to, with their KL, for the variants that begin with the same.
    """

    part: TaughtSource
    more: DataSettings
    seed: int
    depth: int
    networks: dict[tuple[Any, ...], tuple[TaskModel, float]] = field(default_factory=dict)

    @cached_property
    def more_rows(self) -> Rows:
        """Further rows, without labels."""
        rows = load_dataset(self.more).train
        assert isinstance(rows, Rows)
        keep = np.random.default_rng(self.seed).permutation(len(rows))[:MAX_MORE_ROWS]
        return replace(rows.take(keep), labels=None)

    def network(self, variant: Variant) -> tuple[Candidate, TaskModel, float]:
        """Return what a variant begins with, its network to be trained, and that one's KL on select."""
        candidate = candidate_of(self.part, variant, self.depth)
        key = (variant.recipe.layers, variant.share, variant.is_repaired)
        if key not in self.networks:
            make = self.part.repaired if variant.is_repaired else self.part.source.cut
            network = make(candidate)
            self.networks[key] = network, judged(self.part, network)["select_kl"]
        begun, kl = self.networks[key]
        network = self.part.source.new(candidate)
        network.load_state_dict(begun.state_dict())
        return candidate, network, kl


def candidate_of(part: TaughtSource, variant: Variant, depth: int) -> Candidate:
    """Return what is cut: some layers, and of each the same share of its heads and neurons."""
    shape = part.source.shape
    kept = []
    for i in chosen_layers(min(depth, shape.num_layers), shape.num_layers, variant.recipe.layers):
        layer = shape.layers[i]
        neurons = in_multiples(variant.share * layer.intermediate_size, layer.intermediate_size)
        heads = max(1, round(variant.share * layer.num_heads))
        kept.append(KeptLayer(i, replace(layer, num_heads=heads, intermediate_size=neurons)))
    return Candidate("thin", "sizes", Subnet(tuple(kept), shape.hidden_size))


@cache
def lesson_of(
    task: str, seed: int, model: str, data_dir: str | None, threads: int, depth: int, teachers: Path, work: Path
) -> Lesson:
    """Fine-tune a teacher as measure_fit.py does, where that is not done, and look at its parts as `fit` does."""
    words: dict[str, Any] = {"task": task, "data_dir": data_dir, "max_train_samples": TRAIN_ROWS.get(task)}
    out = teachers / f"{task}-{seed}" / "teacher"
    if not (out / "model").is_dir():
        tuned = {"learning_rate": TEACHER_RATE, "epochs": PASSES[task], "seed": seed, "threads": threads}
        cutbert.finetune(model, out=str(out), **tuned, **words)
    train = TrainSettings(threads=threads, seed=seed)
    run = RunFolder.open(work / f"read-{task}-{seed}", "benchmark", {})
    objective = objective_of(str(out / "model"), DataSettings(**words), train, run)
    more = DataSettings(task=MORE_ROWS[task], data_dir=data_dir)
    return Lesson(TaughtSource.of_model(objective, [], seed, run.path), more, seed, depth)


def measure(cell: Cell, args: argparse.Namespace) -> dict[str, Any]:
    """Distil a network and score it on select."""
    teachers, work = args.teachers.resolve(), args.work.resolve()
    lesson = lesson_of(cell.task, cell.seed, model_of(args), args.data_dir, args.threads, args.depth, teachers, work)
    variant, part = VARIANTS[cell.variant], lesson.part
    objective, recipe = part.objective, variant.recipe
    candidate, network, kl_before = lesson.network(variant)
    steps = max(2, round(STEPS[cell.task] * variant.steps_share * args.steps_share))
    tokens, teacher = part.tokens, part.teacher
    if variant.more is not None:
        rows = objective.data.train
        assert isinstance(rows, Rows)
        more = lesson.more_rows if variant.more == "others" else joined_texts(rows, cell.seed)
        tokens, teacher = objective.tokenize(rows.joined(more)), replace(teacher, kept=None)
    step = student_step(objective.losses, teacher, network.shape, recipe, kept=candidate.layers)
    if variant.top:
        whole, kept = part.source.shape.num_layers, candidate.layers
        own = [(i, j) for i, j in layer_map(len(kept), whole, "own", kept) if i < len(kept)]
        last = layer_map(len(kept), whole, "last") if variant.top == "last" else []
        step = replace(step, state_pairs=[*own, *last])
    plan = replace(recipe.plan, exact_steps=steps)
    means: list[AveragingOptimizer] = []

    def averaging(*how: Any) -> AveragingOptimizer:
        assert variant.average is not None
        means.append(AveragingOptimizer(Optimizer(*how), network, variant.average))
        return means[-1]

    matched = MatchedStep(step, variant.matched == "trained", plan.learning_rate) if variant.matched else step
    stages = [Stage(plan, tokens, matched, optimizer=Optimizer if variant.average is None else averaging)]
    if variant.final_share:
        last_steps = max(1, round(steps * variant.final_share))
        final = replace(plan, name="final", exact_steps=last_steps, learning_rate=2e-5, first_step=steps)
        stages.append(Stage(final, objective.train_tokens, LabelStep(objective.losses)))
    folder = work / "cells" / cell.folder
    shutil.rmtree(folder, ignore_errors=True)
    run, train = RunFolder.open(folder, "benchmark", {}), TrainSettings(threads=args.threads, seed=cell.seed)
    begun = time.process_time()
    with run.start():
        for stage in stages:
            train_stage(network, stage, objective.engine, train, run)
    seconds = time.process_time() - begun
    for each in means:
        each.use_means()
    shutil.rmtree(folder)
    return {
        "kept": list(candidate.layers),
        "sizes": [[layer.num_heads, layer.intermediate_size] for layer in network.shape.layers],
        "steps": steps,
        "metric": objective.metric,
        **judged(part, network.eval()),
        "untrained_kl": kl_before,
        "teacher_select_score": part.teacher_select,
        "train_processor_s": round(seconds, 2),
    }


def joined_texts(rows: Rows, seed: int) -> Rows:
    """Return each text with another one behind it, both sides of a pair."""
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()

    def joined(texts: Sequence[str]) -> list[str]:
        return [f"{text} {texts[other]}" for text, other in zip(texts, order, strict=True)]

    return Rows(joined(rows.text), None if rows.text_pair is None else joined(rows.text_pair), None)


def judged(part: TaughtSource, network: TaskModel) -> dict[str, float]:
    """Return KL and score on select, and the KL on its longest texts."""
    objective, head = part.objective, part.objective.data.head
    logits, wanted = predict_logits(network, objective.select), part.answers[0]
    long = np.argsort(-objective.select.lengths, kind="stable")[: max(1, round(LONG * len(objective.select)))]
    return {
        "select_kl": teacher_kl(head, logits, wanted),
        "long_kl": teacher_kl(head, logits[long], wanted[long]),
        "select_score": score(head, objective.metric, logits, objective.select).score,
    }


# Layers matched while training


@dataclass(eq=False)
class MatchedStep:
    """A step whose student's states are compared with a third, two thirds and all of the teacher's, as they fit best.

    Args:
        step: gives logits and teacher.
        is_trained: whether the matrix before the comparison is trained; it stays the identity otherwise.
        rate: of the matrix, under Adam.

    Source:
        Xia et al. 2022, CoFi (2204.00408), equations 5 and 6: the layers that are nearest are matched, in order.
    """

    step: DistillStep
    is_trained: bool
    rate: float
    matrix: Tensor | None = None
    optimizer: torch.optim.Optimizer | None = None
    seen: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, view: ModelView, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        assert self.step.teacher is not None
        losses_of = self.step.losses_of(batch, info)
        student = encoder_states(view.model, batch)
        target = losses_of.target(self.step.teacher)
        logit_loss = losses_of.logit_loss(view, student, target, self.step.weights.temperature)
        if self.matrix is None:
            self.matrix = torch.eye(student[0].shape[-1], requires_grad=self.is_trained)
            self.optimizer = torch.optim.Adam([self.matrix], lr=self.rate) if self.is_trained else None
        moved = [states @ self.matrix.to(states.dtype).T for states in student]
        num_layers = len(target.states) - 1
        wanted = [target.states[round(num_layers * share / 3)] for share in (1, 2, 3)]
        errors = torch.stack(
            [torch.stack([state_loss(ours, theirs, batch.attention_mask) for ours in moved[1:]]) for theirs in wanted]
        )
        ways = itertools.combinations_with_replacement(range(len(student) - 1), len(wanted))
        best = min(ways, key=lambda way: float(sum(errors[j, i].detach() for j, i in enumerate(way))))
        hidden = torch.stack([errors[j, i] for j, i in enumerate(best)]).sum() / (info.num_tokens * len(wanted))
        losses = {
            "logits": logit_loss * (self.step.weights.logits / losses_of.num_targets),
            "hidden": hidden * self.step.weights.hidden,
        }
        torch.stack(list(losses.values())).sum().backward()
        if self.optimizer is not None:
            self.optimizer.step()
            self.optimizer.zero_grad()
        return {name: loss.detach() for name, loss in losses.items()}


if __name__ == "__main__":
    main()
