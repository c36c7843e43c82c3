"""Runs folders in Python's loaders: a JSON list of jobs on standard input, a JSON list of answers on standard output.

Runs in an environment of its own, without cutbert: optimum wants a transformers older than ours.
"""

import contextlib
import json
import sys


def sentence_transformer(job):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(job["folder"], **job["options"]).encode(job["texts"], **job.get("call", {})).tolist()


def cross_encoder(job):
    from sentence_transformers import CrossEncoder

    return CrossEncoder(job["folder"], **job["options"]).predict(job["texts"]).tolist()


def optimum(job):
    import optimum.onnxruntime
    import torch
    from transformers import AutoTokenizer

    model = getattr(optimum.onnxruntime, job["class"]).from_pretrained(job["folder"], **job["options"])
    tokenizer = AutoTokenizer.from_pretrained(job["folder"])
    inputs = tokenizer(job["texts"], job.get("others"), padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        outputs = model(**inputs)
    return {name: outputs[name].tolist() for name in job["outputs"]}


def transformers(job):
    import transformers

    model = getattr(transformers, job["class"]).from_pretrained(job["folder"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(job["folder"])
    inputs = tokenizer(job["texts"], job.get("others"), padding=True, truncation=True, return_tensors="pt")
    return {"logits": model(**inputs).logits.tolist()}


def fastembed_vectors(job):
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        model=job["folder"],
        model_file=job["file"],
        sources=ModelSource(url=job["folder"]),
        dim=job["dim"],
        pooling=PoolingType[job["pooling"]],
        normalization=job["normalize"],
    )
    model = TextEmbedding(job["folder"], specific_model_path=job["folder"])
    return [vector.tolist() for vector in model.embed(job["texts"])]


def fastembed_scores(job):
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    TextCrossEncoder.add_custom_model(
        model=job["folder"], model_file=job["file"], sources=ModelSource(url=job["folder"])
    )
    model = TextCrossEncoder(job["folder"], specific_model_path=job["folder"])
    return [float(each) for each in model.rerank_pairs([tuple(pair) for pair in job["texts"]])]


def openvino(job):
    import numpy as np
    import openvino as ov

    model = ov.compile_model(job["file"], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = model({name: np.array(values) for name, values in job["feeds"].items()})
    return {next(iter(output.names)): found[output].tolist() for output in model.outputs}


LOADERS = {each.__name__: each for each in (
    sentence_transformer, cross_encoder, optimum, transformers, fastembed_vectors, fastembed_scores, openvino,
)}  # fmt: skip

with contextlib.redirect_stdout(sys.stderr):
    answers = [LOADERS[job["loader"]](job) for job in json.load(sys.stdin)]
print(json.dumps(answers))
