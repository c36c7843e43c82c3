"""Depth before fine-tuning (Fan et al. 2021, 2111.10951): choose how many of the first layers a binary task needs, by
fast computations on the frozen pre-trained model, and fine-tune only those.

Here is the choice. The paper's own criterion is not known to us: the scores of `analysis.depth_selectors` and the rule
that takes a depth by them are our choice. The truncated networks are in `depth_networks`, what is reported of them in
`depth_report`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cutbert.analysis.depth_features import depth_features
from cutbert.analysis.depth_selectors import SELECTORS, Labels, Selector, can_be_scored
from cutbert.data.rows import Rows
from cutbert.data.settings import DataSettings
from cutbert.errors import DataError, InputError, Mistakes, RunError
from cutbert.files import read_json, write_json
from cutbert.methods.depth_networks import DepthRun
from cutbert.methods.depth_report import report_of
from cutbert.methods.depth_settings import NAIVE_SELECTORS, DepthSettings
from cutbert.shape.source import Models
from cutbert.train.collating import sample_rows
from cutbert.train.progress import counter, progress_bar, say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings
from cutbert.train.working_copy import frozen_copy
from cutbert.work.inputs import Inputs, check_inputs
from cutbert.work.objective import Objective, TaskObjective
from cutbert.work.run import carry_out

CHOICE = "choice.json"


def depth(
    models: Models, data: DataSettings, train: TrainSettings, settings: DepthSettings, run: RunFolder
) -> dict[str, Any]:
    """Choose a number of layers on the frozen model, fine-tune the first ones only, and compare where asked to.

    Args:
        models: the model, pre-trained, with or without a head.
        data: a task with labels of whole texts.
        train: training flags of every fine-tuning.
        settings: how a depth is chosen and what is compared.
        run: opened run folder; receives truncated/ (the first layers before fine-tuning), model/ (after it), full/
            with `against_full`.

    Returns:
        The result with the keys out, chosen_depth, depth_scores, score, metric, seconds, and others of `report_of`.

    Raises:
        InputError: mistakes in settings, model or data, all together, before anything is made.

    Source:
        Fan et al. 2021 (2111.10951): drop the top layers, then fine-tune. The criterion is ours.
    """
    inputs = check_inputs(models, data, settings, train=train, check_method=partial(check_choice, settings, train))
    return carry_out(inputs, train, run, partial(choose_and_finetune, settings=settings, train=train, run=run))


def choose_and_finetune(objective: Objective, settings: DepthSettings, train: TrainSettings, run: RunFolder) -> None:
    """Choose a depth, fine-tune what is asked for, and store the result: the whole method."""
    assert isinstance(objective, TaskObjective)
    is_main, model = objective.engine.is_main, objective.inputs.model
    if objective.inputs.has_labels and not objective.loaded.has_new_head:
        note = f"{model} has a head for these labels already: its layers may be fine-tuned, not only pre-trained"
        say(note, shown=is_main)
    with run.timing("choose"):
        choice = stored_choice(objective, settings, train.seed, run.path / CHOICE)
    depth_run = DepthRun(objective, choice.depth, train, settings, run)
    if choice.gain is not None and choice.gain < settings.least_gain:
        say(
            f"no depth of the frozen model tells the labels well enough by {choice.by} (best gain {choice.gain:.2f} < "
            f"--least-gain {settings.least_gain}): all layers are kept",
            shown=is_main,
        )
    say(f"depth: {choice.depth} of {depth_run.num_layers} layers, by {choice.by}", shown=is_main)
    networks = depth_run.train_all()
    if is_main:
        depth_run.save_truncated()
        with run.timing("memory"):
            memory = {name: depth_run.memory(name) for name in depth_run.compared}
        depth_run.save_best(networks)
        chosen_by = {"selector": choice.by, "depth_scores": choice.depth_scores, "gain": choice.gain}
        report = report_of(depth_run, networks, memory, choice.seconds, choice.selectors(settings.all_depths))
        run.finish({"out": str(run.path), "chosen_depth": choice.depth, **chosen_by, **report})


# The choice, before any fine-tuning


@dataclass(frozen=True)
class DepthChoice:
    """A chosen depth, and what it was chosen by.

    Args:
        depth: layers kept.
        by: the selector or rule that chose, or "given".
        scores: by selector, the score of every depth, 1 layer first; empty where the model was not looked at.
        depths: by selector and rule, the depth each takes.
        seconds: what the choice took: the pass over the sample and the chosen selector.
        gain: how far the deciding selector's best score is from chance (0) to perfection (1); None: not known.
    """

    depth: int
    by: str
    scores: dict[str, list[float]] = field(default_factory=dict)
    depths: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    gain: float | None = None

    @property
    def depth_scores(self) -> dict[str, float]:
        """The scores that decided, by depth; empty for a rule or a given depth."""
        return {str(depth): score for depth, score in enumerate(self.scores.get(self.by, ()), 1)}

    def selectors(self, always: bool) -> dict[str, dict[str, Any]]:
        """Return the depth and the scores of every selector and rule; nothing where one was asked, unless always."""
        if len(self.scores) <= 1 and not always:
            return {}
        return {
            name: {"depth": depth, **({"scores": self.scores[name]} if name in self.scores else {})}
            for name, depth in self.depths.items()
        }


def stored_choice(objective: TaskObjective, settings: DepthSettings, seed: int, path: Path) -> DepthChoice:
    """Return the choice a file holds; made first, and stored, where there is none. One process chooses for all."""
    objective.engine.make_once(path, lambda: write_json(path, asdict(choose_depth(objective, settings, seed))))
    choice: DepthChoice = read_json(path, RunError, lambda data: DepthChoice(**data))
    return choice


def choose_depth(objective: TaskObjective, settings: DepthSettings, seed: int) -> DepthChoice:
    """Score every depth by one forward pass over a sample of the training rows, and take one.

    It is the smallest within epsilon of the best, or all layers where every depth scores poorly (gain below
    `least_gain`).

    Source:
        Fan et al. 2021 (2111.10951) choose before fine-tuning by fast computations on the pre-trained model; their
        criterion is not known to us, and this one is our choice.
    """
    depths = depths_by_rule(objective.loaded.model.shape.num_layers)
    if not settings.judges:
        by = "given" if settings.depth is not None else settings.selector
        return DepthChoice(settings.depth or depths[settings.selector], by, depths=depths)
    first = [] if settings.depth is not None or settings.selector in NAIVE_SELECTORS else [settings.selector]
    others = [name for name in SELECTORS if name not in first] if settings.all_selectors or settings.all_depths else []
    begun = time.monotonic()
    rows = sample_rows(len(objective.train_tokens), settings.num_examples, seed)
    model = frozen_copy(objective.loaded.model, objective.engine.dtype)
    with progress_bar("score depths", len(rows)) as bar:
        features = depth_features(model, objective.train_tokens, rows, on_batch=counter(bar))
    labels = as_numbers(np.asarray(objective.train_tokens.labels)[rows])
    scores: dict[str, list[float]] = {}
    seconds, gain = 0.0, None
    for name in (*first, *others):
        scores[name] = [SELECTORS[name].score(each, labels, seed) for each in features]
        if name in first:
            seconds = time.monotonic() - begun
            gain = SELECTORS[name].gain(scores[name], labels)
        epsilon = settings.epsilon if name in first else None
        depths[name] = depth_by(SELECTORS[name], scores[name], labels, epsilon, settings.least_gain)
    by = "given" if settings.depth is not None else settings.selector
    return DepthChoice(settings.depth or depths[by], by, scores, depths, seconds, gain)


def depths_by_rule(num_layers: int) -> dict[str, int]:
    """Return the depth of each rule that looks at no scores, by its name in NAIVE_SELECTORS."""
    return {"half": max(1, num_layers // 2), "full": num_layers}


def depth_by(
    selector: Selector, scores: Sequence[float], labels: Labels, epsilon: float | None, least_gain: float
) -> int:
    """Return the depth that a selector's scores lead to: all layers where no depth's score is far enough from chance.

    Source:
        Our choice: where labels cannot be read off the frozen model at any depth, fine-tuning has to build what tells
        them apart, and nothing is known of the layers it can do without.
    """
    gain = selector.gain(scores, labels)
    return len(scores) if gain is not None and gain < least_gain else selector.choose(scores, epsilon)


# What is refused


def check_choice(settings: DepthSettings, train: TrainSettings, inputs: Inputs) -> None:
    """Raise unless task and sample allow a depth to be chosen on this model.

    Raises:
        InputError: all that stands against it, together.
    """
    mistakes = Mistakes()
    num_layers = inputs.model.shape.num_layers
    if settings.depth is not None and settings.depth > num_layers:
        mistakes.add(f"--depth must be at most {num_layers}, the layers of {inputs.model}, got {settings.depth}")
    if not inputs.head.is_sequence:
        mistakes.extend(text_label_mistakes(settings, inputs.head.kind))
    elif settings.judges and train.has_seed:
        with mistakes.collect():
            check_sample(inputs, settings, train.seed)
    mistakes.check(InputError)


def text_label_mistakes(settings: DepthSettings, kind: str) -> list[str]:
    """Return a mistake for each thing asked for that only labels of whole texts allow."""
    mistakes = []
    if settings.depth is None and settings.selector not in NAIVE_SELECTORS:
        mistakes.append(
            f"--selector must be {' or '.join(NAIVE_SELECTORS)} with a head of kind {kind}, or give --depth K"
        )
    for option in settings.given("against_full", "all_selectors", "all_depths"):
        mistakes.append(f"{option} must not be given with a head of kind {kind}")
    return mistakes


def as_numbers(labels: Labels) -> Labels:
    """Return whether pairs are relevant as two classes, and other labels as they are."""
    return labels.astype(np.int64) if labels.dtype == np.bool_ else labels


def check_sample(inputs: Inputs, settings: DepthSettings, seed: int) -> None:
    """Raise a DataError unless the sample's labels can tell depths apart."""
    assert inputs.dataset is not None
    train = inputs.dataset.train
    assert isinstance(train, Rows) and train.labels is not None
    rows = sample_rows(len(train), settings.num_examples, seed)
    if not can_be_scored(as_numbers(np.asarray(train.labels)[rows])):
        wanted = {
            "single_label": "two rows of each of two classes",
            "multi_label": "two rows with and two without some label",
            "regression": "ten rows with different numbers",
        }[inputs.head.kind]
        raise DataError(f"the sample to judge depths on must hold {wanted}, which its {len(rows)} rows do not")
