"""A server of one exported folder: POST /predict {"inputs": [...]} answers each input, in order.

    pip install cutbert[serve]
    python examples/serve.py small --port 8000 --processes 2
    curl localhost:8000/predict -H 'content-type: application/json' -d '{"inputs": ["a fine film"]}'

Each process has its own model. While it runs one batch, requests wait and become the next. Inputs are texts, pairs of
texts, lists of words or pairs of question and text, by the kind of the model; of an embedding model with prompts
"prompt_name" says which comes before them: {"inputs": [...], "prompt_name": "query"}.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

from cutbert.errors import InputError
from cutbert.runtime import load

MOST = 1024  # inputs of a request, and of requests after which no more join a batch


class Request(BaseModel):
    inputs: list[Any] = Field(max_length=MOST)
    prompt_name: str | None = None


def make_app() -> FastAPI:
    """Return the application; each process of uvicorn calls it once. Its settings come in the environment."""
    threads = int(os.environ.get("SERVE_THREADS", "1"))
    model = load(os.environ["SERVE_MODEL"], backend=os.environ.get("SERVE_BACKEND", "auto"), threads=threads)
    waiting = asyncio.Queue[tuple[Request, asyncio.Future[list[Any]]]]()

    async def answer_all() -> None:
        """Answer requests for ever; those that are cancelled meanwhile do not concern the others."""
        while True:
            taken = [await waiting.get()]
            while not waiting.empty() and sum(len(request.inputs) for request, _ in taken) < MOST:
                taken.append(waiting.get_nowait())
            for name in dict.fromkeys(request.prompt_name for request, _ in taken):
                await answer([each for each in taken if each[0].prompt_name == name], name)

    async def answer(taken: list[tuple[Request, asyncio.Future[list[Any]]]], prompt_name: str | None) -> None:
        """Answer requests that want one prompt together."""
        inputs = [each for request, _ in taken for each in request.inputs]
        try:
            answers = iter(await asyncio.to_thread(model, inputs, prompt_name=prompt_name))
            for request, future in taken:
                own = [next(answers) for _ in request.inputs]
                if not future.cancelled():
                    future.set_result(own)
        except Exception as error:  # of the model: those who wait must hear of it
            for _, future in taken:
                if not future.done():
                    future.set_exception(error)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(answer_all())
        yield
        task.cancel()

    app = FastAPI(lifespan=lifespan)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"kind": type(model).__name__}

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        try:
            model.prompt_of(request.prompt_name)
            for row, each in enumerate(request.inputs):
                model.check_input(each, row)
        except InputError as error:
            raise HTTPException(422, str(error)) from None
        own: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        waiting.put_nowait((request, own))
        return {"answers": [each.tolist() if isinstance(each, np.ndarray) else each for each in await own]}

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="exported folder")
    parser.add_argument("--backend", default="auto", choices=("auto", "onnx", "onnx-int8"))
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    args = parser.parse_args()
    os.environ |= {"SERVE_MODEL": args.model, "SERVE_BACKEND": args.backend, "SERVE_THREADS": str(args.threads)}
    folder, workers = os.path.dirname(os.path.abspath(__file__)), args.processes
    with socket.create_server(("127.0.0.1", args.port)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else several processes wait 40 ms
        uvicorn.run(
            "serve:make_app",
            factory=True,
            fd=listener.fileno(),
            workers=workers,
            app_dir=folder,
            log_level="warning",
        )
