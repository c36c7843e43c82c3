"""Model folders as other loaders want them: which models each can serve, and which files it reads under which names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto

from cutbert.errors import MissingError, ModelError
from cutbert.exporters.folder import FLOAT_FILE, FOLDER, save_graph
from cutbert.exporters.settings import TOGETHER, LayoutName
from cutbert.folders.sentence import MODULES_FILE, Sentence
from cutbert.shape.head import HeadSpec
from cutbert.shape.pooling import POOLINGS

VECTORS = ("none", "pooler")
TRITON_TYPES = {TensorProto.INT64: "TYPE_INT64", TensorProto.FLOAT: "TYPE_FP32"}
INT8_ENDING = "_int8"  # of a model's name in Triton
MAX_BATCH = 64  # that Triton may collect


@dataclass(frozen=True)
class Graphs:
    """The files that layouts are made of.

    Args:
        float32: the graph, where it is asked for.
        int8: the same in int8.
        int8_name: its name as optimum and sentence-transformers write it.
        title: the model's name in Triton.
    """

    float32: onnx.ModelProto | None
    int8: onnx.ModelProto | None
    int8_name: str
    title: str


Names = dict[str, onnx.ModelProto]  # path in the folder -> the graph there


def in_onnx(graphs: Graphs, int8_name: str) -> Names:
    """Return both files in onnx/."""
    named = {f"{FOLDER}/{FLOAT_FILE}": graphs.float32, f"{FOLDER}/{int8_name}": graphs.int8}
    return {path: graph for path, graph in named.items() if graph is not None}


def for_tei(graphs: Graphs) -> Names:
    """Return one file: int8, where there is one, as the model.onnx of the folder, which it looks for first."""
    return {FLOAT_FILE: graphs.int8} if graphs.int8 is not None else in_onnx(graphs, "")


def for_triton(graphs: Graphs) -> Names:
    """Return the first version of a model each in triton/."""
    named = {graphs.title: graphs.float32, graphs.title + INT8_ENDING: graphs.int8}
    return {f"triton/{name}/1/{FLOAT_FILE}": graph for name, graph in named.items() if graph is not None}


def every_head(head: HeadSpec) -> bool:
    return True


def whole_texts(head: HeadSpec) -> bool:
    return head.is_sequence or head.kind in VECTORS


def one_number(head: HeadSpec) -> bool:
    return head.kind in VECTORS or (head.is_sequence and head.num_outputs == 1)


def every_class(family: str, head: HeadSpec) -> bool:
    return True


def in_transformers_js(family: str, head: HeadSpec) -> bool:
    """Whether transformers.js 4 has a class of a family with such a head."""
    if family == "gte":
        return False
    return head.kind in VECTORS if family == "nomic_bert" else (family, head.kind) != ("modernbert", "span")


def in_transformers_4(family: str, head: HeadSpec) -> bool:
    """Whether transformers 4 knows a family: optimum-onnx wants it, and runs ONNX files for sentence-transformers."""
    return family not in ("nomic_bert", "gte")


@dataclass(frozen=True)
class Loader:
    """What one loader takes.

    Args:
        serves: whether it serves a model with such a head.
        wants: the heads it serves, in words.
        names: its files.
        poolings: how vectors may be made of a bare encoder's states; None where callers see to that.
        has_class: whether it, or what it is built on, has a class of a family with such a head.
    """

    serves: Callable[[HeadSpec], bool]
    wants: str
    names: Callable[[Graphs], Names]
    poolings: tuple[str, ...] | None = None
    has_class: Callable[[str, HeadSpec], bool] = every_class


WHOLE_TEXTS = "an embedding model or one with a head of whole texts"
ANY_POOLING: tuple[str, ...] = ()
TABLE: Mapping[LayoutName, Loader] = {
    "transformers.js": Loader(
        every_head, "", lambda graphs: in_onnx(graphs, "model_quantized.onnx"), has_class=in_transformers_js
    ),
    "sentence-transformers": Loader(
        whole_texts,
        WHOLE_TEXTS,
        lambda graphs: in_onnx(graphs, graphs.int8_name),
        ANY_POOLING,
        has_class=in_transformers_4,
    ),
    "optimum": Loader(every_head, "", lambda graphs: in_onnx(graphs, graphs.int8_name), has_class=in_transformers_4),
    "fastembed": Loader(
        one_number,
        "an embedding model or one with a head of one output",
        lambda graphs: in_onnx(graphs, graphs.int8_name),
        POOLINGS,
    ),
    "tei": Loader(whole_texts, WHOLE_TEXTS, for_tei, POOLINGS),
    "triton": Loader(every_head, "", for_triton),
    "openvino": Loader(every_head, "", lambda graphs: {}),
}


def unserved(
    layouts: Iterable[LayoutName], family: str, head: HeadSpec, sentence: Sentence | None, model: str
) -> Iterable[str]:
    """Yield a mistake for each layout whose loader cannot serve a model.

    Args:
        layouts: asked for.
        family, head: of the model.
        sentence: of a bare encoder, how texts become vectors, where that is known.
        model: as the user gave it.
    """
    for name in dict.fromkeys(layouts):
        if name == "default":
            if not serving(TOGETHER, family, head, sentence):
                others = " or ".join(f"--for {each}" for each in serving(TABLE, family, head, sentence))
                yield (
                    f"--for default must be given a model that {', '.join(TOGETHER[:-1])} or {TOGETHER[-1]} serves, "
                    f"and none of them serves {family} with a head of kind {head.words}; {others} does, and --onnx or "
                    "--int8 without --for writes the files alone"
                )
            continue
        loader = TABLE[name]
        if not loader.serves(head):
            yield f"--for {name} must be given {loader.wants}, got a head of kind {head.words}"
        elif not loader.has_class(family, head):
            yield f"--for {name} must be given a model that its loader has a class for, got {family} with {head.kind}"
        elif head.kind in VECTORS and loader.poolings is not None:
            if sentence is None:
                yield (
                    f"--for {name} must be given a model that says how a text's states become its vector "
                    f"({MODULES_FILE} and 1_Pooling, as sentence-transformers writes them), and {model} does not"
                )
            elif loader.poolings and sentence.pooling not in loader.poolings:
                wanted = " or ".join(loader.poolings)
                yield f"--for {name} must be given a model with the pooling {wanted}, got {sentence.pooling!r}"
            elif loader.poolings and sentence.truncate_dim is not None:
                yield f"--for {name} must be given a model of whole vectors, got truncate_dim {sentence.truncate_dim}"


def serving(layouts: Iterable[LayoutName], family: str, head: HeadSpec, sentence: Sentence | None) -> list[LayoutName]:
    """Return those of several layouts whose loaders serve a model."""
    return [name for name in layouts if not list(unserved([name], family, head, sentence, ""))]


def resolved(
    layouts: Iterable[LayoutName], family: str, head: HeadSpec, sentence: Sentence | None
) -> tuple[LayoutName, ...]:
    """Return layouts, each once, with `default` as those that go together and serve the model."""
    together = serving(TOGETHER, family, head, sentence)
    names = (together if name == "default" else [name] for name in layouts)
    return tuple(dict.fromkeys(each for part in names for each in part))


def check_installed(layouts: Iterable[str]) -> None:
    """Raise a MissingError where a layout needs a package that is not installed."""
    if "openvino" in layouts:
        try:
            import openvino  # noqa: F401
        except ImportError:
            raise MissingError("--for openvino must have OpenVINO: pip install 'cutbert[openvino]'") from None


def write_layouts(folder: Path, layouts: Iterable[LayoutName], graphs: Graphs) -> dict[str, list[str]]:
    """Write the files of layouts, each file once; return the paths in the folder that each loader reads."""
    read: dict[str, list[str]] = {}
    written: set[str] = set()
    for name in layouts:
        files = TABLE[name].names(graphs)
        read[name] = list(files)
        for path, graph in files.items():
            if path not in written:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                save_graph(graph, folder / path)
                written.add(path)
        if name == "triton":
            for path, graph in files.items():
                place = (folder / path).parent.parent
                (place / "config.pbtxt").write_text(triton_config(place.name, graph), encoding="utf-8")
        if name == "openvino":
            assert graphs.float32 is not None
            read[name] = [write_openvino(folder, graphs.float32)]
    return read


def triton_name(out: Path) -> str:
    """Return a folder's name as the name of a model in Triton, without the ending that says which one is in int8."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", out.resolve().name)
    return re.sub(f"({INT8_ENDING})+$", "", name) or "model"


def triton_config(name: str, graph: onnx.ModelProto) -> str:
    """Return the config.pbtxt of a graph: batches are Triton's own axis, lengths are free."""
    parts = [f'name: "{name}"', 'backend: "onnxruntime"', f"max_batch_size: {MAX_BATCH}"]
    for kind, values in (("input", graph.graph.input), ("output", graph.graph.output)):
        tensors = []
        for value in values:
            tensor = value.type.tensor_type
            sizes = ", ".join(str(axis.dim_value or -1) for axis in tensor.shape.dim[1:])
            tensors.append(
                f'  {{ name: "{value.name}" data_type: {TRITON_TYPES[tensor.elem_type]} dims: [ {sizes} ] }}'
            )
        parts.append(f"{kind} [\n" + ",\n".join(tensors) + "\n]")
    return "\n".join([*parts, "dynamic_batching { }"]) + "\n"


def write_openvino(folder: Path, graph: onnx.ModelProto) -> str:
    """Convert a graph for OpenVINO and write it; return its path in the folder.

    Raises:
        ModelError: OpenVINO's converter does not take it.
    """
    import openvino

    path = "openvino/openvino_model.xml"
    (folder / path).parent.mkdir()
    source = folder / path.replace(".xml", ".onnx")
    save_graph(graph, source)
    try:
        openvino.save_model(openvino.convert_model(source), folder / path, compress_to_fp16=False)
    except Exception as error:  # OpenVINO's errors have no common base class
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(f"--for openvino: OpenVINO's converter does not take this model: {reason}") from None
    finally:
        for each in source.parent.glob(f"{source.name}*"):
            each.unlink()
    return path
