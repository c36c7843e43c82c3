"""Several networks trained side by side, in short blocks of steps, so that a noisy machine slows all alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from cutbert.errors import InterruptedRun
from cutbert.train.checkpoint import Position
from cutbert.train.engine import Engine
from cutbert.train.interrupts import deferred_interrupt
from cutbert.train.loop import Stage, Trainer, read_finished
from cutbert.train.progress import progress_bar
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings

BLOCK_STEPS = 5


@dataclass
class TrainerWithRng:
    """A trainer with a random state of its own: its steps are bit-identical to training alone.

    Args:
        trainer: trains one network.
        random: torch's random state as its next step needs it.
    """

    trainer: Trainer
    random: Tensor = field(default_factory=torch.get_rng_state)

    @contextmanager
    def running(self) -> Iterator[Trainer]:
        """Yield the trainer under its own random state, and keep that state afterwards."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.random)
            try:
                yield self.trainer
            finally:
                self.random = torch.get_rng_state()


def train_interleaved(
    pairs: Sequence[tuple[nn.Module, Stage]],
    engine: Engine,
    settings: TrainSettings,
    run: RunFolder,
    block_steps: int = BLOCK_STEPS,
) -> list[Position]:
    """Train networks in place, a block of steps each in turn, or take up where a stopped run left them.

    Each ends with the weights that `train_stage` gives it; only the order of their steps in time differs.

    Args:
        pairs: networks and their stages, whose names differ.
        engine, settings, run: as in `train_stage`, for all of them.
        block_steps: steps of one network before the next one goes on.

    Returns:
        Steps, tokens and seconds of each.

    Raises:
        InterruptedRun: the user pressed Ctrl-C (or SIGTERM came); all states are saved.
    """
    positions = {stage.plan.name: read_finished(model, stage.plan, run) for model, stage in pairs}
    unfinished = [
        TrainerWithRng(Trainer(model, stage, engine, settings, run))
        for model, stage in pairs
        if positions[stage.plan.name] is None
    ]
    advance_all(unfinished, block_steps)
    positions |= {each.trainer.plan.name: each.trainer.finish() for each in unfinished}
    return [position for position in positions.values() if position is not None]


def advance_all(unfinished: Sequence[TrainerWithRng], block_steps: int) -> None:
    """Run all remaining steps; on an interrupt save every network's state."""
    trainers = [each.trainer for each in unfinished]
    title = ", ".join(trainer.plan.name for trainer in trainers)
    total, shown = sum(trainer.num_steps for trainer in trainers), any(each.engine.is_main for each in trainers)

    with deferred_interrupt() as interrupt, progress_bar(title, total, shown=shown) as bar:
        until = 0
        while any(trainer.position.step < trainer.num_steps for trainer in trainers):
            until += block_steps
            for current in unfinished:
                try:
                    with current.running() as trainer:
                        trainer.advance(
                            until, interrupt, lambda note: bar(sum(each.position.step for each in trainers), note)
                        )
                except InterruptedRun:
                    for other in unfinished:
                        if other is not current:
                            with other.running() as trainer:
                                trainer.save()
                    raise
