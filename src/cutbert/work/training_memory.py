"""Peak memory of fine-tuning one model, in a process of its own, on the longest batches of its training rows.

Two models trained in one process cannot be told apart by its peak. `python -m cutbert.work.training_memory FOLDER`
reads what `training_memory` wrote there and prints one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cutbert.bench.memory import clear_peak
from cutbert.data.tokens import Tokens
from cutbert.errors import MissingError, RunError
from cutbert.files import read_json, write_json
from cutbert.shape.head import HeadSpec
from cutbert.shape.source import ModelSource, find_model
from cutbert.train.machine import own_peak_bytes
from cutbert.train.settings import StagePlan, TrainSettings

STEPS = 3
LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class TrainingMemory:
    """What a process that fine-tunes a model holds.

    Args:
        peak_bytes: most memory while it trains, Python and libraries counted; on CUDA the device's, without them.
        before_bytes: what it held before the model was loaded, so that the two can be told apart; on CUDA 0.
    """

    peak_bytes: int
    before_bytes: int


def training_memory(
    source: ModelSource,
    head: HeadSpec,
    plan: StagePlan,
    train: TrainSettings,
    tokens: Tokens,
    folder: Path,
    teacher: ModelSource | None = None,
) -> TrainingMemory:
    """Measure a fine-tuning in a fresh process: a few steps on the longest rows.

    Args:
        source: the model to fine-tune.
        head: of the task.
        plan: of the fine-tuning.
        train: flags of the fine-tuning.
        tokens: its training rows.
        folder: receives what that process reads, and the result; where that is there already, it is returned.
        teacher: the uncut embedding model, whose vectors take the place of labels; None where there are labels.

    Raises:
        MissingError: that process failed, usually out of memory.
    """
    done = folder / "memory.json"
    if not done.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        rows = np.argsort(-tokens.lengths, kind="stable")[: STEPS * plan.batch_size]
        longest = tokens.take(rows)
        arrays = {name: getattr(longest, name) for name in ("ids", "offsets", "pair_starts", "labels", "token_labels")}
        np.savez(folder / "rows.npz", **{name: array for name, array in arrays.items() if array is not None})
        model = {"source": str(source.folder), "pooling": source.pooling}
        model["teacher"] = None if teacher is None else str(teacher.folder)
        job = {**model, "head": head.to_json(), "plan": asdict(plan), "train": asdict(train)}
        write_json(folder / "job.json", job)
        command = [sys.executable, "-m", "cutbert.work.training_memory", str(folder)]
        alone = {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}
        ended = subprocess.run(command, capture_output=True, text=True, env=alone)
        if ended.returncode != 0:
            reason = (ended.stderr.strip() or f"it ended with {ended.returncode}").splitlines()[-1]
            raise MissingError(f"{source}: a process that fine-tunes it could not be measured: {reason}")
        write_json(done, json.loads(ended.stdout.splitlines()[-1]))
    memory: TrainingMemory = read_json(done, RunError, lambda data: TrainingMemory(**data))
    return memory


def train_here(folder: Path) -> TrainingMemory:
    """Take the steps in this process and return its peak since they began."""
    import torch

    from cutbert.folders.load import load_model
    from cutbert.train.engine import make_engine
    from cutbert.train.loop import Stage, Trainer
    from cutbert.train.run_folder import RunFolder
    from cutbert.train.working_copy import frozen_copy
    from cutbert.work.distill import LabelStep
    from cutbert.work.losses import TaskLosses, Teacher

    job = read_json(folder / "job.json")
    train, plan = TrainSettings(**job["train"]), StagePlan(**job["plan"])
    with np.load(folder / "rows.npz") as arrays:
        tokens = Tokens(**dict(arrays))
    engine = make_engine(train)
    before = clear_peak()
    head = HeadSpec.from_json(job["head"])
    model = load_model(find_model(job["source"]).reading(job["pooling"] or "auto"), head).model.to(engine.device)
    answers = None
    if job["teacher"] is not None:
        uncut = load_model(find_model(job["teacher"]), head).model.to(engine.device)
        answers = Teacher(frozen_copy(uncut, engine.dtype))
    clear_peak()
    is_cuda = engine.device.type == "cuda"
    if is_cuda:
        torch.cuda.reset_peak_memory_stats(engine.device)
    run = RunFolder.open(folder / "steps", "memory", {})
    step = LabelStep(partial(TaskLosses, head, answers=answers))
    trainer = Trainer(model, Stage(plan, tokens, step), engine, train, run)
    for _ in range(min(STEPS, trainer.num_steps)):
        trainer.step()
    if is_cuda:
        return TrainingMemory(torch.cuda.max_memory_allocated(engine.device), 0)
    return TrainingMemory(own_peak_bytes(), before)


if __name__ == "__main__":
    print(json.dumps(asdict(train_here(Path(sys.argv[1])))))
