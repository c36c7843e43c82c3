"""The main job from end to end on a small task: `fit` under half of the uncut model's latency, five texts labelled."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cutbert.data.dataset import Dataset, load_dataset
from cutbert.data.rows import Rows
from cutbert.demo_data.weights import checked_weights
from cutbert.errors import InputError
from cutbert.fronts.leaderboard import Leaderboard
from cutbert.methods.demo_settings import DemoSettings
from cutbert.methods.fit import fit
from cutbert.methods.fit_settings import FitSettings
from cutbert.runtime import load
from cutbert.settings import command_line
from cutbert.shape.head import HeadSpec
from cutbert.shape.source import Models, ModelSource, find_model
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder

FIT = "fit"
LATENCY_SHARE = 0.5
SHOWN_TEXTS = 5


def demo(settings: DemoSettings) -> dict[str, Any]:
    """Fit a model to half of its int8 latency, and label five texts by the exported file.

    The run folder holds the run of `fit`, and its model in `fit/model`.

    Returns:
        The result of `fit`, with out (the demo's folder), max_latency_ms, and texts (text, label, predicted).

    Raises:
        InputError: several processes; mistakes in settings, model or data, all together, before anything is made.
        MissingError: the weights cannot be had; says how to give a local folder.
    """
    settings.check()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("demo must run in one process; cutbert finetune and cutbert dynabert take several")
    source = find_model(settings.model or str(checked_weights())).reading(settings.data().pooling)
    kept = {name: value for name, value in asdict(settings).items() if name not in ("out", "allow_changed")}
    line = command_line("demo", [], settings)
    run = RunFolder.open(
        settings.out, "demo", {**kept, "model": source.name}, line=line, allow_changed=settings.allow_changed
    )
    if run.result is not None:
        return run.result
    with run.start():
        dataset = load_dataset(settings.data())
        fitted = run_fit(source, settings, run.path / FIT)
        say(f"{SHOWN_TEXTS} texts, labelled by the exported file")
        result = {
            **fitted,
            "out": str(run.path),
            "max_latency_ms": Leaderboard.load(run.path / FIT).limits["max_latency_ms"],
            "texts": label_texts(run.path / FIT / "model", dataset, settings),
            "seconds": run.seconds,
        }
        run.finish(result)
    return result


def run_fit(source: ModelSource, settings: DemoSettings, out: Path) -> dict[str, Any]:
    """Run fit, or go on with it, as the verb itself would."""
    data, train = settings.data(), settings.training()
    own = FitSettings(max_latency_share=(LATENCY_SHARE,), time=settings.time)
    kept = {"model": source.name, "data": asdict(data), "train": asdict(train), FIT: asdict(own)}
    line = f"{command_line(FIT, [source.name], data, train, own)} {shlex.join(['--out', str(out)])}"
    run = RunFolder.open(out, FIT, kept, line=line, allow_changed=settings.allow_changed)
    if run.result is not None:
        return run.result
    return fit(Models(source), data, train, own, run)


def label_texts(folder: Path, dataset: Dataset, settings: DemoSettings) -> list[dict[str, Any]]:
    """Return the first texts of dev with their labels, and what the exported file says of them."""
    rows = dataset.dev.take(np.arange(min(SHOWN_TEXTS, len(dataset.dev))))
    assert isinstance(rows, Rows) and rows.labels is not None
    inputs = rows.text if rows.text_pair is None else list(zip(rows.text, rows.text_pair, strict=True))
    predicted = [answer["label"] for answer in load(folder, threads=settings.threads)(inputs)]
    texts = []
    for i, text in enumerate(rows.text):
        pair = {} if rows.text_pair is None else {"text_pair": rows.text_pair[i]}
        label = true_label(dataset.head, rows.labels[i])
        texts.append({"text": text, **pair, "label": label, "predicted": predicted[i]})
    return texts


def true_label(head: HeadSpec, label: np.generic) -> str | float:
    """Return a row's label by name, or its number in regression."""
    return float(label) if head.kind == "regression" else head.labels[int(label)]
