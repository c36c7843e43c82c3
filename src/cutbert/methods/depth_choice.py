"""Chooses how many layers a task needs, on the frozen pre-trained model, before any fine-tuning."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from cutbert.analysis.depth_features import depth_features
from cutbert.analysis.depth_selectors import SELECTORS, Labels, Selector, can_be_scored
from cutbert.data.dataset import Dataset
from cutbert.data.rows import Rows
from cutbert.errors import DataError, InputError, Mistakes
from cutbert.files import read_json, write_json
from cutbert.hub.source import find_source
from cutbert.methods.depth_settings import RULES, DepthSettings
from cutbert.methods.prepare import Prepared
from cutbert.methods.samples import sample_rows
from cutbert.shape.folder import read_folder_shape
from cutbert.train.counting import counter
from cutbert.train.progress import progress_bar
from cutbert.train.settings import TrainSettings
from cutbert.train.working import frozen_copy


@dataclass(frozen=True)
class Choice:
    """A chosen depth, and what stands behind it.

    Args:
        depth: layers kept.
        by: the selector or rule that chose, or "given".
        scores: by selector, the score of every depth, 1 layer first; empty where the model was not looked at.
        depths: by selector and rule, the depth each takes.
        seconds: what the choice took: the pass over the sample and the chosen selector.
        gain: how far the deciding selector's best score lies from chance (0) to perfection (1); None: not known.
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


def check_choices(model: str, settings: DepthSettings, train: TrainSettings, data: Dataset) -> None:
    """Raise unless a depth can be chosen for the task on this model: labels of texts, some to tell apart, or a rule.

    Raises:
        InputError: all that stands against it, together.
    """
    mistakes = Mistakes()
    layers = read_folder_shape(find_source(model).folder).shape.num_layers
    if settings.depth is not None and settings.depth > layers:
        mistakes.add(f"--depth must be at most {layers}, the layers of {model}, got {settings.depth}")
    if not data.head.is_sequence:
        mistakes.extend(beyond_words(settings, data.head.kind))
    elif settings.judges and train.has_seed:
        with mistakes.collect():
            check_sample(data, settings, train.seed)
    mistakes.check(InputError)


def beyond_words(settings: DepthSettings, kind: str) -> list[str]:
    """Return a mistake for each thing asked for that only labels of whole texts allow."""
    found = []
    if settings.depth is None and settings.selector not in RULES:
        found.append(f"--selector must be {' or '.join(RULES)} with a head of kind {kind}, or give --depth K")
    for name in ("against_full", "all_selectors", "all_depths"):
        if getattr(settings, name):
            found.append(f"--{name.replace('_', '-')} must not be given with a head of kind {kind}")
    return found


def check_sample(data: Dataset, settings: DepthSettings, seed: int) -> None:
    """Raise a DataError unless the sample's labels can tell depths apart."""
    assert isinstance(data.train, Rows) and data.train.labels is not None
    rows = sample_rows(len(data.train), settings.num_examples, seed)
    if not can_be_scored(np.asarray(data.train.labels)[rows]):
        wanted = {
            "single_label": "two rows of each of two classes",
            "multi_label": "two rows with and two without some label",
            "regression": "ten rows with different numbers",
        }[data.head.kind]
        raise DataError(f"the sample to judge depths on must hold {wanted}, got {len(rows)} rows without")


def stored_choice(prepared: Prepared, settings: DepthSettings, seed: int, path: Path) -> Choice:
    """Return the choice a file holds; made first, and stored, where there is none. One process chooses for all."""
    if prepared.engine.is_main and not path.is_file():
        write_json(path, asdict(choose_depth(prepared, settings, seed)))
    prepared.engine.accelerator.wait_for_everyone()
    return Choice(**read_json(path))


def choose_depth(prepared: Prepared, settings: DepthSettings, seed: int) -> Choice:
    """Judge every depth by one forward pass over a sample of the training rows, and take one.

    It is the smallest within epsilon of the best, or all layers where labels are read off no depth.

    Source:
        Fan et al. 2021 (2111.10951) choose before fine-tuning by fast computations on the pre-trained model; their
        criterion is not known to us, and this one is our choice.
    """
    depths = depths_by_rule(prepared.loaded.model.shape.num_layers)
    if not settings.judges:
        by = "given" if settings.depth is not None else settings.selector
        return Choice(settings.depth or depths[settings.selector], by, depths=depths)
    first = [] if settings.depth is not None or settings.selector in RULES else [settings.selector]
    others = [name for name in SELECTORS if name not in first] if settings.all_selectors or settings.all_depths else []
    begun = time.monotonic()
    rows = sample_rows(len(prepared.train), settings.num_examples, seed)
    model = frozen_copy(prepared.loaded.model, prepared.engine.dtype)
    with progress_bar("judge depths", len(rows)) as bar:
        features = depth_features(model, prepared.train, rows, settings.pooling, on_batch=counter(bar))
    labels = np.asarray(prepared.train.labels)[rows]
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
    return Choice(settings.depth or depths[by], by, scores, depths, seconds, gain)


def depths_by_rule(num_layers: int) -> dict[str, int]:
    """Return the depth of each rule that looks at no scores, by its name in RULES."""
    return {"half": max(1, num_layers // 2), "full": num_layers}


def depth_by(
    selector: Selector, scores: Sequence[float], labels: Labels, epsilon: float | None, least_gain: float
) -> int:
    """Return the depth that a selector's scores speak for: all layers where no depth's score is far enough from chance.

    Source:
        Our choice: where labels cannot be read off the frozen model at any depth, fine-tuning has to build what tells
        them apart, and nothing is known of the layers it can do without.
    """
    gain = selector.gain(scores, labels)
    return len(scores) if gain is not None and gain < least_gain else selector.choose(scores, epsilon)
