"""ModernBERT beside the stock export of the same net, and what layers with a window cost in long texts.

Weights are new: they change no time. Short texts: our export in float32 and int8 and transformers' own class as
`torch.onnx.export` traces it, in turn. Long texts: layers with a window and global ones of the same sizes, in torch
(inference, and forward and backward) and in ONNX Runtime, each in a process of its own. Times on one thread are the
processor's. Needs onnxscript: pip install onnxscript.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cutbert.bench.memory import clear_peak
from cutbert.exporters.graph import build_graph
from cutbert.exporters.int8 import Feeds, instruction_set, quantize
from cutbert.exporters.session import OnnxRunner
from cutbert.folders.load import load_model
from cutbert.model.task_model import TaskModel
from cutbert.train.machine import num_threads, own_peak_bytes, package_version
from cutbert.train.progress import progress_bar, say
from measure_operators import drawn_feeds
from recording import clock_name, clock_of, make_parser, names, numbers, parse, recorded, spread

SEED = 0
STOCK, OURS, INT8 = "stock float32", "float32", "int8"
KINDS = {"local": True, "global": False}
WAYS = ("torch", "training", "onnx")


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden-size", type=int, default=384)
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--lengths", type=numbers, default=[32, 128], help="tokens beside the stock export, by commas")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--long", type=numbers, default=[512, 2048, 8192], help="tokens of long texts, by commas")
    parser.add_argument("--long-layers", type=int, default=1, help="layers that read long texts")
    parser.add_argument("--kinds", type=names, default=list(KINDS), help="of these layers, by commas")
    parser.add_argument("--ways", type=names, default=list(WAYS), help="to run long texts, by commas")
    parser.add_argument("--repeats", type=int, default=1, help="of a long text; the fastest counts")
    parser.add_argument("--only", help="measure this way and kind here and print it, no record")
    args = parse(parser, argv)
    if args.only:
        print(json.dumps(long_texts_here(args, *names(args.only))))
        return
    words = sys.argv[1:] if argv is None else list(argv)
    record = recorded("families", args, lambda: measure(args, words), seeds=[SEED])
    for each in record["short"]:
        print(f"{each['length']} tokens, {each['name']}: {each['time']['median_ms']:.2f} ms")
    for each in record["long"]:
        at = f"{each['length']} tokens, {each['kind']} layers, {each['way']}"
        print(f"{at}: {each['time_ms']:.0f} ms, {each['memory_bytes'] / 2**20:.0f} MiB")


def measure(args: argparse.Namespace, words: Sequence[str]) -> dict[str, Any]:
    """Time short texts in turn, then long ones each in a process of its own."""
    with tempfile.TemporaryDirectory() as work, num_threads(args.threads) as threads:
        stock = stock_model(args, args.layers)
        model = own_model(stock).eval()
        runners = {STOCK: stock_runner(stock, Path(work) / "stock.onnx", threads), **own_runners(model, threads)}
        short = [each for length in args.lengths for each in timed(runners, length, args, threads)]
    return {
        "onnxruntime": package_version("onnxruntime"),
        "transformers": package_version("transformers"),
        "instructions": instruction_set(),
        "shape": model.shape.to_json(),
        "threads_used": threads,
        "clock": clock_name(threads),
        "rounds": args.rounds,
        "short": short,
        "long_layers": args.long_layers,
        "repeats": args.repeats,
        "long": [each for way in args.ways for kind in args.kinds for each in long_texts(words, way, kind)],
    }


def stock_model(args: argparse.Namespace, layers: int) -> Any:
    """Return transformers' own class with new weights; windows and their layers are its defaults."""
    import transformers

    torch.manual_seed(SEED)
    config = transformers.ModernBertConfig(
        vocab_size=args.vocab_size,
        hidden_size=args.hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=max(1, args.hidden_size // 64),
        intermediate_size=3 * args.hidden_size // 2,
        **dict.fromkeys(("pad_token_id", "bos_token_id", "cls_token_id", "eos_token_id", "sep_token_id"), 0),
    )
    return transformers.ModernBertForSequenceClassification(config).eval()


def own_model(stock: Any) -> TaskModel:
    """Return the network of transformers' class as ours, read from a folder with a tokenizer of one token."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    one_token = Tokenizer(WordLevel({"[PAD]": 0}, unk_token="[PAD]"))
    special = dict.fromkeys(("pad_token", "unk_token", "cls_token", "sep_token"), "[PAD]")
    with tempfile.TemporaryDirectory() as work:
        stock.save_pretrained(work)
        PreTrainedTokenizerFast(tokenizer_object=one_token, **special).save_pretrained(work)
        return load_model(work).model


def stock_runner(stock: Any, path: Path, threads: int) -> OnnxRunner:
    """Return transformers' own class as `torch.onnx.export` traces it, for any batch and length."""
    feeds = drawn_feeds(stock.config.vocab_size, 2, 16)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    torch.onnx.export(
        stock,
        kwargs={name: torch.from_numpy(each) for name, each in feeds.items()},
        f=str(path),
        dynamo=True,
        dynamic_shapes={name: axes for name in feeds},
        input_names=list(feeds),
        output_names=["logits"],
    )
    return OnnxRunner(path, threads)


def own_runners(model: TaskModel, threads: int) -> dict[str, OnnxRunner]:
    """Return our export in float32 and int8."""
    graph = build_graph(model)
    return {OURS: OnnxRunner(graph, threads), INT8: OnnxRunner(quantize(graph, instruction_set()), threads)}


def timed(runners: dict[str, OnnxRunner], length: int, args: argparse.Namespace, threads: int) -> list[dict[str, Any]]:
    """Return each runner's time for one text, and how much faster than the stock export it is, round by round."""
    feeds, clock = drawn_feeds(args.vocab_size, 1, length), clock_of(threads)
    answers = {name: runner(**feeds) for name, runner in runners.items()}
    times: dict[str, list[float]] = {name: [] for name in runners}
    with progress_bar(f"{length} tokens", args.rounds) as bar:
        for done in range(args.rounds):
            for name, runner in runners.items():
                times[name].append(milliseconds(partial(runner, **feeds), clock))
            bar(done + 1)
    stock = np.asarray(times[STOCK])
    return [
        {
            "name": name,
            "length": length,
            "time": spread(values, "ms"),
            "speed": spread(stock / np.asarray(values), "ratio"),
            "max_abs_diff": float(np.abs(answers[name] - answers[STOCK]).max()),
        }
        for name, values in times.items()
    ]


def milliseconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    begun = clock()
    run()
    return 1000 * (clock() - begun)


def long_texts(words: Sequence[str], way: str, kind: str) -> list[dict[str, Any]]:
    """Return what a process of its own prints of one way and kind of layers."""
    only = ["--only", f"{way},{kind}"]
    done = subprocess.run([sys.executable, __file__, *words, *only], stdout=subprocess.PIPE, text=True, check=True)
    measured: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return [{"way": way, "kind": kind, **each} for each in measured]


def long_texts_here(args: argparse.Namespace, way: str, kind: str) -> list[dict[str, Any]]:
    """Run texts from short to long and return each one's time, and how far memory has grown above what it was."""
    with num_threads(args.threads) as threads:
        loaded = own_model(stock_model(args, args.long_layers))
        made = replace(loaded.shape.ingredients, local_layers=(KINDS[kind],) * args.long_layers)
        model = TaskModel(replace(loaded.shape, ingredients=made), loaded.style, loaded.head_spec)
        run, clock = way_to_run(model, way, threads), clock_of(threads)
        before, measured = clear_peak(), []
        for length in sorted(args.long):
            feeds = drawn_feeds(args.vocab_size, 1, length)
            spent = min(milliseconds(partial(run, feeds), clock) for _ in range(args.repeats))
            measured.append({"length": length, "time_ms": spent, "memory_bytes": own_peak_bytes() - before})
            say(f"{way}, {kind} layers, {length} tokens: {spent:.0f} ms")
    return measured


def way_to_run(model: TaskModel, way: str, threads: int) -> Callable[[Feeds], object]:
    """Return what runs a text: in torch, in torch with the gradients of all weights, or in ONNX Runtime."""
    if way == "onnx":
        runner = OnnxRunner(build_graph(model.eval()), threads)
        return lambda feeds: runner(**feeds)
    model.train(way == "training")

    def run(feeds: Feeds) -> None:
        with torch.set_grad_enabled(model.training):
            logits = model(*map(torch.from_numpy, feeds.values())).logits
            if model.training:
                logits.sum().backward()

    return run


if __name__ == "__main__":
    main()
