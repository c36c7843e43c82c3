"""Mean and spread of a regression task's labels: a new head begins there, and squared errors are a share of them.

Without that a network learns labels such as prices or percentages hardly at all: the steps of an optimizer do not grow
with the error, so that within a few hundred of them its outputs stay far below such numbers. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cutbert.data.dataset import Dataset
from cutbert.data.rows import Rows
from cutbert.model.heads import SequenceHead
from cutbert.model.task_model import TaskModel

FAR = 16.0  # deviations from 0, beyond which bf16, of 8 bits, rounds numbers to a sixteenth of a deviation and more


@dataclass(frozen=True)
class LabelSpread:
    """Where the labels of train lie.

    Args:
        mean, deviation: of the numbers; a deviation of 0 counts as 1.
    """

    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, data: Dataset) -> LabelSpread:
        """Return the spread of a task's numbers; mean 0 and deviation 1 where labels are no numbers."""
        labels = data.train.labels if isinstance(data.train, Rows) else None
        if data.head.kind != "regression" or labels is None or labels.dtype == np.bool_:
            return cls()
        numbers = np.asarray(labels, dtype=np.float64)
        return cls(float(numbers.mean()), float(numbers.std()) or 1.0)

    @property
    def variance(self) -> float:
        return self.deviation**2

    def notes(self, dtype: torch.dtype) -> tuple[str, ...]:
        """Return a note for the user where training in a dtype would round the outputs too much to learn them."""
        if dtype != torch.bfloat16 or abs(self.mean) <= FAR * self.deviation:
            return ()
        rest = "bf16 rounds such numbers too much; give --precision float32, or labels with their mean taken off"
        return (f"labels are {self.mean:.6g} on average with a deviation of only {self.deviation:.3g}: {rest}",)

    @torch.no_grad()
    def begin(self, model: TaskModel) -> None:
        """Move a new head's outputs, which are near 0 and small, to the labels."""
        if self != LabelSpread():
            assert isinstance(model.head, SequenceHead)
            model.head.out.weight.mul_(self.deviation)
            model.head.out.bias.fill_(self.mean)
