"""How one small network is made from a larger one: which layers it starts from, what it learns, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from torch import Tensor

from cutbert.errors import ShapeError
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.train.progress import say
from cutbert.train.settings import StagePlan
from cutbert.work.distill import DistillStep, LayerMap, LossWeights, layer_map
from cutbert.work.losses import LossesOf, StatePairs, Teacher
from cutbert.work.plans import DISTILLATION

LayerChoice = Literal["first", "last", "spread", "first_and_last"]


@dataclass(frozen=True, kw_only=True)
class StudentRecipe:
    """How a small network is distilled.

    Args:
        layers: which of the teacher's layers it starts from.
        state_map: which hidden states are compared.
        weights: of the losses.
        relation_layer: the teacher's layer whose relations are learned; None for its last.
        plan: of the training; its steps are the caller's business.
    """

    layers: LayerChoice = "first"
    state_map: LayerMap = "own"
    weights: LossWeights
    relation_layer: int | None = None
    plan: StagePlan


# Piloted on select alone (benchmarks/records/distillation.json): MiniLM cut to 3 layers, 100 steps, one seed. States
# that keep near those of the layers they were cut from left 0.86 of the KL of states by the uniform map, the mean
# over SST-2 (0.70), CoLA (0.70) and MRPC (1.28); with the last one free 0.83, within noise, and no better a score.
# Relations beside them made 0.70 into 0.68 on the first two, for a fifth more time; MRPC was not reached. No better on
# the first two: other layers to start from, other rates, the mean of the weights, more rows, layers matched while
# training (CoFi, 0.69). From repaired thin layers, as `fit` has them (pilots.json), more steps and wider layers help;
# relations did not.
SMALL = StudentRecipe(
    weights=LossWeights(logits=1.0, hidden=30.0),
    plan=replace(DISTILLATION, name="student"),
)
"""The recipe where the user says nothing, of a network cut from its teacher."""


OTHER_BACKBONE = replace(SMALL, weights=LossWeights(logits=1.0, hidden=0.0, relations=1.0))
"""The recipe of a network that is no part of its teacher: its states are not the teacher's, relations between tokens
can be compared all the same (MiniLMv2, 2012.15828)."""


# Not piloted. A vector is read straight off the last states, without a layer between that could turn the states of an
# early layer into an answer: so the last states are compared with the teacher's last. The loss of vectors that are near
# the teacher's is a tenth of that of labels. Texts are short: larger batches take little longer.
EMBEDDER = replace(
    SMALL,
    state_map="own_and_last",
    weights=LossWeights(logits=10.0, hidden=30.0),
    plan=replace(SMALL.plan, batch_size=64),
)
"""The recipe of a cut embedding model."""

OTHER_EMBEDDER = replace(EMBEDDER, weights=replace(OTHER_BACKBONE.weights, logits=10.0))
"""The recipe of another embedding model than the teacher's."""


# Piloted in one short run, one seed: MiniLM from all-mpnet, 90 steps of 48 texts at 1e-4, 300 of SQuAD's questions over
# 200 paragraphs. Learning all-mpnet's vectors, brought to 384 numbers by the orthogonal matrix that lies nearest, took
# NDCG@10 from 82.0 to 77.3: such a network has to leave its own space first. Learning similarities left it at 81.5, and
# at the rate here 82.3 (all-mpnet: 83.9); STS-B stayed at 89.0 to 89.1.
SIMILAR_EMBEDDER = replace(OTHER_EMBEDDER, plan=replace(OTHER_EMBEDDER.plan, learning_rate=3e-5))
"""The recipe of an embedding model whose vectors have another width than the teacher's."""


# Piloted on CoLA's select alone, one seed (benchmarks/records/pilots_base.json): all-mpnet, 768 hidden units, cut to 6
# of 12 layers of half the width. After 80 steps KL to the teacher and the score both got better from 6e-4 down to 1e-4
# (KL 0.034 and 0.029 at 3e-4 and 1e-4); at 5e-5 they were as good. After 240 (pilots_base_long.json) KL was 0.021 and
# 0.020, the score a point lower at 1e-4. MiniLM, of 384, was no better at another rate than DISTILLATION's.
WIDE, WIDE_RATE = 512, 1e-4


def recipe_for(head: HeadSpec, hidden_size: int = 0, *, is_cut: bool = True, has_width: bool = True) -> StudentRecipe:
    """Return how a network with some head is distilled where the user says nothing.

    Args:
        head: of the task.
        hidden_size: of the model it is cut from; above WIDE the rate is WIDE_RATE at most. 0 where the rate is not
            asked for.
        is_cut: whether it is cut from its teacher.
        has_width: of an embedding model, whether its vectors have the teacher's width.
    """
    if head.kind == "embedding":
        recipe = SIMILAR_EMBEDDER if not has_width else EMBEDDER if is_cut else OTHER_EMBEDDER
    else:
        recipe = SMALL if is_cut else OTHER_BACKBONE
    if hidden_size <= WIDE:
        return recipe
    return replace(recipe, plan=replace(recipe.plan, learning_rate=min(WIDE_RATE, recipe.plan.learning_rate)))


def chosen_layers(count: int, num_layers: int, choice: LayerChoice) -> tuple[int, ...]:
    """Return which layers a network of fewer layers starts from, rising.

    Args:
        count: layers it has, 1 to num_layers.
        num_layers: layers there are.
        choice: the first; the last; "spread" at even distances, the last one always; "first_and_last" the first but
            one, and the last.

    Raises:
        ShapeError: there are not that many layers.

    >>> chosen_layers(3, 6, "spread"), chosen_layers(3, 6, "first_and_last")
    ((1, 3, 5), (0, 1, 5))
    """
    if not 1 <= count <= num_layers:
        raise ShapeError(f"the number of layers to keep must lie in 1..{num_layers}, got {count}")
    if choice == "first":
        return tuple(range(count))
    if choice == "last":
        return tuple(range(num_layers - count, num_layers))
    if choice == "spread":
        return tuple((i + 1) * num_layers // count - 1 for i in range(count))
    if choice == "first_and_last":
        return (*range(count - 1), num_layers - 1)
    assert_never(choice)


def student_step(
    losses_of: LossesOf,
    teacher: Teacher,
    student: EncoderShape,
    recipe: StudentRecipe | None = None,
    *,
    kept: Sequence[int] | None = None,
    hidden_units: Tensor | None = None,
    is_main: bool = True,
) -> DistillStep:
    """Return the training step of a small network of any shape, and say what of the teacher cannot be learned.

    Args:
        losses_of: the objective's losses.
        teacher: its answers are learned.
        student: sizes of the network.
        recipe: what is learned; None for that of a network cut from its teacher.
        kept: the teacher's layers that the network was cut from; None where it is no cut: the map "own" is then the
            uniform one.
        hidden_units: the teacher's hidden units that the network kept, in its order; None for all.
        is_main: whether this process speaks to the user.
    """
    recipe = recipe or recipe_for(teacher.model.head_spec)
    weights, own = recipe.weights, teacher.model.shape
    if weights.relations and teacher.tokens is not None:
        say("the teacher has a tokenizer of its own: relations between tokens are not learned", shown=is_main)
        weights = replace(weights, relations=0.0)
    width = own.hidden_size if hidden_units is None else len(hidden_units)
    if weights.hidden and not (teacher.has_states and width == student.hidden_size):
        rest = "logits and relations" if weights.relations else "logits"
        say(f"the teacher's hidden states do not match the student's: only its {rest} are distilled", shown=is_main)
        weights = replace(weights, hidden=0.0)
    is_own = recipe.state_map in ("own", "own_and_last")
    state_map = "uniform" if kept is None and is_own else recipe.state_map
    pairs: StatePairs = layer_map(student.num_layers, own.num_layers, state_map, kept) if weights.hidden else ()
    if is_own and kept is not None:  # of what it was cut from, which a teacher of another depth matches
        pairs = teacher.match(pairs)
    layer = recipe.relation_layer
    return DistillStep(losses_of, teacher, weights, hidden_units, state_pairs=pairs, relation_layer=layer)
