"""The verb that computes many runs: sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cutbert.api.methods import depth, dynabert, finetune, pretrain, schubert, undivided
from cutbert.api.result import Result
from cutbert.api.running import data_kind
from cutbert.api.runs import pick
from cutbert.data.settings import DataSettings
from cutbert.data.text_settings import TextSettings
from cutbert.settings import build_settings, takes
from cutbert.sweeps.settings import SweepSettings

# Every verb that makes a run folder out of one MODEL, and `pick`, which makes a model folder out of a run.
SWEPT: tuple[Callable[..., Any], ...] = (finetune, dynabert, schubert, undivided, depth, pretrain, pick)


def kinds_of(verb: Callable[..., Any], options: Mapping[str, Any]) -> tuple[type[Any], ...]:
    """Return the settings a verb is checked by: of data and text only what its objective works on."""
    kinds: tuple[type[Any], ...] = verb.kinds  # type: ignore[attr-defined]
    if not {DataSettings, TextSettings} <= set(kinds):
        return kinds
    kept = data_kind(options)
    return tuple(kind for kind in kinds if kind is kept or kind not in (DataSettings, TextSettings))


@takes(SweepSettings)
def sweep(plan: str | Path | None = None, **options: Any) -> Result:
    """Compute the runs of a plan, one after the other or on a Ray cluster, and gather their scores in one table.

    Args:
        plan: plan file (TOML); None with `show`.
        options: fields of SweepSettings.

    Raises:
        InputError: mistakes in the arguments or the plan, before anything is made.
        MissingError: Ray is asked for and not to be had.
        InterruptedRun: stopped; the same call goes on.
    """
    (settings,) = build_settings(options, SweepSettings)
    settings.check(None if plan is None else str(plan))
    from cutbert.sweeps.sweep import show, sweep

    if plan is None:
        return Result(show(settings.show))
    return Result(sweep(Path(plan), {verb.__name__: partial(kinds_of, verb) for verb in SWEPT}, settings))
