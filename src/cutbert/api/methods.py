"""The verbs that make a run out of a model and data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cutbert.api.result import Result
from cutbert.api.running import find_all, run_method
from cutbert.api.runs import Run
from cutbert.api.table import VERBS
from cutbert.api.verb import documented
from cutbert.settings import build_settings

Method = Callable[..., dict[str, Any]]


@documented(VERBS)
def fit(model: str | Path, *, out: str | Path, **options: Any) -> Run:
    """Make the best network under a limit, of all that the time allows to try, as the file that is served.

    Args:
        model: hub id, model folder or run folder; without a head for the task it is fine-tuned first.
        out: run folder; an unfinished run of the same command goes on, a finished one is returned.

    Returns:
        The run; `run.leaderboard` is everything that was tried, `run["models"]` where the chosen ones are.

    Raises:
        BudgetError: limits that no network can keep.
        InputError: mistakes in the arguments, the data or the model, before anything is made.
    """

    def load() -> Method:
        from cutbert.methods.fit import fit

        return fit

    run = run_method("fit", load, model, {"out": out, **options})
    from cutbert.pages.page import own_report

    return replace(run, data={**run.data, **own_report(run.path)})


@documented(VERBS)
def finetune(model: str | Path, *, out: str | Path, **options: Any) -> Run:
    """Fine-tune a full-size model on a task: the teacher of what comes after.

    Args:
        model: hub id, model folder or run folder.
        out: run folder; an unfinished run of the same command goes on, a finished one is returned.

    Raises:
        InputError: mistakes in the arguments, the data or the model, before anything is made.
    """

    def load() -> Method:
        from cutbert.work.finetune import finetune

        return finetune

    return run_method("finetune", load, model, {"out": out, **options})


@documented(VERBS)
def dynabert(model: str | Path, *, out: str | Path, **options: Any) -> Run:
    """Make a family of subnets of any width and depth out of a model, score and measure them all.

    Args:
        model: hub id, model folder or run folder; without a head for the task a teacher is trained first.
        out: run folder; an unfinished run of the same command goes on, a finished one is returned.

    Raises:
        InputError: mistakes in the arguments, the data or the model, before anything is made.
    """

    def load() -> Method:
        from cutbert.methods.dynabert import dynabert

        return dynabert

    return run_method("dynabert", load, model, {"out": out, **options})


@documented(VERBS)
def pretrain(model: str | Path, *, out: str | Path, **options: Any) -> Run:
    """Train a model, or new weights of any shape, as a masked LM on plain text.

    Args:
        model: hub id, model folder or run folder; with `from_scratch` only its tokenizer and style are taken.
        out: run folder; an unfinished run of the same command goes on, a finished one is returned.

    Raises:
        InputError: mistakes in the arguments, the text or the model, before anything is made.
    """

    def load() -> Method:
        from cutbert.methods.pretrain import pretrain

        return pretrain

    return run_method("pretrain", load, model, {"out": out, **options})


@documented(VERBS)
def schubert(model: str | Path, *, out: str | Path, **options: Any) -> Run:
    """Cut a model to a budget in every dimension, by learned gates under a price, and heal it.

    Args:
        model: hub id, model folder or run folder; without a head for the task a teacher is trained first.
        out: run folder; an unfinished run of the same command goes on, a finished one is returned.

    Raises:
        InputError: mistakes in the arguments, the data or the model, or a budget out of reach, before anything is made.
    """

    def load() -> Method:
        from cutbert.methods.schubert import schubert

        return schubert

    return run_method("schubert", load, model, {"out": out, **options})


@documented(VERBS)
def undivided(model: str | Path, *, out: str | Path, **options: Any) -> Run:
    """Remove feed-forwards from a model and heal it, or train a masked LM with few of them from scratch.

    Args:
        model: hub id, model folder or run folder; without a head for the task a teacher is trained first. With
            `from_scratch` only its tokenizer and style are taken.
        out: run folder; an unfinished run of the same command goes on, a finished one is returned.

    Raises:
        InputError: mistakes in the arguments, the data or the model, before anything is made.
    """

    def load() -> Method:
        from cutbert.methods.undivided import undivided

        return undivided

    return run_method("undivided", load, model, {"out": out, **options})


@documented(VERBS)
def depth(model: str | Path, *, out: str | Path, **options: Any) -> Run:
    """Choose by the frozen model how many layers a task needs, then fine-tune only the first N.

    Args:
        model: hub id, model folder or run folder.
        out: run folder; an unfinished run of the same command goes on, a finished one is returned.

    Raises:
        InputError: mistakes in the arguments, the data or the model, before anything is made.
    """

    def load() -> Method:
        from cutbert.methods.depth import depth

        return depth

    return run_method("depth", load, model, {"out": out, **options})


@documented(VERBS)
def demo(**options: Any) -> Result:
    """Do the main job on an embedded model and data set, in minutes, and write a page of it, report.html.

    Raises:
        InputError: mistakes in the arguments, the data or the model, before anything is made.
        MissingError: the weights cannot be had; says how to give a local folder.
    """
    (settings,) = build_settings(options, *VERBS["demo"].settings)
    find_all([settings], [], named={} if settings.model is None else {"model": settings.model})
    from cutbert.methods.demo import demo
    from cutbert.pages.page import own_report

    result = demo(settings)
    return Result("demo", {**result, **own_report(Path(result["out"]))})
