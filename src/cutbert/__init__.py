"""cutbert: cut a BERT to fit. Importing it loads neither torch nor transformers."""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing, which takes its time
# ruff: noqa: F403, F405
if TYPE_CHECKING:
    from typing import Any

    from cutbert.api import *  # the verbs
    from cutbert.errors import CutbertError, InputError, InterruptedRun, MissingError
    from cutbert.shape.budget import Limits
    from cutbert.shape.cost import Cost, cost_of
    from cutbert.shape.head import HeadSpec
    from cutbert.shape.shape import EncoderShape, LayerShape
    from cutbert.shape.space import GridPoint, grid
    from cutbert.shape.subnet import KeptLayer, Subnet
    from cutbert.version import __version__

# Where each name is that is no verb. Nothing is loaded before it is used, so that the command is there at once.
PLACES = {
    "errors": ("CutbertError", "InputError", "InterruptedRun", "MissingError"),
    "shape.budget": ("Limits",),
    "shape.cost": ("Cost", "cost_of"),
    "shape.head": ("HeadSpec",),
    "shape.shape": ("EncoderShape", "LayerShape"),
    "shape.space": ("GridPoint", "grid"),
    "shape.subnet": ("KeptLayer", "Subnet"),
    "version": ("__version__",),
}
MODULES = {name: f"cutbert.{module}" for module, names in PLACES.items() for name in names}

# Written out, since type checkers compute no names; what is not in PLACES is a verb.
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
    """Resolve a name on its first use."""
    from importlib import import_module

    if name in __all__:
        value = globals()[name] = getattr(import_module(MODULES.get(name, "cutbert.api")), name)
        return value
    raise AttributeError(f"module 'cutbert' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Show all names to people who explore, before they are loaded."""
    return [*__all__]
