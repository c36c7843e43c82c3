"""How shapes look to people: the sizes of every layer as bars, beside those of the uncut model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType

from cutbert.cli.tables import plain_table

BAR = 10
COLUMNS = {"heads": "num_heads", "key dim": "key_dim", "value dim": "value_dim", "neurons": "intermediate_size"}


def shape_picture(shape: Mapping[str, Any], uncut: Mapping[str, Any]) -> RenderableType:
    """Return the sizes of each layer, each with a bar that is full where nothing was cut.

    Args:
        shape: JSON of an EncoderShape.
        uncut: JSON of the shape it was cut from, with as many layers.
    """
    table = plain_table("layer", *(heading for name in COLUMNS for heading in (name, "")))
    for i, (layer, whole) in enumerate(zip(shape["layers"], uncut["layers"], strict=True)):
        cells = []
        for size in COLUMNS.values():
            cells += [str(layer[size]), bar(layer[size], whole[size])]
        table.add_row(str(i), *cells)
    hidden, before = shape["hidden_size"], uncut["hidden_size"]
    return Group(f"hidden size {hidden} of {before} {bar(hidden, before)}", table)


def bar(size: int, whole: int) -> str:
    """Return a bar of BAR characters, filled by the share that is left; anything left shows."""
    filled = 0 if not size else max(1, round(BAR * size / whole))
    return "#" * filled + "." * (BAR - filled)
