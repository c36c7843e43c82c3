"""One distillation step: several subnets of the supernet imitate a teacher, from one set of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from cutbert.data.batches import Batch
from cutbert.data.tokens import Tokens
from cutbert.methods.recipes import DistillStage, Recipe
from cutbert.model.layout import blocks_of
from cutbert.model.losses import task_loss
from cutbert.model.task_model import TaskModel, TaskOutput
from cutbert.shape.space import GridPoint, grid_point
from cutbert.shape.subnet import Subnet
from cutbert.train.collating import block_batch
from cutbert.train.loop import StepInfo, Work
from cutbert.train.losses import logit_loss, matched_states, state_loss

States = tuple[Tensor, ...]
Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Teacher:
    """Who is imitated.

    Args:
        model: in the training number type, on the training device, never updated.
        tokens: the same rows in the teacher's own tokens; None where its tokenizer is the student's.
        has_states: whether its hidden states can be imitated (same tokenizer, hidden size and layers).
    """

    model: TaskModel
    tokens: Tokens | None
    has_states: bool

    @torch.no_grad()
    def __call__(self, batch: Batch, rows: np.ndarray, subnet: Subnet | None) -> TaskOutput:
        """Return what the teacher says of the rows of a batch."""
        if self.tokens is not None:
            batch = block_batch(self.model, self.tokens, rows).to(batch.input_ids.device)
        return self.model(
            batch.input_ids, batch.attention_mask, batch.token_type_ids, subnet=subnet, blocks=batch.blocks
        )


@dataclass
class TeacherOutputs:
    """What the teacher says of one batch, by width; kept where it is the same for all."""

    teacher: Teacher
    batch: Batch
    rows: np.ndarray
    by_width: dict[object, TaskOutput] = field(default_factory=dict)

    def at(self, width: object, subnet: Subnet | None) -> TaskOutput:
        if width not in self.by_width:
            self.by_width[width] = self.teacher(self.batch, self.rows, subnet)
        return self.by_width[width]


@dataclass(frozen=True)
class DistillStep:
    """Trains the chosen subnets of one step, one after the other: memory hardly grows with their number.

    The embeddings run once; every subnet adds its gradient at their output.

    Args:
        supernet: the float32 network, for its shape.
        teacher: who is imitated.
        points: the subnets of this stage, largest first.
        stage: losses and teacher width.
        recipe: everything else.

    Source:
        Hou et al. 2020 (2004.04037), equations 4 to 7. Training the largest, the smallest and random
        others instead of all is the sandwich rule of Yu and Huang 2019 (1903.05134).
    """

    supernet: TaskModel
    teacher: Teacher
    points: Sequence[GridPoint]
    stage: DistillStage
    recipe: Recipe

    def __call__(self, work: Work, batch: Batch, info: StepInfo) -> Losses:
        outputs = TeacherOutputs(self.teacher, batch, info.rows)

        def losses_of(states: States, point: GridPoint) -> Losses:
            return self._losses(work.model.finish(states, batch.blocks), point, outputs, info)

        points = choose_points(self.points, self.recipe.subnets_per_step, info.random)
        return train_points(work.model, batch, points, losses_of)

    def _losses(self, student: TaskOutput, point: GridPoint, outputs: TeacherOutputs, info: StepInfo) -> Losses:
        target = self.target(point, outputs)
        head = self.supernet.head_spec
        losses: Losses = {}
        assert student.logits is not None and target.logits is not None
        if not (head.kind == "regression" and self.recipe.skips_regression_logits):
            far = logit_loss(
                head,
                student.logits,
                target.logits,
                temperature=self.recipe.temperature,
                attention_mask=outputs.batch.attention_mask,
                blocks=outputs.batch.blocks,
            )
            counted = info.num_tokens if head.kind == "token" else info.num_examples
            losses["logits"] = far * (self.stage.logit_weight / counted)
        if self.stage.hidden_weight and self.teacher.has_states:
            losses["hidden"] = self.hidden_loss(student, target, point, outputs.batch, info)
        return losses

    def hidden_loss(
        self, student: TaskOutput, target: TaskOutput, point: GridPoint, batch: Batch, info: StepInfo
    ) -> Tensor:
        """Return how far a subnet's hidden states are from its teacher's, as a share of the step's loss."""
        mask = None if self.recipe.counts_padding else batch.attention_mask
        counted = info.num_tokens
        if self.recipe.counts_padding:
            counted = info.num_examples * batch.input_ids.numel() // batch.num_rows
        kept = [layer.index for layer in point.subnet.layers]
        pairs = [(0, 0), *matched_states(kept, self.supernet.shape.num_layers, self.recipe.layer_rule)]
        far = [state_loss(student.hidden_states[s], target.hidden_states[t], mask) for s, t in pairs]
        total = torch.stack(far).sum() * (self.stage.hidden_weight / counted)
        return total / len(pairs) if self.recipe.mean_over_layers else total

    def target(self, point: GridPoint, outputs: TeacherOutputs) -> TaskOutput:
        """Return what the teacher says, at the width that a subnet imitates."""
        width = (point.head_mult, point.ffn_mult)
        if self.stage.teacher_width == "full":
            return outputs.at(width if self.recipe.reruns_teacher else None, None)
        full_depth = grid_point(self.supernet.shape, *width, 1.0, self.recipe.layer_rule)
        return outputs.at(width, full_depth.subnet)


@dataclass(frozen=True)
class FinalStep:
    """Trains the chosen subnets of one step on true labels: DynaBERT's optional last fine-tuning.

    Args:
        supernet: the float32 network.
        points: all subnets.
        recipe: how many are trained per step.
    """

    supernet: TaskModel
    points: Sequence[GridPoint]
    recipe: Recipe

    def __call__(self, work: Work, batch: Batch, info: StepInfo) -> Losses:
        def losses_of(states: States, point: GridPoint) -> Losses:
            logits = work.model.finish(states, batch.blocks).logits
            mean = task_loss(
                self.supernet.head_spec, logits, batch.labels, attention_mask=batch.attention_mask, blocks=batch.blocks
            )
            return {"labels": mean * info.label_share(batch)}

        points = choose_points(self.points, self.recipe.subnets_per_step, info.random)
        return train_points(work.model, batch, points, losses_of)


def train_points(
    net: TaskModel, batch: Batch, points: Sequence[GridPoint], losses_of: Callable[[States, GridPoint], Losses]
) -> Losses:
    """Add the gradients of several subnets, one after the other, from one set of embeddings.

    Args:
        net: the supernet in the training number type.
        batch: of one step.
        points: the subnets to train.
        losses_of: the losses of a subnet by name, given its hidden states.

    Returns:
        Each loss, summed over subnets.
    """
    embedded = net.encoder.embed(batch.input_ids, batch.attention_mask, batch.token_type_ids, blocks=batch.blocks)
    blocks = blocks_of(batch.input_ids, batch.attention_mask, batch.blocks)
    leaf = embedded.detach().requires_grad_()
    totals: Losses = {}
    for point in points:
        losses = losses_of(net.encoder.run_layers(leaf, batch.attention_mask, point.subnet, blocks), point)
        torch.stack(list(losses.values())).sum().backward()
        for name, loss in losses.items():
            totals[name] = totals[name] + loss.detach() if name in totals else loss.detach()
    if embedded.requires_grad:
        assert leaf.grad is not None
        embedded.backward(leaf.grad)
    return totals


def choose_points(points: Sequence[GridPoint], count: int, random: np.random.Generator) -> list[GridPoint]:
    """Return the subnets of one step: all, or the largest, the smallest and random others.

    Args:
        points: largest first.
        count: how many; 0 for all; 1 is one at random.
        random: the step's own generator.
    """
    if count == 0 or count >= len(points):
        return list(points)
    if count == 1:
        return [points[int(random.integers(len(points)))]]
    middle = random.choice(np.arange(1, len(points) - 1), size=count - 2, replace=False)
    return [points[0], *(points[i] for i in sorted(middle)), points[-1]]
