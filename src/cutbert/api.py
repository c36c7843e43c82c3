"""One function per verb, returning a frozen result whose to_json() is the --json object.

Importing this loads neither torch nor transformers; each verb loads what it needs when called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from cutbert.bench.settings import LatencySettings
from cutbert.data.settings import DataSettings
from cutbert.data.text_settings import TextSettings
from cutbert.errors import InputError, Mistakes, RunError
from cutbert.fronts.front import Entry, Front
from cutbert.fronts.pick import check_measured_here, choose, picked_json, save_picked
from cutbert.fronts.settings import FrontSettings, PickSettings
from cutbert.methods.demo_settings import DemoSettings
from cutbert.methods.pretrain_settings import PretrainSettings
from cutbert.methods.settings import DynabertSettings, FinetuneSettings, SchubertSettings
from cutbert.settings import RunSettings, build_settings, command_line, takes
from cutbert.shape.cost import DEFAULT_SEQUENCE_LENGTH
from cutbert.train.predict_settings import PredictSettings
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings


@dataclass(frozen=True)
class Result:
    """What a verb found: the --json object, also by key."""

    data: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def to_json(self) -> dict[str, Any]:
        return dict(self.data)


@dataclass(frozen=True)
class Run(Result):
    """A finished run.

    Args:
        data: the result it stored.
        path: its folder.
    """

    path: Path

    @property
    def front(self) -> Front:
        """Its scored and measured subnets, as they are stored now.

        Raises:
            RunError: the run's command makes no front.
        """
        return Front.load(self.path)

    def pick(self, **limits: Any) -> Picked:
        """Return the best subnet under limits; arguments as of `cutbert.pick`."""
        return pick(self.path, **limits)


@dataclass(frozen=True)
class Picked:
    """A subnet picked from a run.

    Args:
        entry: its scores and costs.
        run: the run folder it comes from.
        settings: the limits it was picked under.
        out: where it was written, None where it was not.
        select_is_dev: whether it was chosen on dev itself.
    """

    entry: Entry
    run: Path
    settings: PickSettings
    out: Path | None = None
    select_is_dev: bool = False

    def save_pretrained(self, folder: str | Path) -> None:
        """Cut the subnet out and write it as a model folder.

        Raises:
            RunError: the folder is not empty.
        """
        settings = PickSettings(**{**asdict(self.settings), "out": str(folder)})
        settings.check()
        line = command_line("pick", [str(self.run)], settings)
        save_picked(self.run, Front.load(self.run), self.entry, Path(folder), line)

    def to_json(self) -> dict[str, Any]:
        return picked_json(self.entry, self.out, select_is_dev=self.select_is_dev)


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
        from cutbert.methods.finetune import finetune

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
        from cutbert.methods.dynabert_text import dynabert_text

        return dynabert_text if is_on_text(options) else dynabert

    return run_method("dynabert", method, (data_kind(options), DynabertSettings), model, {"out": out, **options})


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
        from cutbert.methods.schubert import schubert, schubert_text

        return schubert_text if is_on_text(options) else schubert

    return run_method("schubert", method, (data_kind(options), SchubertSettings), model, {"out": out, **options})


def is_on_text(options: Mapping[str, Any]) -> bool:
    """Return whether a method is asked to work on plain text, not on a task."""
    return options.get("objective") == "mlm"


def data_kind(options: Mapping[str, Any]) -> type[DataSettings] | type[TextSettings]:
    """Return the settings that say which data a method works on.

    Raises:
        InputError: an objective that is none.
    """
    objective = options.get("objective", "task")
    if objective not in ("task", "mlm"):
        raise InputError(f"objective must be one of task, mlm, got {objective!r}")
    return TextSettings if is_on_text(options) else DataSettings


def run_method(
    verb: str,
    method: Callable[[], Callable[..., dict[str, Any]]],
    kinds: tuple[type[Any], type[Any]],
    model: str | Path,
    options: Mapping[str, Any],
) -> Run:
    """Open the run folder, then return its stored result or run the method.

    Args:
        verb: its name.
        method: loads and returns its function.
        kinds: settings of its data, and its own.
        model: the verb's word.
        options: fields of these, of TrainSettings and of RunSettings.
    """
    data, train, own, place = build_settings(options, kinds[0], TrainSettings, kinds[1], RunSettings)
    settings = {"model": str(model), "data": asdict(data), "train": asdict(train), verb: asdict(own)}
    line = command_line(verb, [str(model)], place, data, train, own)
    mistakes = Mistakes()
    with mistakes.collect():
        run = RunFolder.open(place.out, verb, settings, line=line, allow_changed=place.allow_changed)
    if mistakes.found:
        for each in (data, train, own):
            with mistakes.collect():
                each.check()
    mistakes.check(RunError)
    result = run.result if run.result is not None else method()(str(model), data, train, own, run)
    if isinstance(data, DataSettings) and data.select == "dev":
        result = {**result, "select_is_dev": True}
    return Run(result, run.path)


def open_run(path: str | Path) -> Run:
    """Return a finished run.

    Raises:
        RunError: there is no run, or one that is not finished.
    """
    run = RunFolder.read(path)
    if run.result is None:
        raise RunError(f"{path}: the run of {run.data['command']} is not finished; the same command goes on with it")
    return Run(run.result, run.path)


@takes(FrontSettings)
def front(run: str | Path, **options: Any) -> Front:
    """Return the scored and measured subnets of a run.

    Args:
        run: run folder of a method that makes a front.
        options: fields of FrontSettings; `measure=True` measures latencies anew and stores them.

    Raises:
        InputError: no finished run with a front, or settings out of range.
    """
    (settings,) = build_settings(options, FrontSettings)
    settings.check()
    found = open_run(run).front
    if not settings.measure:
        return found
    from cutbert.fronts.measure import measure_again

    return measure_again(Path(run), found, settings)


@takes(PickSettings)
def pick(run: str | Path, **options: Any) -> Picked:
    """Return the best subnet of a run under limits, and write it where `out` is given.

    Args:
        run: run folder of a method that makes a front.
        options: fields of PickSettings.

    Raises:
        BudgetError: nothing fits; names the nearest.
        InputError: no finished run with a front, latencies of another machine, or settings out of range.
    """
    (settings,) = build_settings(options, PickSettings)
    settings.check()
    found = open_run(run).front
    if settings.max_latency_ms is not None:
        check_measured_here(Path(run), found)
    entry = choose(found, settings, stock=settings.stock)
    out = None if settings.out is None else Path(settings.out)
    picked = Picked(entry, Path(run), settings, out, found.select_is_dev)
    if picked.out is not None:
        picked.save_pretrained(picked.out)
    return picked


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


@takes(LatencySettings, DataSettings)
def measure(*models: str | Path, **options: Any) -> Result:
    """Measure params, MACs, latency, throughput, memory and, with a task, score of models side by side.

    Args:
        models: hub ids, model folders or run folders.
        options: fields of LatencySettings and, for the score, of DataSettings.

    Raises:
        InputError: mistakes in the arguments, the data or the models, before a model is loaded.
    """
    data, settings = build_settings(options, DataSettings, LatencySettings)
    names = {each.name for each in fields(DataSettings)}
    from cutbert.bench.measure import measure_models

    return Result(measure_models([str(each) for each in models], data if names & options.keys() else None, settings))


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
        model: model folder, run folder, shape file, or hub id.
        options: fields of CostSettings.

    Raises:
        InputError: the model cannot be read.
    """
    from cutbert.shape.cost import cost_of
    from cutbert.shape.folder import read_folder_shape

    (settings,) = build_settings(options, CostSettings)
    path = Path(model)
    if not path.exists():
        from cutbert.hub.source import find_source

        path = find_source(model).folder
    facts = read_folder_shape(path)
    return Result(cost_of(facts.shape, facts.head, settings.sequence_length).to_json())


@takes(DemoSettings)
def demo(**options: Any) -> Result:
    """Do the main job on an embedded model and data set, in minutes.

    Args:
        options: fields of DemoSettings.

    Raises:
        InputError: mistakes in the arguments, the data or the model, before anything is made.
        MissingError: the weights cannot be had; says how to give a local folder.
    """
    (settings,) = build_settings(options, DemoSettings)
    settings.check()
    from cutbert.methods.demo import demo

    return Result(demo(settings))
