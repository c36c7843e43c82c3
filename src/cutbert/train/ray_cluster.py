"""A connection to a Ray cluster whose nodes all see the folders that work is done in."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cutbert.errors import InputError, MissingError
from cutbert.files import scratch_folder
from cutbert.printable import reason_of
from cutbert.train.machine import usable_cores

CLUSTER = "--ray-address must be a Ray cluster that answers"
PATIENCE_S = 5.0  # for an address to answer; ray.init itself would wait for minutes
HOST_AND_PORT = re.compile(r"(?:ray://)?(?P<host>[^/]+):(?P<port>\d{1,5})")  # other addresses are Ray's to find
MOST_LOSSES = 20  # times that work is begun again because its node or worker was lost


@contextmanager
def ray_cluster(address: str | None, out: Path) -> Iterator[Any]:
    """Yield Ray, connected to the cluster at an address, or to a local one that is started and stopped here.

    Args:
        address: as ray.init takes it.
        out: folder of the results; every node must see it.

    Raises:
        MissingError: Ray is not installed.
        InputError: no cluster answers, or a node does not see the folder.
    """
    try:
        import ray
    except ImportError:
        raise MissingError("--engine ray must have Ray: pip install 'cutbert[ray]'") from None
    is_ours = not ray.is_initialized()
    if is_ours:
        connect(ray, address)
    try:
        check_shared(ray, out)
        yield ray
    finally:
        if is_ours:
            ray.shutdown()


def connect(ray: Any, address: str | None) -> None:
    """Connect to the cluster at an address, or start a local one.

    Raises:
        InputError: no cluster answers.
        MissingError: a local one does not start.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(address="local", num_cpus=usable_cores(), include_dashboard=False, **quiet)
        except Exception as error:  # Ray raises a bare Exception here
            raise MissingError(f"Ray does not start on this machine: {reason_of(error)}") from error
        return
    check_answers(address)
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(f"{CLUSTER}, got {address}: {reason_of(error)}") from None


def check_answers(address: str | None) -> None:
    """Check that something listens at the address of a cluster; those that name no host and port are not tried.

    Raises:
        InputError: nothing does.
    """
    found = None if address is None else HOST_AND_PORT.fullmatch(address)
    if found is None:
        return
    try:
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), PATIENCE_S).close()
    except (OSError, OverflowError, UnicodeError) as error:  # of a refusal, a port above 65535, a host that is no name
        reason = getattr(error, "strerror", None) or reason_of(error)
        raise InputError(f"{CLUSTER}, got {address}: {reason}") from None


def check_shared(ray: Any, out: Path) -> None:
    """Check on every node that it sees a new folder beside the folder of the results.

    Raises:
        InputError: a node does not see it.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    parent = next(folder for folder in (out, *out.parents) if folder.is_dir())
    with scratch_folder(parent) as scratch:
        probe = str(scratch.parent)
        check = ray.remote(missing_here)
        places = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in alive_nodes(ray)]
        answers = ray.get(
            [check.options(num_cpus=0, scheduling_strategy=place).remote([probe, str(Path.cwd())]) for place in places]
        )
    wrong = [f"{host} does not see {Path(name).parent}" for host, names in answers for name in names]
    if wrong:
        raise InputError(
            "--out and the working folder must be on storage that all nodes of the cluster share", *dict.fromkeys(wrong)
        )


def missing_here(paths: Sequence[str]) -> tuple[str, list[str]]:
    """Return the name of this node, and which of the paths it does not see."""
    return socket.gethostname(), [path for path in paths if not Path(path).exists()]


def alive_nodes(ray: Any) -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]
