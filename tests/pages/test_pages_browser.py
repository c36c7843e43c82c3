"""The page in a real browser, headless Chromium: by slider, keyboard and phone, in dark, with nothing loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_page import write_family, write_fit, write_predictions, write_teacher

import cutbert
from cutbert.files import read_json, write_json
from cutbert.fronts.front import Front
from cutbert.fronts.pick import choose
from cutbert.shape.budget import Limits

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'cutbert[dev]'")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE_MS = 240_000
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path: apt-get install chromium"),
]


class Watched:
    """A page open in the browser, and everything that it should not do."""

    def __init__(self, page: Any, file: Path) -> None:
        self.page, self.file = page, file
        self.asked: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda message: self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(file.as_uri())

    def check(self) -> None:
        """Check that the page loaded nothing but itself, and that the browser had no complaint."""
        assert [url for url in self.asked if not url.startswith("data:")] == [self.file.as_uri()]
        assert self.errors == []

    def picture(self) -> bytes:
        found = self.page.screenshot(path=str(self.file.with_suffix(".png")))
        assert found.startswith(b"\x89PNG") and len(found) > 10_000
        return bytes(found)

    def picks(self) -> list[str]:
        """Return the names of the picks as the page says them."""
        facts = json.loads(self.page.text_content("#data"))
        return [
            facts["points"][int(str(item.get_attribute("data-pick")))]["name"]
            for item in self.page.query_selector_all("#picks li[data-pick]")
        ]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        # As root, as in containers, Chromium runs without its sandbox only; the page is our own.
        arguments = ["--no-sandbox", "--disable-gpu"]
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments, timeout=PATIENCE_MS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    families = [write_family(folder / f"seed-{seed}", seed=seed, shift=-0.02 * seed) for seed in range(2)]
    write_predictions(families[0])
    return [*families, write_teacher(folder / "teacher")]


@pytest.fixture
def opened(browser: Any, runs: list[Path], tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """The page of the runs, in a window as the test wishes it."""
    out = tmp_path / "page.html"
    cutbert.report(*runs, out=out)
    context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **getattr(request, "param", {})})
    context.set_default_timeout(PATIENCE_MS)
    watched = Watched(context.new_page(), out)
    yield watched
    watched.check()
    context.close()


def set_budget(page: Any, place: int) -> float:
    """Move the slider; return the budget that the first pick's command names, 0 where nothing fits."""
    page.eval_on_selector(
        "#budget", f"slider => {{ slider.value = {place}; slider.dispatchEvent(new Event('input')); }}"
    )
    command = page.query_selector("#picks code")
    return float(command.text_content().split()[4]) if command else 0.0


@pytest.mark.parametrize("axis", range(4), ids=["max_latency_ms", "max_macs", "max_params", "max_bytes"])
def test_the_slider_picks_as_pick_does(
    opened: Watched, runs: list[Path], axis: int, request: pytest.FixtureRequest
) -> None:
    page, limit = opened.page, request.node.callspec.id
    page.select_option("#axis", str(axis))
    fronts = [Front.load(run) for run in runs[:2]]
    seen = set()
    for place in range(0, 201, 25):
        budget = set_budget(page, place)
        limits = Limits(**{limit: budget if axis == 0 else int(budget)})
        assert opened.picks() == [choose(front, limits).name for front in fronts]
        seen.update(opened.picks())
    assert seen == {"bare", "w0.5-d1.0"}  # what is grey is never picked
    page.check("#stock")
    assert "w1.0-d1.0" in opened.picks() and "--stock" in page.text_content("#picks code")


def test_the_front_is_that_of_the_run(opened: Watched, runs: list[Path]) -> None:
    page = opened.page
    page.select_option("#axis", "1")
    front = Front.load(runs[0])
    rows = page.query_selector_all("#networks tbody tr")[: 1 + len(front)]
    told = [row.query_selector(".on-front").text_content() == "yes" for row in rows]
    assert told == [front.teacher.on_front, *(entry.on_front for entry in front)]
    grey = {int(each.get_attribute("data-point")) for each in page.query_selector_all(".dominated")}
    assert {i for i in range(1, 5) if not told[i]} == {each for each in grey if each < 5}
    assert len(page.query_selector_all(".point")) == 2 * 5 + 1
    opened.picture()


def test_one_task_at_a_time(browser: Any, runs: list[Path], tmp_path: Path) -> None:
    other, out = write_family(tmp_path / "other"), tmp_path / "page.html"
    record = read_json(other / "run.json")
    record["settings"]["data"]["task"] = "two  spaces"
    write_json(other / "run.json", record)
    cutbert.report(runs[0], other, out=out)
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    watched = Watched(page, out)
    shown = []
    for place in ("0", "1"):
        page.select_option("#task", place)
        shown.append({int(each.get_attribute("data-point")) // 5 for each in page.query_selector_all(".point")})
    assert shown == [{0}, {1}]
    watched.check()
    page.close()


def test_by_keyboard(opened: Watched) -> None:
    page = opened.page
    page.focus("#bars")
    page.keyboard.press("Tab")
    first = page.evaluate("document.activeElement.dataset.point")
    assert first is not None and page.text_content("#panel h3")
    page.keyboard.press("Home")
    assert page.text_content("#panel h3") == "bare" and page.query_selector("#panel svg.shape .absent")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.point") != first
    before = page.text_content("#budget-said")
    page.focus("#budget")
    page.keyboard.press("ArrowLeft")
    assert page.text_content("#budget-said") != before and "at most" in page.get_attribute("#budget", "aria-valuetext")
    assert page.evaluate("document.activeElement.id") == "budget"
    sort = page.query_selector("#networks thead th:nth-child(4) button")
    for order in (1, -1):
        sort.focus()
        page.keyboard.press("Enter")
        cells = page.query_selector_all("#networks tbody td:nth-child(4)")
        scores = [float(cell.get_attribute("data-value")) for cell in cells]
        assert scores == sorted(scores)[::order]
    assert page.get_attribute("#networks thead th:nth-child(4)", "aria-sort") == "descending"
    assert not page.is_visible("#panel code") and not page.is_visible("#picks code")  # folded
    page.focus("#panel summary")
    page.keyboard.press("Enter")
    page.wait_for_selector("#panel code", state="visible")
    page.focus("#panel .copy")
    page.keyboard.press("Enter")
    for _ in range(100):  # wait_for_function evaluates text again and again, which the page's policy forbids
        if page.evaluate("document.activeElement.textContent") != "copy":
            break
        page.wait_for_timeout(50)
    assert page.evaluate("document.activeElement.textContent") != "copy"


def test_hovering_shows_the_shape(opened: Watched) -> None:
    page = opened.page
    page.select_option("#axis", "1")
    shown = page.text_content("#panel h3")
    point = next(each for each in page.query_selector_all(".point") if "bare" in each.get_attribute("aria-label"))
    point.hover(force=True)
    assert page.text_content("#panel h3") == "bare" != shown
    assert page.text_content("#panel code") and page.query_selector("#panel svg.shape")
    page.mouse.move(1, 1)
    assert page.text_content("#panel h3") == shown


def test_bars_may_be_taken_away(opened: Watched) -> None:
    page = opened.page
    assert len(page.query_selector_all("#chart .bar")) == 5  # one family's outputs are stored
    page.uncheck("#bars")
    assert page.query_selector_all("#chart .bar") == []
    page.check("#bars")
    page.select_option("#score", "select_score")  # the intervals are dev's
    assert page.query_selector_all("#chart .bar") == []


@pytest.mark.parametrize("kind", ["score", "select_score"])
def test_the_line_never_falls(browser: Any, tmp_path: Path, kind: str) -> None:
    run, out = write_family(tmp_path / "family"), tmp_path / "page.html"
    front = read_json(run / "front.json")
    for entry, score in zip(front["subnets"], (0.7, 0.6, 0.8, 0.75), strict=True):
        entry["score"] = score  # on select w0.5-d1.0 is best, on dev w1.0-d0.67
    write_json(run / "front.json", front)
    cutbert.report(run, out=out)
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    watched = Watched(page, out)
    page.select_option("#score", kind)
    places = [place.split(" ") for place in page.get_attribute("#chart .curve", "d").removeprefix("M").split("L")]
    assert [float(x) for x, _ in places] == sorted(float(x) for x, _ in places)
    assert [float(y) for _, y in places] == sorted((float(y) for _, y in places), reverse=True)  # y grows downwards
    named = {each.get_attribute("transform"): each.get_attribute("aria-label") for each in
             page.query_selector_all("#chart .point")}  # fmt: skip
    ends = [named[f"translate({x} {y})"].split(" ")[0] for x, y in places]
    assert ends == (["bare", "w1.0-d0.67"] if kind == "score" else ["bare", "w0.5-d1.0"])
    grey = {each.get_attribute("aria-label").split(" ")[0] for each in page.query_selector_all(".dominated")}
    assert grey == {"w1.0-d1.0", "w1.0-d0.67"}  # by select, whatever is shown
    watched.check()
    page.close()


@pytest.mark.parametrize("opened", [{"viewport": {"width": 360, "height": 740}}], indirect=True)
def test_on_a_phone(opened: Watched) -> None:
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert opened.page.query_selector("#chart svg").bounding_box()["width"] <= 360
    check_pinned(opened.page, "#networks")
    opened.picture()


def check_pinned(page: Any, table: str) -> None:
    """Check that a table scrolls in its own box, and that the names stay in place."""
    box, name = page.query_selector(f".scroll:has({table})"), page.query_selector(f"{table} tbody th")
    before = name.bounding_box()["x"]
    box.evaluate("each => { each.scrollLeft = 300; }")
    assert box.evaluate("each => each.scrollLeft") == 300 and name.bounding_box()["x"] == before
    assert page.query_selector(f"{table} tbody td").bounding_box()["x"] < before


@pytest.mark.parametrize("width", [1200, 360])
def test_a_run_of_fit(browser: Any, tmp_path: Path, width: int) -> None:
    out = tmp_path / "page.html"
    cutbert.report(write_fit(tmp_path / "fit"), out=out)
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.set_default_timeout(PATIENCE_MS)
    watched = Watched(page, out)
    chart = "[data-tried='0']"
    assert len(page.query_selector_all(f"{chart} .tried")) == 5
    assert len(page.query_selector_all(f"{chart} .tried.teacher")) == 2  # float32 and int8
    assert len(page.query_selector_all(f"{chart} .bar")) == 5 + 1  # intervals, and the quartiles of one
    assert len(page.query_selector_all(f"{chart} .halo")) == len(page.query_selector_all(f"{chart} .limit")) == 1
    chosen, limit = page.query_selector(f"{chart} .tried.chosen"), page.query_selector(f"{chart} .limit")
    left = float(chosen.get_attribute("transform").removeprefix("translate(").split(" ")[0])
    assert left < float(limit.get_attribute("d").removeprefix("M").split(" ")[0])  # 2.1 ms under 2.2 ms
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.click(".tried-table thead th:nth-child(6) button")
    cells = page.query_selector_all(".tried-table tbody td:nth-child(6)")
    scores = [float(cell.get_attribute("data-value")) for cell in cells]
    assert scores == sorted(scores) and len(scores) == 5
    if width == 360:
        check_pinned(page, ".tried-table")
    watched.picture()
    watched.check()
    page.close()


def test_dark_and_light(browser: Any, runs: list[Path], tmp_path: Path) -> None:
    pictures, grounds = [], []
    for scheme in ("dark", "light"):
        out = tmp_path / f"{scheme}.html"
        cutbert.report(*runs, out=out)
        page = browser.new_page(color_scheme=scheme)
        page.set_default_timeout(PATIENCE_MS)
        watched = Watched(page, out)
        pictures.append(watched.picture())
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        watched.check()
        page.close()
    assert pictures[0] != pictures[1] and grounds == ["rgb(20, 21, 23)", "rgb(255, 255, 255)"]


@pytest.mark.parametrize("opened", [{"java_script_enabled": False}], indirect=True)
def test_without_scripts_tables_and_shapes_are_there(opened: Watched) -> None:
    assert len(opened.page.query_selector_all("#networks tbody tr")) == 2 * 5 + 1
    assert len(opened.page.query_selector_all("svg.shape")) >= 4
