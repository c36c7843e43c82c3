"""What `fit` may not exceed: the costs of any shape in the backend that serves it, and the limits on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cutbert.bench.latency_table import LatencyTable
from cutbert.errors import BudgetError
from cutbert.methods.fit_settings import FitSettings
from cutbert.shape.budget import LATENCY, rounded_up
from cutbert.shape.cost import BYTES_PER_PARAM, cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.work.inputs import Inputs

INT8_BYTES = 1.1  # of a parameter in an int8 file: scales, biases and norms stay float32
LEAST_HIDDEN_SHARE = 0.25  # of the hidden units, that gates may leave
LEAST_NEURONS = 64
CHEAPER = 0.6  # of the uncut model's latency, where the limit itself asks for no cut
RUNGS = (0.6, 0.4, 0.25)  # of the latency allowed, that a limit on the drop alone is looked for at


@dataclass(frozen=True, eq=False)
class Costs:
    """The costs of any shape.

    Args:
        table: of latencies on the backend that serves.
        head: of the task.
        bytes_per_param: of the exported file, roughly.
    """

    table: LatencyTable
    head: HeadSpec
    bytes_per_param: float

    @classmethod
    def of(cls, table: LatencyTable, head: HeadSpec, backend: str) -> Costs:
        return cls(table, head, bytes_per_param(backend))

    def keeps_uncut(self, target: Target, shape: EncoderShape) -> bool:
        """Whether the uncut model keeps to a target's limits as it is."""
        return target.keeps(self.numbers(shape))

    def numbers(self, shape: EncoderShape) -> dict[str, float]:
        """Return the costs of a shape by the names of limits; the latency is predicted."""
        cost = cost_of(shape, self.head)
        return {
            LATENCY: self.table(shape),
            "params": cost.params,
            "macs": cost.macs,
            "bytes": self.bytes_per_param * cost.params,
        }


def bytes_per_param(backend: str) -> float:
    """Return the bytes of one parameter in a backend's file."""
    return {"onnx-int8": INT8_BYTES, "torch-bf16": BYTES_PER_PARAM}.get(backend, BYTES_PER_PARAM)


@dataclass(frozen=True)
class Target:
    """Limits that one model must keep to.

    Args:
        name: for people, such as "2 ms".
        key: for files and stages.
        limits: the most of each cost, by name; what the user asked for.
        aims: what candidates are proposed for: the limits, or less where the limits ask for no cut.
        is_rung: whether it is one of several sizes tried under --max-drop, of which one is chosen in the end.
    """

    name: str
    key: str
    limits: Mapping[str, float]
    aims: Mapping[str, float]
    is_rung: bool = False

    def load(self, numbers: Mapping[str, float]) -> float:
        """Return the largest of some costs as a share of what is aimed at; at most 1 fits."""
        return max(numbers[name] / most for name, most in self.aims.items())

    def keeps(self, numbers: Mapping[str, float]) -> bool:
        """Whether costs are within the limits that the user set."""
        return all(numbers[name] <= most for name, most in self.limits.items())


def targets_of(settings: FitSettings, costs: Costs, shape: EncoderShape) -> list[Target]:
    """Return what models are made for, the loosest limit first.

    Raises:
        BudgetError: limits that not even the smallest network keeps; names the range.
    """
    uncut = costs.numbers(shape)
    fixed = counted_limits(settings)
    wanted = [{**fixed, LATENCY: ms} for ms in sorted(settings.max_latency_ms, reverse=True)] or [fixed]
    for limits in wanted:
        check_reachable(limits, costs, shape, settings)
    if settings.max_drop is not None:
        found = []
        for i, limits in enumerate(wanted):
            most = min(uncut[LATENCY], limits.get(LATENCY, uncut[LATENCY]))
            for j, share in enumerate(RUNGS if LATENCY not in limits else (1.0, *RUNGS[1:])):
                aims = {**limits, LATENCY: share * most}
                name = f"{share * most:.2f} ms"
                if is_reachable(aims, costs, shape, settings):
                    found.append(Target(name, f"limit-{i + 1}-{j + 1}", limits, aims, is_rung=True))
        return found
    targets = []
    for i, limits in enumerate(wanted):
        name = f"{limits[LATENCY]:g} ms" if LATENCY in limits else "the limit"
        needs_no_cut = all(uncut[cost] <= most for cost, most in limits.items())
        aims = {**limits, LATENCY: CHEAPER * uncut[LATENCY]} if needs_no_cut else limits
        targets.append(Target(name, f"limit-{i + 1}", limits, aims))
    return targets


def counted_limits(settings: FitSettings) -> dict[str, float]:
    """Return the limits that need no measuring, by the names of costs."""
    given = {"params": settings.max_params, "macs": settings.max_macs, "bytes": settings.max_bytes}
    return {name: float(most) for name, most in given.items() if most is not None}


def check_counted(settings: FitSettings, inputs: Inputs) -> None:
    """Raise a BudgetError unless some network keeps the limits that need no measuring."""
    shape = smallest(inputs.model.shape, settings)
    cost = cost_of(shape, inputs.head)
    least = {"params": cost.params, "macs": cost.macs, "bytes": bytes_per_param(settings.backend) * cost.params}
    raise_unreachable(counted_limits(settings), least, settings)


def check_reachable(limits: Mapping[str, float], costs: Costs, shape: EncoderShape, settings: FitSettings) -> None:
    """Raise a BudgetError unless some network keeps the limits."""
    raise_unreachable(limits, costs.numbers(smallest(shape, settings)), settings, costs.numbers(shape))


def is_reachable(limits: Mapping[str, float], costs: Costs, shape: EncoderShape, settings: FitSettings) -> bool:
    least = costs.numbers(smallest(shape, settings))
    return all(least[name] <= most for name, most in limits.items())


def raise_unreachable(
    limits: Mapping[str, float],
    least: Mapping[str, float],
    settings: FitSettings,
    uncut: Mapping[str, float] | None = None,
) -> None:
    """Raise a BudgetError with a message for each limit below the least; a student, not known yet, may be less."""
    if settings.student:
        return
    messages = []
    for name, most in limits.items():
        if least[name] > most:
            lowest = f"{rounded_up(least[name]):.3f} ms" if name == LATENCY else f"{least[name]:,.0f}"
            beside = ""
            if uncut is not None and name == LATENCY:
                beside = f"; the uncut model takes {uncut[name]:.3f} ms on {settings.backend}"
            messages.append(
                f"--max-{name.replace('_', '-')} must be at least {lowest}, what the smallest network that fit makes "
                f"of this model takes{beside}, got {most:.15g}"
            )
    if messages:
        raise BudgetError(*messages)


def smallest(shape: EncoderShape, settings: FitSettings) -> EncoderShape:
    """Return the smallest network that is proposed: one thin layer; with gates of fewer hidden units, too."""
    layer = shape.layers[0]
    if set(settings.kinds) == {"layers"}:
        return replace(shape, layers=(layer,))
    thin = LayerShape(
        1, layer.key_dim or 1, layer.value_dim or 1, min(LEAST_NEURONS, layer.intermediate_size or LEAST_NEURONS)
    )
    hidden = max(1, round(LEAST_HIDDEN_SHARE * shape.hidden_size)) if "gates" in settings.kinds else shape.hidden_size
    return replace(shape, hidden_size=hidden, layers=(thin,))
