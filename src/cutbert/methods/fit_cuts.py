"""The cuts within limits that `fit` may try, proposed from predicted costs and from what each cut breaks.

Every candidate is a cut of the fine-tuned model, or of a student's own. Errors are those that are left after a
least-squares repair (`surgery.unit_choice`), times those of the latency table of the backend that serves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, get_args

from cutbert.methods.fit_candidates import Candidate, Source
from cutbert.methods.fit_limits import MULTIPLE
from cutbert.methods.fit_settings import KindName
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.subnet import KeptLayer, Subnet
from cutbert.surgery.unit_choice import SubLayerErrors
from cutbert.work.student import LayerChoice, chosen_layers

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of a sub-layer's units, from which the knapsack takes one
WITHIN_REACH = 1.15  # of a predicted load: small enough that the measured one may fit
KNAPSACK = "knapsack"
LEAST_LOAD = 1e-6  # that a step is taken to add: by the latency table some add none
THINNER = 3  # depths that are tried beyond the most whole layers that fit, beside twice as many and all


class SubLayerPlace(NamedTuple):
    """A sub-layer of the uncut model: attention ("a") or feed-forward ("f") of a layer."""

    dim: str
    layer: int


class KnapsackStep(NamedTuple):
    """One sub-layer cut to a smaller share of its units, or grown to a larger one.

    Args:
        price: damage for the load that it takes off; of growth what it mends for the load it adds.
        place: of the sub-layer.
        share: of its units that it has then.
        sizes, load: of the network after it.
    """

    price: float
    place: SubLayerPlace
    share: float
    sizes: dict[int, LayerShape]
    load: float


@dataclass(frozen=True, eq=False)
class Proposer:
    """Makes candidates within limits.

    Args:
        source: what is cut.
        load: of a shape: the largest of its costs as a share of that cost's limit; at most 1 fits.
        damage: of a cut: its distance to the teacher.
        kinds: what may be proposed.
    """

    source: Source
    load: Callable[[EncoderShape], float]
    damage: Callable[[Candidate], float]
    kinds: Sequence[KindName]

    def __call__(self) -> list[Candidate]:
        """Return candidates of all kinds, each shape once."""
        candidates: list[Candidate] = []
        if "layers" in self.kinds:
            candidates += self.whole_layers
        if "sizes" in self.kinds:
            candidates += [*self.thinner_layers(), *self.by_knapsack("sizes")]
        if "undivided" in self.kinds:
            candidates += [*self.fewer_feed_forwards(), *self.by_knapsack("undivided")]
        # Of equal shapes the first stays, and the order too.
        return list({each.subnet: each for each in reversed(candidates)}.values())[::-1]

    def again(self, candidate: Candidate) -> Candidate | None:
        """Return a candidate of kind "sizes" as it is under this load: the same layers, or the knapsack again."""
        if candidate.name == KNAPSACK:
            return next(iter(self.by_knapsack("sizes")), None)
        subnet = self.widest(candidate.layers)
        return None if subnet is None else replace(candidate, subnet=subnet)

    def fits(self, subnet: Subnet) -> bool:
        return bool(subnet.layers) and self.load(subnet.shape_in(self.source.shape)) <= 1

    # Whole layers

    @cached_property
    def most_layers(self) -> int:
        """The most whole layers that fit; 0 for none."""
        depths = range(self.source.shape.num_layers, 0, -1)
        return next((depth for depth in depths if self.load_of_layers(depth) <= 1), 0)

    @cached_property
    def whole_layers(self) -> list[Candidate]:
        """The most whole layers that fit: the first ones, the last, every other, and those that hurt least.

        A layer more where its predicted load is WITHIN_REACH, and a layer less: what fits is measured later. Of a layer
        more few choices, which would be timed before those that fit.
        """
        depth, num = self.most_layers, self.source.shape.num_layers
        choices: list[tuple[int, ...]] = []
        for count in (depth, depth + 1, depth - 1):
            is_within = count <= depth or self.load_of_layers(count) <= WITHIN_REACH
            if 0 < count < num and is_within:
                ways = get_args(LayerChoice) if count <= depth else ("first",)
                choices += [chosen_layers(count, num, how) for how in ways]
                choices.append(self.least_missed(count))
        return [self.named_layers(each) for each in dict.fromkeys(choices)]

    def load_of_layers(self, count: int) -> float:
        """Return the load of the first layers."""
        return self.load(self.of_layers(range(min(count, self.source.shape.num_layers))).shape_in(self.source.shape))

    def named_layers(self, layers: Sequence[int]) -> Candidate:
        return Candidate(f"layers-{'-'.join(map(str, layers))}", "layers", self.of_layers(layers))

    def of_layers(self, layers: Iterable[int]) -> Subnet:
        """Return the subnet of some whole layers."""
        shape = self.source.shape
        return Subnet(tuple(KeptLayer(i, shape.layers[i]) for i in layers), shape.hidden_size)

    def least_missed(self, depth: int) -> tuple[int, ...]:
        """Return the layers that stay when one after the other goes, each time the one that is missed least.

        The damages of layers that go together are taken for the sum of those of each alone: one look at each layer.
        """
        return tuple(sorted(sorted(self.missed, key=lambda i: -self.missed[i])[:depth]))

    @cached_property
    def missed(self) -> dict[int, float]:
        """What the absence of each layer alone does."""
        layers = range(self.source.shape.num_layers)
        return {i: self.damage(self.named_layers([j for j in layers if j != i])) for i in layers}

    # Thinner layers

    def thinner_layers(self) -> list[Candidate]:
        """Return more layers than fit whole, of all of them the same share of heads and neurons."""
        num, most_whole = self.source.shape.num_layers, self.most_layers
        depths = {*range(most_whole + 1, most_whole + THINNER + 1), 2 * most_whole, num}
        candidates = []
        for depth in sorted(each for each in depths if most_whole < each <= num):
            layers = tuple(range(num)) if depth == num else self.least_missed(depth)
            subnet = self.widest(layers)
            if subnet is not None:
                candidates.append(Candidate(f"thin-{depth}", "sizes", subnet))
        return candidates

    def widest(self, layers: Sequence[int]) -> Subnet | None:
        """Return some layers with the largest equal share of heads and neurons that fits, and what it leaves room for.

        None where no share is so small.
        """
        heads = max(layer.num_heads for layer in self.source.shape.layers)
        for count in range(heads - 1, 0, -1):
            sizes = {}
            for i in layers:
                layer, share = self.source.shape.layers[i], count / heads
                sizes[i] = replace(
                    layer,
                    num_heads=max(1, round(share * layer.num_heads)) if layer.has_attention else 0,
                    intermediate_size=in_multiples(share * layer.intermediate_size, layer.intermediate_size),
                )
            if self.fits(self.of_sizes(sizes)):
                return self.of_sizes(self.filled(sizes))
        return None

    # Sub-layers, whole or in part

    @cached_property
    def damages(self) -> dict[SubLayerPlace, float]:
        """What the absence of each sub-layer alone does."""
        damages = {}
        for i, layer in enumerate(self.source.shape.layers):
            places = [SubLayerPlace("a", i)] * layer.has_attention + [SubLayerPlace("f", i)] * layer.has_feed_forward
            for place in places:
                subnet = self.of_sizes(self.with_unit(self.whole_sizes, place, 0))
                if subnet.layers:
                    damages[place] = self.damage(Candidate("without", "undivided", subnet))
        return damages

    @property
    def whole_sizes(self) -> dict[int, LayerShape]:
        return dict(enumerate(self.source.shape.layers))

    def of_sizes(self, sizes: dict[int, LayerShape]) -> Subnet:
        """Return the subnet of some layers with these sizes; a layer without sub-layers is left out."""
        kept = [KeptLayer(i, each) for i, each in sorted(sizes.items()) if each.has_attention or each.has_feed_forward]
        return Subnet(tuple(kept), self.source.shape.hidden_size)

    def with_unit(self, sizes: dict[int, LayerShape], place: SubLayerPlace, share: float) -> dict[int, LayerShape]:
        """Return sizes with a share of one sub-layer's units left."""
        layer, whole = sizes[place.layer], self.source.shape.layers[place.layer]
        if place.dim == "a":
            kept = replace(layer, num_heads=round(share * whole.num_heads))
        else:
            kept = replace(
                layer, intermediate_size=in_multiples(share * whole.intermediate_size, whole.intermediate_size)
            )
        if place.dim == "a" and kept.num_heads and not layer.num_heads:
            kept = replace(kept, key_dim=whole.key_dim, value_dim=whole.value_dim)
        return {**sizes, place.layer: kept}

    def error_at(self, place: SubLayerPlace, share: float) -> float:
        """Return the damage of a sub-layer with a share of its units: that of its absence times the error left."""
        choice = self.source.choice
        errors: SubLayerErrors | None = (choice.heads if place.dim == "a" else choice.neurons)[place.layer]
        assert errors is not None
        return self.damages[place] * float(errors.errors[round(share * len(errors.order))])

    def filled(self, sizes: dict[int, LayerShape]) -> dict[int, LayerShape]:
        """Return sizes that use what the limit leaves: more heads and neurons, where they mend most for the load."""
        load = self.load(self.of_sizes(sizes).shape_in(self.source.shape))
        while True:
            steps = [step for step in self.one_step(sizes, load, 1) if step.load <= 1]
            if not steps:
                return sizes
            best = max(steps, key=lambda each: each.price)
            sizes, load = best.sizes, best.load

    def narrowed(self, subnet: Subnet) -> Subnet | None:
        """Return a subnet that fits, of the same sub-layers: fewer heads and neurons, those that are missed least.

        None where its sub-layers do not fit however narrow.
        """
        sizes = {kept.index: kept.shape for kept in subnet.layers}
        load = self.load(subnet.shape_in(self.source.shape))
        while load > 1:
            step = min(self.one_step(sizes, load, -1), key=lambda each: each.price, default=None)
            if step is None:
                return None
            sizes, load = step.sizes, step.load
        return self.of_sizes(sizes)

    def one_step(self, sizes: dict[int, LayerShape], load: float, sign: int) -> Iterator[KnapsackStep]:
        """Yield each sub-layer with one more head, or MULTIPLE more neurons, or with as many fewer.

        Args:
            sizes, load: of the network as it is.
            sign: 1 for more, in the sub-layers that are cut in part; -1 for fewer, in those that have more than a step.
        """
        for place in self.damages:
            layer, whole = sizes.get(place.layer), self.source.shape.layers[place.layer]
            if layer is None:
                continue
            name, step = ("num_heads", 1) if place.dim == "a" else ("intermediate_size", MULTIPLE)
            units, all_units = getattr(layer, name), getattr(whole, name)
            if units > step if sign < 0 else 0 < units < all_units:
                other = min(all_units, units + sign * step)
                changed = {**sizes, place.layer: replace(layer, **{name: other})}
                after = self.load(self.of_sizes(changed).shape_in(self.source.shape))
                mended = sign * (self.error_at(place, units / all_units) - self.error_at(place, other / all_units))
                price = mended / max(sign * (after - load), LEAST_LOAD)
                yield KnapsackStep(price, place, other / all_units, changed, after)

    def by_knapsack(self, kind: KindName) -> list[Candidate]:
        """Return the sizes of all sub-layers within the limit with the least damage: shares, or each whole or absent.

        From the whole network on, the step goes first that does least damage for the load it takes off.

        Source:
            ZipLM (2302.04089), section 3: a knapsack over measured times; ours is its greedy solution.
        """
        shares = SHARES if kind == "sizes" else (0.0, 1.0)
        left = {place: 1.0 for place in self.damages}
        sizes = self.whole_sizes
        load = self.load(self.source.shape)
        while load > 1:
            step = min(self.knapsack_steps(left, sizes, load, shares), key=lambda each: each.price, default=None)
            if step is None:
                return []
            left[step.place], sizes, load = step.share, step.sizes, step.load
        subnet = self.of_sizes(self.filled(sizes) if kind == "sizes" else sizes)
        name = KNAPSACK if kind == "sizes" else "sub-layers"
        return [Candidate(name, kind, subnet)] if subnet.layers else []

    def knapsack_steps(
        self,
        left: Mapping[SubLayerPlace, float],
        sizes: dict[int, LayerShape],
        load: float,
        shares: Sequence[float],
    ) -> Iterator[KnapsackStep]:
        """Yield every cut of one sub-layer that takes load off.

        Args:
            left: the share of each sub-layer's units that is there.
            sizes, load: of the network as it is.
            shares: that a sub-layer may be cut to.
        """
        for place, share in left.items():
            for smaller in (each for each in shares if each < share):
                cut = self.with_unit(sizes, place, smaller)
                subnet = self.of_sizes(cut)
                if not subnet.layers:
                    continue
                after = self.load(subnet.shape_in(self.source.shape))
                if after < load:
                    damage = self.error_at(place, smaller) - self.error_at(place, share)
                    yield KnapsackStep(damage / (load - after), place, smaller, cut, after)

    # Fewer feed-forwards

    def fewer_feed_forwards(self) -> list[Candidate]:
        """Return networks of as many attentions as fit, without the feed-forwards that are missed least.

        Source:
            Sridhar and Sarah 2020 (2012.11881): fewer feed-forwards than attentions. Which ones stay is our choice.
        """
        num, candidates = self.source.shape.num_layers, []
        by_damage = sorted((place for place in self.damages if place.dim == "f"), key=lambda each: self.damages[each])
        for depth in range(self.most_layers + 1, num + 1):
            layers = tuple(range(num)) if depth == num else self.least_missed(depth)
            sizes = {i: self.source.shape.layers[i] for i in layers}
            for place in (each for each in by_damage if each.layer in sizes):
                sizes = self.with_unit(sizes, place, 0)
                if self.fits(self.of_sizes(sizes)):
                    candidates.append(Candidate(f"undivided-{depth}", "undivided", self.of_sizes(sizes)))
                    break
        return candidates


def student_candidates(name: str, stem: str, source: Source, load: Callable[[EncoderShape], float]) -> list[Candidate]:
    """Return a student as it is where it fits, else the most of its layers that do: the first, or at even distances.

    A layer more where its predicted load is WITHIN_REACH: what fits is measured later.

    Args:
        name: of the student, as the user gave it.
        stem: what its candidates' names begin with.
        source: the student.
        load: of a shape.
    """
    proposer = Proposer(source, load, lambda candidate: 0.0, ())
    depth, num = proposer.most_layers, source.shape.num_layers
    is_within = depth < num and proposer.load_of_layers(depth + 1) <= WITHIN_REACH
    counts = [count for count in (depth, depth + is_within) if count]
    choices = {chosen_layers(count, num, how) for count in counts for how in ("first", "spread")}
    return [
        Candidate(f"{stem}-{'-'.join(map(str, layers))}", "student", proposer.of_layers(layers), name)
        for layers in sorted(choices)
    ]


def in_multiples(size: float, whole: int) -> int:
    """Return the multiple of MULTIPLE nearest to a size, at least one unless it is 0; all where there are fewer."""
    if size <= 0 or size >= whole:
        return 0 if size <= 0 else whole
    return min(whole, max(MULTIPLE, round(size / MULTIPLE) * MULTIPLE))
