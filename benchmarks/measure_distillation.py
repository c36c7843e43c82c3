"""What a small network learns best by: each part of its recipe changed alone, on several tasks, seeds and teachers.

A teacher is fine-tuned for each task and seed; a student of some of its layers is distilled for a fixed number of steps
on the same batches, once a variant. Scored on select alone, by KL to the teacher and by the metric; dev stays unread.
The record is written again after every cell, whole or not at all, so a stopped benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import cutbert
from averaging import AveragingOptimizer
from cutbert.data.batches import Batch
from cutbert.data.dataset import Rows, load_dataset
from cutbert.data.settings import DataSettings
from cutbert.train.evaluate import predict_logits, score
from cutbert.train.progress import say
from recording import make_parser, names, numbers, parse, record_so_far, write_part
from workload import (
    SMALL,
    DistillStep,
    LabelStep,
    LayerMap,
    LossWeights,
    ModelView,
    Optimizer,
    RunFolder,
    Stage,
    States,
    StepInfo,
    StudentRecipe,
    Subnet,
    TaskObjective,
    Teacher,
    TrainSettings,
    chosen_layers,
    encoder_states,
    frozen_copy,
    layer_map,
    model_of,
    objective_of,
    state_loss,
    student_step,
    train_stage,
    with_layers,
)

STEPS, FINAL_STEPS, RATE = 100, 25, 3e-4  # the base's
TEACHER_RATE = 1e-4
PASSES = {"sst2": 2.0, "cola": 3.0, "mrpc": 2.0}  # of the teacher
TRAIN_ROWS = {"sst2": 5000}
MORE_ROWS = {"sst2": "sst2", "cola": "sst2", "mrpc": "qqp"}  # whose training texts are further rows without labels
MAX_MORE_ROWS = 5000


@dataclass(frozen=True)
class Variant:
    """The base with one part changed.

    Args:
        recipe: what is learned, from which layers.
        steps, rate: of the training.
        average: decay of the mean of the weights that it ends with.
        final_steps: steps on labels after it.
        has_more_rows: whether rows of another data set, without labels, join the task's.
        matched: layers are matched while training, with a matrix "fixed" at identity or "trained".
        top: under the map "own" the last layer's state is not compared with its own layer's but left "free", or
            compared with the teacher's "last".
    """

    recipe: StudentRecipe
    steps: int = STEPS
    rate: float = RATE
    average: float | None = None
    final_steps: int = 0
    has_more_rows: bool = False
    matched: str | None = None
    top: str | None = None


def with_weights(state_map: LayerMap = "uniform", **weights: float) -> Variant:
    return Variant(replace(UNIFORM, state_map=state_map, weights=replace(UNIFORM.weights, **weights)))


UNIFORM = StudentRecipe(
    layers="first",
    state_map="uniform",
    weights=LossWeights(logits=1.0, hidden=30.0),
    plan=replace(SMALL.plan, learning_rate=RATE),
)
OWN = replace(UNIFORM, state_map="own")


BASE = "base"
VARIANTS: dict[str, Variant] = {
    BASE: Variant(UNIFORM),
    "logits alone": with_weights(hidden=0.0),
    "own map": Variant(OWN),
    "relations added": with_weights(relations=1.0),
    "relations alone": with_weights(relations=1.0, hidden=0.0),
    "spread layers": Variant(replace(UNIFORM, layers="spread")),
    "first and last": Variant(replace(UNIFORM, layers="first_and_last")),
    "rate 6e-4": Variant(UNIFORM, rate=6e-4),
    "mean of weights": Variant(UNIFORM, average=0.98),
    "last state": Variant(replace(UNIFORM, state_map="last")),
    "matched": Variant(UNIFORM, matched="fixed"),
    "more rows": Variant(UNIFORM, has_more_rows=True),
    "temperature 2": with_weights(temperature=2.0),
    "labels at the end": Variant(UNIFORM, final_steps=FINAL_STEPS),
    "rate 1e-4": Variant(UNIFORM, rate=1e-4),
    "last layers": Variant(replace(UNIFORM, layers="last")),
    "matched by a matrix": Variant(UNIFORM, matched="trained"),
    "states weigh 3": with_weights(hidden=3.0),
    "relations weigh 10": with_weights(relations=10.0),
    "twice the steps": Variant(UNIFORM, steps=2 * STEPS),
    "own map and rate 1e-4": Variant(OWN, rate=1e-4),
    "own map weighs 3": with_weights("own", hidden=3.0),
    "own map and relations": with_weights("own", relations=1.0),
    "own map and top free": Variant(OWN, top="free"),
    "own map and top last": Variant(OWN, top="last"),
    "own map and more rows": Variant(OWN, has_more_rows=True),
    "own map and first and last": Variant(replace(OWN, layers="first_and_last")),
    "own map and spread layers": Variant(replace(OWN, layers="spread")),
    "own map twice the steps": Variant(OWN, steps=2 * STEPS),
    "own map weighs 100": with_weights("own", hidden=100.0),
    "own map and mean of weights": Variant(OWN, average=0.98),
    "own map and labels at the end": Variant(OWN, final_steps=FINAL_STEPS),
    "own map weighs 3 and relations": with_weights("own", hidden=3.0, relations=1.0),
    "own map weighs 10 and relations": with_weights("own", hidden=10.0, relations=1.0),
    "own map and relations weigh 10": with_weights("own", relations=10.0),
    "own map and relations twice the steps": replace(with_weights("own", relations=1.0), steps=2 * STEPS),
    "own map and relations and labels": replace(with_weights("own", relations=1.0), final_steps=FINAL_STEPS),
}
SMALLER = (BASE, "logits alone", "own map", "own map and relations", "matched", "first and last", "spread layers")


@dataclass(frozen=True)
class Cell:
    """One student: of a number of layers, on a task, from a seed's teacher, by a variant."""

    seed: int
    num_layers: int
    variant: str
    task: str

    @property
    def folder(self) -> str:
        return f"{self.task}-{self.seed}-{self.num_layers}-{self.variant.replace(' ', '_')}"


def planned(args: argparse.Namespace) -> list[Cell]:
    """Return the cells in the order they are computed: a seed after the other, larger students before smaller ones."""
    return [
        Cell(seed, num_layers, variant, task)
        for seed in args.seeds
        for num_layers in args.layers
        for variant in args.variants or (VARIANTS if num_layers == max(args.layers) else SMALLER)
        for task in args.tasks
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--model", help="model that teachers are made from; None for MiniLM of the installed package")
    parser.add_argument("--data-dir", help="folder of the GLUE tasks; None for the hub's")
    parser.add_argument("--tasks", type=names, default=list(PASSES), help="tasks by commas")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], help="by commas")
    parser.add_argument("--layers", type=numbers, default=[3, 2], help="layers of students by commas, falling")
    parser.add_argument("--variants", type=names, default=[], help="by commas; none for all")
    parser.add_argument("--steps-share", type=float, default=1.0, help="of the steps, to see whether it runs")
    parser.add_argument("--work", type=Path, default=Path("runs/distillation"), help="folder of the teachers")
    args = parse(parser, argv)
    record = record_so_far("distillation", args, args.seeds, lambda: {"cells": []})
    record["variants"] = {name: settings_of(each) for name, each in VARIANTS.items()}
    done = {cell_key(row) for row in record["cells"]}
    todo = [cell for cell in planned(args) if cell_key(vars(cell)) not in done]
    for number, cell in enumerate(todo, start=1):
        record["cells"].append({**vars(cell), **measure(cell, args)})
        write_part(record, args)
        say(f"{number} of {len(todo)}: {json.dumps(record['cells'][-1])}")
    if not todo:
        say(f"{record['name']} is complete")
    print(table(record))


def cell_key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("seed", "num_layers", "variant", "task"))


def settings_of(variant: Variant) -> dict[str, Any]:
    """Return what the record says of a variant: all its values."""
    own = {name: value for name, value in vars(variant).items() if name != "recipe"}
    recipe = variant.recipe
    return {
        "layers": recipe.layers,
        "state_map": recipe.state_map,
        **{f"{name}_weight": getattr(recipe.weights, name) for name in ("logits", "hidden", "relations")},
        "temperature": recipe.weights.temperature,
        **own,
    }


# One cell


class RememberingTeacher(Teacher):
    """A teacher whose states are computed once for every batch: most variants learn on the same batches."""

    @torch.no_grad()
    def states(self, batch: Batch, subnet: Subnet | None = None) -> States:
        known: dict[bytes, States] = self.__dict__.setdefault("known", {})
        key = batch.input_ids.numpy().tobytes()
        if key not in known:
            known[key] = super().states(batch, subnet)
        return known[key]


@dataclass(frozen=True)
class Lesson:
    """A task with its fine-tuned teacher.

    Args:
        task: rows and engine.
        teacher: as in training.
        select_logits: the teacher's, of select's rows.
        more: further rows.
    """

    task: TaskObjective
    teacher: Teacher
    select_logits: NDArray[np.float32]
    more: Rows


@cache
def lesson_of(task: str, seed: int, model: str, data_dir: str | None, threads: int | None, work: Path) -> Lesson:
    """Fine-tune a teacher, where that is not done, and read the task."""
    words: dict[str, Any] = {"task": task, "data_dir": data_dir, "max_train_samples": TRAIN_ROWS.get(task)}
    out = work / f"teacher-{task}-{seed}"
    cutbert.finetune(
        model,
        out=str(out),
        pooling="mean",
        learning_rate=TEACHER_RATE,
        epochs=PASSES[task],
        seed=seed,
        threads=threads,
        **words,
    )
    train = TrainSettings(threads=threads, seed=seed)
    run = RunFolder.open(work / f"read-{task}-{seed}", "benchmark", {})
    objective = objective_of(str(out), DataSettings(**words), train, run)
    others = load_dataset(DataSettings(task=MORE_ROWS[task], data_dir=data_dir)).train
    assert isinstance(others, Rows)
    keep = np.random.default_rng(seed).permutation(len(others))[:MAX_MORE_ROWS]
    teacher = objective.loaded.model
    return Lesson(
        objective,
        RememberingTeacher(frozen_copy(teacher, objective.engine.dtype)),
        predict_logits(teacher, objective.select),
        replace(others.take(keep), labels=None),
    )


def measure(cell: Cell, args: argparse.Namespace) -> dict[str, Any]:
    """Distil a student and score it on select."""
    lesson = lesson_of(cell.task, cell.seed, model_of(args), args.data_dir, args.threads, args.work.resolve())
    variant, task, whole = VARIANTS[cell.variant], lesson.task, lesson.task.loaded.model
    kept = chosen_layers(cell.num_layers, whole.shape.num_layers, variant.recipe.layers)
    student = with_layers(whole, kept)
    teacher = Teacher(lesson.teacher.model) if variant.has_more_rows or variant.steps > STEPS else lesson.teacher
    step = student_step(task.losses, teacher, student.shape, variant.recipe, kept=kept)
    if variant.top:
        own = [(i, j) for i, j in layer_map(len(kept), whole.shape.num_layers, "own", kept) if i < len(kept)]
        last = layer_map(len(kept), whole.shape.num_layers, "last") if variant.top == "last" else []
        step = replace(step, state_pairs=[*own, *last])
    tokens = task.train_tokens
    if variant.has_more_rows:
        tokens = task.tokenize(task.data.train.joined(lesson.more))
    steps = [max(1, round(each * args.steps_share)) for each in (variant.steps, variant.final_steps)]
    plan = replace(variant.recipe.plan, exact_steps=steps[0], learning_rate=variant.rate)
    trained_step = MatchedStep(step, variant.matched == "trained", variant.rate) if variant.matched else step
    means: list[AveragingOptimizer] = []

    def averaging(*how: Any) -> AveragingOptimizer:
        assert variant.average is not None
        means.append(AveragingOptimizer(Optimizer(*how), student, variant.average))
        return means[-1]

    optimizer = Optimizer if variant.average is None else averaging
    stages = [Stage(plan, tokens, trained_step, optimizer=optimizer)]
    if variant.final_steps:
        final = replace(plan, name="final", exact_steps=steps[1], learning_rate=2e-5, first_step=steps[0])
        stages.append(Stage(final, task.train_tokens, LabelStep(task.losses)))
    folder = args.work / "cells" / cell.folder
    shutil.rmtree(folder, ignore_errors=True)
    run, train = RunFolder.open(folder, "benchmark", {}), TrainSettings(threads=args.threads, seed=cell.seed)
    begun = time.monotonic()
    with run.start():
        for stage in stages:
            train_stage(student, stage, task.engine, train, run)
    for each in means:
        each.use_means()
    seconds = time.monotonic() - begun
    shutil.rmtree(folder)
    logits = predict_logits(student, task.select)
    head, metric = whole.head_spec, task.metric
    return {
        "kept": list(kept),
        "metric": metric,
        "select_kl": kl(lesson.select_logits, logits),
        "select_score": score(head, metric, logits, task.select).score,
        "teacher_select_score": score(head, metric, lesson.select_logits, task.select).score,
        "train_s": round(seconds, 2),
    }


def kl(teacher: NDArray[np.float32], student: NDArray[np.float32]) -> float:
    """Return the mean KL(teacher || student) over rows, in nats."""
    log_p, log_q = (
        each - np.logaddexp.reduce(each, axis=1, keepdims=True)
        for each in (teacher.astype(float), student.astype(float))
    )
    return float((np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean())


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


# The table


def table(record: dict[str, Any]) -> str:
    """Return a Markdown table: each variant's KL as a share of the base's, and points of the metric above it.

    Means over the tasks and seeds named, those that both have: compare lines of the same tasks alone.
    """
    rows = {cell_key(row): row for row in record["cells"]}
    lines = [
        "| layers | variant | tasks | KL / base's | metric - base's, points | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for num_layers in sorted({row["num_layers"] for row in record["cells"]}, reverse=True):
        for variant in record["variants"]:
            pairs = [
                (row, base)
                for key, row in rows.items()
                if key[1:3] == (num_layers, variant) and (base := rows.get((*key[:2], BASE, key[3])))
            ]
            if not pairs:
                continue
            ratios = np.log([row["select_kl"] / base["select_kl"] for row, base in pairs])
            points = fmean(100 * (row["select_score"] - base["select_score"]) for row, base in pairs)
            seconds = fmean(row["train_s"] for row, _ in pairs)
            tasks = ", ".join(sorted({f"{row['task']} {row['seed']}" for row, _ in pairs}))
            numbers = f"{tasks} | {np.exp(ratios.mean()):.3f} | {points:+.2f} | {seconds:.1f}"
            lines.append(f"| {num_layers} | {variant} | {numbers} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
