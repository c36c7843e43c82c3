"""What a page says is what the runs hold; bad runs are refused together; strings of runs stay strings."""

from __future__ import annotations

import doctest
import json
import math
import re
import shlex
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tiny_page import (
    FAMILY,
    UNCUT,
    WHOLE,
    tiny_front,
    write_family,
    write_fit,
    write_predictions,
    write_run,
    write_teacher,
)

import cutbert
from cutbert import api
from cutbert.cli.main import main
from cutbert.errors import InputError, MissingError
from cutbert.files import read_json, write_json
from cutbert.fronts.entry import LATENCIES
from cutbert.fronts.front import Front
from cutbert.fronts.leaderboard_view import verdict
from cutbert.fronts.outputs import score_interval, stored_difference
from cutbert.fronts.pick import choose
from cutbert.methods import demo as demo_module
from cutbert.pages import tried
from cutbert.pages.commands import pick_command
from cutbert.pages.drawing import WIDTH, describe, draw, scale_of
from cutbert.pages.headline import front_headline
from cutbert.pages.logs import MOST_VALUES, read_curves
from cutbert.pages.points import point_of
from cutbert.pages.reading import MOST_RUNS, read_sources, short_names
from cutbert.pages.repeats import spreads
from cutbert.shape.budget import Limits
from cutbert.shape.shape import EncoderShape, LayerShape
from tiny_runs import SHAPE, tiny_leaderboard


class Page(HTMLParser):
    """The elements of a page and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(next(text for text in self.texts["script"] if text.startswith("{")))


def page_of(tmp_path: Path, *runs: Path) -> Page:
    out = tmp_path / "page.html"
    cutbert.report(*runs, out=out)
    return Page(out.read_text(encoding="utf-8"))


def test_the_page_holds_every_network(tmp_path: Path) -> None:
    run, teacher = write_family(tmp_path / "family"), write_teacher(tmp_path / "teacher")
    data = page_of(tmp_path, run, teacher).data
    front = Front.load(run)
    shown = {point["name"]: point for point in data["points"] if point["run"] == 0}
    assert list(shown) == ["teacher", *FAMILY]
    for each in (front.teacher, *front):
        point = shown[each.name]
        for name in ("score", "select_score", "params", "macs", "bytes", "on_front"):
            assert point[name] == getattr(each, name)
        assert point["latency"] == {"torch": each.latency_ms} and point["stock"] == each.shape.is_stock
    (alone,) = (point for point in data["points"] if point["run"] == 1)
    assert (alone["kind"], alone["score"], alone["latency"]) == ("alternative", 0.83, {})
    assert alone["params"] == cutbert.cost_of(UNCUT).params
    assert data["runs"][0]["measured"] == {"torch": "torch on cpu, 2 threads, Z80, 5 to 9 tokens"}
    assert [axis["limit"] for axis in data["axes"]] == ["--max-latency-ms", "--max-macs", "--max-params", "--max-bytes"]
    assert data["tasks"] == ["sst2, accuracy"]


def test_latencies_on_every_backend_of_a_front(tmp_path: Path) -> None:
    run = write_family(tmp_path / "family")
    front = Front.load(run)
    assert front.measured is not None
    times = {each.name: {"latency_ms": 2.0 + i, "latency_p95_ms": 9.0} for i, each in enumerate(front)}
    times = {name: {**dict.fromkeys(LATENCIES), **each} for name, each in times.items()}
    times[front.teacher.name] = {**dict.fromkeys(LATENCIES), "latency_ms": 4.5}
    del times[front.subnets[-1].name]
    front.with_times(times, {**front.measured, "backend": "onnx-int8"}).save(run)
    data = page_of(tmp_path, run).data
    shown = {point["name"]: point["latency"] for point in data["points"]}
    assert shown["teacher"] == {"torch": front.teacher.latency_ms, "onnx-int8": 4.5}
    assert shown[front.subnets[0].name]["onnx-int8"] == 2.0
    assert list(shown[front.subnets[-1].name]) == ["torch"]
    limits = [axis["limit"] for axis in data["axes"]]
    assert limits[:2] == ["--max-latency-ms", "--backend onnx-int8 --max-latency-ms"]
    assert [axis["label"].endswith("scores are float32's") for axis in data["axes"][:2]] == [False, True]
    assert set(data["runs"][0]["measured"]) == {"torch", "onnx-int8"}


def test_the_page_asks_for_nothing(tmp_path: Path) -> None:
    page = page_of(tmp_path, write_family(tmp_path / "family"))
    named = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href", "action")]
    assert all(str(value).startswith("data:") for value in named)
    policy = next(attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'; img-src data:; script-src 'sha256-")
    assert not any("style" in attrs or any(name.startswith("on") for name in attrs) for _, attrs in page.tags)


def test_strings_of_runs_stay_strings(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u2028"
    run = write_family(tmp_path / "family")
    front = read_json(run / "front.json")
    front["metric"] = front["measured"]["device"] = evil
    front["subnets"][0]["name"] = name = evil.replace("/", "")
    write_json(run / "front.json", front)
    record = read_json(run / "run.json")
    record["line"] = record["settings"]["data"]["task"] = record["command"] = evil
    write_json(run / "run.json", record)
    (run / "log.jsonl").write_text(json.dumps({"stage": evil, "step": 1, "loss": 1.0, evil: 2.0}))
    (run / "look").mkdir()
    (run / "look" / "analysis.json").write_text("{}")
    (run / "look" / "<b>.svg").write_text(f"<svg>{evil}</svg>")
    page = page_of(tmp_path, run)
    assert [tag for tag, _ in page.tags].count("script") == 2 and "b" not in [attrs.get("id") for _, attrs in page.tags]
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert page.data["points"][1]["name"] == name and page.data["runs"][0]["line"] == evil
    assert [attrs["src"][:26] for tag, attrs in page.tags if tag == "img" and attrs["src"]] == [
        "data:image/svg+xml;base64,"
    ]


def test_the_command_picks_the_network(tmp_path: Path) -> None:
    front = tiny_front()
    found = {entry.name: pick_command("a run", front, entry) for entry in front}
    assert found["w1.0-d1.0"] is not None and found["w1.0-d1.0"].endswith("--stock --out w1.0-d1.0")
    assert found["w0.5-d1.0"] is not None and found["bare"] is not None
    assert shlex.split(found["bare"])[:3] == ["cutbert", "pick", "a run"]
    for entry in front:
        command = found[entry.name]
        if command is not None:
            words = shlex.split(command)
            limit = {words[3].removeprefix("--").replace("-", "_"): float(words[4])}
            limits = Limits(**{name: value if "ms" in name else int(value) for name, value in limit.items()})
            assert choose(front, limits, stock="--stock" in words).name == entry.name
    odd = replace(front["bare"], name="../--x y")
    assert (pick_command("run", replace(front, subnets=(odd,)), odd) or "").endswith(" --out picked")
    beaten = tiny_front(is_measured=False)
    assert pick_command("run", beaten, beaten["w1.0-d0.67"]) is not None  # fewer layers: the best stock shape so small


def test_commands_are_the_whole_way(tmp_path: Path) -> None:
    run = write_family(tmp_path / "family")
    line = read_json(run / "run.json")["line"]
    (run / "model").mkdir()
    write_json(run / "model" / "cutbert.json", {"commands": ["cutbert finetune base", line]})
    teacher, first, *_ = page_of(tmp_path, run).data["points"]
    assert teacher["commands"] == ["cutbert finetune base"]
    assert first["commands"][:2] == ["cutbert finetune base", line] and first["commands"][2].startswith("cutbert pick ")


def test_spread_over_seeds(tmp_path: Path) -> None:
    runs = [write_family(tmp_path / f"seed-{seed}", seed=seed, shift=0.01 * seed) for seed in range(3)]
    found = spreads(read_sources([str(run) for run in runs]))
    spread = found["seed-1", "bare"]
    assert math.isclose(spread.mean, 0.66) and math.isclose(spread.deviation, 0.01) and spread.count == 3
    assert len(found) == 3 * (1 + len(FAMILY))
    assert (
        "65.00 ± 1.00 (3)" not in (text := " ".join(page_of(tmp_path, *runs).texts["td"]))
        and "66.00 ± 1.00 (3)" in text
    )
    twice = write_family(tmp_path / "again", seed=1)
    assert spreads(read_sources([str(runs[1]), str(twice)])) == {}  # one seed twice says nothing of seeds
    record = read_json(twice / "run.json")
    record["settings"]["train"] = {"seed": 2, "epochs": 9.0}
    write_json(twice / "run.json", record)
    assert spreads(read_sources([str(runs[1]), str(twice)])) == {}  # nor do other settings


def test_drawings_are_to_scale() -> None:
    front = tiny_front()
    scale = scale_of([UNCUT])
    point = point_of(front["bare"], "subnet", "torch")
    drawing = draw(point, UNCUT, scale)
    width = {name: [float(each) for each in re.findall(r"h([\d.]+)v", path)] for name, path in drawing.paths.items()}
    assert width["keys"] == [round(12 * scale.unit, 1)] and width["values"] == [round(8 * scale.unit, 1)]
    assert width["neurons"] == [round(8 * scale.unit, 1)] and width["hidden"] == [round(24 * scale.unit, 1)]
    assert drawing.paths["absent"].count("M") == 2 and drawing.paths["ticks"].count("M") == 2
    assert [text for *_, text in drawing.texts] == ["hid.", "0", "1", "2", "left out"]
    assert drawing.paths["ghost"].count("M") == 1 + 3 * 2
    whole = draw(point_of(front.teacher, "teacher", "torch"), None, scale)
    assert "ghost" not in whole.paths and max(width["ghost"]) <= WIDTH
    assert describe(front["bare"].shape) == (
        "hidden size 24, 2 layers; layer 0: 2 heads (key 6, value 4), no feed-forward; layer 1: no attention, 8 neurons"
    )
    assert "layers 0 to 2: 4 heads (key 6, value 6), 32 neurons" in describe(UNCUT)


def test_a_wide_hidden_size_fits_too() -> None:
    wide = EncoderShape(hidden_size=1000, layers=(LayerShape(1, 2, 2, 2),), vocab_size=9, num_positions=9)
    assert scale_of([wide]).unit * 1000 < WIDTH
    assert scale_of([EncoderShape(hidden_size=4, layers=(), vocab_size=9, num_positions=9)]).unit > 0
    assert scale_of([]).unit > 0 and WHOLE.has_attention


def test_curves(tmp_path: Path) -> None:
    lines = [{"stage": "s", "step": i, "loss": float(i), "note": "x"} for i in range(1000)]
    lines += [{"stage": "s", "step": 999, "loss": math.nan}, {"stage": "round-1", "cost": 3}]
    text = "".join(json.dumps(each) + "\n" for each in lines) + '{"stage": "s", "st\n3\n'
    (tmp_path / "log.jsonl").write_text(text)
    curves, notes = read_curves(tmp_path)
    assert list(curves) == ["s"] and list(curves["s"]) == ["loss"]
    assert len(curves["s"]["loss"]) <= MOST_VALUES and curves["s"]["loss"][-1] == (999, 999.0)
    assert notes == ["3 lines of log.jsonl could not be read and are left out"]
    assert read_curves(tmp_path / "nowhere") == ({}, [])


def test_names_are_short_and_differ() -> None:
    assert short_names(["runs/a", "runs/b/"]) == ["a", "b"]
    assert short_names(["one/teacher", "two/teacher", "three"]) == ["one/teacher", "two/teacher", "three"]


def test_bad_runs_are_refused_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, unfinished = write_family(tmp_path / "good"), write_run(tmp_path / "half", None)
    damaged = write_family(tmp_path / "damaged")
    front = read_json(damaged / "front.json")
    front["subnets"][1]["score"] = "high"
    write_json(damaged / "front.json", front)
    other = tmp_path / "page.html"
    other.write_text("<p>mine</p>")
    words = [str(each) for each in (good, good, unfinished, tmp_path / "nowhere", damaged)]
    assert main(["report", *words, "--out", str(other)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("cutbert: error: ") for line in lines) and len(lines) == 5
    assert "--out must be a new file or an earlier report, but" in lines[0]
    assert f"{good}: must be given once" in lines[1]
    assert "half: the run of dynabert is not finished; the same command goes on with it" in lines[2]
    assert "nowhere: must be a run folder (with run.json), but is no folder with a run" in lines[3]
    assert "subnet 1: score must be a number, got 'high'" in lines[4]
    assert other.read_text() == "<p>mine</p>"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("measured", [1], r"measured must be a JSON object with backend, .* as cutbert writes them, got \[1\]"),
        ("name", 3, "name must be text without /, got 3"),
        ("latency_ms", "fast", "latency_ms must be a number above 0, got 'fast'"),
    ],
)
def test_a_damaged_front_is_refused(tmp_path: Path, key: str, value: object, message: str) -> None:
    run = write_family(tmp_path / "family")
    front = read_json(run / "front.json")
    (front if key == "measured" else front["subnets"][-1])[key] = value
    write_json(run / "front.json", front)
    with pytest.raises(InputError, match=message):
        cutbert.report(run, out=tmp_path / "page.html")
    write_json(run / "run.json", {**read_json(run / "run.json"), "result": [1]})
    with pytest.raises(InputError, match="must have result as a run writes them"):
        cutbert.report(run, out=tmp_path / "page.html")


def test_where_the_page_may_go(tmp_path: Path) -> None:
    run = write_family(tmp_path / "family")
    with pytest.raises(InputError, match=r"--out must be a file, but .*family is a folder"):
        cutbert.report(run, out=run)
    with pytest.raises(InputError, match=r"--out must lie in a folder, but .*run.json is a file"):
        cutbert.report(run, out=run / "run.json" / "page.html")
    with pytest.raises(InputError, match=rf"a report must be of 1\.\.{MOST_RUNS} runs, got 0"):
        cutbert.report(out=tmp_path / "none.html")
    out = tmp_path / "new" / "page.html"
    first = cutbert.report(run, out=out)
    before = out.read_bytes()
    assert first.to_json() == {"out": str(out), "runs": 1, "points": 1 + len(FAMILY), "bytes": len(before)}
    assert cutbert.report(run, out=out) == first and out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = write_family(tmp_path / "family"), tmp_path / "page.html"
    assert main(["report", str(run), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["out"] == str(out)
    assert main(["report", str(run), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out


def test_a_run_without_scores_shows_its_training(tmp_path: Path) -> None:
    run = write_run(tmp_path / "text", {"loss": 2.0, "perplexity": 7.4}, command="pretrain")
    page = page_of(tmp_path, run)
    assert page.data["points"] == [] and page.data["stages"][0]["name"] == "distil"
    assert "Score against cost" not in page.texts["h2"] and "Training" in page.texts["h2"]


def test_a_network_from_scratch_has_its_point(tmp_path: Path) -> None:
    network = {"name": "ffn3", "score": 0.31, "select_score": 0.3}
    run = write_run(tmp_path / "new", {"metric": "masked_accuracy", "subnets": [network]}, command="undivided")
    write_json(run / "model" / "shape.json", UNCUT.to_json())
    (point,) = page_of(tmp_path, run).data["points"]
    assert (point["kind"], point["score"], point["select_score"]) == ("alternative", 0.31, 0.3)


def test_a_found_network_names_its_search(tmp_path: Path) -> None:
    run = write_family(tmp_path / "family")
    write_run(run / "searches" / "1", {}, command="search")
    front = read_json(run / "front.json")
    front["subnets"][-1]["search"] = "searches/1"
    write_json(run / "front.json", front)
    *others, found = page_of(tmp_path, run).data["points"]
    assert any(line.startswith("cutbert search ") for line in found["commands"])
    assert not any(line.startswith("cutbert search ") for each in others for line in each["commands"])


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_family(tmp_path / "family")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingError, match=r"a report needs jinja2: pip install 'cutbert\[report\]'"):
        cutbert.report(run, out=tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_the_demo_ends_with_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = write_run(tmp_path / "demo", {"seconds": 1.0}, command="demo")
    write_fit(out / "fit")
    monkeypatch.setattr(demo_module, "demo", lambda settings: {"out": str(out)})
    found = api.demo()
    assert found["report"] == str(out / "report.html")
    page = Page((out / "report.html").read_text(encoding="utf-8"))
    assert [each["headline"] for each in page.data["runs"]] == [verdict(tiny_leaderboard())]
    assert api.demo()["report"] == found["report"]  # it is there
    (out / "report.html").unlink()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert "report" not in api.demo().to_json()
    assert "no page of this run: a report needs jinja2" in capsys.readouterr().err


def test_the_headline_is_the_best_at_half_the_latency(tmp_path: Path) -> None:
    run = write_family(tmp_path / "family")
    text = "bare: 3.1 times faster than the uncut model on torch (3.1 to 1.0 ms) for -22.0 points of accuracy"
    assert page_of(tmp_path, run).data["runs"][0]["headline"] == f"{text} on dev"
    write_predictions(run)
    paired = stored_difference(
        *(read_json(run / "predictions" / f"{name}.json") for name in ("bare", "teacher")), "accuracy"
    )
    assert paired is not None
    page = page_of(tmp_path, run)
    bounds = f"[{100 * paired['low']:+.1f}, {100 * paired['high']:+.1f}]"
    assert page.data["runs"][0]["headline"] == f"{text} {bounds} on dev"
    assert f"{text} {bounds} on dev" in page.texts["p"]
    bare = write_family(tmp_path / "unmeasured", is_measured=False)
    assert "times fewer multiply-adds (" in page_of(tmp_path, bare).data["runs"][0]["headline"]
    front = Front.load(run)
    slow = replace(front, subnets=tuple(replace(entry, latency_ms=2.9) for entry in front))
    assert (front_headline(run, slow) or "").startswith("w1.0-d1.0: 1.1 times faster")
    assert front_headline(run, replace(front, subnets=())) is None


def test_error_bars_are_the_intervals(tmp_path: Path) -> None:
    run = write_predictions(write_family(tmp_path / "family"))
    page = page_of(tmp_path, run)
    for point in page.data["points"]:
        stored = read_json(run / "predictions" / f"{point['name']}.json")
        assert point["interval"] == list(score_interval(stored, "accuracy") or ())
        low, high = point["interval"]
        assert low < point["score"] < high and f"{100 * low:.1f} to {100 * high:.1f}" in page.texts["td"]
    assert "95 % interval" in page.texts["button"] and "over seeds" not in page.texts["button"]
    assert "95 % interval" not in page_of(tmp_path, write_family(tmp_path / "other")).texts["button"]
    (run / "predictions" / "bare.json").write_text('{"logits": 3}')
    with pytest.raises(InputError, match=r"bare\.json: must hold what cutbert writes there, got KeyError: 'score'"):
        cutbert.report(run, out=tmp_path / "page.html")


def test_a_model_tells_its_interval_and_its_warnings(tmp_path: Path) -> None:
    run = write_teacher(tmp_path / "teacher")
    write_json(run / "model" / "cutbert.json", {"score_interval": [0.8, 0.86], "warnings": ["near chance"]})
    data = page_of(tmp_path, run).data
    assert data["points"][0]["interval"] == [0.8, 0.86] and data["runs"][0]["warnings"] == ["near chance"]


def test_warnings_come_first(tmp_path: Path) -> None:
    run = write_family(tmp_path / "family")
    assert "Before you rely on this" not in page_of(tmp_path, run).texts.get("strong", [])
    write_json(run / "front.json", {**read_json(run / "front.json"), "warnings": ["<b>near chance</b>"]})
    page = page_of(tmp_path, run)
    assert "Before you rely on this" in page.texts["strong"]
    assert page.data["runs"][0]["warnings"] == ["<b>near chance</b>"]
    assert [tag for tag, _ in page.tags].index("strong") < [tag for tag, _ in page.tags].index("main")


def test_a_run_of_fit_has_its_leaderboard(tmp_path: Path) -> None:
    run, board = write_fit(tmp_path / "fit"), tiny_leaderboard()
    page = page_of(tmp_path, run)
    cells, said = page.texts["td"], " ".join(text for each in page.texts.values() for text in each)
    assert page.data["runs"][0]["headline"] == verdict(board) and verdict(board) in page.texts["p"]
    for entry in board:
        assert entry.name in page.texts["th"]
        for text in (f"{100 * entry.score:.2f}", f"{entry.latency_ms:.2f}", f"{entry.steps:,}", entry.kind):
            assert text in cells
    assert "-0.4 [-1.0, +0.2]" in cells and "89.6 to 93.6" in cells and "0.030" in cells
    assert "--max-latency-ms 2.2 on onnx-int8" in said and board.notes[0] in said and "100, 300" in said
    assert "30.0 s" in cells and "95.0 s" in cells and [tag for tag, _ in page.tags].count("meter") == 2
    (chart,) = page.data["tried"]
    assert chart["latency_limits"] == [2.2] and [each["is_chosen"] for each in chart["points"]].count(True) == 1
    assert [each["name"] for each in chart["points"] if each["is_uncut"]] == ["uncut, float32", "uncut, int8"]
    assert chart["points"][2]["interval"] == list(board.entries[2].interval or ())
    assert page.data["points"] == [] and "Score against cost" not in page.texts["h2"]
    drawings = [attrs["aria-label"] for tag, attrs in page.tags if attrs.get("class") == "shape"]
    assert drawings == [describe(entry.shape) for entry in board.entries[1:]] and drawings[0] == describe(SHAPE)


def test_a_leaderboard_shows_no_empty_columns(tmp_path: Path) -> None:
    run, board = write_fit(tmp_path / "fit"), tiny_leaderboard()
    bare = replace(board.entries[1], interval=None, note="")
    limits = {"max_latency_ms": [4, 2], "max_bytes": 10**7}
    replace(board, entries=(bare,), limits=limits, tokenizer_ms=None, notes=(), plan={}).save(run)
    page = page_of(tmp_path, run)
    shown = page.texts["button"]
    assert not {"against uncut", "loss", "95 % interval", "note", "rounds", "chosen"} & set(shown)
    assert "ms" in shown and page.data["tried"][0]["latency_limits"] == [4, 2]
    assert "--max-latency-ms 4,2 --max-bytes 10000000 on onnx-int8" in page.texts["code"]


def test_a_leaderboards_strings_stay_strings(tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(2)>\"'&\u2028"
    run, board = write_fit(tmp_path / "fit"), tiny_leaderboard()
    odd = replace(board.entries[2], name=evil, note=evil, backend=evil, limit=evil)
    replace(board, entries=(*board.entries[:2], odd), notes=(evil,), plan={evil: evil}, metric=evil).save(run)
    page = page_of(tmp_path, run)
    assert [tag for tag, _ in page.tags].count("script") == 2 and "img" not in [tag for tag, _ in page.tags]
    assert page.data["tried"][0]["points"][2]["name"].startswith(evil)


def test_a_damaged_leaderboard_is_refused_with_others(tmp_path: Path) -> None:
    run, other = write_fit(tmp_path / "fit"), write_run(tmp_path / "half", None)
    data = read_json(run / "leaderboard.json")
    data["entries"][0]["score"] = "high"
    write_json(run / "leaderboard.json", data)
    with pytest.raises(InputError) as caught:
        cutbert.report(run, other, out=tmp_path / "page.html")
    assert len(caught.value.mistakes) == 2 and "score must be a number, got 'high'" in caught.value.mistakes[0]


def test_examples() -> None:
    failed, attempted = doctest.testmod(tried)
    assert attempted and failed == 0


def test_fit_and_a_family_on_one_page(tmp_path: Path) -> None:
    runs = write_fit(tmp_path / "fit"), write_family(tmp_path / "family")
    out = tmp_path / "page.html"
    assert cutbert.report(*runs, out=out).to_json()["points"] == 5 + 1 + len(FAMILY)
    page = Page(out.read_text(encoding="utf-8"))
    assert [point["run"] for point in page.data["points"]] == [1] * 5
    assert "What was tried: fit" in page.texts["h2"] and page.data["tasks"] == ["sst2, accuracy"]
