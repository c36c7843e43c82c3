"""The verbs that look at models and runs: predict, measure, cost, export, analyze, report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, overload

from cutbert.api.result import Result
from cutbert.api.running import find_all, find_models, open_run_folder
from cutbert.api.table import VERBS
from cutbert.api.verb import documented
from cutbert.data.settings import DataSettings
from cutbert.settings import build_settings, command_line
from cutbert.train.predict_settings import AnswerSettings, check_predicts


@overload
def predict(model: str | Path, *, texts: Iterable[Any], **options: Any) -> list[Any]: ...
@overload
def predict(model: str | Path, *, texts: None = None, **options: Any) -> Result: ...


@documented(VERBS)
def predict(model: str | Path, *, texts: Iterable[Any] | None = None, **options: Any) -> Result | list[Any]:
    """Label, tag, answer, embed or score texts: of a file, whose answers go to a new file, or of a list.

    Args:
        model: hub id, model folder or run folder.
        texts: instead of a file, texts, pairs of texts as tuples (of a reader question and text), or of a tagger texts
            or lists of words. Then of the options only backend, batch_size, max_length, prompt_name, threads and device
            are given.

    Returns:
        Of a file the result. Of texts the answers in their order, as cutbert.runtime gives them.

    Raises:
        InputError: mistakes in the arguments, the file or the model, before the model is loaded; an item of `texts`
            that is not of the model's kind.
    """
    (settings,) = build_settings(options, *(VERBS["predict"].settings if texts is None else (AnswerSettings,)))
    source = find_models([settings], model, lambda source: check_predicts(source, settings.backend)).model
    from cutbert.train.predict import predict_texts, predict_to_file

    if texts is not None:
        return predict_texts(source, texts, settings)
    return Result("predict", predict_to_file(source, settings))


@documented(VERBS)
def measure(*models: str | Path, **options: Any) -> Result:
    """Measure params, MACs, latency, throughput, memory and, with a task, score of models side by side.

    Without options that name data, the task is the one that each cutbert.json with a task names, where it can be used.

    Args:
        models: hub ids, model folders or run folders.

    Raises:
        InputError: mistakes in the arguments, the data or the models, before a model is loaded.
    """
    settings, data = build_settings(options, *VERBS["measure"].settings)
    given = given_data(data, options)
    sources = find_all([settings, *given], models)
    from cutbert.bench.measure import measure_models

    return Result("measure", measure_models(sources, given[0] if given else None, settings))


@documented(VERBS)
def export(model: str | Path, **options: Any) -> Result:
    """Write a model as ONNX, in float32 and in int8 where that scores well enough.

    Without options that name data, int8 is scored on the data that the model's cutbert.json names.

    Args:
        model: model folder, run folder or, with `out`, hub id.

    Raises:
        InputError: mistakes in the arguments, the data or the model, before the model is loaded; or int8 that loses
            more than `max_drop` points. Nothing is written then.
        MissingError: a layout needs a package that is not installed.
    """
    settings, data = build_settings(options, *VERBS["export"].settings)
    given = given_data(data, options)
    source = find_models([settings, *given], model).model
    line = command_line("export", [str(model)], settings, *given)
    from cutbert.exporters.export import export_model

    return Result("export", export_model(source, given[0] if given else None, settings, line))


def given_data(data: DataSettings, options: dict[str, Any]) -> list[DataSettings]:
    """Return the data, or nothing where no option names any."""
    return [data] if {each.name for each in fields(DataSettings)} & options.keys() else []


@documented(VERBS)
def cost(model: str | Path, **options: Any) -> Result:
    """Count params, MACs and bytes of a model folder or a shape file, without weights and without torch.

    Args:
        model: model folder, run folder, shape file, hub id, or the name of an architecture that schuBERT found (99M).

    Raises:
        InputError: the model cannot be read.
    """
    from cutbert.shape.cost import cost_of
    from cutbert.shape.folder import read_folder_shape
    from cutbert.shape.head import HeadSpec
    from cutbert.shape.paper_shapes import PAPER_SHAPES
    from cutbert.shape.source import find_model

    (settings,) = build_settings(options, *VERBS["cost"].settings)
    settings.check()
    if Path(model).exists():
        facts = read_folder_shape(Path(model))  # a shape file too, which is not a model
        shape, head = facts.shape, facts.head
    elif str(model) in PAPER_SHAPES:
        shape, head = PAPER_SHAPES[str(model)], HeadSpec("none")
    else:
        source = find_model(model)
        shape, head = source.shape, source.head
    return Result("cost", cost_of(shape, head, settings.sequence_length).to_json())


@documented(VERBS)
def analyze(model: str | Path, **options: Any) -> Result:
    """Look into a model, alone or beside another: CKA between layers, linear probes, importance by layer.

    Args:
        model: hub id, model folder or run folder.

    Raises:
        InputError: mistakes in the arguments, the data or the models, before anything is made.
        MissingError: pictures are asked for and matplotlib is not installed.
    """
    settings, data = build_settings(options, *VERBS["analyze"].settings)
    run = None
    if settings.out is not None:
        own = {name: value for name, value in asdict(settings).items() if name != "out"}
        plain = {"model": str(model), "data": asdict(data), "analyze": own}
        line = command_line("analyze", [str(model)], data, settings)
        # Nothing is taken over from an unfinished run, so that another machine is no hindrance.
        run = open_run_folder("analyze", plain, (data, settings), line, out=settings.out, allow_changed=True)
        if run.result is not None:
            return Result("analyze", run.result)
    models = find_models((data, settings), model)
    from cutbert.analysis.analyze import analyze

    return Result("analyze", analyze(models, data, settings, run))


@documented(VERBS)
def report(*runs: str | Path, **options: Any) -> Result:
    """Write one HTML page of one run or several; it opens offline.

    Args:
        runs: run folders, finished; of a demo, its folder.

    Raises:
        InputError: no runs, unfinished or damaged ones, a file in the way; all together, before anything is written.
        MissingError: jinja2 is not installed; says how to get it.
    """
    (settings,) = build_settings(options, *VERBS["report"].settings)
    from cutbert.pages.page import write_report

    return Result("report", write_report([str(run) for run in runs], settings))
