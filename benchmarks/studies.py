"""What the records of studies say of the claims: differences from teachers and rivals, task by task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from claims import Fact, Trend
from findings import neurons_of
from results import TASKS, Gap, read_record, several

Network = Mapping[str, Any]


def size_of(plan: str) -> str:
    """Return how many seeds a study has, and what of its plan is not finished."""
    record = read_record(plan)
    seeds, missing = len(record["seeds"]), len(record.get("unfinished", ()))
    rest = f", {missing} of {missing + len(record['runs'])} runs not finished" if missing else ""
    return f"{seeds} seed{'s' * (seeds > 1)}{rest}"


def task_of(network: Network) -> str:
    """Return the task of a network's group: "cola" of {"data": "cola"}."""
    return str(network["group"].get("data") or network["group"]["task"])


def titled(network: Network, more: str = "") -> str:
    """Return what a difference is of: a task alone by its own name, else "CoLA, three layers"."""
    task = task_of(network)
    return f"{TASKS.get(task, task.upper())}, {more}" if more else task if task in TASKS else task.upper()


def last_networks(plan: str, step: str, *own: str, name: str | None = None) -> Iterator[Network]:
    """Yield by task the network of a name, else the last of the run's front: what a method ends with."""
    found: dict[str, Network] = {}
    for each in read_record(plan)["networks"]:
        if each["step"] == step and set(own) <= set(each["own"].values()) and name in (None, each["name"]):
            found[task_of(each)] = each
    yield from found.values()


def turned(gap: Gap) -> Gap:
    """Return the difference the other way round."""
    low, high = (None if each is None else 0.0 - each for each in (gap.high, gap.low))
    return Gap(gap.task, 0.0 - gap.mean, low, high, tuple(0.0 - each for each in gap.by_seed))


def less_teacher(plan: str, step: str, *own: str, name: str | None = None) -> Callable[[], list[Gap]]:
    """Return a function that reads networks less their teachers, by task."""
    return lambda: [
        Gap.read(titled(each), each["minus_teacher"])
        for each in last_networks(plan, step, *own, name=name)
        if "minus_teacher" in each
    ]


def less_rival(plan: str, step: str, *own: str, against: str, side: str) -> list[Gap]:
    """Return networks less their rivals at equal cost, by task."""
    return [
        Gap.read(titled(each), each["minus"][against][side])
        for each in last_networks(plan, step, *own)
        if side in each["minus"].get(against, {})
    ]


def with_mean(plan: str, step: str, *own: str, against: str) -> Callable[[], list[Gap]]:
    """Return a function that reads networks less rivals at no less cost: the mean over tasks first, then each."""

    def read() -> list[Gap]:
        each = less_rival(plan, step, *own, against=against, side="at_least")
        titles = {
            " ".join([network["step"], *network["own"].values(), network["name"]])
            for network in last_networks(plan, step, *own)
        }
        means = [
            mean
            for mean in read_record(plan)["mean_over_groups"]
            if mean["network"] in titles and (mean["against"], mean["side"]) == (against, "at_least")
        ]
        by_seed = [fmean(seeds) for seeds in zip(*(gap.by_seed for gap in each), strict=True)]
        return [*(Gap.read("mean", mean, by_seed) for mean in means), *each]

    return read


def family_beside(plan: str, family: str) -> Callable[[], list[Gap]]:
    """Return a function that reads a family's best on select at no more cost, less each number of layers alone."""

    def read() -> list[Gap]:
        found = []
        for each in read_record(plan)["networks"]:
            if each["step"] == "layers" and "no_more" in each["minus"].get(family, {}):
                (depth,) = each["own"].values()
                found.append(
                    turned(
                        Gap.read(titled(each, f"{depth} layer{'s' * (depth != '1')}"), each["minus"][family]["no_more"])
                    )
                )
        return found

    return read


def gain_of(plan: str, variants: Mapping[str, str]) -> Callable[[], list[Gap]]:
    """Return a function that reads variants less what they change, the mean over a family's networks.

    Args:
        plan: of the study.
        variants: the value of each, and what it was compared with as STEP/VALUE.
    """

    def read() -> list[Gap]:
        found = []
        for mean in read_record(plan)["mean_over_names"]:
            (value,) = mean["own"].values()
            if variants.get(value) == mean["against"]:
                found.append(Gap.read(titled(mean, value if len(variants) > 1 else ""), mean))
        return found

    return read


def loss_of(plan: str, variants: Mapping[str, str]) -> Callable[[], list[Gap]]:
    """Return a function that reads the same the other way round: what is lost where a part is switched off."""
    return lambda: [turned(gap) for gap in gain_of(plan, variants)()]


def which_dimension() -> list[Gap]:
    """Return hidden units alone less each other way to three quarters of the parameters, by the paper's recipe."""
    ways = ("f", "uniform", "all")
    return [turned(gap) for gap in beside_way("paper", [f"0.75-{way}" for way in ways], "cut/0.75-h", "than ")]


def less_heads() -> list[Gap]:
    """Return each other way to nine tenths of the parameters less heads alone, by the paper's recipe."""
    return beside_way("paper", [f"0.9-{way}" for way in ("f", "h", "uniform", "all")], "cut/0.9-a")


def prices() -> list[Gap]:
    """Return cuts of all dimensions by our price less those by the paper's, at both sizes."""
    return beside_way("default", ["0.9-all", "0.75-all"], "cut/paper")


def beside_way(recipe: str, sizes: Sequence[str], rival: str, title: str = "") -> list[Gap]:
    """Return the cuts of a recipe less the one variant that is set beside each, by task."""
    return [
        Gap.read(titled(each, f"{title}{size}"), each["minus"][rival]["beside"])
        for size in sizes
        for each in last_networks("dims", "cut", recipe, size)
        if "beside" in each["minus"].get(rival, {})
    ]


def shapes_of(plan: str, step: str, *words: str) -> dict[str, list[Mapping[str, Any]]]:
    """Return the shapes of a step's runs whose names have all these words, by task, or all under the step's name."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for run in read_record(plan)["runs"]:
        parts = run["name"].split("-")
        if parts[0] == step and all(word in run["name"] for word in words) and "shape" in run:
            task = next((part.partition("=")[2] for part in parts if part.startswith("data=")), step)
            found.setdefault(task, []).append(run["shape"])
    return found


def planned_slants(plan: str, title: str = "") -> Callable[[], list[Trend]]:
    """Return a function that reads how feed-forwards change from layer to layer, over cuts by all and by f,a,k,v."""

    def read() -> list[Trend]:
        seeds = len(read_record(plan)["seeds"])
        found: dict[str, list[Mapping[str, Any]]] = {}
        for dims in ("dims=fakv", "dims=all"):
            for task, shapes in shapes_of(plan, "cut", dims).items():
                found.setdefault(title or TASKS.get(task, task.upper()), []).extend(shapes)
        return [Trend(name, neurons_of(shapes), seeds) for name, shapes in found.items()]

    return read


def planned_heads() -> list[Fact]:
    """Return how many heads the cuts to half of the encoder keep, of all."""
    found = []
    for task, shapes in shapes_of("cuts", "cut", "params_encoder=0.5", "dims=fakv").items():
        heads = [sum(layer["num_heads"] for layer in shape["layers"]) for shape in shapes]
        found.append(Fact(f"{TASKS.get(task, task)}: {several(heads, 0)} of 72", holds=min(heads) >= 70))
    return found


def scratch_gaps() -> list[Gap]:
    """Return new networks with fewer feed-forwards less the one with all, after tuning."""
    titles = {"6": "6 of 12", "3": "3 of 12", "6-equal-params": "6, equal parameters"}
    return [
        Gap.read(titled(each, title), each["minus"]["tuned/12"]["beside"])
        for value, title in titles.items()
        for each in last_networks("undivided_scratch_tuned", "tuned", value)
        if "beside" in each["minus"].get("tuned/12", {})
    ]


def int8_less_float32() -> list[Gap]:
    """Return what int8 costs the networks of fit's runs, cut and uncut."""
    titles = {"uncut": "uncut", "fit": "`fit`", "layers": "plain layers"}
    return [
        Gap.read(f"{TASKS[row['task']]}, {titles[row['network']]}", row["int8 - float32"])
        for row in read_record("fit_int8")["summary"]
    ]


def represented() -> list[Fact]:
    """Return CKA of the attention sites of teachers and three kept feed-forwards, beside both controls."""
    found = []
    for task, compared in read_record("representations")["tasks"].items():
        for name, each in compared.items():
            cka = ", ".join(f"{value:.2f}" for value in each["cka_attention"])
            found.append(Fact(f"{TASKS.get(task, task)}, {name}: {cka}"))
    return found


def represented_probes() -> list[Fact]:
    """Return the largest difference of probes at a layer, beside both controls."""
    return [
        Fact(f"{TASKS.get(task, task)}, {name}: at most {100 * each['largest_probe_difference']:.1f} apart at a layer")
        for task, compared in read_record("representations")["tasks"].items()
        for name, each in compared.items()
    ]


def depths(chosen: Callable[[Sequence[Network]], Network | None]) -> list[Gap]:
    """Return, by task, one of the depths below the full model less that."""
    by_task: dict[str, list[Network]] = {}
    for each in read_record("depth_runs")["networks"]:
        by_task.setdefault(task_of(each), []).append(each)
    found = []
    for networks in by_task.values():
        full, one = networks[-1]["name"], chosen([each for each in networks if "minus_teacher" in each])
        if one is not None:
            title = f"{one['name'].partition('-')[2]} of {full.partition('-')[2]}"
            found.append(Gap.read(titled(one, title), one["minus_teacher"]))
    return found


def best_on_select() -> list[Gap]:
    return depths(lambda smaller: max(smaller, key=lambda each: fmean(each["select_scores"]), default=None))


def chosen_before() -> list[Gap]:
    """Return the depth that each run chose before fine-tuning; tasks where it kept all layers are left out."""
    choices = {
        run["name"].rpartition("=")[2]: run["result"]["chosen_depth"] for run in read_record("depth_runs")["runs"]
    }

    def taken(smaller: Sequence[Network]) -> Network | None:
        return next((each for each in smaller if each["name"] == f"depth-{choices[task_of(each)]}"), None)

    return depths(taken)
