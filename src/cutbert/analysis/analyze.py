"""Looks into a model, alone or beside another: CKA between layers, linear probes, importance; numbers and pictures."""

from __future__ import annotations

from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

from cutbert.analysis.look import look
from cutbert.analysis.settings import AnalyzeSettings
from cutbert.analysis.subjects import check_inputs, draw_texts, load_subjects
from cutbert.data.settings import DataSettings
from cutbert.errors import MissingError
from cutbert.files import write_json
from cutbert.train.engine import make_engine
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings

FILE_NAME = "analysis.json"
HOW_TO_GET_PICTURES = "pictures need matplotlib: pip install 'cutbert[report]'"


def analyze(model: str, data: DataSettings, settings: AnalyzeSettings, run: RunFolder | None) -> dict[str, Any]:
    """Return what a model's layers represent, and write it with pictures where there is a run folder.

    Args:
        model: hub id, model folder or run folder.
        data: the task.
        settings: what is looked at.
        run: opened run folder, None for numbers alone.

    Returns:
        The result; docs/analyze.md says what each key holds.

    Raises:
        InputError: mistakes in settings, models or data, all together, before anything is made.
        MissingError: pictures are asked for and matplotlib is not installed.
    """
    models = [model] if settings.against is None else [model, settings.against]
    dataset = check_inputs(models, data, settings)
    kind = kind_of_pictures(settings)
    texts = draw_texts(dataset, settings)
    with run.start() if run is not None else nullcontext():
        device = make_engine(TrainSettings(device=settings.device, threads=settings.threads)).device
        subjects = load_subjects(models, texts, data, settings, device)
        if run is not None:
            run.record(data=dataset.files)
        for note in (*dataset.notes, *(note for each in subjects for note in each.loaded.notes)):
            say(note)
        result = look(subjects, texts, settings)
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
