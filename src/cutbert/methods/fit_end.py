"""The end of `fit`: candidates as the files that are served, scored and timed; what is left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cutbert.bench.backends import BACKENDS, OnnxBackend
from cutbert.bench.latency import Latency, conditions, time_runners
from cutbert.bench.quality import Sized
from cutbert.errors import BudgetError, MissingError
from cutbert.exporters.folder import add_files
from cutbert.exporters.session import OnnxRunner
from cutbert.exporters.trimming import Trimming, trim_words
from cutbert.files import change_json, write_json
from cutbert.fronts.front import Entry
from cutbert.fronts.leaderboard import LEADERBOARD, Leaderboard, LeaderboardEntry
from cutbert.fronts.leaderboard_view import verdict
from cutbert.fronts.outputs import chance_of, score_interval, stored_difference
from cutbert.fronts.score import PREDICTIONS
from cutbert.fronts.view import noise_warning
from cutbert.hub.card import write_card
from cutbert.hub.provenance import FILE_NAME, TRIMMED, extend_provenance, read_provenance
from cutbert.methods.fit_choice import UNCUT, Finalist, choose, costs_of, marked
from cutbert.methods.fit_limits import Target, bytes_per_param
from cutbert.methods.fit_parts import Fitting, Part
from cutbert.methods.fit_proposals import Entrant
from cutbert.methods.fit_race import Race, best_so_far
from cutbert.methods.fit_training import loaded
from cutbert.model.task_model import TaskModel
from cutbert.shape.budget import LATENCY
from cutbert.shape.cost import cost_of
from cutbert.shape.subnet import Subnet
from cutbert.train.evaluate import MAX_TOKENS, score
from cutbert.train.machine import num_threads
from cutbert.train.progress import counter, progress_bar, say
from cutbert.train.runner import Runner, run_rows

MODEL = "model"
IN_FLOAT32 = {"onnx-int8": "onnx", "torch-bf16": "torch"}
DRIFT = 0.15  # of the uncut model's latency between begin and end of a run, above which it is said
NOT_SHOWN = ("look",)  # decisions too long for the leaderboard; they are in plan.json


@dataclass(frozen=True, eq=False)
class Served:
    """A network that is to be served.

    Args:
        name, backend: of its line on the leaderboard.
        part: what it was cut from.
        entrant: how it was made; None for the uncut model.
        target: the limit it was made for; None for the uncut model.
        trimming: of its vocabulary, and then `part` is in trimmed tokens; None where it has the model's own.
    """

    name: str
    backend: str
    part: Part
    entrant: Entrant | None = None
    target: Target | None = None
    trimming: Trimming | None = None

    def network(self, fitting: Fitting) -> TaskModel:
        """Return it in float32, read from the run's checkpoint."""
        network = self.whole_network(fitting)
        return network if self.trimming is None else self.trimming.network(network)

    def whole_network(self, fitting: Fitting) -> TaskModel:
        """Return it with all tokens."""
        model = self.part.objective.loaded.model
        return (model if self.entrant is None else loaded(fitting, self.entrant)).eval()

    def load(self, network: TaskModel, threads: int) -> tuple[Runner, int]:
        """Return what runs it, and the bytes of its file."""
        backend = BACKENDS[self.backend]
        if isinstance(backend, OnnxBackend):
            graph = backend.graph(network)
            return OnnxRunner(graph, threads), graph.ByteSize()
        params = cost_of(network.shape, network.head_spec).params
        return backend.load(network, threads), int(bytes_per_param(self.backend) * params)


def finish(fitting: Fitting, races: Sequence[Race]) -> None:
    """Serve, score, time and choose; write models, leaderboard and result.

    Raises:
        BudgetError: nothing keeps a limit as it was measured; the leaderboard is kept.
        MissingError: the settings require a quiet machine, and it was not quiet; the same command measures again.
    """
    board, folders = end(fitting, races)
    for text in (*board.notes, verdict(board)):
        say(text)
    fitting.plan.run.finish(result_of(fitting, board, races, folders))


def finish_early(fitting: Fitting, targets: Sequence[Target]) -> None:
    """Write the best network under each limit as it is when the user stops a run; the run itself may go on later."""
    races = [each for target in targets if (each := best_so_far(fitting, target)) is not None]
    if not races:
        return
    say("stopping: the best so far is exported first; stop again to leave at once")
    try:
        board, folders = end(fitting, races)
    except (BudgetError, MissingError) as error:
        say(f"nothing is exported: {error}")
        return
    places = ", ".join(str(fitting.plan.run.path / each) for each in folders.values())
    say(f"in {places}: {verdict(board)}")


def end(fitting: Fitting, races: Sequence[Race]) -> tuple[Leaderboard, dict[str, str]]:
    """Serve, score, time and choose; write models and leaderboard; return it, and the models' folders by limit."""
    run, settings, targets = fitting.plan.run, fitting.settings, [each.target for each in races]
    served = everything(fitting, races)
    with num_threads(fitting.train.threads) as threads:
        finalists, measured, notes = scored_and_timed(fitting, served, races, threads)
    least = None
    if settings.max_drop is not None:
        least = fitting.own.teacher_select - settings.max_drop / 100
    chosen = choose(targets, finalists, least)
    board = Leaderboard(
        metric=fitting.objective.metric,
        entries=tuple(marked(finalists, targets, chosen)),
        limits=given_limits(fitting, targets),
        backend=settings.backend,
        measured=measured,
        plan={name: each for name, each in fitting.plan.decisions.items() if name not in NOT_SHOWN},
        notes=(*notes, *notes_of(fitting, finalists, races, chosen)),
        tokenizer_ms=fitting.plan.decisions["look"]["tokenizer_ms"],
        select_is_dev=fitting.objective.select_is_dev,
        own_select_metric=fitting.objective.data.own_select_metric,
    )
    board.save(run.path)
    check_all_chosen(fitting, targets, chosen)
    folders: dict[str, str] = {}
    for key, index in chosen.items():
        folders[key] = MODEL if not folders else f"{MODEL}-{key}"
        write_model(fitting, served[index], finalists[index], finalists[UNCUT].entry, measured, folders[key])
    return board, folders


def check_all_chosen(fitting: Fitting, targets: Sequence[Target], chosen: Mapping[str, int]) -> None:
    """Raise a BudgetError for each limit under which nothing was taken."""
    answered = {target.group for target in targets if target.key in chosen}
    missed = {target.group: target.name for target in targets if target.group not in answered}
    if missed:
        rest = (
            f"no network that was made keeps it as measured at the end; {fitting.plan.run.path / LEADERBOARD} has what "
            "there is: give a looser limit or more time, in another folder"
        )
        raise BudgetError(*(f"{name}: {rest}" for name in missed.values()))


def everything(fitting: Fitting, races: Sequence[Race]) -> list[Served]:
    """Return the uncut model on the backend that serves, and in float32; then all that ran in the races."""
    own, backend = fitting.own, fitting.settings.backend
    served = [Served("uncut", each, own) for each in dict.fromkeys((backend, IN_FLOAT32.get(backend, backend)))]
    is_trimmed = fitting.settings.trim_vocab
    parts = {name: part.trimmed() if is_trimmed else (part, None) for name, part in fitting.parts.items()}
    for current in races:
        for entrant in current.entrants:
            part, trimming = parts[entrant.candidate.student]
            served.append(Served(entrant.candidate.name, backend, part, entrant, current.target, trimming))
    return served


# Scores and times


def scored_and_timed(
    fitting: Fitting, served: Sequence[Served], races: Sequence[Race], threads: int
) -> tuple[list[Finalist], dict[str, Any], list[str]]:
    """Return the finalists, the conditions of their latencies, and notes on both.

    All are timed in turn. The limit was set, and candidates were proposed, on the uncut model's latency at the
    beginning; where the machine has become slower or faster, all latencies are brought to that.
    """
    runners, scored = {}, []
    with progress_bar("export and score", len(served)) as bar:
        advance = counter(bar)
        for i, each in enumerate(served):
            network = each.network(fitting)
            runners[str(i)], size = each.load(network, threads)
            scored.append(scored_finalist(fitting, each, network, runners[str(i)], size))
            advance()
    latency, lengths = fitting.settings.timing(fitting.train.threads, fitting.train.seed), fitting.objective.lengths
    vocab_size = min(finalist.entry.shape.vocab_size for finalist, _ in scored)
    sizes = {
        str(i): Sized(f"{each.name} on {each.backend}", each.backend, finalist.entry.shape)
        for i, (each, (finalist, _)) in enumerate(zip(served, scored, strict=True))
    }
    times = time_runners(runners, lengths, latency, vocab_size=vocab_size, sizes=sizes)
    factor = fitting.costs.table.uncut_ms / times["0"].latency_ms
    loosest = races[0].target
    finalists = []
    for i, (finalist, outputs) in enumerate(scored):
        entry = with_times(finalist.entry, times[str(i)], factor)
        is_within = (finalist.target or loosest).keeps(costs_of(entry))
        difference = stored_difference(outputs, scored[UNCUT][1], fitting.objective.metric) if i else None
        finalists.append(replace(finalist, entry=replace(entry, within_limit=is_within, difference=difference)))
    notes = [note] if (note := chance_of(scored[UNCUT][1], fitting.objective.metric)) else []
    if abs(1 / factor - 1) > DRIFT:
        notes.append(
            f"the uncut model took {1 / factor:.2f} times as long at the end as at the beginning: the machine was not "
            "quiet; all latencies are brought to those of the beginning"
        )
    if (warning := noise_warning(fitting.costs.table.measured)) is not None:
        notes.append(f"when the limits were set: {warning}")
    device = "cpu" if latency.is_on_cpu else fitting.objective.engine.device.type
    return finalists, conditions(latency, lengths, threads, device, times.quality), notes


def scored_finalist(
    fitting: Fitting, each: Served, network: TaskModel, runner: Runner, size: int
) -> tuple[Finalist, Mapping[str, Any]]:
    """Return a network without times yet, and its outputs on dev, which are also kept in predictions/."""
    objective, data = each.part.objective, each.part.objective.data
    # In int8 the ranges of a batch depend on all its rows; in float32 a batch changes nothing but the time.
    at_once = 1 if each.backend == "onnx-int8" else MAX_TOKENS
    dev = score(data.head, data.metric, run_rows(runner, network, objective.dev, max_tokens=at_once), objective.dev)
    select = dev
    if not objective.select_is_dev:
        answers = run_rows(runner, network, objective.select, max_tokens=at_once)
        select = score(data.head, data.metric, answers, objective.select)
    outputs: dict[str, Any] = {
        "name": each.name,
        "backend": each.backend,
        "metric": data.metric,
        "score": dev.score,
        "metrics": dev.metrics,
        "select_score": select.score,
        "select_metrics": select.metrics,
        **dev.outputs,
    }
    limit = "" if each.target is None else f"{each.target.key}-"
    write_json(fitting.plan.run.path / PREDICTIONS / f"{limit}{each.name}-{each.backend}.json", outputs)
    entry = untimed_entry(each, network, outputs, size)
    lost = each.part.select_score(network) - select.score
    return Finalist(entry, each.target, lost, objective.select.num_scored), outputs


def untimed_entry(each: Served, network: TaskModel, outputs: Mapping[str, Any], size: int) -> LeaderboardEntry:
    """Return a network's entry with times of 1 in the place of those that are measured later."""
    cost, entrant = cost_of(network.shape, network.head_spec), each.entrant
    made: dict[str, Any] = {}
    if entrant is not None:
        layers = None if entrant.candidate.student else entrant.candidate.layers
        made = {"layers": layers, "kl": entrant.kl, "rounds": entrant.rounds}
    return LeaderboardEntry(
        name=each.name,
        kind="teacher" if entrant is None else entrant.candidate.kind,
        backend=each.backend,
        score=outputs["score"],
        select_score=outputs["select_score"],
        metrics=outputs["metrics"],
        latency_ms=1.0,
        latency_p95_ms=1.0,
        throughput_per_s=1.0,
        params=cost.params,
        macs=cost.macs,
        file_bytes=size,
        steps=0 if entrant is None else entrant.steps,
        train_seconds=0.0 if entrant is None else entrant.seconds,
        within_limit=False,
        chosen=False,
        shape=network.shape,
        interval=score_interval(outputs, outputs["metric"]),
        **made,
    )


def with_times(entry: LeaderboardEntry, times: Latency, factor: float) -> LeaderboardEntry:
    """Return an entry with its times, brought to those at the run's beginning."""
    return replace(
        entry,
        latency_ms=factor * times.latency_ms,
        latency_q1_ms=factor * times.latency_q1_ms,
        latency_q3_ms=factor * times.latency_q3_ms,
        latency_p95_ms=factor * times.latency_p95_ms,
        throughput_per_s=times.throughput_per_s / factor,
    )


# What is left behind


def write_model(
    fitting: Fitting,
    each: Served,
    finalist: Finalist,
    uncut: LeaderboardEntry,
    measured: Mapping[str, Any],
    folder: str,
) -> None:
    """Write a chosen network with the file that was measured, its origin and its card."""
    run, part, entry, network = fitting.plan.run, each.part, finalist.entry, each.network(fitting)
    as_entry = Entry(
        name=each.name,
        shape=network.shape,
        subnet=Subnet.full(network.shape),
        params=entry.params,
        macs=entry.macs,
        score=entry.score,
        select_score=entry.select_score,
        metrics=entry.metrics,
    )
    part.objective.save(run, network, as_entry, folder)
    path, backend = run.path / folder, BACKENDS[each.backend]
    files = {}
    if isinstance(backend, OnnxBackend):
        files[backend.stored(path).name] = backend.graph(network)
    add_files(path, replace(part.objective.loaded, model=network), files, part.objective.sentence)
    facts: dict[str, Any] = {
        "cut_from": given_up(entry, uncut),
        "latency": {
            "latency_ms": entry.latency_ms,
            "latency_p95_ms": entry.latency_p95_ms,
            "backend": each.backend,
            "threads": measured["threads"],
            "processor": measured["machine"]["processor"],
        },
    }
    if each.trimming is not None:
        facts[TRIMMED] = trimming_facts(fitting, each, network)
        say(f"{each.name}: {trim_words(facts[TRIMMED])}")
    if entry.interval is not None:
        facts["score_interval"] = list(entry.interval)
    change_json(path / FILE_NAME, lambda: extend_provenance(read_provenance(path), facts=facts))
    write_card(path)


def trimming_facts(fitting: Fitting, each: Served, network: TaskModel) -> dict[str, Any]:
    """Return what trimming a network's vocabulary changed."""
    assert each.trimming is not None and each.entrant is not None
    whole, own = fitting.part_of(each.entrant.candidate).objective, each.part.objective
    splits = {"select": (whole.select, own.select), "dev": (whole.dev, own.dev)}
    networks = (each.whole_network(fitting), network)
    return each.trimming.facts(own.data, splits, networks, bytes_per_param(each.backend))


def given_up(entry: LeaderboardEntry, uncut: LeaderboardEntry) -> dict[str, Any]:
    """Return the uncut model on the same backend, and what the cut gave up and gained; keys as in `fronts.pick`."""
    facts: dict[str, Any] = {name: getattr(uncut, name) for name in ("params", "macs", "score", "select_score")}
    facts |= {"latency_ms": uncut.latency_ms, "latency_ratio": entry.latency_ms / uncut.latency_ms}
    facts["difference"] = entry.score - uncut.score
    if entry.difference is not None:
        facts["difference_interval"] = [entry.difference["low"], entry.difference["high"]]
    return facts


def given_limits(fitting: Fitting, targets: Sequence[Target]) -> dict[str, Any]:
    """Return the limits by option, as the user gave them; a share of the latency in milliseconds too."""
    settings, latencies = fitting.settings, list(dict.fromkeys(target.limits.get(LATENCY) for target in targets))
    given = {
        "max_latency_ms": one_or_all([each for each in latencies if each is not None]),
        "max_latency_share": one_or_all(settings.max_latency_share),
        **{name: getattr(settings, name) for name in ("max_params", "max_macs", "max_bytes", "max_drop")},
    }
    return {name: each for name, each in given.items() if each is not None}


def one_or_all(values: Sequence[float]) -> float | list[float] | None:
    return (values[0] if len(values) == 1 else list(values)) if values else None


def notes_of(
    fitting: Fitting, finalists: Sequence[Finalist], races: Sequence[Race], chosen: Mapping[str, int]
) -> list[str]:
    """Return what a reader of the leaderboard should know of the races."""
    notes, changes = [], fitting.plan.changes()
    for each in races:
        target = each.target
        if not each.entrants:
            notes.append(f"{target.name}: nothing of the kinds {', '.join(fitting.settings.kinds)} fits")
            continue
        winner = each.entrants[0]
        if target.key in changes:
            first, last = changes[target.key]
            notes.append(
                f"{target.name}: {first:,} last steps were planned, {last:,} were made: the machine's speed changed"
            )
        index = chosen.get(target.key, UNCUT)
        if not finalists[index].passes_gate:
            lost = f"{100 * finalists[index].lost:.1f} points of its score on select"
            notes.append(f"{target.name}: {finalists[index].entry.name} loses {lost} on {fitting.settings.backend}")
        if index != UNCUT and finalists[index].entry.name != winner.candidate.name:
            name = finalists[index].entry.name
            notes.append(f"{target.name}: {name} takes the place of the race's winner, {winner.candidate.name}")
        if not winner.steps:
            notes.append(f"{target.name}: there was no time to train; candidates are only repaired")
    return notes


def result_of(
    fitting: Fitting, board: Leaderboard, races: Sequence[Race], folders: Mapping[str, str]
) -> dict[str, Any]:
    """Return the result of the run."""
    run = fitting.plan.run
    entries = [entry.to_json() for entry in board]
    models = [
        {"limit": each.target.name, "out": str(run.path / folders[each.target.key])}
        for each in races
        if each.target.key in folders
    ]
    return {
        "out": str(run.path),
        "metric": board.metric,
        "chosen": board.chosen[0].name,
        "models": models,
        "leaderboard": entries,
        "teacher": entries[0],
        "verdict": verdict(board),
        "quality": board.measured["quality"],
        "seconds": run.seconds,
        "time_limit_s": fitting.clock.limit_s,
    }
