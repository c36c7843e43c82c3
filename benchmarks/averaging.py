"""The exponential mean of a network's weights over the steps, kept by a wrapper of their optimizer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workload import Casts, StageOptimizer


class AveragingOptimizer:
    """An optimizer that also keeps the exponential mean of the weights that it updates.

    The mean begins with the weights after the first step. After t steps its decay is min(decay, (1 + t) / (10 + t)), so
    that the mean of a short training does not hang on its first steps.

    Args:
        inner: updates the weights.
        model: the float32 network.
        decay: of the mean, in (0, 1).

    Source:
        Polyak and Juditsky 1992; the growing decay is that of TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, inner: StageOptimizer, model: nn.Module, decay: float) -> None:
        self.inner, self.decay, self.num_steps = inner, decay, 0
        self.weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.means = {name: weight.detach().clone() for name, weight in self.weights.items()}

    @property
    def updates_rows(self) -> bool:
        return self.inner.updates_rows

    @property
    def rate(self) -> float:
        return self.inner.rate

    def zero_embedding_gradients(self) -> None:
        self.inner.zero_embedding_gradients()

    @torch.no_grad()
    def step(self, progress: float, used_ids: Tensor, casts: Casts = ()) -> float:
        norm = self.inner.step(progress, used_ids, casts)
        decay = min(self.decay, (1 + self.num_steps) / (10 + self.num_steps)) if self.num_steps else 0.0
        torch._foreach_lerp_(list(self.means.values()), list(self.weights.values()), 1.0 - decay)
        self.num_steps += 1
        return norm

    @torch.no_grad()
    def use_means(self) -> None:
        """Put the means in the place of the weights; after the last step."""
        for name, weight in self.weights.items():
            weight.copy_(self.means[name])

    def state(self) -> dict[str, Tensor]:
        return self.inner.state()

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        raise NotImplementedError("a stage with a mean of its weights does not go on where it was stopped")
