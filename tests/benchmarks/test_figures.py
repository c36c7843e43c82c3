"""Verdicts follow their rule, tables take any number of seeds, and a figure that no record has is found."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from benchmark_modules import BENCHMARKS, importable

from checked_calls import check_only
from cutbert.api.sweeps import SWEPT
from cutbert.cli import main as command_line
from cutbert.sweeps.expand import read_runs

NAMES = (
    "results",
    "claims",
    "findings",
    "everything",
    "fit_pieces",
    "claim_rows",
    "equal_cost",
    "page_tables",
    "evidence",
    "figures",
)


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    """The modules that write pages, by name."""
    with importable():
        yield {name: import_module(name) for name in NAMES}


@pytest.mark.parametrize(
    ("low", "high", "by_seed", "verdict"),
    [
        (0.01, 0.03, (0.01, 0.02, 0.03), "shown"),
        (0.01, 0.03, (0.02, 0.03), "cannot be told here"),  # two seeds
        (None, None, (0.01, 0.02, 0.03), "cannot be told here"),
        (0.01, 0.03, (0.06, 0.02, -0.01), "not shown"),  # a seed says otherwise
        (-0.01, 0.03, (0.01, 0.02, 0.03), "not shown"),
        (-0.03, -0.01, (-0.01, -0.02, -0.03), "contradicted"),
        (-0.03, -0.01, (-0.06, -0.02, 0.01), "not shown"),
    ],
)
def test_a_difference_has_its_verdict(
    scripts: dict[str, ModuleType], low: float | None, high: float | None, by_seed: tuple[float, ...], verdict: str
) -> None:
    gap = scripts["results"].Gap("cola", sum(by_seed) / len(by_seed), low, high, by_seed)
    assert gap.verdict(0.0) == verdict


def test_a_claim_has_the_verdict_of_its_differences(scripts: dict[str, ModuleType]) -> None:
    gap, claim = scripts["results"].Gap, scripts["claims"].Claim
    above, below = gap("sst2", 0.02, 0.01, 0.03, (0.02,) * 3), gap("cola", -0.02, -0.03, -0.01, (-0.02,) * 3)
    between, mean = gap("mrpc", 0.0, -0.005, 0.005, (0.0,) * 3), gap("mean", 0.01, 0.005, 0.02, (0.01,) * 3)
    unknown = gap("mrpc", 0.02, 0.01, 0.03, (0.02,))
    for found, verdict in (
        ([above, above], "shown"),
        ([above, between], "not shown"),
        ([above, below, unknown], "contradicted"),
        ([above, unknown], "cannot be told here"),
        ([mean, below], "shown"),  # of an average
    ):
        assert claim("name", "words", found=lambda found=found: found).verdict == verdict
    assert claim("name", "words", found=lambda: [above], flaw="Unfair.").verdict == "cannot be told here"
    lines = [claim("name", "words", flaw=flaw).verdict_on(above) for flaw in ("", "Unfair.")]
    assert lines == ["shown", "cannot be told here"]  # of a line of the picture
    assert claim("name", "words", found=lambda: [between], floor=scripts["claims"].NO_WORSE).verdict == "shown"
    assert claim("name", "words").verdict == claim("name", "words", found=list).verdict == "not run yet"
    waiting = claim("name", "words", "a run", ("a_record_to_come",), found=lambda: [above])
    assert waiting.verdict == "not run yet" and waiting.row(scripts["claims"].Notes()) == [
        "**name.** words",
        "",
        "",
        "not run yet",
    ]


def test_seeds_of_a_record_make_its_difference(scripts: dict[str, ModuleType]) -> None:
    results = scripts["results"]
    for task in results.TASKS:
        for gap in (results.cut_gap(task, "fakv", results.HALF), results.kept_gap(task, "importance-3", "teacher")):
            assert sum(gap.by_seed) / len(gap.by_seed) == pytest.approx(gap.mean, abs=1e-9)
            assert gap.low <= gap.mean <= gap.high


def test_cuts_of_an_embedding_model_have_intervals_where_the_record_has(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cell(gain: float) -> dict[str, Any]:
        scores = {"fit": {"ndcg@10": 0.7 + gain, "spearman": 0.8}, "layers": {"ndcg@10": 0.7, "spearman": 0.8 + gain}}
        gaps = {"ndcg@10": {"mean": gain, "low": gain - 0.01, "high": gain + 0.03}}
        gaps["spearman"] = {"mean": -gain, "low": -gain - 0.005, "high": -gain + 0.005}
        return {"compared": [{**scores, "fit - layers": gaps}]}

    record = {"shares": [0.5], "cells": [cell(gain) for gain in (0.02, 0.03, 0.04)]}
    monkeypatch.setattr(scripts["findings"], "read_record", lambda name: record)
    ndcg, pairs = scripts["findings"].embedded()
    assert (ndcg.low, ndcg.mean, ndcg.high) == pytest.approx((0.02, 0.03, 0.06)) and len(ndcg.by_seed) == 3
    assert (ndcg.verdict(0.0), pairs.verdict(0.0)) == ("shown", "contradicted")
    for each in record["cells"]:
        del each["compared"][0]["fit - layers"]
    assert {gap.low for gap in scripts["findings"].embedded()} == {None}


def made_summary(task: str, limit: int, seeds: int) -> dict[str, Any]:
    """Return a row of fit's summary in which fit beats plain layers with every seed."""
    by_seed = [0.02 + 0.001 * seed for seed in range(seeds)]
    gap = {"mean": 0.02, "low": 0.01, "high": 0.03, "by_seed": by_seed}
    found = {"mean": 0.8, "spread": 0.01 if seeds > 1 else None}
    return {
        "task": task,
        "limit": limit,
        "seeds": seeds,
        "uncut": found,
        "fit": {**found, "share": 0.3},
        "layers": {**found, "share": 0.3},
        "fit - uncut": gap,
        "fit - layers": gap,
    }


@pytest.fixture
def new_records(scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder whose records stand for those of the repository."""
    results = scripts["results"]
    monkeypatch.setattr(results, "_folders", [tmp_path, *results._folders])
    results.read_record.cache_clear()
    yield tmp_path
    results.read_record.cache_clear()


def write_fit(folder: Path, name: str, seeds: int, shares: list[float], **more: Any) -> None:
    """Write a made-up record of fit on two tasks."""
    record = json.loads((BENCHMARKS / "records" / "fit.json").read_text(encoding="utf-8"))
    record = {key: value for key, value in record.items() if key not in ("note", "since", "flaw", "rival_shares")}
    record |= {"shares": shares, "time_s": 600.0, "cells": [{**record["cells"][0], "seed": i} for i in range(seeds)]}
    limits = range(len(shares))
    record["summary"] = [made_summary(task, limit, seeds) for task in ("sst2", "cola") for limit in limits]
    (folder / f"{name}.json").write_text(json.dumps({**record, **more}), encoding="utf-8")


def test_one_choice_of_layers_is_no_fair_rival(scripts: dict[str, ModuleType], new_records: Path) -> None:
    def race(**steps: int) -> dict[str, Any]:
        board = [{"name": name.replace("_", "-"), "kind": "layers", "steps": each} for name, each in steps.items()]
        return {"leaderboards": {"layers": [*board, {"name": "uncut", "kind": "teacher", "steps": 0}]}}

    one_choice = scripts["findings"].one_choice
    races = [race(layers_0_1=90, layers_2_5=10), race(layers_0_1=10, layers_2_5=90), race(layers_0_1=90)]
    for name, cells in (("fit", races), ("fit_limits", [race(layers_0_1_2=90, layers_1_3_5=10)])):
        (new_records / f"{name}.json").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    assert one_choice(2).endswith("`fit --kinds layers`, `layers-2-5` won 1 of 2.")
    assert one_choice(3, 2).endswith("`layers-1-3-5` won none of 1, `layers-2-5` won 1 of 2.")
    assert one_choice(4).endswith("untuned.")  # raced nowhere


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_fit_has_any_number_of_seeds_and_limits(scripts: dict[str, ModuleType], new_records: Path, seeds: int) -> None:
    write_fit(new_records, "fit", seeds, [0.5, 0.25])
    rows = scripts["page_tables"].fit_table().splitlines()
    assert len(rows) == 2 + 4 + 2 and rows[4].startswith("| mean | 0.50 | 80.0 |")
    assert rows[2].count("+2.") == 2 * (seeds + 1)
    assert f"| `fit`: limit 0.50, 10 minutes for 2 limits | {seeds} |" in scripts["equal_cost"].int8_table()
    rows_of_fit = [each for each in scripts["claim_rows"].OURS if each.records == ("fit",)]
    claim, on_mean = (each for each in rows_of_fit if "beats plain layers" in each.name)
    # Of two tasks of equal half widths the mean's is smaller by the root of 2.
    notes = scripts["claims"].Notes()
    assert "+2.0 [+1.3, +2.7]" in on_mean.row(notes)[2] and "SST-2 at 0.25 +2.0 [+1.0, +3.0]" in claim.row(notes)[2]
    # `fit` was developed on these tasks, whatever a new record says of itself.
    assert {claim.verdict, on_mean.verdict} == {"cannot be told here"}
    assert notes.text == "(a) `fit` was developed on these tasks.\n"
    write_fit(new_records, "fit", seeds, [0.5, 0.25], flaw="Unfair.")
    scripts["results"].read_record.cache_clear()
    assert " (b)<br>To decide: fresh tasks, " in claim.row(notes)[2]
    assert notes.text.splitlines()[2] == "(b) Unfair. `fit` was developed on these tasks."


def test_further_records_of_fit_stand_below_its_table(scripts: dict[str, ModuleType], new_records: Path) -> None:
    summary = [made_summary(task, limit, 1) for task in ("sst2", "cola") for limit in (0, 1)]
    for row in summary[1::2]:  # no whole layer keeps the tighter limit
        del row["layers"], row["fit - layers"]
    more = {"since": "It has changed.", "rival_shares": [0.57], "summary": summary}
    write_fit(new_records, "fit_limits", 1, [0.5, 0.125], **more)
    first, *further = scripts["evidence"].fit_line().splitlines()
    assert first.startswith("Runs of ") and ", 3 seeds, each with a teacher of its own" in first
    (limits,) = (line for line in further if "(`fit_limits`)" in line)
    (base,) = (line for line in further if "(`fit_base`)" in line)
    assert limits.startswith(
        "- Other limits (`fit_limits`): runs of 10 minutes for 2 limits, of plain layers 5 minutes, 1 seed. "
    )
    assert "Taken, with their steps: CoLA at 0.50 `layers-0-1-2-3-4` (276) beside `layers-0-1-2-3-4` (423)" in base
    assert "`fit` took plain layers too." in base and "`fit` took plain layers too." not in limits
    rival, teacher = limits.partition("the teacher in int8")[::2]
    looser = "Plain layers were allowed 0.57 of the latency where `fit` was allowed 0.50."
    assert "SST-2 at 0.50 +2.0 [+1.0, +3.0] (one seed)" in rival and "0.125" not in rival
    assert "SST-2 at 0.125 +2.0 [+1.0, +3.0] (one seed)" in teacher and f" It has changed. {looser} " in teacher
    assert limits.count("**cannot be told here**") == 2
    table = scripts["equal_cost"].int8_table()
    assert "| `fit`: limit 0.125, 10 minutes for 2 limits | 1 | 80.0 " in table
    assert "| plain layers, any, by the same code: limit 0.57, 5 minutes | 1 | 80.0 " in table
    assert "| plain layers, any, by the same code: limit 0.125, not run | 1 | — |" in table
    name = "`fit` beats plain layers under other limits too"
    (claim,) = (each for each in scripts["claim_rows"].OURS if each.name == name)
    notes = scripts["claims"].Notes()
    assert " (a)<br>" in claim.row(notes)[2] and notes.text.endswith(f" It has changed. {looser}\n")


def test_fit_on_other_tasks_is_shown_where_it_was_run(scripts: dict[str, ModuleType], new_records: Path) -> None:
    claims = [each for each in scripts["claim_rows"].OURS if each.records == ("fit_more",)]
    each, mean = claims
    one_seed, summary = ([made_summary(task, 0, seeds) for task in ("rte", "stsb")] for seeds in (1, 3))
    write_fit(new_records, "fit_more", 1, [1 / 3], summary=one_seed)
    undecided = scripts["evidence"].verdicts_line()
    scripts["results"].read_record.cache_clear()
    write_fit(new_records, "fit_more", 3, [1 / 3], summary=summary)
    rows = [claim.row(scripts["claims"].Notes()) for claim in claims]
    assert rows[0][1].startswith("`fit` less `fit --kinds layers` on RTE and STS-B, one core")
    assert rows[0][2].startswith("RTE +2.0 [+1.0, +3.0] ± 0.1<br>STS-B +2.0") and each.verdict == "shown"
    assert rows[1][2].startswith("mean +2.0 [+1.3, +2.7]") and mean.verdict == "shown"
    line = scripts["evidence"].verdicts_line()
    assert line == f"{each.name}: **shown**. {mean.name}: **shown**.\n" and "is not decided: [" in undecided


def test_methods_stand_in_the_int8_table_where_records_have_them(
    scripts: dict[str, ModuleType], new_records: Path
) -> None:
    equal_cost = scripts["equal_cost"]
    assert "`schubert`, `undivided`: not measured in int8" in equal_cost.int8_table()
    record = json.loads((BENCHMARKS / "records" / "int8_cola.json").read_text(encoding="utf-8"))
    (teacher,) = (row for row in record["networks"] if (row["name"], row["backend"]) == ("teacher", "onnx-int8"))
    half = {"latency_ms": teacher["latency_ms"] / 2, "score": teacher["score"] + 0.01}
    record["networks"].append({**teacher, **half, "name": "undivided"})
    (new_records / "int8_cola.json").write_text(json.dumps(record), encoding="utf-8")
    scripts["results"].read_record.cache_clear()
    *_, undivided, schubert = equal_cost.method_rows()
    assert undivided[2:] == ["—", f"{100 * teacher['score'] + 1:.1f} (+1.0) at 0.50", "—"]
    assert schubert[0] == "`schubert`: not measured in int8"


def test_a_figure_of_its_own_is_found(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    figures = scripts["figures"]
    page = tmp_path / "method.md"
    begin, end = (mark.format(name="rows") for mark in (figures.BEGIN, figures.END))
    page.write_text(
        f"# A method\n\nIts share is 0.5.\n\n## What we measured\n\n{begin}\n1.5\n{end}\n\nIt has `0.3` at 3.\n"
    )
    monkeypatch.setattr(figures, "BLOCKS", {page: {"rows": lambda: "1.5\n"}})
    assert figures.own_figures(page) == [] and figures.written(page) == page.read_text()
    setting = "With 3 layers and 200 steps, 95 % intervals.\n"
    page.write_text(page.read_text() + setting + "It gains 2.5 points, -0.25 less, in 20 minutes, all four.\n")
    assert figures.own_figures(page) == ["2.5", "-0.25", "20 minutes", "all four"]
    before = page.read_text()
    page.write_text(f"## Timing\n\nA limit of 10 ms.\n\n3 % slower, four of six (`timing_noise.json`).\n\n{before}")
    assert figures.own_figures(page)[:2] == ["3 %", "four of six"]
    monkeypatch.setattr(figures, "BLOCKS", {page: {"rows": lambda: "1.6\n"}})
    assert figures.written(page) != page.read_text()


@pytest.mark.parametrize("more", [[], ["--smoke"]])
def test_commands_of_everything_are_understood(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    """Options of verbs and scripts, and what is set in plans."""
    scripts["everything"].main(["--list", "--model", "model", *more])
    seen = check_only(monkeypatch)
    shared = "".join((BENCHMARKS / f"{name}.py").read_text(encoding="utf-8") for name in ("recording", "workload"))
    for line in capsys.readouterr().out.splitlines():
        program, script, *words = shlex.split(line, comments=True) or ("#", "")
        if program == "cutbert":
            assert command_line.main([script, *words]) == 0
            if script == "sweep":
                sets = [value for name, value in itertools.pairwise(words) if name == "--set"]
                assert read_runs(BENCHMARKS.parent / words[0], sets, SWEPT, Path("out"))
        elif program == "python":
            options = [word.replace("--no-", "--") for word in words if word.startswith("--")]
            source = (BENCHMARKS.parent / script).read_text(encoding="utf-8") + shared
            assert [each for each in options if f'"{each}"' not in source] == [], line
    assert set(seen) == {"sweep", "analyze", "export"}


def test_everything_lists_its_commands(
    scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    scripts["everything"].main(["--list", "--only", "fit", "--records", "new"])
    hours, together, line, pages = capsys.readouterr().out.splitlines()
    assert hours.startswith("# fit: ") and together == hours.replace("fit:", "together") and hours.endswith(" hours")
    assert line.startswith("python benchmarks/measure_fit.py") and line.endswith("--records new")
    assert pages == "python benchmarks/figures.py --records new"
    (tmp_path / "family.json").write_text('{"unfinished": []}')
    scripts["everything"].main(["--list", "--only", "family", "--records", str(tmp_path), "--smoke"])
    answered, _, pages = capsys.readouterr().out.splitlines()
    assert answered == "# family: answered by family" and pages.endswith(" --out runs/smoke/pages")
    with pytest.raises(KeyError, match="no job is called nothing"):
        scripts["everything"].command("nothing")


def test_a_job_runs_what_it_reads_first(scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]) -> None:
    everything = scripts["everything"]
    places = [job.name for job in everything.JOBS]
    for job in everything.JOBS:
        read = set(re.findall(r"{(?:runs|records)}/([\w-]+)", " ".join(job.commands))) & set(places) - {job.name}
        assert set(job.needs) == read, job.name
        assert all(places.index(name) < places.index(job.name) for name in job.needs)
    everything.main(["--list", "--only", "int8_cola"])
    lines = capsys.readouterr().out.splitlines()
    assert [line[2:].partition(":")[0] for line in lines[:4]] == ["family", "cuts", "undivided", "int8_cola"]
    hours = sum(job.hours for job in everything.with_needs(["fit_int8"]))
    assert everything.command("fit_int8").endswith(
        f"--only fit_int8` (at least {hours:.1f} hours, with `fit`, which it reads)"
    )
    assert everything.command("rivals").endswith(" minutes)")
    assert everything.command("representations").endswith("with `undivided`, which it reads)")


@pytest.mark.parametrize("code", [0, 1])
def test_pages_are_written_where_nothing_failed(
    scripts: dict[str, ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    code: int,
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(scripts["everything"], "run", lambda words: ran.append(words[1]) or code)
    assert scripts["everything"].main(["--only", "operators", "--records", str(tmp_path)]) == code
    assert ran == ["benchmarks/measure_operators.py", *["benchmarks/figures.py"] * (1 - code)]
    assert capsys.readouterr().err.count("failed: python benchmarks/measure_operators.py") == code


def test_every_record_says_where_it_is_from() -> None:
    for path in (BENCHMARKS / "records").glob("*.json"):
        text = path.read_text(encoding="utf-8")
        record = json.loads(text)
        missing = {"commit", "command", "machine", "versions", "seeds"} - set(record)
        assert not missing and record["seeds"] and len(record["commit"]) == 40, path.name
        assert record["command"].startswith(("python benchmarks/", "cutbert ")), path.name
        assert not any(place in text for place in ('"/work', '"/tmp', " /work", " /tmp")), path.name
