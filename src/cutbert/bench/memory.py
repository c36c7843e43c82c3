"""Peak memory and load time of one network on one backend, in a separate process.

`python -m cutbert.bench.memory BACKEND PATH LENGTH THREADS` prints one JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cutbert.errors import MissingError
from cutbert.train.machine import own_peak_bytes

RUNS = 3
CLEAR_PEAK = Path("/proc/self/clear_refs")
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def measure_alone(backend: str, path: Path, *, length: int, threads: int) -> dict[str, Any]:
    """Return the memory and time a fresh process needs to load a network and run it at batch 1 on the CPU.

    Returns:
        `peak_bytes`, its largest resident memory, with Python, libraries and weights;
        `load_ms`, the time from the stored files to a network that can run, after importing the libraries.

    Raises:
        MissingError: that process failed, usually for lack of memory.
    """
    command = [sys.executable, "-m", "cutbert.bench.memory", backend, str(path), str(length), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        reason = (done.stderr.strip() or f"it ended with {done.returncode}").splitlines()[-1]
        raise MissingError(f"{path}: a process that runs it could not be measured: {reason}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def file_bytes(path: Path) -> int:
    """Return the size of an ONNX file with its external data, or of a folder's weights (safetensors, else pickles)."""
    if path.is_file():
        return sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*"))
    for pattern in WEIGHTS:
        sizes = [each.stat().st_size for each in path.glob(pattern)]
        if sizes:
            return sum(sizes)
    return 0


def clear_peak() -> int:
    """Reset this process's peak memory to what it uses now, where the system can (Linux), and return the peak."""
    if CLEAR_PEAK.exists():
        CLEAR_PEAK.write_text("5")
    return own_peak_bytes()


def run_here(backend: str, path: str, length: int, threads: int) -> dict[str, Any]:
    """Load a network, run one text a few times, and return the peak and the time to load."""
    import numpy as np

    from cutbert.bench.backends import BACKENDS

    if backend.startswith("torch"):
        import torch

        import cutbert.folders.load

        assert cutbert.folders.load
        torch.set_num_threads(threads)
    else:
        import onnxruntime

        assert onnxruntime
    start = time.perf_counter()
    run = BACKENDS[backend].load(Path(path), threads)
    load_ms = 1000 * (time.perf_counter() - start)
    for _ in range(RUNS):
        run(np.zeros((1, length), dtype=np.int64))
    return {"peak_bytes": own_peak_bytes(), "load_ms": load_ms}


if __name__ == "__main__":
    print(json.dumps(run_here(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
