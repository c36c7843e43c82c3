"""schuBERT's gates (the paper's prune parameters alpha) under a price: how they are trained while weights stay fixed.

Two prices. The paper's is an L1 norm of constant strength gamma, its equation 2:

    argmin over alpha of  loss + gamma * sum over d in {h, a, v, k, f} of beta_d * ||alpha_d||_1

with one alpha per unit and beta_d what a unit of the dimension d costs, in costs of a head (`shape.units.unit_prices`).
Ours is logarithmic, and its strength follows a schedule. Which weights an alpha multiplies is in `surgery.gates`.

Axes: G gates under one price.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cutbert.model.prefix import accumulate_in_place, forget_gradients, settle_gradients
from cutbert.model.task_model import TaskModel
from cutbert.shape.units import Place
from cutbert.surgery.gates import Gates, Values, gated_weights
from cutbert.train.engine import Engine
from cutbert.train.optimizer import Casts, learning_rate_at
from cutbert.train.settings import StagePlan
from cutbert.train.working_copy import frozen_copy, set_dropout, upper_modules

CLOSING_SHARE = 0.7  # of a stage's steps; in the others the price that is left stays
BEND = 0.1  # the penalty is about linear in a gate below this, nearly flat above it
LEAST_NOISE = 1e-6  # floor of a gate's root mean square gradient, as a share of the largest
BISECTIONS = 100  # at most
EXACT = 1e-9  # relative tolerance of the bisection


@dataclass(frozen=True, eq=False)
class Price:
    """A sparsity penalty on gates: the price of each unit, and how strong it is.

    Args:
        unit_prices: price of one unit at each place, at least 0: the paper's beta.
        aim: price of all gates at the end, as a share of their price when all are 1; None under a constant gamma.
        gamma: strength of the paper's L1 norm; None under a schedule.
    """

    unit_prices: Mapping[Place, float]
    aim: float | None = None
    gamma: float | None = None

    def share_left(self, done: float) -> float:
        """Return the share of the whole price that may be left when a share of the steps is done."""
        assert self.aim is not None
        return 1.0 - (1.0 - self.aim) * min(1.0, done / CLOSING_SHARE)


# The paper's price


def l1_gradient(gates: Tensor, prices: Tensor, gamma: float) -> Tensor:
    """Return the gradient of gamma * sum_g beta_g * |alpha_g|.

    Args:
        gates: alpha, [G].
        prices: beta, [G].
        gamma: strength, constant over the steps.

    Source:
        Khetan and Karnin 2020 (2005.06628), equation 2. At alpha = 0 the L1 norm has no slope, and 0 is taken.
    """
    return gamma * prices * gates.sign()


# Our price


def priced_share(gates: Tensor, prices: Tensor) -> Tensor:
    """Return what gates cost, as a share of what they cost when all are 1.

    Args:
        gates: at least 0, [G].
        prices: of one unit each, [G].

    Source:
        Khetan and Karnin 2020 (2005.06628), equation 2, has the L1 norm of the gates. Ours is the logarithmic one
        of Candes, Wakin and Boyd 2008 (0711.1612): under L1 all gates shrink together and the cut then takes
        half-open ones; under the logarithm some close, and the others stay near 1.
    """
    costs = torch.log1p(gates / BEND) / math.log1p(1.0 / BEND)
    return (prices * costs).sum() / prices.sum()


def pulled_down(gates: Tensor, prices: Tensor, noise: Tensor, allowed: float) -> Tensor:
    """Return gates moved down the gradient of their price, by the smallest step that meets what is allowed.

    Args:
        gates: any numbers, [G]; what is below 0 becomes 0.
        prices: of one unit each, [G]; gates without one (0) stay as they are.
        noise: root mean square of each gate's gradient, [G], on any scale; Adam divides its steps by it, and so is
            the pull divided.
        allowed: share of the whole price, at least 0.

    Source:
        Ours. The paper adds the price times a constant gamma to the loss, and its gamma is unknown. The strength of
        the pull is the gamma of this step that keeps to the schedule.
    """
    gates, is_priced = gates.clamp(min=0.0), prices > 0
    if not bool(is_priced.any()) or float(priced_share(gates, prices)) <= allowed:
        return gates
    largest = noise.max()
    spread = (noise / largest).clamp(min=LEAST_NOISE) if largest > 0 else torch.ones_like(noise)
    pull = prices / ((gates + BEND) * spread)
    low, high = 0.0, float((gates / pull)[is_priced].max())
    for _ in range(BISECTIONS):
        if high - low <= EXACT * high:
            break
        middle = (low + high) / 2
        is_enough = float(priced_share((gates - middle * pull).clamp(min=0.0), prices)) <= allowed
        low, high = (low, middle) if is_enough else (middle, high)
    return (gates - high * pull).clamp(min=0.0)


# Training gates: algorithm 1, steps 1 and 2


class GatedModel(nn.Module):
    """A network and the gates on it, all 1 at first; its parameters are the gates alone.

    Args:
        base: the float32 network; never changed.
        prices: of the gates that are trained, each of other places; gates at places without one stay at 1.
        gates_norms: as in `surgery.gates.gated_weights`.
    """

    def __init__(self, base: TaskModel, prices: Sequence[Price], *, gates_norms: bool = True) -> None:
        super().__init__()
        self.gates = Gates(base.shape).to(next(base.parameters()).device)
        self.prices, self.gates_norms = tuple(prices), gates_norms
        priced = {place for price in prices for place in price.unit_prices}
        for place, gate in self.gates.values().items():
            gate.requires_grad_(place in priced)
        self._base = (base,)  # in a tuple, so that torch does not take its weights for ours

    @property
    def base(self) -> TaskModel:
        return self._base[0]

    def values(self) -> Values:
        return self.gates.values()

    def trained(self) -> list[nn.Parameter]:
        """Return the gates that are trained."""
        return [gate for gate in self.parameters() if gate.requires_grad]

    def products(self) -> dict[str, Tensor]:
        """Return the weights that trained gates act on, times all their gates; the others are as in the network."""
        weights = gated_weights(self.base, self.values(), gates_norms=self.gates_norms)
        return {name: product for name, product in weights.items() if product.requires_grad}


class GateView:
    """The gated network as a training step sees it: weights times gates in the training dtype.

    Gradients of the weights are added up and back-propagated to the gates once a step, so that a step on gates costs
    what a step on the weights costs.

    Args:
        gated: the network with its gates.
        dtype: of the layers.
        dropout: probability of every dropout.
    """

    def __init__(self, gated: GatedModel, dtype: torch.dtype, dropout: float) -> None:
        self.gated = gated
        self.model = frozen_copy(gated.base, dtype)
        self.products = gated.products()
        self.casts = {name: self.model.get_parameter(name).requires_grad_() for name in self.products}
        set_dropout(self.model, dropout)
        for module in upper_modules(self.model):
            accumulate_in_place(module)
        for name, weight in self.model.named_parameters():
            if name not in self.casts:
                weight.grad = None  # no gradient is computed for weights without trained gates
        self.model.train()
        self._cast_table = self.model.encoder.embeddings.token.weight.to(dtype)

    def token_table(self) -> Tensor:
        """Return the token table in the layers' dtype, for a tied output; no gate acts on it."""
        return self._cast_table

    def refresh(self) -> None:
        """Multiply weights and gates again, cast them and clear gradients."""
        for gate in self.gated.trained():
            gate.grad = torch.zeros_like(gate)
        self.products = self.gated.products()
        with torch.no_grad():
            torch._foreach_copy_(list(self.casts.values()), list(self.products.values()))
        forget_gradients(list(self.casts.values()))

    def collect(self) -> Casts:
        """Hand the matrices' gradients to the gates."""
        settle_gradients(list(self.casts.values()))
        gradients = [torch.zeros_like(cast) if cast.grad is None else cast.grad for cast in self.casts.values()]
        torch.autograd.backward(list(self.products.values()), [gradient.float() for gradient in gradients])
        return ()

    def close(self) -> None:
        """Nothing to undo: the network itself was never in training."""


@dataclass(frozen=True, eq=False)
class PricedGates:
    """A price, the gates under it, and the price of each of their units, [G]."""

    price: Price
    gates: list[Tensor]
    prices_G: Tensor

    @classmethod
    def of(cls, price: Price, values: Values) -> PricedGates:
        gates = [values[place] for place in price.unit_prices]
        prices = [gate.new_full(gate.shape, each) for gate, each in zip(gates, price.unit_prices.values(), strict=True)]
        return cls(price, gates, torch.cat(prices).double())

    def split(self, values: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return each gate with its part of values for all of them, [G]."""
        return list(zip(self.gates, values.split([len(gate) for gate in self.gates]), strict=True))


class GateOptimizer:
    """Adam on the gates.

    Under the paper's price the L1 norm is part of the loss that Adam sees. Under ours Adam sees the loss alone; after
    its step the price pulls the gates down, as far as the schedule asks (decoupled, as decay in AdamW: otherwise the
    price would dominate Adam's moments). There no gate goes below 0: Adam's momentum would carry it
    far past, where it acts again with the sign turned. Where a gate multiplies both matrices of a unit, its
    gradient at 0 is 0, so it stays closed. Nothing is clipped or decayed.

    Args:
        gated: the network with its gates and their prices.
        plan: of the stage, whose steps are given.
        engine: sums gradients over processes.
        max_grad_norm: without effect here.
    """

    updates_rows = False

    def __init__(self, gated: GatedModel, plan: StagePlan, engine: Engine, max_grad_norm: float) -> None:
        assert plan.exact_steps is not None
        self.plan, self.engine, self.num_steps = plan, engine, plan.exact_steps
        self.weights = gated.trained()
        self.priced = [PricedGates.of(price, gated.values()) for price in gated.prices]
        self.adam = torch.optim.Adam(self.weights, lr=plan.learning_rate)

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        return float(self.adam.param_groups[0]["lr"])

    def zero_embedding_gradients(self) -> None:
        """Embeddings are not trained here."""

    def step(self, progress: float, used_ids: Tensor, casts: Casts = ()) -> float:
        """Sum gradients over processes and update; return their norm. Arguments as in `Optimizer.step`."""
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        self.engine.reduce(gradients)
        self.adam.param_groups[0]["lr"] = learning_rate_at(progress, self.plan)
        for each in self.priced:
            if each.price.gamma is not None:
                self._add_l1(each, each.price.gamma)
        self.adam.step()
        for each in self.priced:
            if each.price.aim is not None:
                self._keep_to_schedule(each)
        return float(torch.nn.utils.get_total_norm(gradients, foreach=True))

    @torch.no_grad()
    def _add_l1(self, priced: PricedGates, gamma: float) -> None:
        gates = torch.cat(priced.gates)
        for gate, part in priced.split(l1_gradient(gates, priced.prices_G.to(gates.dtype), gamma)):
            assert gate.grad is not None
            gate.grad.add_(part)

    @torch.no_grad()
    def _keep_to_schedule(self, priced: PricedGates) -> None:
        done = float(self.adam.state[priced.gates[0]]["step"]) / self.num_steps
        gates = pulled_down(
            torch.cat(priced.gates).double(),
            priced.prices_G,
            torch.cat([self.adam.state[gate]["exp_avg_sq"] for gate in priced.gates]).double().sqrt(),
            priced.price.share_left(done),
        )
        for gate, part in priced.split(gates):
            gate.copy_(part)

    def state(self) -> dict[str, Tensor]:
        """Return the moments and step counts as named tensors."""
        kept = self.adam.state_dict()["state"]
        return {f"{i}.{name}": torch.as_tensor(value) for i, values in kept.items() for name, value in values.items()}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `state` returned."""
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            i, name = key.split(".")
            state.setdefault(int(i), {})[name] = value
        self.adam.load_state_dict({"state": state, "param_groups": self.adam.state_dict()["param_groups"]})
