"""What people see of a result: lines and tables as plain data, shown as text or as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from cutbert.printable import printable

MILLION = 1_000_000
PROMPT_WIDTH = 100
LEFT = ("", "name", "model", "backend", "stock")


@dataclass(frozen=True)
class Table:
    """Rows of cells below headings; no headings make a list of names and values.

    Args:
        headings: one per column.
        rows: as many cells each.
        left: headings of columns of words; the others are numbers, to the right.
        folded: headings of columns that may take several lines where a line is too short.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: tuple[str, ...] = LEFT
    folded: tuple[str, ...] = ("model",)


View = tuple[Table | str, ...]


class Shown:
    """Base of what shows itself as its view, at a prompt and in a notebook."""

    def view(self) -> View:
        raise NotImplementedError

    def __repr__(self) -> str:
        return as_text(self.view(), PROMPT_WIDTH)

    def _repr_html_(self) -> str:
        return as_html(self.view())


def pairs(values: Mapping[str, Any]) -> Table:
    """Return names and values, a line each."""
    return Table((), tuple((name, str(value)) for name, value in values.items()))


def as_text(view: View, width: int | None) -> str:
    """Return a view as lines; width None is the terminal's."""
    from rich.console import Console

    console = Console(width=width, markup=False, emoji=False, highlight=False)  # labels and paths are no markup
    with console.capture() as capture:
        for block in view:
            console.print(printable(block, many_lines=True) if isinstance(block, str) else rich_table(block))
    return capture.get().rstrip("\n")


def rich_table(table: Table) -> Any:
    """Return a table as rich prints it: nothing cut off, a heading of two words in two lines."""
    from rich.table import Table as RichTable
    from rich.text import Text

    if not table.headings:
        shown = RichTable(show_header=False, box=None)
    else:
        shown = RichTable(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        for name in table.headings:
            is_folded = name in table.folded
            shown.add_column(
                name.replace(" ", "\n"),
                justify="left" if name in table.left else "right",
                overflow="fold",
                no_wrap=not is_folded,
            )
    for row in table.rows:
        shown.add_row(*(Text(printable(cell)) for cell in row))
    return shown


def as_html(view: View) -> str:
    """Return a view as HTML, every text of it escaped."""
    return "\n".join(f"<p>{escape(block)}</p>" if isinstance(block, str) else html_table(block) for block in view)


def html_table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.headings)
    rows = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in table.rows]
    body = "".join(f"<tr>{row}</tr>" for row in ([head] if head else []) + rows)
    return f"<table>{body}</table>"


def points(value: float | None) -> str:
    """Return a fraction of 1 in points, or nothing."""
    return "" if value is None else f"{100 * value:.2f}"


def millions(value: float | None) -> str:
    """Return a count in millions, or nothing."""
    return "" if value is None else f"{value / MILLION:,.1f}"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
