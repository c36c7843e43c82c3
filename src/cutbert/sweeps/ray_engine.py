"""The engine of a Ray cluster: each job is a Ray task, scheduled by its needs and restarted when a node is lost."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cutbert.errors import InputError
from cutbert.sweeps.engines import Job, JobEnd, Process
from cutbert.sweeps.folder import SweepFolder
from cutbert.train.progress import say
from cutbert.train.ray_cluster import MOST_LOSSES, alive_nodes, ray_cluster

POLL_SECONDS = 0.1
GIB = 2**30
DEFAULT_CORES = 1


class RayEngine:
    """Submits jobs to Ray.

    Args:
        identity: of the sweep; a node compares it to make sure that it sees the same folder.
    """

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self._names: dict[Any, str] = {}  # jobs by Ray's references
        self._warned: set[tuple[float | None, ...]] = set()

    def share(self, wanted: int | None) -> int:
        return wanted or DEFAULT_CORES

    def has_room(self) -> bool:
        return True

    def begin(self, job: Job) -> None:
        import ray

        self._warn(job)
        memory = None if job.memory_gib is None else int(job.memory_gib * GIB)
        task = ray.remote(compute).options(
            num_cpus=job.cores, num_gpus=job.gpus, memory=memory, max_retries=MOST_LOSSES, name=job.name
        )
        self._names[task.remote(job, self.identity)] = job.name

    def ended(self) -> list[JobEnd]:
        import ray
        from ray.exceptions import RayError, TaskCancelledError

        ends = []
        done = ray.wait(list(self._names), num_returns=len(self._names), timeout=0)[0] if self._names else []
        for reference in done:
            name = self._names.pop(reference)
            try:
                ends.append(ray.get(reference))
            except TaskCancelledError:
                ends.append(JobEnd(name, was_stopped=True))
            except RayError as error:
                lines = str(error).strip().splitlines()
                ends.append(JobEnd(name, error=f"{type(error).__name__}: {lines[-1] if lines else 'lost'}"))
        return ends

    def stop(self) -> None:
        import ray

        for reference in self._names:
            ray.cancel(reference)

    def _warn(self, job: Job) -> None:
        """Tell the user where no node is large enough for a job: it waits until one joins."""
        import ray

        wanted = (job.cores, job.gpus, job.memory_gib)
        if wanted in self._warned or any(fits(job, node["Resources"]) for node in alive_nodes(ray)):
            return
        self._warned.add(wanted)
        say(f"{job.name}: no node has what it needs ({needs_text(job)}); it waits until one joins")


@contextmanager
def ray_engine(address: str | None, out: Path, identity: str) -> Iterator[RayEngine]:
    """Yield an engine on the cluster at an address, or on a local cluster that is started and stopped here.

    Args:
        address: as ray.init takes it.
        out: folder of the sweep; every node must see it.
        identity: of the sweep.

    Raises:
        MissingError: Ray is not installed.
        InputError: no cluster answers, or a node does not see the folder.
    """
    with ray_cluster(address, out):
        yield RayEngine(identity)


def compute(job: Job, identity: str) -> JobEnd:
    """Run a job on the node this is called on; where Ray cancels it, it saves first."""
    sweep = job.log.parents[1]
    try:
        is_shared = SweepFolder.read(sweep).identity == identity and job.place.is_dir()
    except InputError:
        is_shared = False
    if not is_shared:
        where = f"{socket.gethostname()} does not see {sweep} and {job.place}"
        return JobEnd(job.name, error=f"{where}; they must be on storage that all nodes share")
    process = Process(job)
    ended = None
    while ended is None:
        try:
            ended = process.poll()
            time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:  # how Ray cancels
            process.stop()
    return ended


def fits(job: Job, resources: dict[str, float]) -> bool:
    wanted = {"CPU": job.cores, "GPU": job.gpus, "memory": (job.memory_gib or 0.0) * GIB}
    return all(resources.get(name, 0.0) >= amount for name, amount in wanted.items())


def needs_text(job: Job) -> str:
    memory = "" if job.memory_gib is None else f", {job.memory_gib:g} GiB"
    return f"{job.cores} cores, {job.gpus:g} GPUs{memory}"
