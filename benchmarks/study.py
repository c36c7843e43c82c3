"""Gathers a sweep's finished runs into one record, compares their networks on the same rows, and prints the tables.

Every difference is of two networks on the rows of dev, the mean over the seeds that both have. Its interval is over
rows, drawn again together for both networks and all seeds, and at least as wide as `paired.compare` says; beside it
stand each seed's difference and their standard deviation. At equal cost a network has two rivals of a step: the best on
select at no more cost, and the cheapest at no less. The truth of a rival of exactly that cost lies between them. A
variant of a step, STEP/VALUE, is set beside the network of the same name that differs in this value alone, and a
family's networks have the mean of these differences.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutbert.files import read_json
from cutbert.fronts import paired
from cutbert.fronts.paired import AnswerValues
from cutbert.sweeps.expand import RUNS
from cutbert.sweeps.folder import StoredRun, SweepFolder
from networks import Network, networks_of, seeds_of
from recording import make_parser, parse, recorded, shares

COSTS = ("macs", "params", "latency_ms", "latency_share")
SAME = 1.01  # costs this near count as equal
SIDES = {"no_more": "at no more", "at_least": "at no less", "beside": "beside"}
CUTS = ("schubert", "undivided")  # whose sizes are the result
LONG = ("teacher", "subnets", "series", "measured", "others", "out")  # of a run's result: is elsewhere, or no number


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("sweep", type=Path, help="folder of the sweep; only read")
    parser.add_argument("--name", help="of the record; None for the folder's")
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        help="a step whose networks the others are compared with at equal cost, or STEP/NAME for one network or one "
        "value of the step's own axes, where networks of the same name are compared; repeat",
    )
    parser.add_argument(
        "--cost",
        default="macs",
        choices=COSTS,
        help="what is equal; latency_share is of the own teacher, timed beside it",
    )
    parser.add_argument("--backend", default="torch", help="whose measured latencies are taken")
    parser.add_argument(
        "--shares",
        type=shares,
        default=[],
        help="of the teacher's cost, by commas: also compare each step's best within",
    )
    args = parse(parser, argv)
    sweep = SweepFolder.read(args.sweep)
    seeds = sorted({int(seed) for run in sweep.runs for seed in seeds_of(run)})
    record = recorded(args.name or args.sweep.name, args, lambda: measure(args, sweep), seeds=seeds)
    print(markdown(record))


def measure(args: argparse.Namespace, sweep: SweepFolder) -> dict[str, Any]:
    """Gather what is finished, and compare."""
    states = sweep.states()
    done = [run for run in sweep.runs if states[run.name].status == "finished"]
    networks = networks_of(args.sweep, done, args.backend)
    return {
        "cost": args.cost,
        "backend": args.backend,
        "interval": f"95 % percentile bootstrap, paired, {paired.RESAMPLES} resamples of dev's rows; on either side at "
        "least the exact bound of a share that was 0 in those rows",
        "networks": [describe(network, networks, args) for network in networks],
        "mean_over_groups": over_groups(networks, args),
        "mean_over_names": over_names(networks, args),
        "best_within": best_within(networks, args),
        "runs": [facts_of(run, args.sweep / RUNS / run.name) for run in done if run.verb != "pick"],
        "unfinished": [run.name for run in sweep.runs if states[run.name].status != "finished"],
    }


def describe(network: Network, networks: Sequence[Network], args: argparse.Namespace) -> dict[str, Any]:
    """Return what the record says of one network."""
    scores, costs = network.scores(), {name: network.cost(name) for name in COSTS}
    return {
        "step": network.step,
        "group": dict(network.group),
        "own": dict(network.own),
        "name": network.name,
        "metric": network.metric,
        "seeds": list(network.files),
        "score": fmean(scores),
        **({"score_sd": stdev(scores)} if len(scores) > 1 else {}),
        "scores": scores,
        "select_scores": network.scores("select_score"),
        **{name: cost for name, cost in costs.items() if cost is not None},
        **({"kl_to_teacher": kl} if (kl := kl_to_teacher(network)) is not None else {}),
        **({"minus_teacher": gap} if (gap := difference(network, network.teacher)) is not None else {}),
        "minus": {
            name: {
                side: {"title": each.title, **gap} for side, each in sides.items() if (gap := difference(network, each))
            }
            for name in args.against
            if (sides := rivals_of(network, name, networks, args.cost))
        },
    }


def rivals_of(network: Network, name: str, networks: Sequence[Network], cost: str) -> dict[str, Network]:
    """Return the networks that STEP or STEP/NAME sets beside a network, by side."""
    if network.is_meant(name):
        return {}
    meant = [each for each in networks if each.group == network.group and each.is_meant(name)]
    if "/" in name:
        twins = meant if len(meant) == 1 else [each for each in meant if is_twin(network, each, name)]
        if len(twins) == 1:
            return {"beside": twins[0]}
    own, costs = network.cost(cost), [(each.cost(cost), each) for each in meant]
    if own is None:
        return {}
    no_more = [each for value, each in costs if value is not None and value <= own * SAME]
    at_least = [(value, i) for i, (value, _) in enumerate(costs) if value is not None and value * SAME >= own]
    found = {"no_more": max(no_more, key=lambda each: each.select_score)} if no_more else {}
    return found | ({"at_least": meant[min(at_least)[1]]} if at_least else {})


def is_twin(one: Network, other: Network, rival: str) -> bool:
    """Return whether two networks of a step have one name, and other values only where the rival's is STEP/VALUE."""
    value = rival.partition("/")[2]
    if (one.step, one.name) != (other.step, other.name):
        return False
    return all(mine == theirs for mine, theirs in zip(one.own, other.own, strict=True) if theirs[1] != value)


def difference(one: Network, other: Network) -> dict[str, Any] | None:
    """Return one's score minus the other's over the seeds that both have; None where their rows are not kept."""
    seeds = common_seeds(one, other)
    if not seeds:
        return None
    rows = np.arange(len(one.truth))
    by_seed = [float(gap(one, other, [seed], rows)) for seed in seeds]
    mean = fmean(by_seed)
    low, high = interval_of(mean, lambda rows_RN: gap(one, other, seeds, rows_RN), one.truth.shape)
    spread = {"seed_sd": stdev(by_seed)} if len(by_seed) > 1 else {}
    return {"difference": mean, "low": low, "high": high, "by_seed": by_seed, **spread}


def interval_of(
    difference: float, statistic: Callable[..., AnswerValues], *shapes: tuple[int, ...]
) -> tuple[float, float]:
    """Return the 95 % interval of a mean of differences, over rows of one group or, independently, of several.

    It is widened as that of one difference. The mean of shares that were 0 in each group's rows is bounded like one
    share that was 0 in all of them, here as if every group had the fewest rows.
    """
    num_rows = len(shapes) * min(shape[0] for shape in shapes)
    return paired.widened(difference, *paired.percentiles(statistic, *shapes), num_rows)


def common_seeds(one: Network, other: Network) -> list[str]:
    """Return the seeds in which both networks' answers are known.

    Raises:
        SystemExit: they answered other rows.
    """
    seeds = [seed for seed in one.answers if seed in other.answers]
    if seeds and "logits" in one.stored[seeds[0]] and not np.array_equal(one.truth, other.truth):
        raise SystemExit(
            f"{one.title} and {other.title} must be scored on the same rows of dev, but their labels differ"
        )
    return seeds


def gap(one: Network, other: Network, seeds: Sequence[str], rows: NDArray[np.intp]) -> AnswerValues:
    """Return the difference of two networks' scores on some rows, [N] or [R, N], the mean over seeds."""
    ours, theirs = ([network.answers[seed] for seed in seeds] for network in (one, other))
    is_of_questions = "logits" not in one.stored[seeds[0]]
    metric = (lambda answers, truth: answers.mean(axis=-1)) if is_of_questions else paired.METRICS[one.metric]
    return paired.gap(metric, np.stack(ours), np.stack(theirs), one.truth, rows)


def kl_to_teacher(network: Network) -> float | None:
    """Return the mean KL(teacher || network) over dev's rows and seeds, in nats; None but for one label of several."""
    pairs = [
        (read_json(network.teachers[seed]), each) for seed, each in network.stored.items() if seed in network.teachers
    ]
    logits = [[np.asarray(each.get("logits", []), dtype=np.float64) for each in pair] for pair in pairs]
    if not logits or any(
        each.ndim != 2 or each.shape[1] < 2 or network.truth.ndim == 2 for pair in logits for each in pair
    ):
        return None
    log_p, log_q = (
        [each - np.logaddexp.reduce(each, axis=1, keepdims=True) for each in side] for side in zip(*logits, strict=True)
    )
    return fmean(float((np.exp(p) * (p - q)).sum(axis=1).mean()) for p, q in zip(log_p, log_q, strict=True))


Pair = tuple[Network, Network]


def mean_of(pairs: Mapping[str, Pair]) -> dict[str, Any]:
    """Return the differences of each group's pair, and their mean with its interval: rows of all groups drawn again."""
    seeds = {group: common_seeds(*pair) for group, pair in pairs.items()}

    def statistic(*rows_RN: NDArray[np.intp]) -> AnswerValues:
        gaps = [gap(*pair, seeds[group], rows) for (group, pair), rows in zip(pairs.items(), rows_RN, strict=True)]
        return np.asarray(np.mean(gaps, axis=0))

    shapes = [one.truth.shape for one, _ in pairs.values()]
    every_row = [np.arange(shape[0]) for shape in shapes]
    gaps = {
        group: float(gap(*pair, seeds[group], rows))
        for (group, pair), rows in zip(pairs.items(), every_row, strict=True)
    }
    mean = fmean(gaps.values())
    low, high = interval_of(mean, statistic, *shapes)
    return {"differences": gaps, "difference": mean, "low": low, "high": high}


def group_name(network: Network) -> str:
    return ", ".join(value for _, value in network.group)


def over_groups(networks: Sequence[Network], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the mean difference over all groups of every network and rival that each of them has."""
    pairs: dict[tuple[str, str, str], dict[str, Pair]] = {}
    for network in networks:
        for name in args.against:
            for side, rival in rivals_of(network, name, networks, args.cost).items():
                if common_seeds(network, rival):
                    pairs.setdefault((network.title, name, side), {})[group_name(network)] = (network, rival)
    groups = {name: {each.group for each in networks if each.is_meant(name)} for name in args.against}
    return [
        {"network": title, "against": name, "side": side, **mean_of(found)}
        for (title, name, side), found in pairs.items()
        if len(found) == len(groups[name]) > 1
    ]


def over_names(networks: Sequence[Network], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the mean difference of all networks of a run that have a rival of the same name, rows drawn together."""
    fronts: dict[tuple[Any, ...], list[Pair]] = {}
    for network in networks:
        for name in args.against:
            rival = rivals_of(network, name, networks, args.cost).get("beside")
            if rival is not None and is_twin(network, rival, name) and common_seeds(network, rival):
                fronts.setdefault((network.step, network.group, network.own, name), []).append((network, rival))
    return [
        {"step": step, "group": dict(group), "own": dict(own), "against": name, **mean_of_front(pairs)}
        for (step, group, own, name), pairs in fronts.items()
    ]


def mean_of_front(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return the mean over pairs of networks on the same rows, like `difference` of one."""
    seeds, truth = common_seeds(*pairs[0]), pairs[0][0].truth

    def mean_gap(seeds: Sequence[str], rows: NDArray[np.intp]) -> AnswerValues:
        return np.asarray(np.mean([gap(one, other, seeds, rows) for one, other in pairs], axis=0))

    by_seed = [float(mean_gap([seed], np.arange(len(truth)))) for seed in seeds]
    mean = fmean(by_seed)
    low, high = interval_of(mean, lambda rows_RN: mean_gap(seeds, rows_RN), truth.shape)
    names = [one.name for one, _ in pairs]
    return {"names": names, "difference": mean, "low": low, "high": high, "by_seed": by_seed}


def best_within(networks: Sequence[Network], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return each step's best on select within each share of the teacher's cost, by group, and over all groups."""
    groups: dict[str, list[Network]] = {}
    for network in networks:
        groups.setdefault(group_name(network), []).append(network)
    rows = []
    for share in args.shares:
        best = {group: best_of_steps(members, share, args.cost) for group, members in groups.items()}
        for step in dict.fromkeys(network.step for network in networks):
            of_group = {group: found[step] for group, found in best.items() if step in found}
            row: dict[str, Any] = {"share": share, "step": step}
            row["networks"] = {
                group: {"title": each.title, "score": fmean(each.scores()), args.cost: each.cost(args.cost)}
                for group, each in of_group.items()
            }
            for name in args.against:
                pairs = {
                    group: (each, best[group][name])
                    for group, each in of_group.items()
                    if step != name and name in best[group] and common_seeds(each, best[group][name])
                }
                if pairs:
                    row[f"minus_{name}"] = mean_of(pairs)
            rows += [row] if of_group else []
    return rows


def best_of_steps(networks: Sequence[Network], share: float, cost: str) -> dict[str, Network]:
    """Return the best on select of each step within a share of the largest teacher's cost."""
    whole = max((each.get(cost, 0.0) for network in networks for each in network.teacher_costs.values()), default=0.0)
    fitting = [each for each in networks if (value := each.cost(cost)) is not None and value <= share * whole * SAME]
    by_step: dict[str, list[Network]] = {}
    for network in fitting:
        by_step.setdefault(network.step, []).append(network)
    return {step: max(each, key=lambda each: each.select_score) for step, each in by_step.items()}


def facts_of(run: StoredRun, folder: Path) -> dict[str, Any]:
    """Return what a run's own record says of it: command, times, memory, and the numbers of its result."""
    record = read_json(folder / "run.json")
    result = {name: value for name, value in record["result"].items() if name not in LONG}
    facts = {name: record[name] for name in ("timings", "peak_bytes") if name in record}
    facts["line"] = " ".join(short_word(word) for word in shlex.split(record["line"]))
    if run.verb in CUTS:
        facts["shape"] = read_json(folder / "model" / "shape.json")
    return {"name": run.name, **facts, "result": result}


def short_word(word: str) -> str:
    """Return a word of a command; of an absolute path only its last folder, since what leads there is the machine's."""
    return Path(word).name if Path(word).is_absolute() else word


def markdown(record: Mapping[str, Any]) -> str:
    """Return the record's tables."""
    against = list(
        dict.fromkeys(
            (name, side) for row in record["networks"] for name in row["minus"] for side in row["minus"][name]
        )
    )
    titles = [f"minus {name} {SIDES[side]}" for name, side in against]
    head = ["group", "network", "score", "params M", "MACs M", "latency", "minus teacher", *titles]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    for row in record["networks"]:
        sd = f" ± {100 * row['score_sd']:.2f}" if "score_sd" in row else ""
        cells = [
            ", ".join(row["group"].values()),
            " ".join([row["step"], *row["own"].values(), row["name"]]),
            f"{100 * row['score']:.2f}{sd}",
            f"{row['params'] / 1e6:.2f}",
            f"{row['macs'] / 1e6:.1f}",
            f"{row['latency_share']:.2f}" if "latency_share" in row else "-",
            interval(row.get("minus_teacher")),
            *(interval(row["minus"].get(name, {}).get(side)) for name, side in against),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    for row in record["mean_over_groups"]:
        lines.append(f"{row['network']} minus {row['against']} {SIDES[row['side']]}, mean of groups: {interval(row)}")
    for row in record["best_within"]:
        scores = ", ".join(f"{group} {100 * each['score']:.2f}" for group, each in row["networks"].items())
        minus = "".join(
            f"; {name.replace('_', ' ', 1)} {interval(row[name])}" for name in row if name.startswith("minus_")
        )
        lines.append(f"{row['share']} of the {record['cost']}, best of {row['step']}: {scores}{minus}")
    return "\n".join(lines)


def interval(found: Mapping[str, Any] | None) -> str:
    """Return a difference in points with its interval over rows and, of several seeds, their standard deviation."""
    if found is None:
        return "-"
    low, high = 100 * found["low"], 100 * found["high"]
    sd = f" ± {100 * found['seed_sd']:.2f}" if "seed_sd" in found else ""
    return f"{100 * found['difference']:+.2f}{sd} [{low:+.2f}, {high:+.2f}]"


if __name__ == "__main__":
    main()
