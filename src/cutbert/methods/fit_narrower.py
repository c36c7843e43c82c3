"""A candidate of `fit` that takes too long as it was timed, cut a little narrower from the weights it was trained to.

Without this a network that misses its limit by a percent would give way to one that was trained far less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cutbert.methods.fit_candidates import Entrant
from cutbert.methods.fit_cuts import Proposer
from cutbert.methods.fit_limits import MARGIN, Target
from cutbert.methods.fit_run import Fitting
from cutbert.methods.fit_timing import AIMED, predicted
from cutbert.methods.fit_training import loaded
from cutbert.shape.budget import LATENCY
from cutbert.shape.shape import EncoderShape
from cutbert.shape.subnet import KeptLayer, Subnet
from cutbert.train.checkpoint import save_weights
from cutbert.train.progress import say

SUFFIX = "-narrower"


def narrower(fitting: Fitting, target: Target, entrant: Entrant, costs: Mapping[str, float]) -> Entrant | None:
    """Return a candidate with some of its heads and neurons, so that it keeps a limit; its weights are kept.

    None of a student, whose units are in no order, of one that gates chose, which keeps units of its own, where other
    sizes are not asked for, and where nothing narrower keeps the limit.

    Args:
        fitting: of the run.
        target: the limit.
        entrant: as it was trained last.
        costs: of it, as measured; those that were not measured are predicted.
    """
    candidate, part = entrant.candidate, fitting.part_of(entrant.candidate)
    if part.is_student or candidate.kept or "sizes" not in fitting.settings.kinds:
        return None
    thought = predicted(fitting, candidate)
    factors = {name: cost / thought[name] for name, cost in costs.items() if name in target.aims}
    if LATENCY in factors:
        factors[LATENCY] *= MARGIN / AIMED

    def load(shape: EncoderShape) -> float:
        numbers = fitting.costs.numbers(shape)
        return target.load({name: number * factors.get(name, 1.0) for name, number in numbers.items()})

    subnet = Proposer(part.source, load, part.damage_of, ("sizes",)).narrowed(candidate.subnet)
    if subnet is None or subnet == candidate.subnet:
        return None
    inside = Subnet(tuple(KeptLayer(i, kept.shape) for i, kept in enumerate(subnet.layers)), subnet.hidden_size)
    network = part.narrowed(loaded(fitting, entrant).eval(), inside)
    name = narrower_name(candidate.name)
    kind = "sizes" if candidate.kind == "layers" else candidate.kind
    smaller = replace(candidate, name=name, kind=kind, subnet=subnet)
    weights = f"{target.key}-{name}"
    save_weights(fitting.folder / f"{weights}.safetensors", network)
    ms = costs.get(LATENCY, entrant.latency_ms) * predicted(fitting, smaller)[LATENCY] / thought[LATENCY]
    say(f"{target.name}: {candidate.name} is cut a little narrower to keep the limit")
    return replace(entrant, candidate=smaller, latency_ms=ms, kl=part.kl(network), weights=weights)


def narrower_name(name: str) -> str:
    """Return the name of a candidate that is cut narrower.

    >>> narrower_name("thin-4"), narrower_name("thin-4-narrower"), narrower_name("thin-4-narrower-2")
    ('thin-4-narrower', 'thin-4-narrower-2', 'thin-4-narrower-3')
    """
    base, found, number = name.partition(SUFFIX)
    return f"{base}{SUFFIX}-{int(number[1:] or 1) + 1}" if found else f"{base}{SUFFIX}"
