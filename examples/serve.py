"""A server of one exported folder: POST /predict {"inputs": [...]} answers each input, in order.

    pip install cutbert[serve]
    python examples/serve.py small --port 8000 --processes 2
    curl localhost:8000/predict -H 'content-type: application/json' -d '{"inputs": ["a fine film"]}'

Each process has its own model and threads. Inputs are texts, pairs of texts, lists of words or pairs of question and
text, by the kind of the model.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from cutbert.errors import InputError
from cutbert.runtime import load

MOST_INPUTS = 1024


class Request(BaseModel):
    inputs: list[Any]


def make_app() -> FastAPI:
    """Return the application; each process of uvicorn calls it once. Its settings come in the environment."""
    threads = int(os.environ.get("SERVE_THREADS", "1"))
    model = load(os.environ["SERVE_MODEL"], backend=os.environ.get("SERVE_BACKEND", "auto"), threads=threads)
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"kind": type(model).__name__}

    @app.post("/predict")
    def predict(request: Request) -> dict[str, Any]:  # not async: uvicorn runs it in a thread of a pool
        if len(request.inputs) > MOST_INPUTS:
            raise HTTPException(413, f"inputs must be at most {MOST_INPUTS}, got {len(request.inputs)}")
        try:
            answers = model(request.inputs)
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
    uvicorn.run(
        "serve:make_app", factory=True, port=args.port, workers=args.processes, app_dir=os.path.dirname(__file__)
    )
