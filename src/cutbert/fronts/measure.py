"""Measures the latency of a front's subnets, each cut out, and of the uncut model, interleaved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cutbert.bench.latency import THROUGHPUT_ROUNDS, conditions, settings_lengths, time_networks
from cutbert.bench.latency_table import LatencyTable
from cutbert.bench.measure_table import measure_table
from cutbert.bench.settings import BackendName, LatencySettings
from cutbert.errors import RunError
from cutbert.folders.load import load_model
from cutbert.fronts.front import TEACHER_INT8, Front
from cutbert.model.task_model import TaskModel
from cutbert.shape.folder import read_folder_shape
from cutbert.shape.subnet import Subnet
from cutbert.surgery.extract import extract
from cutbert.train.engine import make_engine
from cutbert.train.machine import num_threads
from cutbert.train.progress import counter, progress_bar, say
from cutbert.train.settings import TrainSettings


def measure_front(
    front: Front,
    models: Mapping[str | None, TaskModel],
    uncut: TaskModel,
    lengths: Sequence[int],
    settings: LatencySettings,
    *,
    on_round: Callable[[], None] | None = None,
) -> Front:
    """Return the front with the latency of every subnet and of the uncut model, measured in one interleaved run.

    On the CPU the uncut model's int8 is timed beside them, which is what most people would serve without cutting.
    Subnets are extracted first. Those that keep the embedding tables whole share the supernet's, so that a large
    family fits in memory.

    Args:
        front: scored subnets.
        models: by an entry's folder, the supernet of its subnet.
        uncut: the uncut model, entry "teacher" of the front.
        lengths: tokens per text (`sample_lengths` of dev); settings.length replaces them.
        settings: backend, threads, rounds, batch size.
        on_round: called after each of `num_rounds(settings)` rounds.
    """
    settings.check()
    lengths = settings_lengths(settings, lengths)
    networks = {front.teacher.name: uncut}
    networks |= {entry.name: cut_out(models[entry.folder], entry.subnet) for entry in front}
    device = next(uncut.parameters()).device.type
    is_on_cpu = settings.is_on_cpu or device == "cpu"
    int8: dict[str, tuple[BackendName, TaskModel]] = {TEACHER_INT8: ("onnx-int8", uncut)}
    also = int8 if is_on_cpu and settings.backend != "onnx-int8" else {}
    with num_threads(settings.threads) as threads:
        times = time_networks(networks, lengths, settings, also=also, on_round=on_round)
    measured = conditions(settings, lengths, threads, device, times.quality)
    return front.with_times({name: each.to_json() for name, each in times.items()}, measured)


def num_rounds(settings: LatencySettings) -> int:
    """Return how often measure_front calls on_round."""
    return settings.rounds + THROUGHPUT_ROUNDS


def cut_out(model: TaskModel, subnet: Subnet) -> TaskModel:
    """Return a subnet as a separate network, which shares the supernet's embedding tables where they are whole."""
    network = extract(model, subnet)
    if network.shape.hidden_size == model.shape.hidden_size:
        network.encoder.embeddings = model.encoder.embeddings
    return network


def measure_again(run: Path, front: Front, settings: LatencySettings) -> Front:
    """Measure a finished run's front again on this machine and store it in the run.

    Lengths are the run's recorded ones unless the settings fix one. The uncut model runs with new weights:
    only its sizes matter here.

    Raises:
        RunError: the fixed length, or the default one where none are recorded, exceeds the model's positions.
    """
    lengths = [] if front.measured is None else front.measured["lengths"]
    longest, room = max(settings_lengths(settings, lengths)), read_folder_shape(run).max_tokens
    if longest > room:
        raise RunError(f"--length must be at most {room}, the positions of {run}, got {longest}")
    device = make_engine(TrainSettings(device=settings.engine_device, threads=settings.threads)).device
    model = load_model(run).model.to(device)
    models: dict[str | None, TaskModel] = {None: model}
    for folder in {entry.folder for entry in front if entry.folder is not None}:
        models[folder] = load_model(run / folder).model.to(device)
    uncut = model
    if front.teacher.shape != model.shape:
        uncut = TaskModel(front.teacher.shape, model.style, model.head_spec).to(device)
    with progress_bar("latency", num_rounds(settings)) as bar:
        measured = measure_front(front, models, uncut, lengths, settings, on_round=counter(bar))
    measured.save(run)
    return measured


def timed_table(
    model: TaskModel, dims: Sequence[str], lengths: Sequence[int], settings: LatencySettings
) -> LatencyTable:
    """Measure a network's latency table, and tell the user its error."""
    say(f"latency: timing sub-layers of several sizes on {settings.backend}")
    with progress_bar("latency table", num_rounds(settings)) as bar:
        table = measure_table(model, dims, lengths, settings, on_round=counter(bar))
    say(f"latency: on networks that are not in it the table is off by {100 * table.error:.1f} % (median)")
    return table
