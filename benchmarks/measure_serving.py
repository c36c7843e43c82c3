"""Latency and requests a second of `examples/serve.py`, a cut model beside the uncut one in float32 and int8.

Server and load client are processes of their own; each request holds one text. Where other work has the processor, or
client and server share one core, the server's processor time for each request is what can be compared. Needs fastapi
and uvicorn: pip install 'cutbert[serve]'.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import psutil

from cutbert.data.dataset import load_dataset
from cutbert.data.rows import Rows
from cutbert.data.settings import DataSettings
from cutbert.train.machine import package_version
from recording import ROOT, make_parser, numbers, parse, recorded

CLIENT = Path(__file__).with_name("load_client.py")
SERVER = ROOT / "examples" / "serve.py"
WARM_UP = 20  # requests of each server that do not count
PATIENCE_S = 600  # until a server answers
IDLE_S, IDLE_SHARE = 0.5, 0.1  # a server that takes less of a core meanwhile has loaded all its models


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--cut", type=Path, required=True, help="exported folder of the cut model, with int8")
    parser.add_argument("--uncut", type=Path, required=True, help="exported folder of the uncut one, float32 and int8")
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--data-dir", help="the data root")
    parser.add_argument("--clients", type=numbers, default=[1, 8, 32], help="that ask at the same time")
    parser.add_argument("--processes", type=numbers, default=[1, 2], help="of the server, each with its own model")
    parser.add_argument("--requests", type=int, default=1_000, help="for each number of clients")
    args = parse(parser, argv)
    record = recorded("serving", args, lambda: measure(args), seeds=[0])
    for row in record["servers"]:
        print(
            f"{row['name']}, {row['processes']} processes, {row['clients']} clients: "
            f"p50 {row['p50_ms']:.1f} ms, p99 {row['p99_ms']:.1f} ms, {row['requests_per_s']:.0f} requests/s, "
            f"{row['server_processor_ms']:.2f} ms of the server's processor time each"
        )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    rows = load_dataset(DataSettings(task=args.task, data_dir=args.data_dir)).dev
    assert isinstance(rows, Rows)
    texts = list(islice(cycle(rows.text), args.requests))
    servers = (
        ("cut int8", args.cut, "onnx-int8"),
        ("uncut float32", args.uncut, "onnx"),
        ("uncut int8", args.uncut, "onnx-int8"),
    )
    found = []
    for processes in args.processes:
        for name, folder, backend in servers:
            with server(folder, backend, processes, args.threads or 1) as (port, process):
                ask(port, max(args.clients), texts[:WARM_UP])
                for clients in args.clients:
                    row = {"name": name, "processes": processes, "clients": clients}
                    before = processor_s(process)
                    row |= ask(port, clients, texts)
                    row["server_processor_ms"] = 1000 * (processor_s(process) - before) / len(texts)
                    found.append(row)
    return {
        "versions_of_server": {name: package_version(name) for name in ("fastapi", "uvicorn", "onnxruntime")},
        "threads_of_process": args.threads or 1,
        "requests": len(texts),
        "servers": found,
    }


@contextmanager
def server(folder: Path, backend: str, processes: int, threads: int) -> Iterator[tuple[int, int]]:
    """Run the example's server of a folder; yield its port and the id of its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(folder), "--backend", backend, "--port", port, "--processes", processes, "--threads", threads]
    running = subprocess.Popen([sys.executable, str(SERVER), *map(str, words)])
    try:
        wait_for(port, running)
        wait_until_idle(running.pid)
        yield port, running.pid
    finally:
        running.terminate()
        running.wait()


def processor_s(process: int) -> float:
    """Return the processor time that a process and those it started have taken."""
    first = psutil.Process(process)
    times = [each.cpu_times() for each in (first, *first.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def wait_for(port: int, running: subprocess.Popen[bytes]) -> None:
    """Return when a server answers."""
    for _ in range(10 * PATIENCE_S):
        if running.poll() is not None:
            raise SystemExit(f"the server must run, got exit status {running.returncode}")
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"the server must answer within {PATIENCE_S} s")


def wait_until_idle(process: int) -> None:
    """Return when all processes of a server wait: the first may answer while others still load."""
    before = processor_s(process)
    for _ in range(int(PATIENCE_S / IDLE_S)):
        time.sleep(IDLE_S)
        now = processor_s(process)
        if now - before < IDLE_SHARE * IDLE_S:
            return
        before = now
    raise SystemExit(f"the server must have loaded within {PATIENCE_S} s")


def ask(port: int, clients: int, texts: Sequence[str]) -> dict[str, float]:
    """Return what a number of clients see that share some requests."""
    given = json.dumps({"port": port, "clients": clients, "texts": list(texts)})
    done = subprocess.run([sys.executable, str(CLIENT)], input=given, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout)
    if result["errors"]:
        raise SystemExit(f"every request must be answered, got {result['errors'][0]}")
    p50, p99 = np.quantile(result["latencies_ms"], (0.5, 0.99))
    return {"p50_ms": float(p50), "p99_ms": float(p99), "requests_per_s": len(texts) / result["seconds"]}


if __name__ == "__main__":
    main()
