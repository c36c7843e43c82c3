"""How each loader that we write folders for is called: a few lines of code for the model card."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cutbert.folders.sentence import Sentence
from cutbert.shape.head import HeadSpec
from cutbert.shape.pooling import POOLINGS
from cutbert.shape.shape import EncoderShape

TASKS = {"none": "feature-extraction", "pooler": "feature-extraction", "token": "token-classification"}
TASKS |= {"span": "question-answering", "masked_lm": "fill-mask"}
ORT_CLASSES = {
    "feature-extraction": "ORTModelForFeatureExtraction",
    "text-classification": "ORTModelForSequenceClassification",
    "token-classification": "ORTModelForTokenClassification",
    "question-answering": "ORTModelForQuestionAnswering",
    "fill-mask": "ORTModelForMaskedLM",
}
FOLDER = "FOLDER"  # stands for the model's folder or hub id in the lines
TEXT = "a film that is anything but dull"


@dataclass(frozen=True)
class LoaderFacts:
    """What the lines on a loader depend on.

    Args:
        head: of the model.
        sentence: of a bare encoder, how texts become vectors, where that is known.
        shape: of the model.
        has_weights: whether torch weights lie in the folder.
        files: the ONNX files that the loader reads, float32 before int8, as paths in the folder.
    """

    head: HeadSpec
    sentence: Sentence | None
    shape: EncoderShape
    has_weights: bool
    files: tuple[str, ...]

    @property
    def task(self) -> str:
        return TASKS.get(self.head.kind, "text-classification")

    @property
    def file(self) -> str:
        return self.files[0]


def vector_comment(served: LoaderFacts) -> list[str]:
    """Return a comment on how a caller makes a text's vector of the states; nothing where that is not known."""
    if served.sentence is None:
        return []
    how = {
        "cls": "the first of last_hidden_state",
        "mean": "the mean of last_hidden_state over the tokens of attention_mask",
    }.get(served.sentence.pooling, f"{served.sentence.pooling} of last_hidden_state")
    how += ", divided by its norm" if served.sentence.normalize else ""
    cut = served.sentence.truncate_dim
    return [f"# a text's vector is {how}" + (f"; of this the first {cut} numbers" if cut else "")]


def transformers_js(served: LoaderFacts) -> tuple[str, str]:
    kinds = {"onnx/model.onnx": "fp32", "onnx/model_quantized.onnx": "q8"}
    dtypes = [kinds[name] for name in served.files]
    other = f"  // or '{dtypes[0]}'" if len(dtypes) > 1 else ""
    if served.head.is_sequence and served.head.num_outputs == 1:
        lines = [
            "import { AutoModelForSequenceClassification, AutoTokenizer } from '@huggingface/transformers';",
            "",
            f"const tokenizer = await AutoTokenizer.from_pretrained('{FOLDER}');",
            f"const model = await AutoModelForSequenceClassification.from_pretrained('{FOLDER}', "
            f"{{ dtype: '{dtypes[-1]}' }});{other}",
            "// of single texts without text_pair; pipeline() takes a softmax, by which each number is 1",
            f"const inputs = tokenizer(['a question'], {{ text_pair: [{json.dumps(TEXT)}], padding: true, "
            "truncation: true });",
            "console.log((await model(inputs)).logits.tolist());",
        ]
        return "js", "\n".join(lines)
    call, answer = json.dumps(TEXT), "await pipe({})"
    sentence = served.sentence
    if sentence is not None and sentence.pooling in POOLINGS:
        call += f", {{ pooling: '{sentence.pooling}', normalize: {json.dumps(sentence.normalize)} }}"
        if sentence.truncate_dim is not None:
            answer = f"(await pipe({{}})).slice(null, [0, {sentence.truncate_dim}])"
    elif served.task == "question-answering":
        call = '"Who wrote it?", "It was written by Ada."'
    elif served.task == "fill-mask":
        call = "`a ${pipe.tokenizer.mask_token} film`"
    lines = [
        "import { pipeline } from '@huggingface/transformers';",
        "",
        f"const pipe = await pipeline('{served.task}', '{FOLDER}', {{ dtype: '{dtypes[-1]}' }});{other}",
        f"console.log({answer.format(call)});",
    ]
    return "js", "\n".join(lines)


def sentence_transformers(served: LoaderFacts) -> tuple[str, str]:
    name, call = "CrossEncoder", f'predict([("{TEXT}", "a film")])'
    if not served.head.is_sequence:
        name, call = "SentenceTransformer", f'encode(["{TEXT}"])'
    folder, _, file = served.file.rpartition("/")
    options = f'model_kwargs={{"subfolder": "{folder}", "file_name": "{file}"}}'
    lines = [
        f"from sentence_transformers import {name}",
        "",
        f'model = {name}("{FOLDER}", backend="onnx", {options})',
        f"print(model.{call})",
    ]
    lines += [f'# or "file_name": "{each.rpartition("/")[2]}"' for each in served.files[1:]]
    lines += [f'# in torch: {name}("{FOLDER}")'] if served.has_weights else []
    return "python", "\n".join(lines)


def optimum(served: LoaderFacts) -> tuple[str, str]:
    name = ORT_CLASSES[served.task]
    folder, _, file = served.file.rpartition("/")
    lines = [
        f"from optimum.onnxruntime import {name}",
        "from transformers import AutoTokenizer",
        "",
        f'model = {name}.from_pretrained("{FOLDER}", subfolder="{folder}", file_name="{file}")',
        f'tokenizer = AutoTokenizer.from_pretrained("{FOLDER}")',
        f'print(model(**tokenizer("{TEXT}", return_tensors="pt")))',
    ]
    return "python", "\n".join([*lines, *vector_comment(served)])


def fastembed(served: LoaderFacts) -> tuple[str, str]:
    if served.head.is_sequence:
        lines = [
            "from fastembed.common.model_description import ModelSource",
            "from fastembed.rerank.cross_encoder import TextCrossEncoder",
            "",
            "TextCrossEncoder.add_custom_model(",
            f'    model="cut", model_file="{served.file}", sources=ModelSource(url="{FOLDER}")',
            ")",
            f'model = TextCrossEncoder("cut", specific_model_path="{FOLDER}")',
            f'print(list(model.rerank("a question", ["{TEXT}"])))',
        ]
        return "python", "\n".join(lines)
    assert served.sentence is not None
    lines = [
        "from fastembed import TextEmbedding",
        "from fastembed.common.model_description import ModelSource, PoolingType",
        "",
        "TextEmbedding.add_custom_model(",
        f'    model="cut", model_file="{served.file}", sources=ModelSource(url="{FOLDER}"), '
        f"dim={served.shape.hidden_size},",
        f"    pooling=PoolingType.{served.sentence.pooling.upper()}, normalization={served.sentence.normalize},",
        ")",
        f'model = TextEmbedding("cut", specific_model_path="{FOLDER}")',
        f'print(list(model.embed(["{TEXT}"])))',
    ]
    return "python", "\n".join(lines)


def tei(served: LoaderFacts) -> tuple[str, str]:
    path: str = "embed"
    data: dict[str, Any] = {"inputs": TEXT}
    if served.head.num_outputs == 1:
        path, data = "rerank", {"query": "a question", "texts": [TEXT], "raw_scores": True}
    elif served.head.is_sequence:
        path, data = "predict", {"inputs": TEXT}
        data |= {"raw_scores": True} if served.head.kind == "multi_label" else {}
    elif served.sentence is not None and not served.sentence.normalize:
        data |= {"normalize": False}
    image = "ghcr.io/huggingface/text-embeddings-inference:cpu-latest"
    lines = [
        f"docker run -p 8080:80 -v $PWD/{FOLDER}:/model {image} --model-id /model",
        f"curl localhost:8080/{path} -H 'Content-Type: application/json' \\",
        f"  -d '{json.dumps(data)}'",
    ]
    return "sh", "\n".join(lines)


def triton(served: LoaderFacts) -> tuple[str, str]:
    names = ", ".join(file.split("/")[1] for file in served.files)
    lines = [f"tritonserver --model-repository={FOLDER}/triton  # {names}; the caller tokenises, with tokenizer.json"]
    return "sh", "\n".join([*lines, *vector_comment(served)])


def openvino(served: LoaderFacts) -> tuple[str, str]:
    lines = [
        "import openvino",
        "",
        f'model = openvino.compile_model("{FOLDER}/{served.file}", "CPU")',
        "print(model.inputs, model.outputs)",
    ]
    return "python", "\n".join([*lines, *vector_comment(served)])


LOADERS: Mapping[str, Callable[[LoaderFacts], tuple[str, str]]] = {
    "transformers.js": transformers_js,
    "sentence-transformers": sentence_transformers,
    "optimum": optimum,
    "fastembed": fastembed,
    "tei": tei,
    "triton": triton,
    "openvino": openvino,
}


def loader_part(layouts: Mapping[str, Any], served: Callable[[tuple[str, ...]], LoaderFacts]) -> str:
    """Return the card's part on loaders.

    Args:
        layouts: the ONNX files by loader, as cutbert.json records them.
        served: makes the facts of a loader from its files.
    """
    lines = ["## Loaders", ""]
    for name, files in layouts.items():
        language, code = LOADERS[name](served(tuple(files)))
        shown = ", ".join(f"`{file}`" for file in files)
        lines += [f"{name} ({shown}):", "", f"```{language}", code, "```", ""]
    return "\n".join(lines).rstrip()
