"""The model card of a model folder: origin, size, scores, latency and how to use it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from cutbert.files import read_json, replacing_file
from cutbert.folders.loaders import LoaderFacts, loader_part
from cutbert.folders.provenance import TRIMMED, read_provenance
from cutbert.folders.sentence import read_sentence
from cutbert.shape.cost import BYTES_PER_PARAM, DEFAULT_SEQUENCE_LENGTH, Cost, cost_of
from cutbert.shape.folder import OURS, FolderShape, read_folder_shape
from cutbert.shape.shape import EncoderShape

CARD = "README.md"
MARK = "<!-- cutbert writes this file anew whenever it changes the folder; without this line it leaves it alone. -->"
EXAMPLE = "example.py"
IS_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
SPLIT_KEYS = (("select", "select_score"), ("dev", "score"))
PIPELINES = {
    "single_label": "text-classification",
    "multi_label": "text-classification",
    "regression": "text-classification",
    "token": "token-classification",
    "span": "question-answering",
    "masked_lm": "fill-mask",
}
AUTO_CLASSES = {
    "single_label": "AutoModelForSequenceClassification",
    "multi_label": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "token": "AutoModelForTokenClassification",
    "span": "AutoModelForQuestionAnswering",
    "masked_lm": "AutoModelForMaskedLM",
}


def write_card(folder: Path) -> None:
    """Write the README.md of a model folder that has a cutbert.json, unless it has one that is not ours."""
    path = folder / CARD
    if not path.is_file() or MARK in path.read_text(encoding="utf-8", errors="replace"):
        with replacing_file(path) as aside:
            aside.write_text(model_card(folder), encoding="utf-8")


def model_card(folder: Path) -> str:
    """Return the text of a model folder's card, from its config.json, cutbert.json and onnx/."""
    facts, provenance = read_folder_shape(folder), read_provenance(folder)
    is_stock = read_json(folder / "config.json")["model_type"] != OURS
    has_weights = (folder / "model.safetensors").is_file()
    parts = [
        f"# {title(provenance)}",
        MARK,
        origin(provenance),
        size_part(facts.shape, cost_of(facts.shape, facts.head), provenance),
        *score_parts(provenance),
        *latency_parts(provenance),
        *vocabulary_parts(provenance),
        *([use_part(facts, is_stock)] if has_weights else []),
        *layout_parts(folder, facts, provenance, has_weights),
        *onnx_parts(folder, provenance),
        licence_part(provenance),
    ]
    card = ModelCard(f"---\n{card_data(facts, provenance).to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n")
    return str(card)


def card_data(facts: FolderShape, provenance: Mapping[str, Any]) -> ModelCardData:
    """Return the card's metadata for the hub; it names the base model only where that is a hub id."""
    base, pipeline = str(provenance["base_model"]), PIPELINES.get(facts.head.kind)
    return ModelCardData(
        model_name=title(provenance),
        base_model=base if IS_HUB_ID.fullmatch(base) else None,
        license=provenance["licence"],
        library_name="transformers",
        pipeline_tag=pipeline,
        tags=["cutbert", "compression"],
        eval_results=evaluations(provenance, pipeline) or None,
    )


def evaluations(provenance: Mapping[str, Any], pipeline: str | None) -> list[EvalResult]:
    """Return each score in the form of the hub's model index."""
    task = task_name(provenance)
    return [
        EvalResult(
            task_type=pipeline or "feature-extraction",
            dataset_type=task.replace(" ", "-"),
            dataset_name=task,
            dataset_split=split,
            metric_type=metric,
            metric_value=value,
        )
        for metric, split, value in scores_of(provenance)
    ]


def scores_of(provenance: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Return metric, split and value of each known score."""
    return [
        (name.removeprefix("select_"), "select" if name.startswith("select_") else "dev", value)
        for name, value in provenance["scores"].items()
    ]


def task_name(provenance: Mapping[str, Any]) -> str:
    """Return the name of the data of the scores, where it is known."""
    task = provenance.get("task")
    return str(task.get("task") or "own data") if task else "data not recorded"


def title(provenance: Mapping[str, Any]) -> str:
    base = str(provenance["base_model"]).rstrip("/").rpartition("/")[2]
    return f"{base}, cut or trained with cutbert"


def origin(provenance: Mapping[str, Any]) -> str:
    """Return the part on the base model and the commands that made this one."""
    commands = "\n".join(provenance["commands"]) or "(none)"
    revision = provenance.get("base_revision")
    at = f" at revision {revision}" if revision else ""
    return f"Made from `{provenance['base_model']}`{at} by these commands, oldest first:\n\n```\n{commands}\n```"


def size_part(shape: EncoderShape, cost: Cost, provenance: Mapping[str, Any]) -> str:
    """Return the part on costs, beside those of the uncut network where they are known, and on the layers' sizes."""
    uncut = provenance.get("cut_from") or {}
    lines = ["## Size", "", "| | this model | cut from |", "|---|---:|---:|"]
    numbers = {"parameters": "params", f"multiply-adds at {DEFAULT_SEQUENCE_LENGTH} tokens": "macs"}
    for label, key in numbers.items():
        before = f"{uncut[key]:,}" if key in uncut else ""
        lines.append(f"| {label} | {getattr(cost, key):,} | {before} |")
    lines += [f"| bytes in float32 | {BYTES_PER_PARAM * cost.params:,} | |", ""]
    lines += [f"Hidden size {shape.hidden_size}, {shape.num_layers} layers:", ""]
    lines += ["| layer | heads | key_dim | value_dim | neurons |", "|---:|---:|---:|---:|---:|"]
    for i, layer in enumerate(shape.layers):
        sizes = (layer.num_heads, layer.key_dim, layer.value_dim, layer.intermediate_size)
        lines.append(f"| {i} | " + " | ".join(map(str, sizes)) + " |")
    return "\n".join(lines)


def score_parts(provenance: Mapping[str, Any]) -> list[str]:
    """Return the part on scores, in points, with the interval of dev's where it is known."""
    scores = scores_of(provenance)
    if not scores:
        return []
    task = task_name(provenance)
    interval = provenance.get("score_interval")
    spread = f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}" if interval else "not known"
    lines = [f"## Scores on {task}", "", "| metric | split | points | 95 % interval |", "|---|---|---:|---|"]
    for metric, split, value in scores:
        lines.append(f"| {metric} | {split} | {100 * value:.2f} | {spread if split == 'dev' else ''} |")
    note = "Choices were made on select; dev was only reported. The interval is a bootstrap over dev's rows for this"
    lines += ["", f"{note} one network; the spread over training seeds is not included."]
    lines += [line for sentence in sentences_on_the_cut(provenance) for line in ("", sentence)]
    return ["\n".join(lines)]


def sentences_on_the_cut(provenance: Mapping[str, Any]) -> list[str]:
    """Return the sentences on the score of the uncut model, the difference, and what is near chance."""
    uncut, sentences = provenance.get("cut_from") or {}, []
    if "difference" in uncut:
        interval = uncut.get("difference_interval")
        spread = f", 95 % interval {' to '.join(f'{100 * each:+.2f}' for each in interval)}" if interval else ""
        by_rows = " paired over dev's rows" if interval else ""
        names = {split: metric for metric, split, _ in scores_of(provenance)}
        of_dev, of_select = "", ""
        if len(set(names.values())) > 1:
            of_dev, of_select = f" of {names['dev']}", f" of {names['select']}"
        sentences.append(
            f"The uncut model scores {100 * uncut['score']:.2f} points{of_dev} on dev and "
            f"{100 * uncut['select_score']:.2f}{of_select} on select: on dev this one differs by "
            f"{100 * uncut['difference']:+.2f}{spread}{by_rows}."
        )
    named = (("The uncut model's", uncut.get("near_chance")), ("This model's", provenance.get("near_chance")))
    return [*sentences, *(f"**{whose} {note}.**" for whose, note in named if note)]


def latency_parts(provenance: Mapping[str, Any]) -> list[str]:
    """Return the part on measured latency with its machine, where it was measured."""
    latency = provenance.get("latency")
    if not latency:
        return []
    p95 = f", 95th percentile {latency['latency_p95_ms']:.2f} ms" if latency.get("latency_p95_ms") is not None else ""
    uncut, beside = provenance.get("cut_from") or {}, ""
    if "latency_ratio" in uncut:
        beside = f" The uncut model takes {uncut['latency_ms']:.2f} ms there: a ratio of {uncut['latency_ratio']:.2f}."
    if "int8_latency_ms" in uncut:
        beside += f" In int8 on ONNX Runtime the uncut model takes {uncut['int8_latency_ms']:.2f} ms."
    return [
        f"## Latency\n\nMedian {latency['latency_ms']:.2f} ms{p95}: one text at a time, lengths as in dev, "
        f"{latency['backend']} on {latency['processor']}, {latency['threads']} threads.{beside}"
    ]


def vocabulary_parts(provenance: Mapping[str, Any]) -> list[str]:
    """Return the part on tokens that were left out, where any were."""
    facts = provenance.get(TRIMMED)
    if not facts:
        return []
    rows = ", ".join(f"{count:,} rows of {split}" for split, count in facts["split_differently"].items())
    return [
        f"## Vocabulary\n\nOf {facts['tokens_before']:,} tokens {facts['tokens']:,} are left: those of the training "
        f"texts and a floor of common ones, with every character. That saves {facts['bytes_saved']:,} bytes, splits "
        f"{rows} differently, and changes the {score_changes(facts)}."
    ]


def score_changes(facts: Mapping[str, Any]) -> str:
    """Return how the scores of select and dev change, each after the name of its metric."""
    changes = {key: f"{100 * facts[f'{key}_before']:.2f} to {100 * facts[f'{key}_after']:.2f}" for _, key in SPLIT_KEYS}
    own, metric = facts.get("select_score_metric"), facts["metric"]
    if own is None:
        return f"{metric}: " + ", ".join(f"{split} {changes[key]}" for split, key in SPLIT_KEYS)
    return f"{own} on select: {changes['select_score']}, the {metric} on dev: {changes['score']}"


def use_part(facts: FolderShape, is_stock: bool) -> str:
    """Return the part on loading the model in transformers."""
    auto = AUTO_CLASSES.get(facts.head.kind, "AutoModel")
    lines = [] if is_stock else ["import cutbert.hub  # registers the class of this network with transformers"]
    lines += [
        f"from transformers import {auto}, AutoTokenizer",
        "",
        f'model = {auto}.from_pretrained("FOLDER")',
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
    ]
    return "## Use\n\n```python\n" + "\n".join(lines) + "\n```"


def layout_parts(folder: Path, facts: FolderShape, provenance: Mapping[str, Any], has_weights: bool) -> list[str]:
    """Return the part on the loaders that the folder is laid out for."""
    layouts = provenance.get("layouts")
    if not layouts:
        return []
    sentence = None if facts.head.kind not in ("none", "pooler") else read_sentence(folder)
    return [loader_part(layouts, lambda files: LoaderFacts(facts.head, sentence, facts.shape, has_weights, files))]


def onnx_parts(folder: Path, provenance: Mapping[str, Any]) -> list[str]:
    """Return the part on the ONNX files: their sizes, the score int8 loses, and how to run them."""
    files = sorted((folder / "onnx").glob("*.onnx"))
    if not files:
        return []
    lines = ["## ONNX Runtime", ""]
    lines += [f"- `onnx/{path.name}`: {path.stat().st_size:,} bytes" for path in files]
    int8 = provenance.get("int8")
    if int8:
        lines += ["", f"int8 ({int8['calibration']} ranges) changes the {score_changes(int8)}."]
    example = folder / "onnx" / EXAMPLE
    if example.is_file():
        lines += ["", f"`onnx/{EXAMPLE}`, which needs onnxruntime, tokenizers and numpy only:", ""]
        lines += ["```python", example.read_text(encoding="utf-8").rstrip(), "```"]
    return ["\n".join(lines)]


def licence_part(provenance: Mapping[str, Any]) -> str:
    licence = provenance["licence"]
    text = f"{licence}, as the base model." if licence else "That of the base model, whose card names none."
    return f"## Licence\n\n{text}"
