"""Depth before fine-tuning: choose how many of the first layers a task needs, and fine-tune those only."""

from __future__ import annotations

from functools import partial
from typing import Any

from cutbert.data.settings import DataSettings
from cutbert.methods.depth_choice import check_choices, stored_choice
from cutbert.methods.depth_nets import Job
from cutbert.methods.depth_result import result_of
from cutbert.methods.depth_settings import DepthSettings
from cutbert.methods.prepare import check_inputs, prepare
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings

CHOICE = "choice.json"


def depth(
    model: str, data: DataSettings, train: TrainSettings, settings: DepthSettings, run: RunFolder
) -> dict[str, Any]:
    """Choose a number of layers on the frozen model, fine-tune the first so many, and compare where asked to.

    Args:
        model: hub id, model folder or run folder, pre-trained, with or without a head.
        data: a task with labels of whole texts.
        train: training flags of every fine-tuning.
        settings: how a depth is chosen and what is compared.
        run: opened run folder; receives truncated/ (the first layers before fine-tuning), model/ (after it), full/
            with `against_full`.

    Returns:
        The result with the keys out, chosen_depth, depth_scores, score, metric, seconds, and others of `result_of`.

    Raises:
        InputError: mistakes in settings, model or data, all together, before anything is made.

    Source:
        Fan et al. 2021 (2111.10951): drop the top layers, then fine-tune. The criterion is ours.
    """
    choices = partial(check_choices, model, settings, train)
    dataset = check_inputs(data, train, settings, models=(model,), choices=choices)
    with run.start():
        prepared = prepare(model, dataset, data.length_limit, train, run)
        if not prepared.loaded.has_new_head:
            say(
                f"{model} has a head for these labels already: its layers may be fine-tuned, not only pre-trained",
                shown=prepared.engine.is_main,
            )
        with run.timing("choose"):
            choice = stored_choice(prepared, settings, train.seed, run.path / CHOICE)
        job = Job(model, prepared, choice, train, settings, run)
        if choice.gain is not None and choice.gain < settings.least_gain:
            say(
                f"{choice.by} reads labels off no depth of the frozen model (at best {choice.gain:.2f} of the way from "
                f"chance, --least-gain {settings.least_gain}): all layers are kept",
                shown=job.is_main,
            )
        say(f"depth: {choice.depth} of {job.num_layers} layers, by {choice.by}", shown=job.is_main)
        nets = job.train_all()
        if prepared.engine.is_main:
            job.save_truncated()
            with run.timing("memory"):
                memory = {name: job.memory(name) for name in job.compared}
            job.save_best(nets)
            run.finish(result_of(job, nets, memory))
        prepared.engine.accelerator.wait_for_everyone()
    return RunFolder.read(run.path).result or {}
