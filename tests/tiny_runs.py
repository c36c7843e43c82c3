"""Tiny models, texts and a finished run with a front, made in code in a moment, for tests of what uses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from cutbert.data.rows import Rows
from cutbert.data.tokens import Tokens, tokenize_rows
from cutbert.folders.save import save_model
from cutbert.folders.sentence import Sentence
from cutbert.fronts.front import Front
from cutbert.fronts.leaderboard import Kind, Leaderboard, LeaderboardEntry
from cutbert.fronts.score import score_points, whole_point
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.shape.space import GridPoint, grid
from cutbert.train.run_folder import RunFolder

WORDS = ("good", "bad", "film", "book", "a", "very", "fine", "dull", "and", "not")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SHAPE = EncoderShape.uniform(
    hidden_size=24, num_layers=3, num_heads=4, intermediate_size=32, vocab_size=20, num_positions=128
)
HEAD = HeadSpec("single_label", ("neg", "pos"))
PROVENANCE = {
    "format_version": 1,
    "base_model": "tiny",
    "base_sha256": {},
    "licence": None,
    "commands": [],
    "data": {},
    "scores": {},
}


def tiny_tokenizer(words: Sequence[str] = WORDS) -> PreTrainedTokenizerFast:
    """Return a WordPiece tokenizer of words."""
    vocab = {token: i for i, token in enumerate([*SPECIAL, *words])}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **dict(zip(names, SPECIAL, strict=True)),
    )


def tiny_model(head: HeadSpec = HEAD, seed: int = 0, shape: EncoderShape = SHAPE) -> TaskModel:
    """Return a network with all parameters random and large enough to matter."""
    torch.manual_seed(seed)
    model = TaskModel(shape, EncoderStyle(family="bert"), head)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    return model.eval()


def save_tiny(folder: Path, model: TaskModel | None = None) -> Path:
    """Write a tiny model folder."""
    save_model(folder, tiny_model() if model is None else model, tiny_tokenizer(), provenance=PROVENANCE)
    return folder


def save_tiny_embedder(folder: Path, shape: EncoderShape = SHAPE, model: TaskModel | None = None) -> Path:
    """Write a tiny folder of sentence-transformers: the normalised mean of tokens, a prompt for queries.

    Args:
        folder: to write.
        shape: of a random network.
        model: a bare encoder, in the place of that network.
    """
    kinds = ("Transformer", "Pooling", "Normalize")
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    files = {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": shape.hidden_size, "pooling_mode_mean_tokens": True},
        "config_sentence_transformers.json": {"prompts": {"query": "a film "}, "default_prompt_name": None},
    }
    model = tiny_model(HeadSpec("none"), shape=shape) if model is None else model
    sentence = Sentence("mean", True, 60, files)
    save_model(folder, model, tiny_tokenizer(), provenance=PROVENANCE, sentence=sentence)
    return folder


def tiny_rows(count: int = 40, seed: int = 0) -> Rows:
    """Return random texts of 1 to 8 words with random labels."""
    draw = torch.Generator().manual_seed(seed)
    texts = []
    for _ in range(count):
        size = int(torch.randint(1, 9, (), generator=draw))
        texts.append(" ".join(WORDS[int(i)] for i in torch.randint(0, len(WORDS), (size,), generator=draw)))
    return Rows(texts, labels=torch.randint(0, 2, (count,), generator=draw).numpy())


def tiny_tokens(count: int = 40, seed: int = 0) -> Tokens:
    return tokenize_rows(tiny_rows(count, seed), tiny_tokenizer(), "tiny", 32, cache=False)


def tiny_grid() -> tuple[GridPoint, ...]:
    """Return 2 widths at 2 depths, and a stock shape of half the neurons at each depth."""
    return grid(SHAPE, width_mults=(1.0, 0.5), depths=(3, 1), stock=True)


def write_tsv(path: Path, rows: Rows) -> Path:
    """Write rows with a header: text, label (neg or pos)."""
    assert rows.labels is not None
    lines = [f"{text}\t{HEAD.labels[label]}\n" for text, label in zip(rows.text, rows.labels, strict=True)]
    path.write_text("text\tlabel\n" + "".join(lines), encoding="utf-8")
    return path


def make_run(out: Path, *, measured: dict | None = None, is_finished: bool = True) -> RunFolder:
    """Make a run of dynabert with a scored front and its model/, without training."""
    model = tiny_model()
    run = RunFolder.open(out, "dynabert", {"train": {"seed": 0}})
    select, dev = tiny_tokens(seed=1), tiny_tokens(seed=2)
    with run.start():
        save_model(out / "model", model, tiny_tokenizer(), provenance=PROVENANCE)
        points = [whole_point(SHAPE), *tiny_grid()]
        teacher, *subnets = score_points(run, model, points, select=select, dev=dev, metric="accuracy")
        front = Front(metric="accuracy", teacher=teacher, subnets=tuple(subnets), measured=measured)
        front.save(out)
        if is_finished:
            run.finish({"out": str(out), "seconds": run.seconds, **front.to_json()})
    return run


MEASURED = {
    "backend": "onnx-int8",
    "device": "cpu",
    "threads": 2,
    "lengths": [5, 9],
    "throughput_batch_size": 32,
    "throughput_length": 7,
    "machine": {"processor": "Z80"},
}


def tiny_entry(name: str, kind: Kind, layers: tuple[int, ...], score: float, latency_ms: float) -> LeaderboardEntry:
    """Return a network of some whole layers of SHAPE, on onnx-int8, with made-up figures."""
    shape = replace(SHAPE, layers=tuple(SHAPE.layers[i] for i in layers))
    cost = cost_of(shape, HEAD)
    return LeaderboardEntry(
        name=name, kind=kind, backend="onnx-int8", score=score, select_score=score + 0.01,
        metrics={"accuracy": score}, latency_ms=latency_ms, latency_p95_ms=1.2 * latency_ms,
        throughput_per_s=1000 / latency_ms, params=cost.params, macs=cost.macs, file_bytes=2 * cost.params,
        steps=0 if kind == "teacher" else 400, train_seconds=0.0 if kind == "teacher" else 12.5,
        within_limit=latency_ms <= 2.2, chosen=name == "layers-2", shape=shape, layers=layers,
        interval=(score - 0.02, score + 0.02),
    )  # fmt: skip


def tiny_leaderboard() -> Leaderboard:
    """Return a leaderboard on which two of three layers are chosen under 2.2 ms."""
    uncut = tiny_entry("uncut", "teacher", (0, 1, 2), 0.92, 3.9)
    float32 = replace(uncut, backend="onnx", latency_ms=8.0, latency_q1_ms=7.5, latency_q3_ms=8.5, file_bytes=9_000_000)
    difference = {"mean": -0.004, "low": -0.01, "high": 0.002}
    chosen = replace(tiny_entry("layers-2", "layers", (0, 2), 0.916, 2.1), difference=difference, kl=0.03, rounds=2)
    thin = replace(SHAPE, layers=tuple(replace(layer, num_heads=2, intermediate_size=16) for layer in SHAPE.layers))
    sizes = replace(tiny_entry("sizes-0.5", "sizes", (0, 1, 2), 0.9, 2.0), shape=thin, note="cut by importance")
    student = replace(tiny_entry("student-1", "student", (1,), 0.85, 1.1), layers=None, rounds=1)
    return Leaderboard(
        metric="accuracy",
        entries=(float32, uncut, chosen, sizes, student),
        limits={"max_latency_ms": 2.2},
        backend="onnx-int8",
        measured=MEASURED,
        plan={"candidates": 3, "rounds": 2, "steps": [100, 300]},
        notes=("2 of 5 candidates were left out for want of time",),
        tokenizer_ms=0.12,
    )
