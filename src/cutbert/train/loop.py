"""The one training loop: batches, steps, checkpoints, progress. It knows no method: a stage brings the step, the
view of the network that steps see, and the optimizer."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cutbert.data.batches import Batch, plan_batches
from cutbert.data.tokens import Tokens
from cutbert.errors import DivergedError, InterruptedRun
from cutbert.files import write_json
from cutbert.model.task_model import TaskModel
from cutbert.train.checkpoint import (
    Position,
    latest_checkpoint,
    load_checkpoint,
    load_weights,
    read_position,
    save_checkpoint,
    save_weights,
)
from cutbert.train.collating import block_batch, padded_batch
from cutbert.train.engine import Engine
from cutbert.train.interrupts import Interrupt, deferred_interrupt
from cutbert.train.optimizer import Casts, Optimizer, StageOptimizer
from cutbert.train.pace import Pace
from cutbert.train.progress import progress_bar
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import StagePlan, TrainSettings
from cutbert.train.working_copy import WorkingCopy

LOG_EVERY_S = 5.0


@dataclass(frozen=True)
class StepInfo:
    """What a step knows besides its batch.

    Args:
        rows: rows of the micro-batch, indices into the stage's tokens.
        num_examples, num_tokens, num_labels: of the whole step, over micro-batches and processes; losses are
            sums divided by these, so the split changes nothing. Labels are labelled tokens where there is one
            label per token, else examples.
        progress: share of the stage's steps done.
        random: a generator of this step's own, equal in all processes; every micro-batch starts from the same seed.
        step: optimizer steps done before it, those of earlier stages included.
        step_rows: rows of the whole step, over micro-batches and processes.
    """

    rows: np.ndarray
    num_examples: int
    num_tokens: int
    num_labels: int
    progress: float
    random: np.random.Generator
    step: int
    step_rows: np.ndarray

    def label_share(self, batch: Batch) -> float:
        """Return the share of the step's labels that a micro-batch holds: its weight in a mean over labels."""
        return batch.num_labels / max(1, self.num_labels)


class ModelView(Protocol):
    """The network that a step runs, in the training dtype."""

    @property
    def model(self) -> TaskModel:
        """The network that a step runs."""
        ...

    def token_table(self) -> Tensor:
        """Return the token table in the layers' dtype, for an output that is tied to it."""
        ...

    def refresh(self) -> None:
        """Clear gradients before each step; a view whose weights no optimizer casts makes them again."""
        ...

    def collect(self) -> Casts:
        """Hand the gradients of a step to what is updated; return the copies of weights that hold them instead."""
        ...

    def close(self) -> None:
        """Set the network to evaluation mode and drop its gradients; after the last step."""
        ...


class TrainingStep(Protocol):
    """Adds the gradients of one micro-batch to `view.model`."""

    def __call__(self, view: ModelView, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        """Run forwards and backwards; return this micro-batch's share of each loss, as scalars to log."""
        ...


@dataclass(frozen=True)
class Stage:
    """One stage of a run, ready to train.

    Args:
        plan: its choices.
        tokens: training rows.
        step: the method's step.
        view: factory of the view; takes the network, the training dtype and the dropout.
        optimizer: factory of the optimizer; takes the network, the plan, the engine and the norm to clip to.
        pace: decides the number of steps, in the place of the plan's; None leaves it to the plan.
    """

    plan: StagePlan
    tokens: Tokens
    step: TrainingStep
    view: Callable[[Any, torch.dtype, float], ModelView] = WorkingCopy
    optimizer: Callable[[Any, StagePlan, Engine, float], StageOptimizer] = Optimizer
    pace: Pace | None = None


def train_stage(model: nn.Module, stage: Stage, engine: Engine, settings: TrainSettings, run: RunFolder) -> Position:
    """Train a network in place, or take up where a stopped run left it.

    A finished stage's weights stay in `checkpoint/NAME.safetensors` and are read back, so a run of several
    stages resumes in the right one.

    Args:
        model: the float32 network to train, or what the stage's own view wraps; on the engine's device, updated in
            place.
        stage: what and how to train.
        engine: machine and processes.
        settings: seed, clipping, accumulation, checkpoint interval.
        run: folder that receives checkpoints and the log.

    Returns:
        Steps, tokens and seconds of the stage, over all parts of a resumed run.

    Raises:
        InterruptedRun: the user pressed Ctrl-C (or SIGTERM came); the state is saved.
        DivergedError: loss, gradients or weights became infinite or NaN; the last checkpoint stays.
    """
    position = read_finished(model, stage.plan, run)
    if position is not None:
        return position
    trainer = Trainer(model, stage, engine, settings, run)
    title = stage.plan.name
    with deferred_interrupt() as interrupt, progress_bar(title, trainer.num_steps, shown=engine.is_main) as bar:
        try:
            trainer.advance(None, interrupt, lambda note: bar(trainer.position.step, note, trainer.num_steps))
        except DivergedError:  # who catches it may go on with the network
            trainer.view.close()
            raise
    return trainer.finish()


def read_finished(model: nn.Module, plan: StagePlan, run: RunFolder) -> Position | None:
    """Load the weights of a stage that is finished and return its position, or None where it is not."""
    done = run.path / "checkpoint" / f"{plan.name}.safetensors"
    if not done.exists():
        return None
    load_weights(done, model)
    return read_position(done.with_suffix(".json"))


class Trainer:
    """The state of one stage while it runs."""

    def __init__(self, model: nn.Module, stage: Stage, engine: Engine, settings: TrainSettings, run: RunFolder) -> None:
        self.model, self.stage, self.engine, self.settings, self.run_folder = model, stage, engine, settings, run
        self.plan = stage.plan
        self.lengths, self.label_counts = stage.tokens.lengths, stage.tokens.label_counts
        self.num_epoch_steps = math.ceil(len(self.lengths) / self.plan.batch_size)
        self.planned_steps = self.plan.num_steps(self.num_epoch_steps)
        torch.manual_seed(settings.seed + self.plan.first_step)
        self.optimizer = stage.optimizer(model, self.plan, engine, settings.max_grad_norm)
        self.folder = run.path / "checkpoint" / self.plan.name
        self.position = Position()
        saved = latest_checkpoint(self.folder)
        if saved is not None:
            self.position = load_checkpoint(saved, model, self.optimizer)
        self.view = stage.view(model, engine.dtype, self.plan.dropout)
        self.epoch_batches = lru_cache(maxsize=1)(self._plan_epoch)
        self.saved_at = self.logged_at = time.monotonic()

    @property
    def num_steps(self) -> int:
        """The steps of the stage, as decided by now."""
        pace = self.stage.pace
        return self.planned_steps if pace is None else pace.num_steps(self.position)

    def advance(self, until: int | None, interrupt: Interrupt, on_step: Callable[[str], None]) -> None:
        """Take steps up to a number of them, or to the stage's last.

        Args:
            until: steps done when this returns; None for all.
            interrupt: set where the user asks to stop.
            on_step: called after each step with a note for the progress bar.

        Raises:
            InterruptedRun: the user asked to stop; the state is saved.
        """
        while self.position.step < (num_steps := self.num_steps) and (until is None or self.position.step < until):
            losses = self.step()
            now = time.monotonic()
            on_step(f"loss {losses['loss']:.4f}")
            if now - self.logged_at >= LOG_EVERY_S or self.position.step == num_steps:
                self.logged_at = now
                self.run_folder.log(stage=self.plan.name, step=self.position.step, **losses)
            if self.engine.any(interrupt.is_set):
                self.save()
                raise InterruptedRun(
                    f"stopped in stage {self.plan.name} at step {self.position.step} of {num_steps}; "
                    f"saved in {self.run_folder.path}: the same command goes on from there"
                )
            if now - self.saved_at >= self.settings.checkpoint_seconds:
                self.save()
                self.saved_at = time.monotonic()

    def finish(self) -> Position:
        """Close the view, and keep the weights as those of a finished stage."""
        self.view.close()
        self._check_weights()
        if self.engine.is_main:
            done = self.folder.with_name(f"{self.plan.name}.safetensors")
            write_json(done.with_suffix(".json"), vars(self.position))
            save_weights(done, self.model)
            shutil.rmtree(self.folder, ignore_errors=True)
        return self.position

    def step(self) -> dict[str, float]:
        """Train on the next batch; return its losses, gradient norm and learning rate.

        Raises:
            DivergedError: one of them is infinite or NaN.
        """
        begun = time.monotonic()
        step = self.plan.first_step + self.position.step
        epoch, index = divmod(step, self.num_epoch_steps)
        rows = self.epoch_batches(epoch)[index]
        num_tokens = int(self.lengths[rows].sum())
        num_labels = int(self.label_counts[rows].sum())
        progress = self.position.step / self.num_steps
        if self.engine.num_processes > 1:  # only one of their random states is in a checkpoint
            torch.manual_seed(self.settings.seed + 1_000_003 * (self.engine.rank + 1) + step)
        self.view.refresh()
        self.optimizer.zero_embedding_gradients()
        totals: dict[str, Tensor] = {}
        for i, part in enumerate(self._own_parts(rows)):
            random = np.random.default_rng([self.settings.seed, step])
            info = StepInfo(part, len(rows), num_tokens, num_labels, progress, random, step, rows)
            batch = self._collate(part)
            for name, value in self.stage.step(self.view, batch, info).items():
                totals[name] = totals[name] + value if i else value
        norm = self.optimizer.step(progress, self._used_ids(rows), self.view.collect())
        spent = self.position.seconds + time.monotonic() - begun
        losses = self._over_processes({name: float(value) for name, value in totals.items()})
        values = {**losses, "loss": sum(losses.values()), "grad_norm": norm, "learning_rate": self.optimizer.rate}
        for name, number in values.items():
            if not math.isfinite(number):
                raise self._diverged(f"{name} is {number}")
        self.position = Position(self.position.step + 1, self.position.tokens + num_tokens, spent)
        return values

    def _diverged(self, what: str) -> DivergedError:
        """Return the error of a training that ran into infinity or NaN, with what is left of it."""
        saved = latest_checkpoint(self.folder)
        left = "no checkpoint was saved" if saved is None else f"the weights of step {int(saved.name)} stay in {saved}"
        return DivergedError(
            f"{self.run_folder.path}: training must stay finite, but in stage {self.plan.name} at step "
            f"{self.position.step + 1} of {self.num_steps} {what}; {left}. Try a lower --learning-rate (the peak is "
            f"{self.plan.learning_rate:g}), a larger --warmup-ratio or --precision float32, with another --out"
        )

    def _check_weights(self) -> None:
        """Raise a DivergedError where an update made a weight infinite or NaN: such weights are never kept."""
        for name, weight in self.model.named_parameters():
            if not torch.isfinite(weight).all():
                raise self._diverged(f"the weight {name} is not finite")

    def _over_processes(self, losses: dict[str, float]) -> dict[str, float]:
        """Return the losses; of several processes their total alone: one without rows of a small batch has no names."""
        if self.engine.num_processes == 1:
            return losses
        total = torch.tensor([float(sum(losses.values()))], device=self.engine.device)
        self.engine.reduce([total])
        return {"total": float(total)}

    def _own_parts(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yield this process's share of a step's rows in micro-batches, each with rows of every length.

        Of a small batch a process may have none.
        """
        own = rows[self.engine.rank :: self.engine.num_processes]
        count = min(self.settings.accumulation, len(own))
        yield from (own[i::count] for i in range(count))

    def _collate(self, rows: np.ndarray) -> Batch:
        tokens, pad_to = self.stage.tokens, self.plan.pad_to
        if pad_to is None:
            return block_batch(self.view.model, tokens, rows).to(self.engine.device)
        return padded_batch(self.view.model, tokens, rows, pad_to=pad_to).to(self.engine.device)

    def _used_ids(self, rows: np.ndarray) -> Tensor:
        tokens = self.stage.tokens
        if not self.optimizer.updates_rows:
            return torch.empty(0, dtype=torch.long)
        ids = [tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]] for row in rows]
        used = np.unique(np.concatenate([*ids, [self.view.model.style.pad_token_id]])).astype(np.int64)
        return torch.from_numpy(used).to(self.engine.device)

    def _plan_epoch(self, epoch: int) -> list[np.ndarray]:
        return plan_batches(self.lengths, self.plan.batch_size, self.settings.seed, epoch)

    def save(self) -> None:
        """Write a checkpoint of the stage as it is now.

        Raises:
            DivergedError: its weights are not finite.
        """
        self._check_weights()
        if self.engine.is_main:
            save_checkpoint(self.folder, self.model, self.optimizer, self.position)
