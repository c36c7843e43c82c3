"""What `fit` tries, as values: a candidate, one in the race, and the model that candidates are cut from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from cutbert.checks import is_inside, is_plain_name
from cutbert.data.batches import Batch
from cutbert.errors import RunError
from cutbert.methods.fit_settings import KindName
from cutbert.model.task_model import TaskModel
from cutbert.shape.shape import EncoderShape
from cutbert.shape.subnet import Subnet
from cutbert.shape.units import Place, size_at
from cutbert.surgery.cut import Kept, kept_first
from cutbert.surgery.extract import extract
from cutbert.surgery.norms import recalibrate_norms
from cutbert.surgery.rewire import permuted
from cutbert.surgery.unit_choice import SubLayerErrors, UnitChoice, choose_units

FEWEST = 2  # candidates beside students, that take part in any case
LEAST_REPAIRED = 4  # candidates, where there is no time for rounds, but for repairs


@dataclass(frozen=True)
class Candidate:
    """A network to try, as a part of the model it is cut from once that has its units in order (`Source.of`).

    Args:
        name: short and unique under its limit.
        kind: how it was made.
        subnet: the prefix of each kept layer.
        student: name of the student it is cut from; None for the model itself.
        kept: units that stay, where these are not the first ones of the source.
    """

    name: str
    kind: KindName
    subnet: Subnet
    student: str | None = None
    kept: Kept = field(default_factory=dict)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers it keeps."""
        return tuple(kept.index for kept in self.subnet.layers)

    @property
    def hidden(self) -> list[int] | None:
        """The hidden units that stay, rising; None for all."""
        return self.kept.get(Place("h"))

    def to_json(self) -> dict[str, Any]:
        kept = [[*place, units] for place, units in self.kept.items()]
        data = {"name": self.name, "kind": self.kind, "subnet": self.subnet.to_json()}
        return {**data, "student": self.student, "kept": kept}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Candidate:
        if not is_plain_name(data["name"]):  # a part of the names of files
            raise RunError(f"name of a candidate must be text without /, got {data['name']!r}")
        kept = {Place(dim, layer): units for dim, layer, units in data["kept"]}
        return cls(data["name"], data["kind"], Subnet.from_json(data["subnet"]), data["student"], kept)


@dataclass(frozen=True)
class Entrant:
    """A candidate in the race.

    Args:
        candidate: what it is.
        latency_ms: measured before training, beside the uncut model.
        kl: to the teacher, as it is now.
        steps, seconds: trained so far.
        rounds: survived.
        weights: name of the file of its weights in the run's checkpoint/.
    """

    candidate: Candidate
    latency_ms: float
    kl: float
    steps: int = 0
    seconds: float = 0.0
    rounds: int = 0
    weights: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "candidate": self.candidate.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Entrant:
        if not is_inside(data["weights"]):
            raise RunError(f"weights of a candidate must be inside the run's checkpoint/, got {data['weights']!r}")
        return cls(**{**data, "candidate": Candidate.from_json(data["candidate"])})


def fewest(candidates: Sequence[Candidate]) -> int:
    """Return how many of some candidates are prepared however short the time is: one of each student, and FEWEST
    beside them.
    """
    return len({each.student for each in candidates} - {None}) + FEWEST


@dataclass(frozen=True, eq=False)
class Source:
    """A model that candidates are cut from, with its units in the order in which it can lose them.

    Args:
        model: its heads and neurons in that order.
        choice: the errors its sub-layers are left with.
        batches: rows without labels, for repair.
    """

    model: TaskModel
    choice: UnitChoice
    batches: Sequence[Batch]

    @classmethod
    def of(cls, model: TaskModel, batches: Sequence[Batch]) -> Source:
        """Look at a model on a few hundred rows, and put its heads and neurons in order."""
        choice = choose_units(model, batches)
        orders = {
            Place(dim, i): errors.order
            for dim, by_layer in (("a", choice.heads), ("f", choice.neurons))
            for i, errors in enumerate(by_layer)
            if errors is not None
        }
        return cls(permuted(model, orders), choice, batches)

    @classmethod
    def of_layers(cls, model: TaskModel) -> Source:
        """Return a model of which whole layers are cut alone, so that nothing need be known of its units."""
        none: list[SubLayerErrors | None] = [None] * model.shape.num_layers
        return cls(model, UnitChoice(none, none), ())

    @property
    def shape(self) -> EncoderShape:
        return self.model.shape

    def new(self, candidate: Candidate) -> TaskModel:
        """Return a network of a candidate's shape, for weights that are stored."""
        with torch.device("meta"):
            network = TaskModel(candidate.subnet.shape_in(self.shape), self.model.style, self.model.head_spec)
        return network.to_empty(device=next(self.model.parameters()).device).eval()

    def cut(self, candidate: Candidate) -> TaskModel:
        """Return a candidate's network, as the cut leaves it."""
        if not candidate.kept:
            return extract(self.model, candidate.subnet)
        orders = {place: kept_first(units, size_at(self.shape, place)) for place, units in candidate.kept.items()}
        model = permuted(self.model, orders)
        if candidate.hidden is not None:
            recalibrate_norms(model, range(len(candidate.hidden)), self.batches)
        return extract(model, candidate.subnet)
