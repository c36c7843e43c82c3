"""The verb `analyze`: CKA between the layers of one model or two, linear probes, importance; numbers and pictures."""

from __future__ import annotations

from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

from cutbert.analysis.inputs import check_inputs, draw_texts, load_models
from cutbert.analysis.report import analysis_report
from cutbert.analysis.settings import AnalyzeSettings
from cutbert.data.settings import DataSettings
from cutbert.errors import MissingError
from cutbert.files import write_json
from cutbert.shape.source import Models
from cutbert.train.engine import make_engine
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings

FILE_NAME = "analysis.json"
HOW_TO_GET_PICTURES = "pictures need matplotlib: pip install 'cutbert[report]'"


def analyze(models: Models, data: DataSettings, settings: AnalyzeSettings, run: RunFolder | None) -> dict[str, Any]:
    """Analyse a model's layers; with a run folder, write the numbers and their pictures there.

    Args:
        models: the model, and the one it is set against.
        data: the task.
        settings: what to measure.
        run: opened run folder, None for numbers alone.

    Returns:
        The --json object; docs/analyze.md explains each key.

    Raises:
        InputError: mistakes in settings, models or data, all together, before anything is made.
        MissingError: pictures are asked for and matplotlib is not installed.
    """
    sources = [models.model, *models.others.values()]
    dataset = check_inputs(sources, data, settings)
    kind = kind_of_pictures(settings)
    texts = draw_texts(dataset, settings)
    with run.start() if run is not None else nullcontext():
        device = make_engine(TrainSettings(device=settings.device, threads=settings.threads)).device
        analyzed = load_models(sources, texts, data, settings, device)
        if run is not None:
            run.record(data=dataset.files)
        for note in (*dataset.notes, *(note for each in analyzed for note in each.loaded.notes)):
            say(note)
        result = analysis_report(analyzed, texts, settings)
        if run is None:
            return result
        result = {"out": str(run.path), **result}
        if kind is not None:
            from cutbert.analysis.pictures import draw_all

            result["pictures"] = draw_all(result, run.path, kind)
        result["seconds"] = run.seconds
        write_json(run.path / FILE_NAME, result)
        run.finish(result)
    return result


def kind_of_pictures(settings: AnalyzeSettings) -> str | None:
    """Return the format of the pictures, None for none.

    Raises:
        MissingError: they are asked for and matplotlib is not installed.
    """
    if settings.out is None or settings.pictures == "none":
        return None
    if find_spec("matplotlib") is not None:
        return settings.pictures or "svg"
    if settings.pictures is not None:
        raise MissingError(f"--pictures {settings.pictures}: {HOW_TO_GET_PICTURES}")
    say(f"no pictures, numbers only: {HOW_TO_GET_PICTURES}")
    return None
