"""cutbert: cut a BERT to fit. Importing it loads neither torch nor transformers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cutbert.errors import CutbertError, InputError, InterruptedRun, MissingError
from cutbert.shape.budget import Limits
from cutbert.shape.cost import Cost, cost_of
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape, LayerShape
from cutbert.shape.space import GridPoint, grid
from cutbert.shape.subnet import KeptLayer, Subnet
from cutbert.version import __version__

# ruff: noqa: F403, F405
if TYPE_CHECKING:  # the verbs
    from cutbert.api import *

# Written out, since type checkers compute no names; what is not imported above is a verb.
__all__ = [
    "Cost",
    "CutbertError",
    "EncoderShape",
    "GridPoint",
    "HeadSpec",
    "InputError",
    "InterruptedRun",
    "KeptLayer",
    "LayerShape",
    "Limits",
    "MissingError",
    "Subnet",
    "__version__",
    "analyze",
    "cost",
    "cost_of",
    "demo",
    "depth",
    "dynabert",
    "export",
    "finetune",
    "fit",
    "front",
    "grid",
    "measure",
    "open_run",
    "pick",
    "predict",
    "pretrain",
    "report",
    "schubert",
    "search",
    "sweep",
    "undivided",
]


def __getattr__(name: str) -> Any:
    """Resolve a verb on first use, so that importing cutbert stays quick."""
    if name in __all__:
        return getattr(import_module("cutbert.api"), name)
    raise AttributeError(f"module 'cutbert' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Show the verbs to people who explore, before they are loaded."""
    return [*__all__]
