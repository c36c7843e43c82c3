"""The example's server answers requests that come together as the runtime does, each with its own answers."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cutbert.exporters.folder import save_graph
from cutbert.exporters.graph import build_graph
from cutbert.folders.load import load_model
from cutbert.runtime import load
from cutbert.shape.head import HeadSpec
from tiny_runs import save_tiny, save_tiny_embedder, tiny_model, tiny_rows

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_requests_that_come_together_are_answered_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fastapi", "uvicorn", "httpx"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'cutbert[serve]' httpx")
    from fastapi.testclient import TestClient

    folder = save_tiny(tmp_path / "model", tiny_model(HeadSpec("regression", ("stars",))))
    save_graph(build_graph(load_model(folder).model), folder / "model.onnx")
    monkeypatch.setenv("SERVE_MODEL", str(folder))
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    serve, texts = import_module("serve"), tiny_rows(24).text
    wanted = [each["label"] for each in load(folder, threads=1)(texts)]
    with TestClient(serve.make_app()) as client, ThreadPoolExecutor(8) as pool:

        def ask(inputs: object) -> tuple[int, dict]:
            answer = client.post("/predict", json={"inputs": inputs})
            return answer.status_code, answer.json()

        assert client.get("/health").json() == {"kind": "Scorer"}
        requests: list[object] = [texts[i : i + 3] for i in range(0, 24, 3)]
        found = list(pool.map(ask, [*requests, ["good", 3], ["good"] * 1025, [], ["good"]]))
    assert [status for status, _ in found] == [200] * 8 + [422, 422, 200, 200]
    labels = [answer["label"] for _, body in found[:8] for answer in body["answers"]]
    assert labels == pytest.approx(wanted, abs=1e-5)
    assert found[8][1] == {"detail": "input 1 must be a text or a pair of texts, got 3"}
    assert "at most 1024 items" in found[9][1]["detail"][0]["msg"] and found[10][1] == {"answers": []}
    assert asyncio.run(answers_beside_a_cancelled(serve, texts)) == pytest.approx(wanted[:3], abs=1e-5)


def test_requests_name_their_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fastapi", "uvicorn", "httpx"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'cutbert[serve]' httpx")
    from fastapi.testclient import TestClient

    folder = save_tiny_embedder(tmp_path / "model")
    save_graph(build_graph(load_model(folder).model), folder / "model.onnx")
    monkeypatch.setenv("SERVE_MODEL", str(folder))
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    texts, names = tiny_rows(6).text, ("query", None, "query", None)
    model = load(folder, threads=1)
    with TestClient(import_module("serve").make_app()) as client, ThreadPoolExecutor(8) as pool:

        def ask(prompt_name: str | None) -> Any:
            return client.post("/predict", json={"inputs": texts, "prompt_name": prompt_name})

        found = list(pool.map(ask, names))
        refused = ask("passage")
    for name, answer in zip(names, found, strict=True):
        np.testing.assert_allclose(answer.json()["answers"], model(texts, prompt_name=name), atol=1e-5)
    assert refused.status_code == 422 and "must be one of query, got 'passage'" in refused.json()["detail"]


async def answers_beside_a_cancelled(serve: Any, texts: list[str]) -> list[float]:
    """Return the answers to requests in one batch with one that is cancelled while the batch runs."""
    app = serve.make_app()
    (predict,) = (route.endpoint for route in app.routes if route.path == "/predict")
    async with app.router.lifespan_context(app), asyncio.timeout(60):
        first, cancelled, last = (
            asyncio.create_task(predict(serve.Request(inputs=inputs))) for inputs in (texts[:1], texts[:9], texts[1:3])
        )
        found = await first
        await asyncio.sleep(0)  # the others are a batch now
        cancelled.cancel()
        answers = [*found["answers"], *(await last)["answers"]]
    return [each["label"] for each in answers]
