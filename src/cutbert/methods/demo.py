"""The main job from end to end on a small task: teacher, family, front, pick, five texts classified."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cutbert.data.dataset import load_dataset
from cutbert.data.rows import Rows
from cutbert.data.settings import DataSettings
from cutbert.data.tokens import tokenize_rows
from cutbert.demo_data.weights import checked_weights
from cutbert.errors import InputError
from cutbert.fronts.front import Entry, Front
from cutbert.fronts.pick import choose, picked_json, save_picked
from cutbert.fronts.settings import PickSettings
from cutbert.hub.load import load_model
from cutbert.methods.demo_settings import DemoSettings
from cutbert.methods.dynabert import dynabert
from cutbert.methods.dynabert_settings import DynabertSettings
from cutbert.settings import command_line
from cutbert.shape.head import HeadSpec
from cutbert.shape.source import Models, find_model
from cutbert.train.evaluate import predict_logits
from cutbert.train.predict import answers
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings
from cutbert.work.finetune import finetune
from cutbert.work.finetune_settings import FinetuneSettings
from cutbert.work.inputs import check_inputs

TEACHER, FAMILY, SMALL = "teacher", "family", "small"
LATENCY_SHARE = 0.5
SHOWN_TEXTS = 5


def demo(settings: DemoSettings) -> dict[str, Any]:
    """Fine-tune a teacher, make its family, pick half the teacher's latency, and let both classify five texts.

    The run folder holds two runs, teacher/ and family/, and the picked model, small/.

    Returns:
        The result with the keys out, metric, teacher, subnets, measured (as in front.json), picked (as in a
        pick), max_latency_ms, texts (text, label, and what teacher and picked say), seconds.

    Raises:
        InputError: several processes; mistakes in settings, model or data, all together, before anything is made.
        MissingError: the weights cannot be had; says how to give a local folder.
        BudgetError: no subnet takes half the teacher's time.
    """
    settings.check()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("demo must run in one process; cutbert finetune and cutbert dynabert take several")
    model = settings.model or str(checked_weights())
    kept = {name: value for name, value in asdict(settings).items() if name not in ("out", "allow_changed")}
    line = command_line("demo", [], settings)
    run = RunFolder.open(
        settings.out, "demo", {**kept, "model": model}, line=line, allow_changed=settings.allow_changed
    )
    if run.result is not None:
        return run.result
    with run.start():
        make_teacher(model, settings, run.path / TEACHER)
        front = make_family(settings, run.path)
        entry, limit = pick_small(front, run.path)
        say(f"4 of 4: {SHOWN_TEXTS} texts, classified by both")
        result = {
            "out": str(run.path),
            **front.to_json(),
            "picked": picked_json(entry, run.path / SMALL),
            "max_latency_ms": limit,
            "texts": classify(settings.data(), run.path),
            "seconds": run.seconds,
        }
        run.finish(result)
    return result


def make_teacher(model: str, settings: DemoSettings, out: Path) -> None:
    """Fine-tune the model, or go on with it, or leave it where it is finished."""
    data, train, own = settings.data(), settings.teacher_training(), FinetuneSettings()
    run = open_part("finetune", model, data, train, own, out, settings.allow_changed)
    if run.result is None:
        models = Models(find_model(model))
        check_inputs(models, data, None, train=train)
        say(f"1 of 4: fine-tuning {model}")
        finetune(models, data, train, own, run)


def make_family(settings: DemoSettings, path: Path) -> Front:
    """Make the family, or go on with it, and return its front."""
    model, data, train, own = str(path / TEACHER), settings.data(), settings.family_training(), settings.family()
    run = open_part("dynabert", model, data, train, own, path / FAMILY, settings.allow_changed)
    if run.result is None:
        say("2 of 4: making the family, then scoring and timing every member")
        dynabert(Models(find_model(model)), data, train, own, run)
    return Front.load(run.path)


def open_part(
    verb: str,
    model: str,
    data: DataSettings,
    train: TrainSettings,
    own: FinetuneSettings | DynabertSettings,
    out: Path,
    allow_changed: bool,
) -> RunFolder:
    """Open a run inside the demo's, as the verb itself would."""
    settings = {"model": model, "data": asdict(data), "train": asdict(train), verb: asdict(own)}
    line = f"{command_line(verb, [model], data, train, own)} {shlex.join(['--out', str(out)])}"
    return RunFolder.open(out, verb, settings, line=line, allow_changed=allow_changed)


def pick_small(front: Front, path: Path) -> tuple[Entry, float]:
    """Write the best subnet within a share of the teacher's latency; return it and that limit."""
    assert front.teacher.latency_ms is not None
    limit = round(LATENCY_SHARE * front.teacher.latency_ms, 3)
    say(f"3 of 4: picking the best member within {limit:.2f} ms, half of what the teacher takes")
    settings = PickSettings(max_latency_ms=limit, out=str(path / SMALL))
    entry = choose(front, settings)
    line = command_line("pick", [str(path / FAMILY)], settings)
    save_picked(path / FAMILY, front, entry, path / SMALL, line)
    return entry, limit


def classify(data: DataSettings, path: Path) -> list[dict[str, Any]]:
    """Return the first texts of dev with their labels and what teacher and picked model say."""
    dataset = load_dataset(data)
    rows = dataset.dev.take(np.arange(min(SHOWN_TEXTS, len(dataset.dev))))
    assert isinstance(rows, Rows)
    said = {name: labels_of(path / name, rows, data.length_limit) for name in (TEACHER, SMALL)}
    assert rows.labels is not None
    texts = []
    for i, text in enumerate(rows.text):
        pair = {} if rows.text_pair is None else {"text_pair": rows.text_pair[i]}
        label = true_label(dataset.head, rows.labels[i])
        texts.append({"text": text, **pair, "label": label, "teacher": said[TEACHER][i], "picked": said[SMALL][i]})
    return texts


def labels_of(model: Path, rows: Rows, max_length: int) -> list[Any]:
    """Return the labels that a stored model predicts for rows."""
    loaded = load_model(model)
    tokens = tokenize_rows(rows, loaded.tokenizer, loaded.source, max_length, cache=False)
    head = loaded.model.head_spec
    return [answer["label"] for answer in answers(head, predict_logits(loaded.model, tokens))]


def true_label(head: HeadSpec, label: np.generic) -> str | float:
    """Return a row's label by name, or its number in regression."""
    return float(label) if head.kind == "regression" else head.labels[int(label)]
