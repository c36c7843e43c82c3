"""Networks of `fit` as the files that are served: loaded on their backend, and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cutbert.bench.backends import BACKENDS, OnnxBackend
from cutbert.bench.latency import Latency
from cutbert.bench.quality import Sized
from cutbert.data.batches import MAX_TOKENS
from cutbert.exporters.session import OnnxRunner
from cutbert.exporters.trimming import Trimming
from cutbert.files import write_json
from cutbert.fronts.leaderboard import LeaderboardEntry
from cutbert.fronts.outputs import score_interval
from cutbert.fronts.score import PREDICTIONS
from cutbert.methods.fit_candidates import Entrant
from cutbert.methods.fit_limits import Target
from cutbert.methods.fit_parts import TaughtSource
from cutbert.methods.fit_race import Race
from cutbert.methods.fit_run import Fitting
from cutbert.methods.fit_training import loaded
from cutbert.model.task_model import TaskModel
from cutbert.shape.budget import LATENCY
from cutbert.shape.cost import BYTES_PER_PARAM, Cost, cost_of
from cutbert.shape.shape import EncoderShape
from cutbert.train.evaluate import score
from cutbert.train.progress import counter, progress_bar
from cutbert.train.runner import Runner, run_rows

IN_FLOAT32, IN_INT8 = {"onnx-int8": "onnx", "torch-bf16": "torch"}, "onnx-int8"


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
    part: TaughtSource
    entrant: Entrant | None = None
    target: Target | None = None
    trimming: Trimming | None = None

    @property
    def outputs_name(self) -> str:
        """What its outputs on dev are called in the run's predictions/."""
        limit = "" if self.target is None else f"{self.target.key}-"
        return f"{limit}{self.name}-{self.backend}"

    def network(self, fitting: Fitting) -> TaskModel:
        """Return it in float32, read from the run's checkpoint."""
        network = self.whole_network(fitting)
        return network if self.trimming is None else self.trimming.network(network)

    def whole_network(self, fitting: Fitting) -> TaskModel:
        """Return it with all tokens."""
        model = self.part.objective.loaded.model
        return (model if self.entrant is None else loaded(fitting, self.entrant)).eval()


def served_network(name: str, network: TaskModel, threads: int) -> tuple[Runner, int]:
    """Return what runs a network on a backend, and the bytes of its file."""
    backend = BACKENDS[name]
    if isinstance(backend, OnnxBackend):
        graph = backend.graph(network)
        return OnnxRunner(graph, threads), graph.ByteSize()
    return backend.load(network, threads), BYTES_PER_PARAM * cost_of(network.shape, network.head_spec).params


def everything(fitting: Fitting, races: Sequence[Race]) -> list[Served]:
    """Return the uncut model on the backend that serves, in float32, and in int8; then all that ran in the races.

    int8 runs on the CPU alone, and is left out where the others do not.
    """
    own, backend = fitting.own, fitting.settings.backend
    latency = fitting.settings.timing(fitting.train.threads, fitting.train.seed)
    is_on_cpu = latency.is_on_cpu or fitting.objective.engine.device.type == "cpu"
    dtypes = (backend, IN_FLOAT32.get(backend, backend), *([IN_INT8] if is_on_cpu else []))
    served = [Served("uncut", each, own) for each in dict.fromkeys(dtypes)]
    is_trimmed = fitting.settings.trim_vocab
    parts = {name: part.trimmed() if is_trimmed else (part, None) for name, part in fitting.parts.items()}
    for current in races:
        for entrant in current.entrants:
            part, trimming = parts[entrant.candidate.student]
            served.append(Served(entrant.candidate.name, backend, part, entrant, current.target, trimming))
    return served


@dataclass(frozen=True, eq=False)
class ScoredFile:
    """A network with its scores as the file that is served.

    Args:
        served: the network.
        shape: its sizes.
        cost: of these, with its head.
        file_bytes: of its file.
        runner: runs it.
        outputs: on dev, with all scores, as predictions/ has them.
        num_scored: of select, as in `Finalist`.
    """

    served: Served
    shape: EncoderShape
    cost: Cost
    file_bytes: int
    runner: Runner
    outputs: Mapping[str, Any]
    num_scored: int

    @property
    def label(self) -> Sized:
        """What is known of it as a timed network."""
        return Sized(f"{self.served.name} on {self.served.backend}", self.served.backend, self.shape)

    def entry(self, times: Latency, loosest: Target, difference: dict[str, float] | None) -> LeaderboardEntry:
        """Return its line on the leaderboard.

        Args:
            times: brought to those at the run's beginning.
            loosest: the limit that the uncut model is held against.
            difference: of its score on dev from the uncut model's.
        """
        entrant = self.served.entrant
        made: dict[str, Any] = {}
        if entrant is not None:
            layers = None if entrant.candidate.student else entrant.candidate.layers
            made = {"layers": layers, "kl": entrant.kl, "rounds": entrant.rounds}
        counted: dict[str, Any] = {"params": self.cost.params, "macs": self.cost.macs}
        costs = {LATENCY: times.latency_ms, "bytes": self.file_bytes, **counted}
        return LeaderboardEntry(
            name=self.served.name,
            kind="teacher" if entrant is None else entrant.candidate.kind,
            backend=self.served.backend,
            score=self.outputs["score"],
            select_score=self.outputs["select_score"],
            metrics=self.outputs["metrics"],
            **times.to_json(),
            **counted,
            file_bytes=self.file_bytes,
            steps=0 if entrant is None else entrant.steps,
            train_seconds=0.0 if entrant is None else entrant.seconds,
            within_limit=(self.served.target or loosest).keeps(costs),
            chosen=False,
            shape=self.shape,
            interval=score_interval(self.outputs, self.outputs["metric"]),
            difference=difference,
            **made,
        )


def scored_files(fitting: Fitting, served: Sequence[Served], threads: int) -> list[ScoredFile]:
    """Return networks as files that are loaded and scored."""
    files = []
    with progress_bar("export and score", len(served)) as bar:
        advance = counter(bar)
        for each in served:
            files.append(score_served(fitting, each, each.network(fitting), threads))
            advance()
    return files


def score_served(fitting: Fitting, each: Served, network: TaskModel, threads: int) -> ScoredFile:
    """Load a network and score it on select and dev; its outputs on dev are kept in predictions/."""
    runner, file_bytes = served_network(each.backend, network, threads)
    objective, data = each.part.objective, each.part.objective.data
    # In int8 the ranges of a batch depend on all its rows; in float32 a batch changes nothing but the time.
    max_tokens = 1 if each.backend == "onnx-int8" else MAX_TOKENS
    answers = run_rows(runner, network, objective.dev, max_tokens=max_tokens)
    dev = score(data.head, data.metric, answers, objective.dev)
    select = dev
    if not objective.select_is_dev:
        answers = run_rows(runner, network, objective.select, max_tokens=max_tokens)
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
    write_json(fitting.plan.run.path / PREDICTIONS / f"{each.outputs_name}.json", outputs)
    cost = cost_of(network.shape, network.head_spec)
    return ScoredFile(each, network.shape, cost, file_bytes, runner, outputs, objective.select.num_scored)
