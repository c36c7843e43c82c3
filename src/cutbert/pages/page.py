"""Writes the page of one run or several: one self-contained HTML file.

The charts are drawn by small scripts of our own, in assets/, not by plotly: its library would add megabytes to each
page, its points cannot be reached by keyboard, and it does not follow the reader's light or dark mode. A content
security policy in the page forbids all requests and all scripts but these; the tables and drawings need no script.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cutbert.errors import InputError, MissingError, Mistakes
from cutbert.files import replacing_file
from cutbert.pages.drawing import WIDTH
from cutbert.pages.facts import facts_of
from cutbert.pages.points import ReportedRun
from cutbert.pages.reading import read_sources
from cutbert.pages.settings import MARK, ReportSettings
from cutbert.train.progress import say
from cutbert.version import __version__

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("chart.js", "choice.js", "front.js", "tried.js", "curves.js", "page.js")
PACKAGE = "jinja2"
OWN_PAGE = "report.html"


def write_report(runs: Sequence[str], settings: ReportSettings) -> dict[str, Any]:
    """Write a report and return the --json object.

    Args:
        runs: folders of finished runs.
        settings: where to write the page.

    Returns:
        The result with the keys out, runs, points, bytes.

    Raises:
        InputError: no runs, unfinished or damaged ones, or a file in the way; all together, before anything is written.
        MissingError: jinja2 is not installed.
    """
    check_extra()
    mistakes, sources = Mistakes(), []
    with mistakes.collect():
        settings.check()
    with mistakes.collect():
        sources = read_sources(runs)
    mistakes.check(InputError)
    text, out = render(sources), Path(settings.out)
    with replacing_file(out) as aside:
        aside.write_text(text, encoding="utf-8")
    points = sum(len(source.points) + len(source.leaderboard or ()) for source in sources)
    return {"out": str(out), "runs": len(sources), "points": points, "bytes": len(text.encode())}


def own_report(run: Path) -> dict[str, str]:
    """Write the report of a finished run into its folder, unless it is there.

    Returns:
        `report`, the page; empty where it cannot be made, which the user is told.
    """
    page = run / OWN_PAGE
    if not page.is_file():
        try:
            check_extra()
        except MissingError as error:
            say(f"no page of this run: {error}")
            return {}
        write_report([str(run)], ReportSettings(out=str(page)))
    return {"report": str(page)}


def check_extra() -> None:
    """Raise unless the package that renders the page is installed.

    Raises:
        MissingError: it is not; says how to install it.
    """
    if find_spec(PACKAGE) is None:
        raise MissingError(f"a report needs {PACKAGE}: pip install 'cutbert[report]'")


def render(sources: Sequence[ReportedRun]) -> str:
    """Return the page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = "\n".join(asset(name) for name in SCRIPTS)
    style = asset("page.css")
    policy = f"default-src 'none'; img-src data:; script-src {digest(script)}; style-src {digest(style)}"
    return environment.get_template("page.html").render(
        facts_of(sources),
        mark=Markup(MARK),
        policy=policy,
        script=Markup(script),
        style=Markup(style),
        version=__version__,
        drawing_width=WIDTH,
    )


def asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """Return the source by which a content security policy allows an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
