"""The rounds of schuBERT: train gates, fold them, choose what goes, cut, heal."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cutbert.bench.settings import LatencySettings
from cutbert.data.tokens import Tokens
from cutbert.errors import BudgetError
from cutbert.files import read_json, write_json
from cutbert.methods.meters import MARGIN, Meter, time_cut
from cutbert.methods.objectives import Objective
from cutbert.methods.recipes import override_plan
from cutbert.methods.results import Found, scored
from cutbert.methods.schubert_settings import SchubertSettings
from cutbert.model.task_model import TaskModel
from cutbert.shape.budget import LATENCY, Budget
from cutbert.shape.paper_shapes import paper_shape
from cutbert.shape.shape import EncoderShape
from cutbert.shape.units import Place, Sizes, marginal_costs, resized, size_at, sizes_of, uniform_sizes, unit_prices
from cutbert.surgery.cut import Kept, choose_by_limit, choose_by_sizes, cut, subnet_of
from cutbert.surgery.gates import fold
from cutbert.surgery.norms import settle_norms
from cutbert.train.engine import Engine
from cutbert.train.gating import GatedModel
from cutbert.train.loop import Stage, TrainingStep, train_stage
from cutbert.train.price import Price
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import StagePlan, TrainSettings

MAX_CUTS = 7
SETTLING_ROWS = 512


@dataclass(frozen=True, eq=False)
class Cut:
    """A network on its way down.

    Args:
        model: as small as it is now.
        hidden_units: the uncut model's hidden units that it kept, in its order.
        steps: taken so far, on gates and weights; each stage goes on with the rows where the last one ended.
    """

    model: TaskModel
    hidden_units: Tensor
    steps: int


@dataclass(frozen=True, eq=False)
class Job:
    """What all rounds share.

    Args:
        objective: what the network is for; holds the uncut model.
        make_step: the training step of a cut network, given the uncut model's hidden units that it kept.
        tokens: the rows that steps are made on.
        plan: of the healing, all rounds together.
        meter: the cost, its slope and its limit.
        latency: how networks are timed.
        settings, train: as given.
        run: the run's folder.
    """

    objective: Objective
    make_step: Callable[[Tensor], TrainingStep]
    tokens: Tokens
    plan: StagePlan
    meter: Meter
    latency: LatencySettings
    settings: SchubertSettings
    train: TrainSettings
    run: RunFolder

    @property
    def uncut(self) -> TaskModel:
        return self.objective.loaded.model

    @property
    def engine(self) -> Engine:
        return self.objective.engine


def all_rounds(job: Job) -> list[Found]:
    """Run every round; return each round's healed network and its scores."""
    model = job.uncut
    now = Cut(model, torch.arange(model.shape.hidden_size, device=job.engine.device), 0)
    found = []
    for number in range(1, job.settings.rounds + 1):
        now = one_round(job, now, number)
        is_last = number == job.settings.rounds
        found.append(scored(job.run, job.objective, now.model, f"round-{number}", is_last=is_last))
    return found


def one_round(job: Job, before: Cut, number: int) -> Cut:
    """Train gates, fold them, cut, heal: steps 1 to 6 of the algorithm."""
    with job.run.timing("gates"):
        after = gated_cut(job, before, number)
    with job.run.timing("heal"):
        healed = train_stage(after.model, heal_stage(job, after, number), job.engine, job.train, job.run)
    return replace(after, steps=after.steps + healed.step)


def gated_cut(job: Job, before: Cut, number: int) -> Cut:
    """Train a round's gates, fold them into a copy of the network, and cut out what they chose."""
    gated = GatedModel(before.model, prices_of(job, before.model.shape, number))
    trained = train_stage(gated, gate_stage(job, before, number), job.engine, job.train, job.run)
    values = {place: value.detach() for place, value in gated.values().items()}
    folded = copy.deepcopy(before.model)
    fold(folded, values)
    kept = kept_units(job, folded, {place: value.cpu() for place, value in values.items()}, number)
    hidden = kept[Place("h")]
    if len(hidden) < folded.shape.hidden_size:
        settle_norms(folded, hidden, job.objective.sample(folded, SETTLING_ROWS, job.train.seed))
    units = before.hidden_units[torch.tensor(hidden, device=before.hidden_units.device)]
    return Cut(cut(folded, kept), units, before.steps + trained.step)


def kept_units(job: Job, folded: TaskModel, scores: Mapping[Place, Tensor], number: int) -> Kept:
    """Return the units that stay in a round, chosen once by the main process and kept for a resumed run."""
    path = job.run.path / "checkpoint" / f"round-{number}-kept.json"

    def choose_once() -> None:
        if not path.exists():
            kept = choose(job, folded, scores, number)
            write_json(path, [[*place, units] for place, units in kept.items()])
            shape = subnet_of(folded.shape, kept).shape_in(folded.shape)
            closed = {
                dim: closed_share(scores, dim) for dim in job.settings.dims if any(place.dim == dim for place in scores)
            }
            job.run.log(stage=f"round-{number}", cost=job.meter.cost(shape), shape=shape.to_json(), closed=closed)

    job.engine.on_main(choose_once)
    return {Place(dim, layer): units for dim, layer, units in read_json(path)}


def prices_of(job: Job, shape: EncoderShape, number: int) -> list[Price]:
    """Return the prices of a round's gates: one for all places, or one for each where its size is given beforehand."""
    settings, meter = job.settings, job.meter
    if settings.from_paper is not None:
        return prices_by_size(shape, on_the_way(job, number / settings.rounds))
    limit = round_limit(job, number)
    if settings.uniform:
        sizes = uniform_sizes(job.uncut.shape, settings.dims, meter.cost, limit, settings.multiple_of)
        return prices_by_size(shape, sizes)
    costs = marginal_costs(shape, meter.price, settings.dims)
    whole = sum(each * size_at(shape, place) for place, each in costs.items())
    aim = 1.0 - (meter.cost(shape) - limit) / whole if whole else 1.0
    return [Price(unit_prices(shape, meter.price, settings.dims), min(1.0, max(0.0, aim)))]


def prices_by_size(shape: EncoderShape, sizes: Sizes) -> list[Price]:
    """Return a price for each place, of which as much is left as units are to stay."""
    return [Price({place: 1.0}, min(1.0, size / size_at(shape, place))) for place, size in sizes.items()]


def closed_share(gates: Mapping[Place, Tensor], dim: str) -> float:
    """Return the share of a dimension's gates that are closed; there is at least one."""
    own = torch.cat([values for place, values in gates.items() if place.dim == dim])
    return float((own == 0).float().mean())


def gate_stage(job: Job, now: Cut, number: int) -> Stage:
    """Return the training of a round's gates."""
    plan = replace(
        override_plan(job.plan, job.train),
        name=f"round-{number}-gates",
        first_step=now.steps,
        exact_steps=job.settings.gate_steps,
        learning_rate=job.settings.gate_learning_rate,
        schedule="constant",
        warmup_ratio=0.0,
    )
    return Stage(plan, job.tokens, job.make_step(now.hidden_units))


def heal_stage(job: Job, now: Cut, number: int) -> Stage:
    """Return the training of all weights after a round's cut."""
    rounds, last = job.settings.rounds, job.settings.last_share
    share = 1.0 if rounds == 1 else last if number == rounds else (1 - last) / (rounds - 1)
    plan = override_plan(job.plan, job.train)
    plan = replace(
        plan,
        name=f"round-{number}",
        first_step=now.steps,
        epochs=share * plan.epochs,
        min_steps=round(share * plan.min_steps),
    )
    return Stage(plan, job.tokens, job.make_step(now.hidden_units))


def choose(job: Job, folded: TaskModel, scores: Mapping[Place, Tensor], number: int) -> Kept:
    """Return the units that stay in a round: a share of the way down, all of it in the last."""
    settings, shape = job.settings, folded.shape
    if settings.from_paper is not None:
        return choose_by_sizes(shape, scores, on_the_way(job, number / settings.rounds))
    limit = round_limit(job, number)
    if job.meter.name == LATENCY and number == settings.rounds:
        return choose_by_measurement(job, folded, scores, limit)
    return choose_within(job, shape, scores, limit)


def choose_by_measurement(job: Job, folded: TaskModel, scores: Mapping[Place, Tensor], limit: float) -> Kept:
    """Return the units that stay within a limit on latency, as measured: cut further where a cut is too slow.

    Raises:
        BudgetError: no cut that was tried is fast enough.
    """
    budget, timed = Budget.parse(str(job.settings.budget)), None
    for _ in range(MAX_CUTS):
        try:
            kept = choose_within(job, folded.shape, scores, limit)
        except BudgetError:
            break
        timed = time_cut(cut(folded, kept), job.uncut, job.objective.lengths, job.latency)
        aim = MARGIN * budget.limit(timed.uncut_ms)
        if timed.cut_ms <= aim:
            return kept
        limit *= MARGIN * aim / timed.cut_ms
        say(f"latency: the cut takes {timed.cut_ms:.3f} ms, wanted at most {aim:.3f}: cutting further")
    took = "" if timed is None else f", the last cut took {timed.cut_ms:.3f} ms, the uncut model {timed.uncut_ms:.3f}"
    raise BudgetError(f"--budget latency_ms must be reachable by measurement, got {budget.value:g}{took}")


def round_limit(job: Job, number: int) -> float:
    """Return the cost that a round must not exceed: a share of the way from the uncut model's to the limit."""
    meter, share = job.meter, number / job.settings.rounds
    if job.settings.from_paper is not None:
        return meter.cost(resized(job.uncut.shape, on_the_way(job, share)))
    assert meter.limit is not None
    return meter.uncut + share * (meter.limit - meter.uncut)


def choose_within(job: Job, shape: EncoderShape, scores: Mapping[Place, Tensor], limit: float) -> Kept:
    """Return the units that stay within a limit, by the settings' way of choosing."""
    settings, cost = job.settings, job.meter.cost
    if settings.uniform:
        sizes = uniform_sizes(job.uncut.shape, settings.dims, cost, limit, settings.multiple_of)
        return choose_by_sizes(shape, scores, sizes)
    return choose_by_limit(shape, scores, cost, limit, dims=settings.dims, multiple_of=settings.multiple_of)


def on_the_way(job: Job, share: float) -> Sizes:
    """Return the sizes that lie a share of the way between the uncut network's and the named target's."""
    shape, target = job.uncut.shape, target_sizes(job.settings, job.uncut.shape)
    return {
        place: round(size_at(shape, place) + share * (size - size_at(shape, place))) for place, size in target.items()
    }


def target_sizes(settings: SchubertSettings, shape: EncoderShape) -> Sizes:
    """Return the sizes of the architecture that --from-paper names.

    Raises:
        ShapeError: a network of this shape cannot be cut to them.
    """
    name = str(settings.from_paper)
    return sizes_of(shape, paper_shape(name), f"--from-paper {name}")
