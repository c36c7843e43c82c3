"""The verb that computes many runs: sweep."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from cutbert.api.result import Result
from cutbert.api.running import kinds_of
from cutbert.api.table import TABLE, VERBS
from cutbert.api.verb import documented
from cutbert.settings import RunSettings, build_settings
from cutbert.sweeps.options import SweptVerb

# Every verb that makes a run folder out of one MODEL, and `pick`, which makes a model folder out of a run: the settings
# of a call, given its options.
SWEPT = {
    verb.name: SweptVerb(partial(kinds_of, verb), verb.without)
    for verb in TABLE
    if RunSettings in verb.settings or verb.name == "pick"
}


@documented(VERBS)
def sweep(plan: str | Path | None = None, **options: Any) -> Result:
    """Compute the runs of a plan, one after the other or on a Ray cluster, and gather their scores in one table.

    Args:
        plan: plan file (TOML); None with `show`.

    Raises:
        InputError: mistakes in the arguments or the plan, before anything is made.
        MissingError: Ray is asked for and not to be had.
        InterruptedRun: stopped; the same call goes on.
    """
    (settings,) = build_settings(options, *VERBS["sweep"].settings)
    settings.check_with(None if plan is None else str(plan))
    from cutbert.sweeps.sweep import show, sweep

    return Result("sweep", show(settings.show) if plan is None else sweep(Path(plan), SWEPT, settings))
