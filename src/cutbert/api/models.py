"""The verbs that look at models: predict, measure, cost, export."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cutbert.api.result import Result
from cutbert.bench.settings import MeasureSettings
from cutbert.data.settings import DataSettings
from cutbert.exporters.settings import ExportSettings
from cutbert.settings import build_settings, command_line, takes
from cutbert.shape.cost import DEFAULT_SEQUENCE_LENGTH
from cutbert.train.predict_settings import PredictSettings


@takes(PredictSettings)
def predict(model: str | Path, **options: Any) -> Result:
    """Label the texts of a file; the labels go to a new file.

    Args:
        model: hub id, model folder or run folder with a head that classifies whole texts.
        options: fields of PredictSettings.

    Raises:
        InputError: mistakes in the arguments, the file or the model, before the model is loaded.
    """
    (settings,) = build_settings(options, PredictSettings)
    from cutbert.train.predict import predict_to_file

    return Result(predict_to_file(str(model), settings))


@takes(MeasureSettings, DataSettings)
def measure(*models: str | Path, **options: Any) -> Result:
    """Measure params, MACs, latency, throughput, memory and, with a task, score of models side by side.

    Args:
        models: hub ids, model folders or run folders.
        options: fields of MeasureSettings and, for the score, of DataSettings.

    Raises:
        InputError: mistakes in the arguments, the data or the models, before a model is loaded.
    """
    data, settings = build_settings(options, DataSettings, MeasureSettings)
    names = {each.name for each in fields(DataSettings)}
    from cutbert.bench.measure import measure_models

    return Result(measure_models([str(each) for each in models], data if names & options.keys() else None, settings))


@takes(ExportSettings, DataSettings)
def export(model: str | Path, **options: Any) -> Result:
    """Write a model as ONNX, in float32 and in int8 where that scores well enough.

    Args:
        model: model folder, run folder or, with `out`, hub id.
        options: fields of ExportSettings and, for scores, of DataSettings; without these int8 is scored on the data
            that the model's cutbert.json names.

    Raises:
        InputError: mistakes in the arguments, the data or the model, before the model is loaded; or int8 that loses
            more than `max_drop` points. Nothing is written then.
        MissingError: ONNX Runtime is not installed.
    """
    data, settings = build_settings(options, DataSettings, ExportSettings)
    if settings.onnx or settings.int8:
        from cutbert.exporters.session import check_onnx_installed

        check_onnx_installed()
    names = {each.name for each in fields(DataSettings)}
    given = data if names & options.keys() else None
    line = command_line("export", [str(model)], settings, *([] if given is None else [given]))
    from cutbert.exporters.export import export_model

    return Result(export_model(str(model), given, settings, line))


@dataclass(frozen=True, kw_only=True)
class CostSettings:
    """What costs depend on beside the model."""

    sequence_length: int = field(
        default=DEFAULT_SEQUENCE_LENGTH, metadata={"help": "Tokens of the one text that MACs are counted for."}
    )


@takes(CostSettings)
def cost(model: str | Path, **options: Any) -> Result:
    """Count params, MACs and bytes of a model folder or a shape file, without weights and without torch.

    Args:
        model: model folder, run folder, shape file, hub id, or the name of an architecture that schuBERT found (99M).
        options: fields of CostSettings.

    Raises:
        InputError: the model cannot be read.
    """
    from cutbert.shape.cost import cost_of
    from cutbert.shape.folder import read_folder_shape
    from cutbert.shape.head import HeadSpec
    from cutbert.shape.paper_shapes import PAPER_SHAPES

    (settings,) = build_settings(options, CostSettings)
    path = Path(model)
    if not path.exists():
        if str(model) in PAPER_SHAPES:
            return Result(cost_of(PAPER_SHAPES[str(model)], HeadSpec("none"), settings.sequence_length).to_json())
        from cutbert.hub.source import find_model

        path = find_model(model).folder
    facts = read_folder_shape(path)
    return Result(cost_of(facts.shape, facts.head, settings.sequence_length).to_json())
