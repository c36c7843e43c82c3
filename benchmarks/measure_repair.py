"""What the least-squares repair gives back without a gradient step: score and KL to a teacher at half of its MACs.

A fine-tuned model loses half of its layers, of its heads and neurons everywhere, or sub-layers one by one. Layers and
sub-layers are chosen greedily by the KL on the sample that their absence costs per multiply-add, before any repair.
Each cut is repaired towards its own places, and towards what lies behind the gaps. Choice and repair read a sample of
training texts; score and KL are of select.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.data.batches import Batch
from cutbert.data.tokens import Tokens
from cutbert.model.task_model import TaskModel
from cutbert.shape.cost import cost_of
from cutbert.shape.shape import LayerShape
from cutbert.shape.subnet import KeptLayer, Subnet
from cutbert.surgery.extract import extract
from cutbert.surgery.repair import repair
from cutbert.surgery.rewire import rewire
from cutbert.surgery.unit_choice import choose_units
from cutbert.train.collating import sample_rows
from cutbert.train.evaluate import predict_logits, score, teacher_kl
from cutbert.train.progress import say
from recording import make_parser, parse, recorded
from workload import TaskObjective, add_inputs, prepare_task

SHARE = 0.5
Kept = dict[int, LayerShape]


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    add_inputs(parser)
    parser.add_argument("--rows", type=int, default=256, help="training texts that choice and repair look at")
    parser.add_argument("--eval-rows", type=int, help="rows of select that are scored; None for all")
    parser.add_argument("--networks", nargs="+", choices=list(CHOICES), default=list(CHOICES), help="which cuts")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    args = parse(parser, argv)
    record = recorded(f"repair_{args.task}", args, lambda: measure(args), seeds=[args.seed])
    for row in record["networks"]:
        print(row["name"], *(f"{name} {each['select_score']:.4f} {each['kl']:.4f}" for name, each in row["at"].items()))


@dataclass(frozen=True, eq=False)
class Bench:
    """A teacher, the sample that choice and repair read, and what is scored."""

    task: TaskObjective
    batches: Sequence[Batch]
    sample: Tokens

    @property
    def model(self) -> TaskModel:
        return self.task.loaded.model

    @cached_property
    def wanted(self) -> NDArray[np.float32]:
        """The teacher's logits on select."""
        return predict_logits(self.model, self.task.select)

    def at(self, network: TaskModel) -> dict[str, float]:
        """Return score and KL of a network on select."""
        head, select = self.model.head_spec, self.task.select
        logits = predict_logits(network, select)
        found = score(head, self.task.metric, logits, select).score
        return {"select_score": found, "kl": teacher_kl(head, logits, self.wanted)}

    def macs(self, network: TaskModel) -> int:
        return cost_of(network.shape, network.head_spec).macs


class Clock:
    """Seconds of a block, and seconds of processor time, which others on the machine do not lengthen."""

    def __enter__(self) -> Clock:
        self.started = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = time.perf_counter(), time.process_time()

    def to_json(self) -> dict[str, float]:
        seconds = (ended - started for ended, started in zip(self.ended, self.started, strict=True))
        return dict(zip(("seconds", "processor_seconds"), seconds, strict=True))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return score and KL of every cut, before and after its repair."""
    with tempfile.TemporaryDirectory() as work:
        task = prepare_task(args, Path(work), eval_rows=args.eval_rows)
    model = task.loaded.model
    sample = task.train_tokens.take(sample_rows(len(task.train_tokens), args.rows, args.seed))
    bench = Bench(task, task.sample(model, args.rows, args.seed), sample)
    whole = bench.macs(model)
    tokens = sum(each.num_tokens for each in bench.batches)
    rows = []
    for name in args.networks:
        with Clock() as clock:
            cut, layers = CHOICES[name](bench)
        rows.append({"name": name, "choice": clock.to_json(), **row_of(bench, cut, layers, whole)})
        say(f"{name}: {rows[-1]['at']}")
    return {
        "rows": args.rows,
        "tokens": tokens,
        "select_rows": len(task.select),
        "teacher": {"macs": whole, **bench.at(model)},
        "networks": rows,
    }


def row_of(bench: Bench, cut: TaskModel, layers: Sequence[int], whole: int) -> dict[str, Any]:
    """Return what a cut costs and scores, as it is and after each kind of repair."""
    at: dict[str, Any] = {"cut": bench.at(cut)}
    for name, across_gaps in (("repaired", False), ("repaired_across_gaps", True)):
        twin = copy.deepcopy(cut)
        with Clock() as clock:
            reports = repair(bench.model, twin, bench.batches, layers=layers, across_gaps=across_gaps)
        at[name] = {**bench.at(twin), **clock.to_json(), "ridges": [each.ridge for each in reports]}
    return {"macs_share": bench.macs(cut) / whole, "layers": list(layers), "shape": cut.shape.to_json(), "at": at}


def layers_of(model: TaskModel, kept: Kept) -> Subnet:
    """Return the subnet of some layers; one without sub-layers is left out."""
    whole = [KeptLayer(i, each) for i, each in sorted(kept.items()) if each.has_attention or each.has_feed_forward]
    return Subnet(tuple(whole), model.shape.hidden_size)


def cut_to(bench: Bench, subnet: Subnet) -> tuple[TaskModel, list[int]]:
    return extract(bench.model, subnet), [kept.index for kept in subnet.layers]


def plain_layers(pick: Callable[[int], Sequence[int]]) -> Callable[[Bench], tuple[TaskModel, list[int]]]:
    def choose(bench: Bench) -> tuple[TaskModel, list[int]]:
        shapes = bench.model.shape.layers
        return cut_to(bench, layers_of(bench.model, {i: shapes[i] for i in pick(len(shapes))}))

    return choose


def half_of_units(bench: Bench) -> tuple[TaskModel, list[int]]:
    """Return half of the heads and neurons of every layer, by the error their absence leaves after a fit."""
    choice = choose_units(bench.model, bench.batches)
    shapes = bench.model.shape.layers
    halves = {
        i: LayerShape(-(-each.num_heads // 2), each.key_dim, each.value_dim, -(-each.intermediate_size // 2))
        for i, each in enumerate(shapes)
    }
    return extract(rewire(bench.model, choice.importance), layers_of(bench.model, halves)), list(range(len(shapes)))


def greedy(options: Callable[[Kept], list[Kept]]) -> Callable[[Bench], tuple[TaskModel, list[int]]]:
    """Return what drops parts one by one, those first whose absence costs least KL on the sample per MAC saved."""

    def choose(bench: Bench) -> tuple[TaskModel, list[int]]:
        model, wanted = bench.model, predict_logits(bench.model, bench.sample)

        def macs(kept: Kept) -> int:
            return cost_of(layers_of(model, kept).shape_in(model.shape), model.head_spec).macs

        def kl(kept: Kept) -> float:
            logits = predict_logits(model, bench.sample, subnet=layers_of(model, kept))
            return teacher_kl(model.head_spec, logits, wanted)

        kept, now = dict(enumerate(model.shape.layers)), 0.0
        limit = SHARE * macs(kept)
        while macs(kept) > limit * 1.01:
            scored = [(each, kl(each)) for each in options(kept)]
            before, saved_from = now, macs(kept)
            kept, now = min(scored, key=lambda each: (each[1] - before) / (saved_from - macs(each[0])))
        return cut_to(bench, layers_of(model, kept))

    return choose


def without_layers(kept: Kept) -> list[Kept]:
    return [{i: each for i, each in kept.items() if i != gone} for gone in kept]


def without_sub_layers(kept: Kept) -> list[Kept]:
    fewer = []
    for i, each in kept.items():
        if each.has_attention:
            fewer.append({**kept, i: LayerShape(0, 0, 0, each.intermediate_size)})
        if each.has_feed_forward:
            fewer.append({**kept, i: LayerShape(each.num_heads, each.key_dim, each.value_dim, 0)})
    return fewer


CHOICES: dict[str, Callable[[Bench], tuple[TaskModel, list[int]]]] = {
    "half of the units": half_of_units,
    "first layers": plain_layers(lambda count: range(-(-count // 2))),
    "last layers": plain_layers(lambda count: range(count // 2, count)),
    "every other layer": plain_layers(lambda count: range(1, count, 2)),
    "layers, greedily": greedy(without_layers),
    "sub-layers, greedily": greedy(without_sub_layers),
}


if __name__ == "__main__":
    main()
