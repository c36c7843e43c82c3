"""A subnet cut out of its supernet and repaired by least squares, where that brings it closer to the whole supernet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cutbert.data.batches import Batch
from cutbert.data.tokens import Tokens
from cutbert.errors import RunError
from cutbert.folders.load import load_model
from cutbert.folders.sentence import read_embedder
from cutbert.fronts.entry import Entry
from cutbert.fronts.front import Front
from cutbert.fronts.score import label_scores
from cutbert.model.task_model import TaskModel
from cutbert.shape.source import Models, find_model
from cutbert.shape.subnet import Subnet
from cutbert.surgery.extract import extract
from cutbert.surgery.repair import repair
from cutbert.train.collating import sample_batches, sample_rows
from cutbert.train.evaluate import predict_logits, teacher_kl
from cutbert.train.run_folder import RunFolder
from cutbert.train.vectors import FOLDER, beside, kept_vectors
from cutbert.work.inputs import check_inputs
from cutbert.work.objective import tokenize
from cutbert.work.run_data import check_same_data, data_of

ROWS = 256  # training texts that a repair looks at


@dataclass(frozen=True, eq=False)
class Repaired:
    """A subnet as its own network, repaired or as it was, whichever is closer to the whole supernet on select.

    Args:
        network: the closer one.
        is_repaired: whether that is the repaired one.
        kl_before, kl_after: `teacher_kl` to the whole supernet on select, of the subnet and of its repair.
    """

    network: TaskModel
    is_repaired: bool
    kl_before: float
    kl_after: float

    def to_json(self) -> dict[str, Any]:
        return {"is_repaired": self.is_repaired, "kl_before": self.kl_before, "kl_after": self.kl_after}


def repaired_subnet(supernet: TaskModel, subnet: Subnet, batches: Sequence[Batch], select: Tokens) -> Repaired:
    """Return a subnet cut out, and repaired where that brings it closer to the whole supernet.

    Args:
        supernet: with a head that gives logits.
        subnet: a part of it.
        batches: training texts, on the supernet's device.
        select: rows on which the two are compared with the whole; their labels are not used.
    """
    before, after = extract(supernet, subnet), extract(supernet, subnet)
    width = subnet.hidden_size
    hidden = None if width == supernet.shape.hidden_size else torch.arange(width)
    repair(supernet, after, batches, layers=[kept.index for kept in subnet.layers], hidden=hidden)
    wanted = predict_logits(supernet, select)
    kls = [teacher_kl(supernet.head_spec, predict_logits(each, select), wanted) for each in (before, after)]
    is_better = kls[1] < kls[0]
    return Repaired(after if is_better else before, is_better, *kls)


@dataclass(frozen=True, eq=False)
class RepairedPick:
    """A picked subnet after its repair.

    Args:
        entry: the picked entry with the scores of the network that is written.
        before: the picked entry as it was.
        repaired: that network.
        dev: its outputs on dev, as predictions/ store them.
    """

    entry: Entry
    before: Entry
    repaired: Repaired
    dev: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        scores = {"score_before": self.before.score, "select_score_before": self.before.select_score}
        return {**self.repaired.to_json(), **scores}


def repair_pick(run: Path, front: Front, entry: Entry, data_dir: str | None) -> RepairedPick:
    """Repair a picked subnet with the whole supernet of its run, on the run's own training texts, and score it again.

    Args:
        run: a finished run on a task.
        front: its front.
        entry: the picked subnet.
        data_dir: where the task's data is now; None for where it was.

    Raises:
        RunError: a run on plain text, other data than the run's, or a network from which nothing was cut.
        DataError: the data is not found.
    """
    source = RunFolder.read(run)
    folder = run if entry.folder is None else run / entry.folder
    data = data_of(source, data_dir)
    inputs = check_inputs(Models(find_model(folder)), data, None)
    dataset = inputs.dataset
    assert dataset is not None
    check_same_data(source, dataset.files)
    if entry.subnet == Subnet.full(inputs.model.shape):
        raise RunError(f"{run}: a repaired subnet must be smaller than its network, but {entry.name} is all of it")
    loaded = load_model(inputs.model, dataset.head)
    if dataset.head.kind == "embedding":
        dataset = dataset.prompted(read_embedder(inputs.model.name, inputs.model.folder).prompts)
    rows = dataset.train.take(sample_rows(len(dataset.train), ROWS, seed=0))
    splits = {"train": rows, "select": dataset.select, "dev": dataset.dev}
    tokens = {name: tokenize(each, loaded, inputs) for name, each in splits.items()}
    if dataset.head.kind == "embedding":
        for name in ("select", "dev"):
            kept = kept_vectors(run / FOLDER / f"{name}.npy", tokens[name], loaded.model.shape.hidden_size)
            tokens[name] = beside(tokens[name], kept)
    batches = sample_batches(loaded.model, tokens["train"], ROWS, 0, torch.device("cpu"))
    repaired = repaired_subnet(loaded.model, entry.subnet, batches, tokens["select"])
    select, dev = (
        label_scores(repaired.network, Subnet.full(repaired.network.shape), tokens[name], front.metric)
        for name in ("select", "dev")
    )
    scored = replace(entry, score=dev.score, select_score=select.score, metrics=dev.metrics)
    return RepairedPick(scored, entry, repaired, {"score": dev.score, "metrics": dev.metrics, **dev.outputs})
