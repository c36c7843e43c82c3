"""Training gates alone: a network's weights stand still, every step runs them times the gates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cutbert.model.prefix import accumulate_in_place
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import EncoderShape
from cutbert.surgery.gates import Gates, Values, gated_weights
from cutbert.train.engine import Engine
from cutbert.train.optimizer import learning_rate_at
from cutbert.train.price import Price, give_way
from cutbert.train.settings import StagePlan
from cutbert.train.working import frozen_copy, set_dropout


class GatedModel(nn.Module):
    """A network and the gates on it; its parameters are the gates alone.

    Args:
        base: the float32 network; never changed.
        prices: of the gates that are trained, each of other places; gates at places without one stay at 1.
    """

    def __init__(self, base: TaskModel, prices: Sequence[Price]) -> None:
        super().__init__()
        self.gates = Gates(base.shape).to(next(base.parameters()).device)
        self.prices = tuple(prices)
        priced = {place for price in prices for place in price.units}
        for place, gate in self.gates.values().items():
            gate.requires_grad_(place in priced)
        self._base = (base,)  # in a tuple, so that torch does not take its weights for ours

    @property
    def base(self) -> TaskModel:
        return self._base[0]

    @property
    def shape(self) -> EncoderShape:
        return self.base.shape

    @property
    def style(self) -> EncoderStyle:
        return self.base.style

    def values(self) -> Values:
        return self.gates.values()

    def trained(self) -> list[nn.Parameter]:
        """Return the gates that are trained."""
        return [gate for gate in self.parameters() if gate.requires_grad]


class GateWork:
    """The gated network as a training step sees it: weights times gates in the training number type.

    Gates act on matrices, so their gradients follow from the matrices' own, once a step: no product runs twice,
    and a step costs what a step on the weights costs.

    Args:
        gated: the network with its gates.
        dtype: number type of the layers.
        dropout: probability of every dropout.
    """

    def __init__(self, gated: GatedModel, dtype: torch.dtype, dropout: float) -> None:
        self.gated = gated
        self.model = frozen_copy(gated.base, dtype)
        self.products = self._products()
        self.casts = {name: self.model.get_parameter(name).requires_grad_() for name in self.products}
        set_dropout(self.model, dropout)
        accumulate_in_place(self.model.encoder.layers)
        if self.model.head is not None:
            accumulate_in_place(self.model.head)
        for name, weight in self.model.named_parameters():
            if name not in self.casts:
                weight.grad = None  # no product is run for what nobody asks for
        self.model.train()
        self._cast_table = self.model.encoder.embeddings.token.weight.to(dtype)

    def token_table(self) -> Tensor:
        """Return the token table in the layers' number type, for a tied output; no gate acts on it."""
        return self._cast_table

    def refresh(self) -> None:
        """Multiply weights and gates anew, cast them and clear gradients."""
        for gate in self.gated.trained():
            gate.grad = torch.zeros_like(gate)
        self.products = self._products()
        with torch.no_grad():
            torch._foreach_copy_(list(self.casts.values()), list(self.products.values()))
            torch._foreach_zero_([cast.grad for cast in self.casts.values() if cast.grad is not None])

    def collect(self) -> None:
        """Hand the matrices' gradients to the gates."""
        gradients = [torch.zeros_like(cast) if cast.grad is None else cast.grad for cast in self.casts.values()]
        torch.autograd.backward(list(self.products.values()), [gradient.float() for gradient in gradients])

    def rest(self) -> None:
        """Nothing to undo: the network itself was never in training."""

    def _products(self) -> dict[str, Tensor]:
        """Return the weights that trained gates act on, times all their gates; the others are as in the network."""
        found = gated_weights(self.gated.base, self.gated.values())
        return {name: product for name, product in found.items() if product.requires_grad}


def priced_gates(price: Price, values: Values) -> tuple[Price, list[Tensor], Tensor]:
    """Return a price, the gates it is of, and the price of each of their units, [G]."""
    gates = [values[place] for place in price.units]
    units = [gate.new_full(gate.shape, unit) for gate, unit in zip(gates, price.units.values(), strict=True)]
    return price, gates, torch.cat(units).double()


class GateOptimizer:
    """Adam on the gates by the loss alone; then the price pulls them down, as far as it must by now.

    No gate goes below 0: Adam's momentum would carry it far past, where it acts again with the sign turned (our
    choice). Of a unit that its gate multiplies twice, on the way in and out, a gate at 0 has no gradient: closing is
    final. Nothing is clipped or decayed. That the price is kept out of Adam's moments is ours too, as decay is in
    AdamW: beside a price that rules, they would not see the loss.

    Args:
        gated: the network with its gates and their prices.
        plan: of the stage, of so many steps.
        engine: sums gradients over processes.
        max_grad_norm: without effect here.
    """

    updates_rows = False

    def __init__(self, gated: GatedModel, plan: StagePlan, engine: Engine, max_grad_norm: float) -> None:
        assert plan.exact_steps is not None
        self.plan, self.engine, self.num_steps = plan, engine, plan.exact_steps
        self.weights = gated.trained()
        self.priced = [priced_gates(price, gated.values()) for price in gated.prices]
        self.adam = torch.optim.Adam(self.weights, lr=plan.learning_rate)

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        return float(self.adam.param_groups[0]["lr"])

    def zero_embedding_gradients(self) -> None:
        """Embeddings are not trained here."""

    def step(self, progress: float, used_ids: Tensor) -> float:
        """Sum gradients over processes and update; return their norm. Arguments as of `Optimizer.step`."""
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        self.engine.reduce(gradients)
        self.adam.param_groups[0]["lr"] = learning_rate_at(progress, self.plan)
        self.adam.step()
        self._keep_to_prices()
        return float(torch.nn.utils.get_total_norm(gradients, foreach=True))

    @torch.no_grad()
    def _keep_to_prices(self) -> None:
        for price, gates, units in self.priced:
            done = float(self.adam.state[gates[0]]["step"]) / self.num_steps
            kept = give_way(
                torch.cat(gates).double(),
                units,
                torch.cat([self.adam.state[gate]["exp_avg_sq"] for gate in gates]).double().sqrt(),
                price.share_left(done),
            )
            for gate, part in zip(gates, kept.split([len(gate) for gate in gates]), strict=True):
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
