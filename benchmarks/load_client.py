"""Sends one text a request to a running server from several clients at once, with the standard library alone.

Each client sends its next request when its last is answered. Prints a JSON object: latencies, errors and the time.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection

HEADERS = {"Content-Type": "application/json"}
SECONDS = 60  # that an answer may take


def main() -> None:
    given = json.load(sys.stdin)  # port, clients, texts: each text is one request
    texts, lock, latencies_ms = iter(given["texts"]), threading.Lock(), []
    errors: list[str] = []

    def next_texts() -> Iterator[str]:
        while True:
            with lock:
                text = next(texts, None)
            if text is None:
                return
            yield text

    def ask() -> None:
        connection = HTTPConnection("127.0.0.1", given["port"], timeout=SECONDS)
        try:
            for text in next_texts():
                begun = time.perf_counter()
                connection.request("POST", "/predict", json.dumps({"inputs": [text]}), HEADERS)
                response = connection.getresponse()
                body = response.read()
                if response.status != 200:
                    raise OSError(f"status {response.status}: {body[:200]!r}")
                latencies_ms.append(1000 * (time.perf_counter() - begun))
        except OSError as error:
            errors.append(str(error))

    clients = [threading.Thread(target=ask) for _ in range(given["clients"])]
    begun = time.perf_counter()
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    print(json.dumps({"latencies_ms": latencies_ms, "errors": errors, "seconds": time.perf_counter() - begun}))


if __name__ == "__main__":
    main()
