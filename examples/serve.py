"""A server of one exported folder: POST /predict {"inputs": [...]} answers each input, in order.

    pip install cutbert[serve]
    python examples/serve.py small --port 8000 --processes 2
    curl localhost:8000/predict -H 'content-type: application/json' -d '{"inputs": ["a fine film"]}'

Each process has its own model. While it runs one batch, requests wait and become the next. Inputs are texts, pairs of
texts, lists of words or pairs of question and text, by the kind of the model; of an embedding model with prompts
"prompt_name" says which comes before them: {"inputs": [...], "prompt_name": "query"}.
"""

import argparse
import os
import socket
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

from cutbert.errors import InputError
from cutbert.runtime import load
from cutbert.runtime.async_model import MOST, AsyncModel


class Request(BaseModel):
    inputs: list[Any] = Field(max_length=MOST)
    prompt_name: str | None = None


def make_app() -> FastAPI:
    """Return the application; each process of uvicorn calls it once. Its settings come in the environment."""
    folder, backend, threads = (os.environ.get(f"SERVE_{name}") for name in ("MODEL", "BACKEND", "THREADS"))
    model = AsyncModel(load(str(folder), backend=backend or "auto", threads=int(threads or 1)))
    app = FastAPI(lifespan=model.running)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"kind": type(model.model).__name__}

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        try:
            answers = await model(request.inputs, request.prompt_name)
        except InputError as error:
            raise HTTPException(422, str(error)) from None
        return {"answers": [each.tolist() if isinstance(each, np.ndarray) else each for each in answers]}

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
    here, options = os.path.dirname(os.path.abspath(__file__)), {"factory": True, "log_level": "warning"}
    with socket.create_server(("127.0.0.1", args.port)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else several processes wait 40 ms
        uvicorn.run("serve:make_app", fd=listener.fileno(), workers=args.processes, app_dir=here, **options)
