"""Several networks trained side by side, in short blocks of steps, so that a noisy machine hits all alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cutbert.errors import InterruptedRun
from cutbert.train.checkpoint import Position
from cutbert.train.engine import Engine
from cutbert.train.loop import Stage, Trained, Trainer, deferred_interrupt, read_finished
from cutbert.train.progress import progress_bar
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings

BLOCK_STEPS = 5


@dataclass
class Turn:
    """A trainer with random numbers of its own: its steps are to the bit those it would take alone.

    Args:
        trainer: steps one network.
        random: torch's random state as its next step needs it.
    """

    trainer: Trainer
    random: Tensor = field(default_factory=torch.get_rng_state)

    @contextmanager
    def taken(self) -> Iterator[Trainer]:
        """Lend the trainer its random state, and keep it afterwards."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.random)
            try:
                yield self.trainer
            finally:
                self.random = torch.get_rng_state()


def train_in_turns(
    pairs: Sequence[tuple[Trained, Stage]],
    engine: Engine,
    settings: TrainSettings,
    run: RunFolder,
    block_steps: int = BLOCK_STEPS,
) -> list[Position]:
    """Train networks in place, block by block in turn, or take up where a stopped run left them.

    Each ends with the weights that `train_stage` gives it; only the order of their steps in time differs.

    Args:
        pairs: networks and their stages, whose names differ.
        engine, settings, run: as of `train_stage`, for all of them.
        block_steps: steps of one network before the next has its turn.

    Returns:
        Steps, tokens and seconds of each.

    Raises:
        InterruptedRun: the user pressed Ctrl-C (or SIGTERM came); all states are saved.
    """
    positions = {stage.plan.name: read_finished(model, stage.plan, run) for model, stage in pairs}
    turns = [
        Turn(Trainer(model, stage, engine, settings, run))
        for model, stage in pairs
        if positions[stage.plan.name] is None
    ]
    take_turns(turns, block_steps)
    positions |= {turn.trainer.plan.name: turn.trainer.finish() for turn in turns}
    return [position for position in positions.values() if position is not None]


def take_turns(turns: Sequence[Turn], block_steps: int) -> None:
    """Run all remaining steps; on an interrupt save every network's state."""
    trainers = [turn.trainer for turn in turns]
    title = ", ".join(trainer.plan.name for trainer in trainers)
    total, shown = sum(trainer.num_steps for trainer in trainers), any(each.engine.is_main for each in trainers)

    with deferred_interrupt() as interrupt, progress_bar(title, total, shown=shown) as bar:
        until = 0
        while any(trainer.position.step < trainer.num_steps for trainer in trainers):
            until += block_steps
            for turn in turns:
                try:
                    with turn.taken() as trainer:
                        trainer.advance(
                            until, interrupt, lambda note: bar(sum(each.position.step for each in trainers), note)
                        )
                except InterruptedRun:
                    for other in turns:
                        if other is not turn:
                            with other.taken() as trainer:
                                trainer.save()
                    raise
