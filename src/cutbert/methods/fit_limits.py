"""What `fit` may not exceed: the costs of any shape in the backend that serves it, and the limits on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from cutbert.bench.latency_table import LatencyTable
from cutbert.errors import BudgetError
from cutbert.folders.trim import COMMON_PIECES
from cutbert.methods.fit_settings import FitSettings
from cutbert.shape.budget import LATENCY, rounded_up
from cutbert.shape.cost import BYTES_PER_PARAM, cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.shape.units import least_sizes, resized
from cutbert.work.inputs import Inputs

INT8_BYTES = 1.0  # of a parameter in an int8 file, at the very least: scales, biases and norms stay float32
MULTIPLE = 64  # of neurons: what kernels like
GATED_DIMS, GATED_MULTIPLE = ("h", "f", "a"), 32  # what gates may cut, and in groups of how many
MARGIN = 0.97  # of a limit on latency, for candidates: a single measurement is noisy
# Of limits on what is predicted. Files of MiniLM's cuts take up to 1.5 % more bytes a parameter than its own.
MARGINS = {LATENCY: MARGIN, "bytes": 0.985}
CHEAPER = 0.6  # of the uncut model's latency, where the limit itself asks for no cut
ROUNDING = Decimal("1e-9")  # of a latency, that float64 may leave
RUNGS = (0.6, 0.4, 0.25)  # of the latency allowed, that a limit on the drop alone is looked for at


@dataclass(frozen=True, eq=False)
class Costs:
    """The costs of any shape.

    Args:
        table: of latencies on the backend that serves.
        head: of the task.
        bytes_per_param: of the uncut model's file, which those of cuts are near.
        served_tokens: by the size of a vocabulary how many of its tokens are served, where some are left out.
    """

    table: LatencyTable
    head: HeadSpec
    bytes_per_param: float
    served_tokens: Mapping[int, int] = field(default_factory=dict)

    def numbers(self, shape: EncoderShape) -> dict[str, float]:
        """Return the costs of a shape by the names of limits; latency and bytes are predicted."""
        return self.of_uncut(replace(shape, vocab_size=self.served_tokens.get(shape.vocab_size, shape.vocab_size)))

    def of_uncut(self, shape: EncoderShape) -> dict[str, float]:
        """Return the costs of the uncut model, which is served with all its tokens."""
        return {LATENCY: self.table(shape), **counted(shape, self.head, self.bytes_per_param)}


def counted(shape: EncoderShape, head: HeadSpec, bytes_per_param: float) -> dict[str, float]:
    """Return the costs of a shape that need no measuring, by the names of limits."""
    cost = cost_of(shape, head)
    return {"params": cost.params, "macs": cost.macs, "bytes": bytes_per_param * cost.params}


def least_bytes_per_param(backend: str) -> float:
    """Return the least bytes of a parameter in a backend's file; in bf16 torch loads the float32 file."""
    return INT8_BYTES if backend == "onnx-int8" else BYTES_PER_PARAM


@dataclass(frozen=True)
class Target:
    """Limits that one model must keep to.

    Args:
        name: for people, such as "2 ms" or "0.5 of the uncut latency (2 ms)".
        key: for files and stages.
        limits: the most of each cost, by name; what the user asked for.
        aims: what candidates are proposed for: the limits, or less where the limits ask for no cut.
        group: targets of one group give one model: those that differ in size alone, under --max-drop.
        is_rung: whether it is such a size.
        within: of such a size, the name of the limit on latency that it keeps too; empty for none.
    """

    name: str
    key: str
    limits: Mapping[str, float]
    aims: Mapping[str, float]
    group: int
    is_rung: bool = False
    within: str = ""

    def load(self, numbers: Mapping[str, float]) -> float:
        """Return the largest of some predicted costs as a share of what is aimed at; at most 1 fits."""
        return load_of(self.aims, numbers)

    def share_of(self, uncut_ms: float) -> float:
        """Return the share of the uncut model's latency that its candidates take at most; 1 where size is limited."""
        return min(1.0, self.aims.get(LATENCY, uncut_ms) / uncut_ms)

    def keeps(self, numbers: Mapping[str, float]) -> bool:
        """Whether measured costs are within the limits that the user set."""
        return all(numbers[name] <= most for name, most in self.limits.items())


def load_of(limits: Mapping[str, float], numbers: Mapping[str, float]) -> float:
    """Return the largest of some costs as a share of its limit, with a margin on what is predicted; 0 for no limit."""
    return max((numbers[name] / (most * MARGINS.get(name, 1.0)) for name, most in limits.items()), default=0.0)


def targets_of(settings: FitSettings, costs: Costs, shapes: Sequence[EncoderShape]) -> list[Target]:
    """Return what models are made for, the loosest limit first.

    Args:
        settings: the limits.
        costs: of shapes.
        shapes: of the uncut model, then of students.

    Raises:
        BudgetError: limits that not even the smallest network keeps; names the range.
    """
    uncut, least = costs.of_uncut(shapes[0]), [costs.numbers(each) for each in smallest(shapes, settings, costs.head)]
    fixed = counted_limits(settings)
    latencies = {ms: f"{ms:g} ms" for ms in settings.max_latency_ms}
    for share in settings.max_latency_share:
        ms = share_of(uncut[LATENCY], share)
        latencies[ms] = f"{share:g} of the uncut latency ({ms:.3g} ms)"
    wanted = [({**fixed, LATENCY: ms}, latencies[ms]) for ms in sorted(latencies, reverse=True)] or [(fixed, "")]
    targets: list[Target] = []
    for group, (limits, words) in enumerate(wanted, start=1):
        check_reachable(limits, least, settings, uncut)
        key = f"limit-{group}"
        most = min(uncut[LATENCY], limits.get(LATENCY, uncut[LATENCY]))
        if settings.max_drop is not None:
            rungs = (1.0, *RUNGS[1:]) if limits.get(LATENCY, math.inf) < uncut[LATENCY] else RUNGS
            within = f" within {words}" if len(wanted) > 1 else ""
            for i, aims in enumerate(({**limits, LATENCY: share * most} for share in rungs), start=1):
                if i == 1 or any(load_of(aims, each) <= 1 for each in least):
                    name = f"{aims[LATENCY]:.3g} ms{within}"
                    targets.append(Target(name, f"{key}-{i}", limits, aims, group, is_rung=True, within=words))
            continue
        needs_no_cut = all(uncut[cost] <= ceiling for cost, ceiling in limits.items())
        aims = {**limits, LATENCY: CHEAPER * uncut[LATENCY]} if needs_no_cut else limits
        targets.append(Target(words or "the limit", key, limits, aims, group))
    return targets


def counted_limits(settings: FitSettings) -> dict[str, float]:
    """Return the limits that need no measuring, by the names of costs."""
    given = {"params": settings.max_params, "macs": settings.max_macs, "bytes": settings.max_bytes}
    return {name: float(most) for name, most in given.items() if most is not None}


def check_counted(settings: FitSettings, inputs: Inputs) -> None:
    """Raise a BudgetError unless some network keeps the limits that need no measuring."""
    shapes = [inputs.model.shape, *(inputs.models.others[f"student {name}"].shape for name in settings.student)]
    if settings.trim_vocab:  # to how many tokens is known once texts are split: here to the fewest
        shapes = [replace(each, vocab_size=min(each.vocab_size, COMMON_PIECES)) for each in shapes]
    size = least_bytes_per_param(settings.backend)
    least = [counted(each, inputs.head, size) for each in smallest(shapes, settings, inputs.head)]
    check_reachable(counted_limits(settings), least, settings, counted(shapes[0], inputs.head, size))


def check_reachable(
    limits: Mapping[str, float],
    least: Sequence[Mapping[str, float]],
    settings: FitSettings,
    uncut: Mapping[str, float],
) -> None:
    """Raise a BudgetError with a message for each limit that no network keeps.

    Args:
        limits: by the names of costs.
        least: costs of the smallest networks that are proposed.
        settings: for the message.
        uncut: costs of the uncut model, which may keep the limits itself.
    """
    if any(load_of(limits, each) <= 1 for each in least) or all(uncut[name] <= most for name, most in limits.items()):
        return
    messages = []
    for name, most in limits.items():
        lowest = min(each[name] for each in least) / MARGINS.get(name, 1.0)
        if lowest > most:
            if name == LATENCY and settings.max_latency_share:
                messages.append(share_message(lowest / uncut[LATENCY], most / uncut[LATENCY]))
                continue
            text = f"{rounded_up(lowest):.3f} ms" if name == LATENCY else f"{math.ceil(lowest):,}"
            beside = f"{uncut[name]:.3f} ms on {settings.backend}" if name == LATENCY else f"{uncut[name]:,.0f}"
            messages.append(
                f"--max-{name.replace('_', '-')} must be at least {text}, what the smallest network that fit makes of "
                f"this model takes (the uncut model: {beside}), got {most:.15g}"
            )
    if not messages:
        messages = ["no network keeps all limits together: loosen one of them"]
    raise BudgetError(*messages)


def share_of(uncut_ms: float, share: float) -> float:
    """Return a share of the uncut model's latency, of six digits, as `--max-latency-ms` is shown.

    It is never above the share, but for all of it: that the uncut model itself keeps.

    >>> share_of(3.0, 1 / 3), share_of(1.23456789, 0.5), share_of(1.23456789, 1.0)
    (1.0, 0.617283, 1.23457)
    """
    exact, rounding = Decimal(repr(float(share * uncut_ms))), ROUND_FLOOR
    if share == 1:  # measured again it may differ by a rounding
        exact, rounding = exact * (1 + ROUNDING), ROUND_CEILING
    return float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - 5), rounding))


def share_message(lowest: float, share: float) -> str:
    """Return the mistake of a share of the latency that no network keeps."""
    return (
        f"--max-latency-share must be at least {rounded_up(lowest):.3f}, what the smallest network that fit makes of "
        f"this model takes, got {share:.3f}"
    )


def gated_dims(head: HeadSpec) -> tuple[str, ...]:
    """Return what gates may cut: of an embedding model not the hidden size, which is that of its vectors."""
    return tuple(dim for dim in GATED_DIMS if dim != "h" or head.kind != "embedding")


def smallest(shapes: Sequence[EncoderShape], settings: FitSettings, head: HeadSpec) -> list[EncoderShape]:
    """Return the smallest network of each kind that is proposed.

    Args:
        shapes: of the uncut model, then of students.
        settings: which kinds.
        head: of the task.
    """
    shape, least = shapes[0], []
    place = min(range(shape.num_layers), key=lambda i: (shape.layers[i].num_heads, shape.layers[i].intermediate_size))
    layer = shape.layers[place]
    if "layers" in settings.kinds:
        least.append(shape.with_layers([layer], [place]))
    if "sizes" in settings.kinds:
        neurons = min(MULTIPLE, layer.intermediate_size)
        thin = replace(layer, num_heads=min(1, layer.num_heads), intermediate_size=neurons)
        least.append(shape.with_layers([thin], [place]))
    if "undivided" in settings.kinds:
        alone = replace(layer, intermediate_size=0)
        least.append(shape.with_layers([alone], [place]) if layer.has_attention else shape)
    if "gates" in settings.kinds:
        least.append(resized(shape, least_sizes(shape, gated_dims(head), GATED_MULTIPLE)))
    if "student" in settings.kinds:
        least += [each.with_layers(each.layers[:1], [0]) for each in shapes[1:]]
    return least
