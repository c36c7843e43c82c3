"""Training of `fit`'s candidates: in this process one after the other, or on a Ray cluster at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from cutbert.errors import CutbertError, DivergedError, InputError, InterruptedRun, RunError
from cutbert.methods.fit_candidates import Entrant
from cutbert.methods.fit_proposals import step_seconds
from cutbert.methods.fit_run import Fitting
from cutbert.methods.fit_settings import FitSettings
from cutbert.model.task_model import TaskModel
from cutbert.printable import reason_of
from cutbert.train.checkpoint import load_weights
from cutbert.train.engine import default_threads, uses_cuda
from cutbert.train.interrupts import deferred_interrupt
from cutbert.train.loop import Stage, train_stage
from cutbert.train.machine import num_threads
from cutbert.train.pace import Pace
from cutbert.train.progress import progress_bar, say
from cutbert.train.ray_cluster import MOST_LOSSES, alive_nodes, ray_cluster
from cutbert.train.settings import TrainSettings

POLL_SECONDS = 0.5
SAVING_SECONDS = 60.0  # that stopped candidates have to save


# One candidate


def speed_of(fitting: Fitting, entrant: Entrant) -> float:
    """Return the seconds of a training step of an entrant: as they were, or measured on a copy."""
    if entrant.steps:
        return entrant.seconds / entrant.steps
    return step_seconds(fitting, entrant.candidate, loaded(fitting, entrant))


def steps_within(fitting: Fitting, entrants: Sequence[Entrant], seconds: float) -> int:
    """Return how many steps each of some candidates can take in a time, one after the other or at once.

    For rows that the teacher has not answered yet the first to see them waits for it; its answers are kept.
    """
    per_step = in_parallel([speed_of(fitting, each) for each in entrants], fitting.at_once)
    parts = {each.candidate.student: fitting.part_of(each.candidate) for each in entrants}.values()
    asked_s, left = sum(part.teacher_batch_s for part in parts), max(part.batches_left for part in parts)
    steps = seconds / (per_step + asked_s)
    return int(steps if steps <= left else (seconds - left * asked_s) / per_step)


def trained(fitting: Fitting, entrant: Entrant, name: str, steps: int, pace: Pace | None = None) -> Entrant:
    """Train a candidate further, and judge it again; one whose training does not stay finite stays as it was."""
    part = fitting.part_of(entrant.candidate)
    network = loaded(fitting, entrant)
    plan = replace(part.recipe.plan, name=name, exact_steps=steps, first_step=entrant.steps)
    stage = Stage(plan, part.tokens, part.step(entrant.candidate, network.shape), pace=pace)
    try:
        position = train_stage(network, stage, part.objective.engine, fitting.train, fitting.plan.run)
    except DivergedError as error:
        say(f"{entrant.candidate.name} stays as it was: {what_diverged(error)}")
        return replace(entrant, rounds=entrant.rounds + 1)
    return replace(
        entrant,
        kl=part.kl(network.eval()),
        steps=entrant.steps + position.step,
        seconds=entrant.seconds + position.seconds,
        rounds=entrant.rounds + 1,
        weights=name,
    )


def what_diverged(error: DivergedError) -> str:
    """Return what was not finite, without the advice on options, which `fit` plans itself."""
    return str(error).partition("; ")[0]


def loaded(fitting: Fitting, entrant: Entrant) -> TaskModel:
    """Return a candidate's network as it was trained last."""
    network = fitting.part_of(entrant.candidate).source.new(entrant.candidate)
    load_weights(fitting.folder / f"{entrant.weights}.safetensors", network)
    return network


# A round of candidates


class RoundTrainer(Protocol):
    """Trains the candidates of a round."""

    @property
    def fitting(self) -> Fitting:
        """Of the run."""
        ...

    def __call__(self, jobs: Sequence[tuple[Entrant, str]], steps: int) -> list[Entrant]:
        """Return candidates as they are after further steps.

        Args:
            jobs: the candidates, each with the name of its stage.
            steps: that each is trained.

        Raises:
            InterruptedRun: the user asked to stop; the state of each is saved.
        """
        ...


@contextmanager
def trainer_of(fitting: Fitting) -> Iterator[RoundTrainer]:
    """Yield what trains candidates; a cluster is held only meanwhile.

    Raises:
        MissingError: Ray is not installed.
        InputError: no cluster answers, or a node does not see the run's folder.
    """
    settings = fitting.settings
    if settings.engine == "local":
        yield OneByOne(fitting)
        return
    with ray_cluster(settings.ray_address, fitting.plan.run.path) as ray:
        yield AtOnce(fitting, ray)


def places(settings: FitSettings, train: TrainSettings, out: Path) -> int:
    """Return how many candidates can be trained at the same time.

    The connection to a cluster is closed again, and `trainer_of` opens another for each race: a cluster that does not
    answer, or has no node with the cores, is refused before anything is timed, and a local one that stayed would
    disturb what is timed until then.

    Raises:
        MissingError: Ray is not installed.
        InputError: no cluster answers, a node does not see the run's folder, or none has the cores for a candidate.
    """
    if settings.engine == "local":
        return 1
    needs = needs_of(train)
    with ray_cluster(settings.ray_address, out) as ray:
        count = sum(
            int(min(node["Resources"].get(name, 0.0) // amount for name, amount in needs.items()))
            for node in alive_nodes(ray)
        )
    if not count:
        wanted = ", ".join(f"{amount:g} {name}s" for name, amount in needs.items())
        raise InputError(f"--engine ray must have a node with {wanted} for a candidate, got none; see --threads")
    return count


def needs_of(train: TrainSettings) -> dict[str, float]:
    """Return what a candidate's training takes of a node."""
    cores = float(train.threads or default_threads())
    return {"CPU": cores, "GPU": 1.0} if uses_cuda(train.device) else {"CPU": cores}


def in_parallel(seconds: Sequence[float], count: int) -> float:
    """Return the time that jobs take, each on the place that is free first.

    >>> in_parallel([3.0, 2.0, 2.0], 1), in_parallel([3.0, 2.0, 2.0], 2)
    (7.0, 4.0)
    """
    busy = [0.0] * count
    for each in seconds:
        busy[busy.index(min(busy))] += each
    return max(busy)


@dataclass(frozen=True)
class OneByOne:
    """Trains candidates in this process, one after the other."""

    fitting: Fitting

    def __call__(self, jobs: Sequence[tuple[Entrant, str]], steps: int) -> list[Entrant]:
        return [trained(self.fitting, entrant, name, steps) for entrant, name in jobs]


@dataclass(frozen=True)
class AtOnce:
    """Trains candidates on the nodes of a cluster, each as a Ray task, begun again where its node is lost.

    They save into the run's folder, which every node sees, and go on from there.
    """

    fitting: Fitting
    ray: Any

    def __call__(self, jobs: Sequence[tuple[Entrant, str]], steps: int) -> list[Entrant]:
        ray, needs = self.ray, needs_of(self.fitting.train)
        run = self.fitting.plan.run
        shared = ray.put(replace(self.fitting, plan=replace(self.fitting.plan, run=run.unrecorded())))
        task = ray.remote(trained_there).options(
            num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0.0), max_retries=MOST_LOSSES
        )
        waiting = references = [task.remote(shared, entrant, name, steps) for entrant, name in jobs]
        title = f"round {jobs[0][0].rounds + 1}, {len(jobs)} candidates"
        with deferred_interrupt() as interrupt, progress_bar(title, len(jobs)) as bar:
            while waiting:
                _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=POLL_SECONDS)
                bar(len(jobs) - len(waiting))
                if interrupt.is_set:
                    self.stop(waiting)
                    raise InterruptedRun(
                        f"stopped in a {title}; saved in {run.path}: the same command goes on from there"
                    )
        return [self.result(each) for each in references]

    def stop(self, waiting: Sequence[Any]) -> None:
        """Ask candidates to save and end, and wait until they did."""
        for each in waiting:
            self.ray.cancel(each)
        self.ray.wait(list(waiting), num_returns=len(waiting), timeout=SAVING_SECONDS)

    def result(self, reference: Any) -> Entrant:
        """Return what a task returned.

        Raises:
            RunError: it failed, or was lost too often.
        """
        from ray.exceptions import RayError

        try:
            entrant: Entrant = self.ray.get(reference)
        except CutbertError:
            raise
        except RayError as error:
            raise RunError(f"--engine ray: a candidate's training failed: {reason_of(error)}") from error
        return entrant


def trained_there(fitting: Fitting, entrant: Entrant, name: str, steps: int) -> Entrant:
    """Train a candidate on the node this is called on; where Ray cancels it, it saves first.

    Raises:
        RunError: the node does not see the run's folder.
    """
    if not fitting.folder.is_dir():
        raise RunError(f"{fitting.folder} must be on storage that all nodes of the cluster share")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a script's background; Ray cancels by it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with num_threads(int(needs_of(fitting.train)["CPU"])):
        return trained(fitting, entrant, name, steps)
