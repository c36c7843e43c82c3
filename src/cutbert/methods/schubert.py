"""schuBERT (Khetan and Karnin 2020, 2005.06628): gates under a price choose the size of every dimension, then the
network is cut and healed, in rounds.

Algorithm 1, T times: (1) set all gates to 1; (2) train them alone under the price; (3) choose the smallest to go, until
the cost has fallen by eta / T; (4) fold gates into the weights; (5) cut out what is gone; (6) train all weights.

It is `one_round` and `gated_cut`; what each step needs follows below them: gates and their prices (steps 1 and 2), the
choice of units (3), healing (6). How gates are trained under the price of equation 2 is in `schubert_gates`, how units
are chosen in `schubert_choice`; which weights a gate multiplies in `surgery.gates`, cutting in `surgery.cut`. Values
are in `schubert_recipes`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cutbert.bench.settings import LatencySettings
from cutbert.data.settings import DataSettings
from cutbert.data.text_settings import TextSettings
from cutbert.data.tokens import Tokens
from cutbert.errors import InputError, Mistakes, RunError
from cutbert.files import read_json, write_json
from cutbert.methods.schubert_choice import RoundTargets, choose_units, target_sizes
from cutbert.methods.schubert_gates import GatedModel, GateOptimizer, GateView, Price
from cutbert.methods.schubert_recipes import SchubertRecipe, resolve_recipe
from cutbert.methods.schubert_settings import SchubertSettings
from cutbert.model.task_model import TaskModel
from cutbert.shape.budget import LATENCY
from cutbert.shape.shape import EncoderShape
from cutbert.shape.source import Models, check_length
from cutbert.shape.units import Place, Sizes, marginal_costs, size_at, unit_prices
from cutbert.surgery.cut import Kept, cut, subnet_of
from cutbert.surgery.gates import fold
from cutbert.surgery.norms import recalibrate_norms
from cutbert.train.loop import Stage, TrainingStep, train_stage
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import StagePlan, TrainSettings
from cutbert.work.cost_limit import CostLimit, CutTimes, counted_limit, measured_limit, time_cut
from cutbert.work.distill import DistillStep, LossWeights
from cutbert.work.finetune import check_teacher, ensure_finetuned
from cutbert.work.inputs import Inputs, check_inputs
from cutbert.work.objective import Objective
from cutbert.work.plans import heal_plan
from cutbert.work.run import carry_out, latency_settings, score_and_save, store_networks
from cutbert.work.text_objective import check_halves

RECALIBRATION_ROWS = 512


def schubert(
    models: Models,
    data: DataSettings | TextSettings,
    train: TrainSettings,
    settings: SchubertSettings,
    run: RunFolder,
) -> dict[str, Any]:
    """Cut a model to a budget in every dimension, by gates learned on a task or on plain text, and heal it.

    Args:
        models: the model, fine-tuned first where its head does not fit the task, and with a masked-LM head on plain
            text; a teacher.
        data: the task or the text.
        train: training flags of the healing; `epochs` counts the passes of all rounds together.
        settings: budget and how it is reached.
        run: opened run folder; receives model/ (the result), rounds/ (the larger ones before it), front.json.

    Returns:
        The result with the keys out, metric, teacher, subnets (the rounds, the result last), seconds.

    Raises:
        InputError: mistakes in settings, models or data, or a budget that no cut reaches, before anything is made.

    Source:
        Khetan and Karnin 2020 (2005.06628), algorithm 1, without next-sentence prediction. Ours: on a task the loss
        is the distance to the uncut, fine-tuned network on the task's rows, and one group of every unit always stays.
    """
    recipe = resolve_recipe(settings)
    check_method = partial(check_cut, settings, recipe)
    inputs = check_inputs(models, data, settings, train=train, check_method=check_method)
    return carry_out(inputs, train, run, partial(cut_to_budget, settings=settings, recipe=recipe, train=train, run=run))


def cut_to_budget(
    objective: Objective, settings: SchubertSettings, recipe: SchubertRecipe, train: TrainSettings, run: RunFolder
) -> None:
    """Run all rounds, score each round's network and store the last: the whole method."""
    check_halves(objective)
    latency = latency_settings(train, settings.backend, settings.length)
    cost_limit = find_cost_limit(objective, settings, recipe, latency, run)
    ensure_finetuned(objective, train, run)
    make_step, tokens = make_steps(objective, settings, train, run)
    cutting = Cutting(objective, make_step, tokens, cost_limit, recipe, latency, settings, train, run)
    units = torch.arange(cutting.uncut.shape.hidden_size, device=objective.engine.device)
    current, networks = Cut(cutting.uncut, units, 0), []
    for number in range(1, recipe.rounds + 1):
        current = one_round(cutting, current, number)
        is_last = number == recipe.rounds
        networks.append(score_and_save(run, objective, current.model, f"round-{number}", is_last=is_last))
    store_networks(run, objective, networks, latency, {})


@dataclass(frozen=True, eq=False)
class Cut:
    """The network after a round.

    Args:
        model: as small as it is now.
        hidden_units: the uncut model's hidden units that it kept, in its order.
        steps: taken so far, on gates and weights; each stage goes on with the rows where the last one ended.
    """

    model: TaskModel
    hidden_units: Tensor
    steps: int


@dataclass(frozen=True, eq=False)
class Cutting:
    """What all rounds share.

    Args:
        objective: what the network is for; holds the uncut model.
        make_step: the training step of a cut network, given the uncut model's hidden units that it kept.
        tokens: the rows that steps are made on.
        cost_limit: the cost, the function that prices units, and the limit.
        recipe: how the cut is made.
        latency: how networks are timed.
        settings, train: as given.
        run: the run's folder.
    """

    objective: Objective
    make_step: Callable[[Tensor], TrainingStep]
    tokens: Tokens
    cost_limit: CostLimit
    recipe: SchubertRecipe
    latency: LatencySettings
    settings: SchubertSettings
    train: TrainSettings
    run: RunFolder

    @property
    def uncut(self) -> TaskModel:
        return self.objective.loaded.model

    @property
    def targets(self) -> RoundTargets:
        return RoundTargets(self.uncut.shape, self.cost_limit, self.settings, self.recipe)

    @property
    def plan(self) -> StagePlan:
        """The plan of the healing, all rounds together."""
        return heal_plan(self.objective.inputs.is_text).overridden(self.train)


# The loss, equation 1


def make_steps(
    objective: Objective, settings: SchubertSettings, train: TrainSettings, run: RunFolder
) -> tuple[Callable[[Tensor], TrainingStep], Tokens]:
    """Return the training step of a network with given hidden units, and the rows that it is made on.

    Source:
        Equation 1 on plain text: the masked-LM loss. On a task the logits and hidden states of the teacher: our choice.
    """
    if objective.inputs.is_text:
        step = DistillStep(objective.losses, None, LossWeights(), uses_labels=True)
        return lambda units: step, objective.train_tokens
    teacher, tokens = objective.teacher_and_tokens()
    teacher = teacher.for_training(tokens, heal_plan(False).overridden(train), train, run.path / "checkpoint")
    weights = LossWeights.of(settings)
    return lambda units: DistillStep(objective.losses, teacher, weights, units), tokens


# The objective of algorithm 1: what a network costs, and what it may cost


def find_cost_limit(
    objective: Objective, settings: SchubertSettings, recipe: SchubertRecipe, latency: LatencySettings, run: RunFolder
) -> CostLimit:
    """Return what the budget limits, counted or measured; under --from-paper the sizes are the limit."""
    model, budget = objective.loaded.model, settings.parsed_budget
    if budget is not None and budget.name == LATENCY:
        kept = run.path / "checkpoint" / "latency.json"
        return measured_limit(objective, budget, settings.dims, recipe.multiple_of, latency, kept)
    return counted_limit(budget, settings.dims, recipe.multiple_of, model.shape, model.head_spec)


# A round of algorithm 1


def one_round(cutting: Cutting, before: Cut, number: int) -> Cut:
    """Train gates, fold them, cut, heal: steps 1 to 6 of the algorithm."""
    with cutting.run.timing("gates"):
        after = gated_cut(cutting, before, number)
    with cutting.run.timing("heal"):
        stage = heal_stage(cutting, after, number)
        healed = train_stage(after.model, stage, cutting.objective.engine, cutting.train, cutting.run)
    return replace(after, steps=after.steps + healed.step)


def gated_cut(cutting: Cutting, before: Cut, number: int) -> Cut:
    """Train a round's gates, fold them into a copy of the network, and cut out what they chose: steps 1 to 5."""
    recipe = cutting.recipe
    # Steps 1 and 2: gates, all 1 at first, are trained under the price; weights do not change.
    prices = prices_of(cutting, before.model.shape, number)
    gated = GatedModel(before.model, prices, gates_norms=recipe.gates_norms)
    stage = gate_stage(cutting, before, number)
    trained = train_stage(gated, stage, cutting.objective.engine, cutting.train, cutting.run)
    # Step 4 first: all gates are folded into the weights. Then step 3: the units of the largest gates are chosen, which
    # folding does not change; a unit that goes is not set to zero before, since it is cut out at once.
    values = {place: value.detach() for place, value in gated.values().items()}
    folded = copy.deepcopy(before.model)
    fold(folded, values, gates_norms=recipe.gates_norms)
    kept = kept_units(cutting, folded, {place: value.cpu() for place, value in values.items()}, number)
    # Step 5: rows and columns of the units that go are cut out.
    hidden = kept[Place("h")]
    if recipe.recalibrates_norms and len(hidden) < folded.shape.hidden_size:
        recalibrate_norms(folded, hidden, cutting.objective.sample(folded, RECALIBRATION_ROWS, cutting.train.seed))
    units = before.hidden_units[torch.tensor(hidden, device=before.hidden_units.device)]
    return Cut(cut(folded, kept), units, before.steps + trained.step)


# Steps 1 and 2: prices and training of gates


def prices_of(cutting: Cutting, shape: EncoderShape, number: int) -> list[Price]:
    """Return the prices of a round's gates: one for all places together, or one for each where target sizes are fixed.

    Source:
        The units' prices are the betas of equation 2. The paper's gamma is constant; ours keeps to a schedule that ends
        where the round's limit is met.
    """
    settings, cost_limit = cutting.settings, cutting.cost_limit
    if cutting.recipe.gamma is not None:
        return [Price(unit_prices(shape, cost_limit.price, settings.dims), gamma=cutting.recipe.gamma)]
    if settings.from_paper is not None:
        return prices_by_size(shape, cutting.targets.sizes(number))
    most = cutting.targets.limit(number)
    if settings.uniform:
        return prices_by_size(shape, cutting.targets.uniform_sizes(most))
    costs = marginal_costs(shape, cost_limit.price, settings.dims)
    whole = sum(each * size_at(shape, place) for place, each in costs.items())
    aim = 1.0 - (cost_limit.cost(shape) - most) / whole if whole else 1.0
    return [Price(unit_prices(shape, cost_limit.price, settings.dims), aim=min(1.0, max(0.0, aim)))]


def prices_by_size(shape: EncoderShape, sizes: Sizes) -> list[Price]:
    """Return a price for each place, whose aim is the share of its units that stay."""
    return [Price({place: 1.0}, aim=min(1.0, size / size_at(shape, place))) for place, size in sizes.items()]


def gate_stage(cutting: Cutting, current: Cut, number: int) -> Stage:
    """Return the training of a round's gates."""
    steps, share = cutting.recipe.gate_steps, cutting.recipe.gate_share
    if share is not None:
        healing = heal_plan_of(cutting, current, number)
        num_epoch_steps = math.ceil(len(cutting.tokens) / healing.batch_size)
        steps = max(steps, round(share * healing.num_steps(num_epoch_steps)))
    plan = replace(
        cutting.plan,
        name=f"round-{number}-gates",
        first_step=current.steps,
        exact_steps=steps,
        learning_rate=cutting.settings.gate_learning_rate,
        schedule="constant",
        warmup_ratio=0.0,
    )
    step = cutting.make_step(current.hidden_units)
    return Stage(plan, cutting.tokens, step, view=GateView, optimizer=GateOptimizer)


# Step 3: which units go


def kept_units(cutting: Cutting, folded: TaskModel, gates: Mapping[Place, Tensor], number: int) -> Kept:
    """Return the units that stay in a round, chosen once by the main process and kept for a resumed run."""
    path = cutting.run.path / "checkpoint" / f"round-{number}-kept.json"
    dims = cutting.settings.dims

    def timed(small: TaskModel) -> CutTimes:
        return time_cut(small, cutting.uncut, cutting.objective.lengths, cutting.latency)

    def choose() -> None:
        sizes = {place: gate.abs() for place, gate in gates.items()}
        kept = choose_units(cutting.targets, folded, sizes, number, timed)
        write_json(path, [[*place, units] for place, units in kept.items()])
        shape = subnet_of(folded.shape, kept).shape_in(folded.shape)
        closed = {dim: closed_share(gates, dim) for dim in dims if any(place.dim == dim for place in gates)}
        cost = cutting.cost_limit.cost(shape)
        cutting.run.log(stage=f"round-{number}", cost=cost, shape=shape.to_json(), closed=closed)

    cutting.objective.engine.make_once(path, choose)
    return dict(read_json(path, RunError, lambda data: [(Place(dim, layer), units) for dim, layer, units in data]))


def closed_share(gates: Mapping[Place, Tensor], dim: str) -> float:
    """Return the share of a dimension's gates that are closed; there is at least one."""
    own = torch.cat([values for place, values in gates.items() if place.dim == dim])
    return float((own == 0).float().mean())


# Step 6: healing


def heal_stage(cutting: Cutting, current: Cut, number: int) -> Stage:
    """Return the training of all weights after a round's cut."""
    return Stage(heal_plan_of(cutting, current, number), cutting.tokens, cutting.make_step(current.hidden_units))


def heal_plan_of(cutting: Cutting, current: Cut, number: int) -> StagePlan:
    """Return the plan of a round's healing: its share of all the healing there is."""
    rounds, last = cutting.recipe.rounds, cutting.recipe.last_share
    share = 1 / rounds
    if rounds > 1 and last is not None:
        share = last if number == rounds else (1 - last) / (rounds - 1)
    plan = cutting.plan
    return replace(
        plan,
        name=f"round-{number}",
        first_step=current.steps,
        epochs=share * plan.epochs,
        min_steps=round(share * plan.min_steps),
    )


# What is refused


def check_cut(settings: SchubertSettings, recipe: SchubertRecipe, inputs: Inputs) -> None:
    """Raise unless the budget or target can be reached and the teacher has the task's labels; all together."""
    shape = inputs.model.shape
    mistakes = Mistakes()
    if settings.from_paper is None and "k" in settings.dims and shape.ingredients.rotary_bases:
        others = ",".join(dim for dim in settings.dims if dim != "k")
        mistakes.add(
            f"{inputs.model}: --dims must be without k, since rotary positions turn the dimensions of a key in pairs, "
            f"which cannot be cut one by one; give --dims {others}"
        )
    if inputs.head.kind == "embedding" and (settings.from_paper is not None or "h" in settings.dims):
        mistakes.add(
            "--objective embedding must leave the hidden size, which is that of the vectors, as it is: give --dims "
            f"{','.join(dim for dim in settings.dims if dim != 'h')} and no --from-paper"
        )
    with mistakes.collect():
        check_teacher(inputs, settings.logit_weight)
    with mistakes.collect():
        if settings.from_paper is not None:
            target_sizes(settings, shape)
        elif settings.is_timed:
            if settings.length is not None:
                check_length(inputs.model, "--length", settings.length)
        else:
            counted_limit(settings.parsed_budget, settings.dims, recipe.multiple_of, shape, inputs.head)
    mistakes.check(InputError)
