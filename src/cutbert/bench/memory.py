"""Peak memory of loading and running one model folder, in a process of its own.

`python -m cutbert.bench.memory FOLDER LENGTH THREADS` prints one JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from cutbert.errors import MissingError

RUNS = 3
CLEAR_PEAK = Path("/proc/self/clear_refs")
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def measure_peak_bytes(folder: Path, *, length: int, threads: int) -> int:
    """Return the largest resident memory of a fresh process that loads and runs a model, in bytes.

    All of it counts: Python, the libraries, the weights, one text at batch 1 on the CPU.

    Raises:
        MissingError: that process failed, for want of memory as a rule.
    """
    command = [sys.executable, "-m", "cutbert.bench.memory", str(folder), str(length), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        reason = (done.stderr.strip() or f"it ended with {done.returncode}").splitlines()[-1]
        raise MissingError(f"{folder}: a process that runs it could not be measured: {reason}")
    return int(json.loads(done.stdout.splitlines()[-1])["peak_bytes"])


def file_bytes(folder: Path) -> int:
    """Return the size of a model folder's weight files, in bytes: of the first format that is there."""
    for pattern in WEIGHTS:
        sizes = [path.stat().st_size for path in folder.glob(pattern)]
        if sizes:
            return sum(sizes)
    return 0


def own_peak_bytes() -> int:
    """Return the largest resident memory of this process so far.

    On Linux from /proc: getrusage there starts a new program with the peak of the one that started it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def clear_peak() -> int:
    """Set this process's peak back to what it holds now, where the system can, and return it."""
    if CLEAR_PEAK.exists():
        CLEAR_PEAK.write_text("5")
    return own_peak_bytes()


def run_here(folder: str, length: int, threads: int) -> dict[str, int]:
    """Load a model, run one text a few times, and return the peak."""
    import numpy as np

    from cutbert.bench.backends import BACKENDS
    from cutbert.hub.load import load_model
    from cutbert.train.machine import num_threads

    with num_threads(threads):
        model = load_model(folder).model
        text = np.random.default_rng(0).integers(model.shape.vocab_size, size=(1, length))
        run = BACKENDS["torch"](model)
        for _ in range(RUNS):
            run(text)
    return {"peak_bytes": own_peak_bytes()}


if __name__ == "__main__":
    print(json.dumps(run_here(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
