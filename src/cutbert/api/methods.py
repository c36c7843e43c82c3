"""The verbs that make a run out of a model and data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cutbert.api.result import Result
from cutbert.api.running import data_settings, run_method
from cutbert.api.runs import Run
from cutbert.data.settings import DataSettings
from cutbert.data.text_settings import TextSettings
from cutbert.methods.demo_settings import DemoSettings
from cutbert.methods.depth_settings import DepthSettings
from cutbert.methods.pretrain_settings import PretrainSettings
from cutbert.methods.settings import DynabertSettings, FinetuneSettings, SchubertSettings
from cutbert.methods.undivided_settings import UndividedSettings
from cutbert.settings import RunSettings, build_settings, takes
from cutbert.train.settings import TrainSettings


@takes(DataSettings, TrainSettings, FinetuneSettings, RunSettings)
def finetune(model: str | Path, *, out: str | Path, **options: Any) -> Run:
    """Fine-tune a full-size model on a task: the teacher of what comes after.

    Args:
        model: hub id, model folder or run folder.
        out: run folder; an unfinished run of the same command goes on, a finished one is returned.
        options: fields of DataSettings, TrainSettings, FinetuneSettings and RunSettings.

    Raises:
        InputError: mistakes in the arguments, the data or the model, before anything is made.
    """

    def method() -> Callable[..., dict[str, Any]]:
        from cutbert.work.finetune import finetune

        return finetune

    return run_method("finetune", method, (DataSettings, FinetuneSettings), model, {"out": out, **options})


@takes(DataSettings, TextSettings, TrainSettings, DynabertSettings, RunSettings)
def dynabert(model: str | Path, *, out: str | Path, **options: Any) -> Run:
    """Make a family of subnets of any width and depth out of a model, score and measure them all.

    Args:
        model: hub id, model folder or run folder; without a head for the task a teacher is trained first.
        out: run folder; an unfinished run of the same command goes on, a finished one is returned.
        options: fields of DataSettings (with objective="mlm" of TextSettings), TrainSettings, DynabertSettings and
            RunSettings.

    Raises:
        InputError: mistakes in the arguments, the data or the model, before anything is made.
    """

    def method() -> Callable[..., dict[str, Any]]:
        from cutbert.methods.dynabert import dynabert

        return dynabert

    return run_method("dynabert", method, (data_settings(options), DynabertSettings), model, {"out": out, **options})


@takes(TextSettings, TrainSettings, PretrainSettings, RunSettings)
def pretrain(model: str | Path, *, out: str | Path, **options: Any) -> Run:
    """Train a model, or new weights of any shape, as a masked LM on plain text.

    Args:
        model: hub id, model folder or run folder; with `from_scratch` only its tokenizer and style are taken.
        out: run folder; an unfinished run of the same command goes on, a finished one is returned.
        options: fields of TextSettings, TrainSettings, PretrainSettings and RunSettings.

    Raises:
        InputError: mistakes in the arguments, the text or the model, before anything is made.
    """

    def method() -> Callable[..., dict[str, Any]]:
        from cutbert.methods.pretrain import pretrain

        return pretrain

    return run_method("pretrain", method, (TextSettings, PretrainSettings), model, {"out": out, **options})


@takes(DataSettings, TextSettings, TrainSettings, SchubertSettings, RunSettings)
def schubert(model: str | Path, *, out: str | Path, **options: Any) -> Run:
    """Cut a model to a budget in every dimension, by learned gates under a price, and heal it.

    Args:
        model: hub id, model folder or run folder; without a head for the task a teacher is trained first.
        out: run folder; an unfinished run of the same command goes on, a finished one is returned.
        options: fields of DataSettings (with objective="mlm" of TextSettings), TrainSettings, SchubertSettings and
            RunSettings.

    Raises:
        InputError: mistakes in the arguments, the data or the model, or a budget out of reach, before anything is made.
    """

    def method() -> Callable[..., dict[str, Any]]:
        from cutbert.methods.schubert import schubert

        return schubert

    return run_method("schubert", method, (data_settings(options), SchubertSettings), model, {"out": out, **options})


@takes(DataSettings, TextSettings, TrainSettings, UndividedSettings, RunSettings)
def undivided(model: str | Path, *, out: str | Path, **options: Any) -> Run:
    """Remove feed-forwards from a model and heal it, or train a masked LM with few of them from scratch.

    Args:
        model: hub id, model folder or run folder; without a head for the task a teacher is trained first. With
            `from_scratch` only its tokenizer and style are taken.
        out: run folder; an unfinished run of the same command goes on, a finished one is returned.
        options: fields of DataSettings (with objective="mlm" or from_scratch of TextSettings), TrainSettings,
            UndividedSettings and RunSettings.

    Raises:
        InputError: mistakes in the arguments, the data or the model, before anything is made.
    """

    def method() -> Callable[..., dict[str, Any]]:
        from cutbert.methods.undivided import undivided

        return undivided

    return run_method("undivided", method, (data_settings(options), UndividedSettings), model, {"out": out, **options})


@takes(DataSettings, TrainSettings, DepthSettings, RunSettings)
def depth(model: str | Path, *, out: str | Path, **options: Any) -> Run:
    """Choose how many layers a task needs on the frozen model, and fine-tune the first so many.

    Args:
        model: hub id, model folder or run folder.
        out: run folder; an unfinished run of the same command goes on, a finished one is returned.
        options: fields of DataSettings, TrainSettings, DepthSettings and RunSettings.

    Raises:
        InputError: mistakes in the arguments, the data or the model, before anything is made.
    """

    def method() -> Callable[..., dict[str, Any]]:
        from cutbert.methods.depth import depth

        return depth

    return run_method("depth", method, (DataSettings, DepthSettings), model, {"out": out, **options})


@takes(DemoSettings)
def demo(**options: Any) -> Result:
    """Do the main job on an embedded model and data set, in minutes, and write a page of it, report.html.

    Args:
        options: fields of DemoSettings.

    Raises:
        InputError: mistakes in the arguments, the data or the model, before anything is made.
        MissingError: the weights cannot be had; says how to give a local folder.
    """
    (settings,) = build_settings(options, DemoSettings)
    settings.check()
    from cutbert.methods.demo import demo
    from cutbert.pages.page import demo_report

    result = demo(settings)
    return Result({**result, **demo_report(Path(result["out"]))})
