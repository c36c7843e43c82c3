"""The end of `fit`: candidates as the files that are served, scored and timed; the choice; what is left behind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cutbert.bench.backends import BACKENDS, OnnxBackend
from cutbert.bench.latency import Latency, conditions, time_runners
from cutbert.errors import BudgetError
from cutbert.exporters.folder import FLOAT_FILE, add_files
from cutbert.exporters.int8 import instruction_set, int8_file
from cutbert.exporters.session import OnnxRunner
from cutbert.files import write_json
from cutbert.fronts.front import Entry
from cutbert.fronts.leaderboard import LEADERBOARD, Kind, Leaderboard, LeaderboardEntry
from cutbert.fronts.leaderboard_view import verdict
from cutbert.fronts.outputs import score_interval, stored_difference
from cutbert.fronts.score import PREDICTIONS
from cutbert.hub.card import write_card
from cutbert.hub.provenance import FILE_NAME, extend_provenance, read_provenance
from cutbert.methods.fit_limits import Target, bytes_per_param
from cutbert.methods.fit_race import Entrant, Fitting, Part, Race, best_so_far, loaded
from cutbert.model.task_model import TaskModel
from cutbert.shape.budget import LATENCY
from cutbert.shape.cost import cost_of
from cutbert.shape.subnet import Subnet
from cutbert.train.evaluate import MAX_TOKENS, score
from cutbert.train.machine import num_threads
from cutbert.train.progress import counter, progress_bar, say
from cutbert.train.runner import Runner, run_rows

UNCUT, MODEL = "uncut", "model"
GATE = 0.005  # of the score on select, that a backend may lose of a network's own
CHANGED = 0.01  # share of rows whose answer changes by chance with the backend
IN_FLOAT32 = {"onnx-int8": "onnx", "torch-bf16": "torch"}
DRIFT = 0.15  # of the uncut model's latency between begin and end of a run, above which it is said
NOT_SHOWN = ("table",)  # decisions too long for the leaderboard; they are in plan.json


@dataclass(frozen=True, eq=False)
class Served:
    """A network as it is served.

    Args:
        name, backend: of its line on the leaderboard.
        part: what it was cut from.
        network: in float32.
        entrant: how it was made; None for the uncut model.
        target: the limit it was made for; None for the uncut model.
    """

    name: str
    backend: str
    part: Part
    network: TaskModel
    entrant: Entrant | None = None
    target: Target | None = None

    @property
    def kind(self) -> Kind:
        return "teacher" if self.entrant is None else self.entrant.candidate.kind

    def load(self, threads: int) -> tuple[Runner, int]:
        """Return what runs it, and the bytes of its file."""
        backend = BACKENDS[self.backend]
        if isinstance(backend, OnnxBackend):
            graph = backend.graph(self.network)
            return OnnxRunner(graph, threads), graph.ByteSize()
        params = cost_of(self.network.shape, self.network.head_spec).params
        return backend.load(self.network, threads), int(bytes_per_param(self.backend) * params)


def finish(fitting: Fitting, races: Sequence[Race]) -> None:
    """Serve, score, time and choose; write models, leaderboard and result.

    Raises:
        BudgetError: nothing keeps a limit as it was measured; the leaderboard is kept.
    """
    board, folders = end(fitting, races)
    say(verdict(board))
    fitting.plan.run.finish(result_of(fitting, board, races, folders))


def finish_early(fitting: Fitting, targets: Sequence[Target]) -> None:
    """Write the best network under each limit as it is when the user stops a run; the run itself may go on later."""
    races = [each for target in targets if (each := best_so_far(fitting, target)) is not None]
    if not races:
        return
    say("stopping: the best so far is exported first; stop again to leave at once")
    try:
        board, folders = end(fitting, races)
    except BudgetError as error:
        say(f"nothing is exported: {error}")
        return
    places = ", ".join(str(fitting.plan.run.path / each) for each in folders.values())
    say(f"in {places}: {verdict(board)}")


def end(fitting: Fitting, races: Sequence[Race]) -> tuple[Leaderboard, dict[str, str]]:
    """Serve, score, time and choose; write models and leaderboard; return it, and the models' folders by limit."""
    run, settings = fitting.plan.run, fitting.settings
    served = everything(fitting, races)
    with num_threads(fitting.train.threads) as threads:
        entries, measured, factor = scored_and_timed(fitting, served, threads)
    chosen = {each.target.key: choose(fitting, each.target, served, entries) for each in races}
    if any(each.target.is_rung for each in races):
        chosen = fastest_of(fitting, races, entries, chosen)
    board = Leaderboard(
        metric=fitting.objective.metric,
        entries=tuple(marked(entries, served, races, chosen)),
        limits=given_limits(fitting),
        backend=settings.backend,
        measured=measured,
        plan={name: each for name, each in fitting.plan.decisions.items() if name not in NOT_SHOWN},
        notes=tuple(notes_of(fitting, entries, races, chosen, factor)),
        tokenizer_ms=fitting.plan.decisions["tokenizer_ms"],
        select_is_dev=fitting.objective.select_is_dev,
    )
    board.save(run.path)
    missed = [each.target.name for each in races if chosen.get(each.target.key, 0) is None]
    if missed or not chosen:
        raise BudgetError(
            *(
                f"{name}: no network that was made keeps it as measured at the end; {run.path / LEADERBOARD} has what "
                "there is: give a looser limit or more time, in another folder"
                for name in missed or ["--max-drop"]
            )
        )
    folders: dict[str, str] = {}
    for key, index in chosen.items():
        assert index is not None
        folders[key] = MODEL if not folders else f"{MODEL}-{key}"
        write_model(fitting, served[index], entries[index], entries[0], folders[key])
    return board, folders


def everything(fitting: Fitting, races: Sequence[Race]) -> list[Served]:
    """Return the uncut model on the backend that serves, and in float32; then all that ran in the races."""
    own, backend = fitting.parts[None], fitting.settings.backend
    uncut = own.objective.loaded.model
    served = [Served(UNCUT, each, own, uncut) for each in dict.fromkeys((backend, IN_FLOAT32.get(backend, backend)))]
    for current in races:
        for entrant in current.entrants:
            part = fitting.parts[entrant.candidate.student]
            served.append(
                Served(entrant.candidate.name, backend, part, loaded(fitting, entrant).eval(), entrant, current.target)
            )
    return served


# Scores and times


def scored_and_timed(
    fitting: Fitting, served: Sequence[Served], threads: int
) -> tuple[list[LeaderboardEntry], dict[str, Any], float]:
    """Return the entries, the conditions of their latencies, and the factor that brings these to the run's first ones.

    All are timed in turn. The limit was set, and candidates were proposed, on the uncut model's latency at the
    beginning; where the machine has become slower or faster, all latencies are brought to that.
    """
    runners, scored = {}, []
    with progress_bar("export and score", len(served)) as bar:
        advance = counter(bar)
        for i, each in enumerate(served):
            runners[str(i)], size = each.load(threads)
            scored.append(scored_entry(fitting, each, runners[str(i)], size))
            advance()
    latency, lengths = fitting.settings.timing(fitting.train.threads, fitting.train.seed), fitting.objective.lengths
    vocab_size = min(each.network.shape.vocab_size for each in served)
    times = time_runners(runners, lengths, latency, vocab_size=vocab_size)
    factor = fitting.costs.table.uncut_ms / times["0"].latency_ms
    entries = []
    for i, (each, (entry, outputs)) in enumerate(zip(served, scored, strict=True)):
        entry = with_times(entry, times[str(i)], factor)
        is_within = each.target is None or each.target.keeps(costs_of(entry))
        difference = stored_difference(outputs, scored[0][1], fitting.objective.metric) if i else None
        entries.append(replace(entry, within_limit=is_within, difference=difference))
    return entries, conditions(latency, lengths, threads, "cpu"), factor


def scored_entry(
    fitting: Fitting, each: Served, runner: Runner, size: int
) -> tuple[LeaderboardEntry, Mapping[str, Any]]:
    """Return a network's entry without times, and its outputs on dev, which are also kept in predictions/."""
    objective, network = each.part.objective, each.network
    # In int8 the ranges of a batch depend on all its rows; in float32 a batch changes nothing but the time.
    data, at_once = objective.data, 1 if each.backend == "onnx-int8" else MAX_TOKENS
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
    cost, entrant = cost_of(network.shape, network.head_spec), each.entrant
    entry = LeaderboardEntry(
        name=each.name,
        kind=each.kind,
        backend=each.backend,
        score=dev.score,
        select_score=select.score,
        metrics=dev.metrics,
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
        layers=None if entrant is None or entrant.candidate.student else entrant.candidate.layers,
        kl=None if entrant is None else entrant.kl,
        interval=score_interval(outputs, data.metric),
        rounds=0 if entrant is None else entrant.rounds,
    )
    return entry, outputs


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


def costs_of(entry: LeaderboardEntry) -> dict[str, float]:
    """Return an entry's costs by the names of limits."""
    return {LATENCY: entry.latency_ms, "params": entry.params, "macs": entry.macs, "bytes": entry.file_bytes}


# The choice


def choose(
    fitting: Fitting, target: Target, served: Sequence[Served], entries: Sequence[LeaderboardEntry]
) -> int | None:
    """Return which network is taken under a limit, None where none keeps it.

    The race's winner, or where it breaks the limit as measured, or clearly loses more than GATE on the backend, the one
    that dropped out last. Never one below whole layers on select, and never one below the uncut model where that keeps
    the limit itself and no --max-drop allows it.
    """
    racing = [i for i, each in enumerate(served) if each.target == target]
    able = [i for i in racing if entries[i].within_limit and not loses_on_backend(served[i], entries[i])]
    best: int | None = able[0] if able else None
    for i in able:
        is_plain = entries[i].kind == "layers"
        if best is not None and is_plain and entries[i].select_score > entries[best].select_score:
            best = i
    if not target.is_rung and target.keeps(costs_of(entries[0])):
        loses = best is None or entries[best].select_score < entries[0].select_score
        if best is None or loses or entries[best].latency_ms >= entries[0].latency_ms:
            return 0
    return best


def loses_on_backend(each: Served, entry: LeaderboardEntry) -> bool:
    """Whether the backend loses more than GATE of a network's own score on select, and more than chance explains.

    Chance is two standard errors of the difference when a share CHANGED of the rows is answered in another way, by
    chance for better or worse (our choice).
    """
    lost = each.part.select_score(each.network) - entry.select_score
    return lost > GATE + 2 * math.sqrt(CHANGED / len(each.part.judged[0]))


def fastest_of(
    fitting: Fitting,
    races: Sequence[Race],
    entries: Sequence[LeaderboardEntry],
    chosen: Mapping[str, int | None],
) -> dict[str, int | None]:
    """Return the fastest of the networks chosen at several sizes that loses no more than --max-drop on select."""
    assert fitting.settings.max_drop is not None
    least = fitting.parts[None].teacher_select - fitting.settings.max_drop / 100
    found: dict[str, int | None] = {}
    for limits in {tuple(each.target.limits.items()): each.target.limits for each in races}.values():
        own = [each.target for each in races if each.target.limits == limits]
        options = [(target.key, i) for target in own if (i := chosen[target.key]) is not None]
        if own[0].keeps(costs_of(entries[0])):
            options.append((own[0].key, 0))
        enough = [(key, i) for key, i in options if entries[i].select_score >= least]
        if enough:
            key, index = min(enough, key=lambda each: entries[each[1]].latency_ms)
            found[key] = index
    return found


def marked(
    entries: Sequence[LeaderboardEntry],
    served: Sequence[Served],
    races: Sequence[Race],
    chosen: Mapping[str, int | None],
) -> list[LeaderboardEntry]:
    """Return the entries with the chosen ones marked, and with several limits the limit of each."""
    has_limits = len(races) > 1
    board = [
        replace(
            entry,
            chosen=each.target is not None and chosen.get(each.target.key) == i,
            limit=each.target.name if has_limits and each.target is not None else None,
        )
        for i, (entry, each) in enumerate(zip(entries, served, strict=True))
    ]
    for current in races:
        if chosen.get(current.target.key) == 0:
            uncut = replace(entries[0], chosen=True, limit=current.target.name if has_limits else None)
            board = [uncut, *board[1:]] if not board[0].chosen else [*board, uncut]
    return board


# What is left behind


def write_model(fitting: Fitting, each: Served, entry: LeaderboardEntry, uncut: LeaderboardEntry, folder: str) -> None:
    """Write a chosen network with the file that was measured, its origin and its card."""
    run, part, network = fitting.plan.run, each.part, each.network
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
        name = int8_file(instruction_set()) if each.backend == "onnx-int8" else FLOAT_FILE
        files[name] = backend.graph(network)
    add_files(path, replace(part.objective.loaded, model=network), files)
    facts: dict[str, Any] = {
        "cut_from": given_up(entry, uncut),
        "latency": {
            "latency_ms": entry.latency_ms,
            "latency_p95_ms": entry.latency_p95_ms,
            "backend": each.backend,
            "threads": conditions_threads(fitting),
            "processor": run.data["machine"]["processor"],
        },
    }
    if entry.interval is not None:
        facts["score_interval"] = list(entry.interval)
    write_json(path / FILE_NAME, extend_provenance(read_provenance(path), facts=facts))
    write_card(path)


def given_up(entry: LeaderboardEntry, uncut: LeaderboardEntry) -> dict[str, Any]:
    """Return the uncut model on the same backend, and what the cut gave up and gained; keys as in `fronts.pick`."""
    facts: dict[str, Any] = {name: getattr(uncut, name) for name in ("params", "macs", "score", "select_score")}
    facts |= {"latency_ms": uncut.latency_ms, "latency_ratio": entry.latency_ms / uncut.latency_ms}
    facts["difference"] = entry.score - uncut.score
    if entry.difference is not None:
        facts["difference_interval"] = [entry.difference["low"], entry.difference["high"]]
    return facts


def conditions_threads(fitting: Fitting) -> int:
    with num_threads(fitting.train.threads) as threads:
        return threads


def given_limits(fitting: Fitting) -> dict[str, Any]:
    """Return the limits as the user gave them, by option."""
    names = ("max_latency_ms", "max_params", "max_macs", "max_bytes", "max_drop")
    given = {
        name: value for name, value in asdict(fitting.settings).items() if name in names and value not in (None, ())
    }
    if "max_latency_ms" in given:
        several = list(given["max_latency_ms"])
        given["max_latency_ms"] = several if len(several) > 1 else several[0]
    return given


def notes_of(
    fitting: Fitting,
    entries: Sequence[LeaderboardEntry],
    races: Sequence[Race],
    chosen: Mapping[str, int | None],
    factor: float,
) -> list[str]:
    """Return what a reader of the leaderboard should know."""
    notes = []
    if abs(1 / factor - 1) > DRIFT:
        notes.append(
            f"the uncut model took {1 / factor:.2f} times as long at the end as at the beginning: the machine was not "
            "quiet; all latencies are brought to those of the beginning"
        )
    planned = fitting.plan.changes()
    notes += [f"{name}: planned {first:,} steps, {last:,} were made" for name, first, last in planned]
    for each in races:
        index = chosen.get(each.target.key)
        winner = each.entrants[0]
        if index is not None and index and entries[index].name != winner.candidate.name:
            name = entries[index].name
            notes.append(f"{each.target.name}: {name} takes the place of the race's winner, {winner.candidate.name}")
        if not winner.steps:
            notes.append(f"{each.target.name}: there was no time to train; candidates are only repaired")
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
        "seconds": run.seconds,
        "time_limit_s": fitting.clock.limit_s,
    }
