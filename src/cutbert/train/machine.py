"""What this machine is, and which versions run on it: facts that the bits of a result depend on."""

from __future__ import annotations

import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from cutbert.version import __version__

PACKAGES = ("torch", "transformers", "accelerate", "numpy")


def describe_versions() -> dict[str, str]:
    """Return the version of Python and of each package that results depend on, read without importing them."""
    versions = {name: package_version(name) for name in PACKAGES}
    return {"cutbert": __version__, "python": platform.python_version(), **versions}


def describe_machine(threads: int) -> dict[str, Any]:
    """Return processor, usable cores, threads, processes, memory and operating system of this machine.

    Args:
        threads: what torch computes with, which only the caller knows.
    """
    return {
        "processor": processor_name(),
        "cores": usable_cores(),
        "threads": threads,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "memory_bytes": memory_bytes(),
        "os": platform.platform(terse=True),
        **accelerator(),
    }


def package_version(name: str) -> str:
    """Return the installed version of a package, or "none"."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def processor_name() -> str:
    """Return the processor's model name as the operating system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def num_threads(count: int | None) -> Iterator[int]:
    """Let torch compute with `count` threads inside (None: as it is) and yield the number; loads torch."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


class WithoutOneDnn:
    """Lets torch multiply by its other library (MKL, OpenBLAS) inside a `with`; loads torch.

    oneDNN keeps kernels and their buffers for every new size of a batch, so that memory grows with the batches that
    are run; the other library is as fast in float32 (benchmarks/measure_predict_memory.py). The switch is of the whole
    process: threads that are inside at the same time share it, and the last to leave puts back what the first found.
    """

    def __init__(self) -> None:
        self._lock, self._num_inside, self._before = threading.Lock(), 0, True

    def __enter__(self) -> None:
        import torch

        backend: Any = torch.backends.mkldnn
        with self._lock:
            if not self._num_inside:
                self._before, backend.enabled = backend.enabled, False
            self._num_inside += 1

    def __exit__(self, *error: object) -> None:
        import torch

        backend: Any = torch.backends.mkldnn
        with self._lock:
            self._num_inside -= 1
            if not self._num_inside:
                backend.enabled = self._before


without_onednn = WithoutOneDnn()


def memory_bytes() -> int:
    """Return the machine's main memory in bytes, 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def own_peak_bytes() -> int:
    """Return the largest resident memory of this process so far, 0 where the system does not say.

    On Linux from /proc: getrusage there starts a new program with the peak of the one that started it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM:")), None)
        if line is not None:
            return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def accelerator() -> dict[str, str]:
    """Return the name of the CUDA device where torch is loaded and sees one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return {"accelerator": torch.cuda.get_device_name()}
    return {}
