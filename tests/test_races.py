"""Commands that share a folder, run at the same time with pauses where they read and write: none loses another's work.

Each pair runs in threads, whose locks keep each other out as those of processes do.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

import cutbert
from cutbert.cli.main import main
from cutbert.errors import InputError
from cutbert.files import change_json, read_json, replacing_file, replacing_folder
from cutbert.fronts.front import Front
from cutbert.hub.load import load_model
from cutbert.shape.cost import cost_of
from cutbert.sweeps.folder import SweepFolder
from known_times import take_known_times
from methods.tiny_task import tiny_task
from sweeps.tiny_plan import make_plan
from tiny_runs import HEAD, save_tiny
from tiny_sweeps import compute_here

LONGEST_PAUSE_S = 0.01
SEARCH = {"trials": 14, "keep": 4, "threads": 1}
REFUSALS = ("another process", "another plan", "must be new", "is there already", "must be absent")


@pytest.fixture(scope="module", autouse=True)
def known_latency() -> Iterator[None]:
    """A network takes a millisecond for every million multiply-adds."""
    with pytest.MonkeyPatch.context() as patch:
        take_known_times(patch, lambda shape, length: cost_of(shape, HEAD, length).macs / 1e6)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, its task and a finished run of dynabert."""
    folder = tmp_path_factory.mktemp("made")
    options = {**tiny_task(folder), "width_mult": (1.0, 0.5), "depths": (3, 1)}
    cutbert.dynabert(str(save_tiny(folder / "tiny")), out=str(folder / "run"), importance_samples=16, **options)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
    """Let time pass before and after each file that is read, and each that is put in its place."""
    draw = random.Random(0)

    def slow(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            time.sleep(draw.uniform(0, LONGEST_PAUSE_S))
            result = function(*args, **options)
            time.sleep(draw.uniform(0, LONGEST_PAUSE_S))
            return result

        return call

    monkeypatch.setattr(os, "replace", slow(os.replace))
    monkeypatch.setattr(Path, "read_text", slow(Path.read_text))


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Return what calls return that begin at the same time, or the InputError of each that was refused."""
    results: list[Any] = [None] * len(calls)
    start = threading.Barrier(len(calls))

    def run(i: int) -> None:
        start.wait()
        try:
            results[i] = calls[i]()
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    broken = [each for each in results if isinstance(each, BaseException) and not is_refusal(each)]
    if broken:
        raise broken[0]
    assert any(not isinstance(each, InputError) for each in results), results
    return results


def is_refusal(error: BaseException) -> bool:
    """Return whether an error says that another process is at work, or was first."""
    return isinstance(error, InputError) and any(part in str(error) for part in REFUSALS)


def check_nothing_aside(folder: Path) -> None:
    assert not [path for path in folder.rglob("*") if path.name.endswith(".part")]


ON_FRONT: dict[str, Callable[[Path], Any]] = {
    "measure": lambda run: cutbert.front(run, measure=True, backend="torch", rounds=2, threads=1),
    "measure int8": lambda run: cutbert.front(run, measure=True, backend="onnx-int8", rounds=2, threads=1),
    "search": lambda run: cutbert.search(run, **SEARCH),
    "search 1": lambda run: cutbert.search(run, **SEARCH, seed=1),
    "pick": lambda run: cutbert.pick(run, max_params=10**9, out=run.parent / "picked"),
    "report": lambda run: cutbert.report(run, out=run.parent / "report.html"),
    "export": lambda run: cutbert.export(run, onnx=True, threads=1),
}
# What only reads the run's model, or the run as it is: beside each that writes there.
READERS: dict[str, Callable[[Path], Any]] = {
    "predict": lambda run: cutbert.predict(
        run, input=run.parent / "dev.tsv", text="text", threads=1, out=run.parent / "out.csv"
    ),
    "own command": lambda run: main([*own_command(run)]),
}


def own_command(run: Path) -> list[str]:
    """Return the words of the command that made a run, for its copy."""
    words = shlex.split(read_json(run / "run.json")["line"])[1:]
    words[words.index("--out") + 1] = str(run)
    return words


@pytest.mark.parametrize("names", [*combinations(ON_FRONT, 2), *((name, name) for name in ON_FRONT)], ids="-".join)
def test_on_one_run(run: Path, names: tuple[str, str]) -> None:
    before = {entry.name for entry in Front.load(run)}
    results = dict(zip(names, together(*(lambda name=name: ON_FRONT[name](run) for name in names)), strict=True))
    front = Front.load(run)
    kept = {entry.name for entry in front}
    assert before <= kept
    for name, result in results.items():
        if isinstance(result, InputError):
            continue
        if name.startswith("search"):
            assert {each["name"] for each in result["subnets"]} <= kept
            assert all(front[each["name"]].latency_ms for each in result["subnets"])
        elif name.startswith("measure"):
            assert result.measured["backend"] in front.backends
        elif name == "pick":
            assert load_model(run.parent / "picked").model.shape == result.entry.shape
    verbs = [line.split()[1] for line in read_json(run / "model" / "cutbert.json")["commands"]]
    assert verbs.count("export") == ("export" in names)
    check_nothing_aside(run.parent)


@pytest.mark.parametrize("writer", ["measure", "search", "export"])
@pytest.mark.parametrize("reader", READERS)
def test_reading_a_run_beside_what_changes_it(run: Path, made: Path, reader: str, writer: str) -> None:
    shutil.copy(made / "dev.tsv", run.parent)
    before = {entry.name for entry in Front.load(run)}
    found, written = together(lambda: READERS[reader](run), lambda: ON_FRONT[writer](run))
    assert not isinstance(found, InputError) and not isinstance(written, InputError)
    assert before <= {entry.name for entry in Front.load(run)}
    if reader == "own command":
        assert found == 0
    assert (run / "model" / "onnx").is_dir() == (writer == "export")
    check_nothing_aside(run.parent)


def test_a_file_that_is_served_is_there_while_another_is_added(made: Path, tmp_path: Path) -> None:
    """A file that is served is never missing for a moment, in which torch would answer in its place."""
    model = save_tiny(tmp_path / "m")
    cutbert.export(model, onnx=True, threads=1)
    texts = {"input": made / "dev.tsv", "text": "text", "threads": 1}
    calls = [partial(cutbert.predict, model, out=tmp_path / f"{i}.csv", **texts) for i in range(3)]
    *answered, added = together(*calls, lambda: cutbert.export(model, int8=True, gate=False, threads=1))
    assert {each["backend"] for each in answered} <= {"onnx", "onnx-int8"} and not isinstance(added, InputError)
    assert len(list((model / "onnx").glob("*.onnx"))) == 2
    check_nothing_aside(tmp_path)


def test_searches_keep_each_others_networks_when_they_are_repeated(run: Path) -> None:
    """The one that was refused goes on afterwards, and finds the other's networks in the front."""
    calls = [lambda: cutbert.search(run, **SEARCH), lambda: cutbert.search(run, **SEARCH, seed=1)]
    together(*calls)
    found = [each["name"] for call in calls for each in call()["subnets"]]
    assert set(found) <= {entry.name for entry in Front.load(run)}


def test_a_search_puts_back_what_its_front_has_lost(run: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = cutbert.search(run, **SEARCH)
    whole = Front.load(run)
    assert any(each.search for each in whole)
    shutil.copy(made / "run" / "front.json", run)
    again = cutbert.search(run, **SEARCH)
    front = Front.load(run)
    assert again.to_json() == first.to_json() and "are back" in capsys.readouterr().err
    assert {entry.name for entry in front} == {entry.name for entry in whole}
    for each in whole:
        assert front[each.name].select_score == each.select_score and front[each.name].folder == each.folder
    times = [front[each.name].latency_ms for each in whole if each.search]
    same = Front.load(made / "run").measured == first["measured"]
    assert times == [whole[each.name].latency_ms if same else None for each in whole if each.search]


@pytest.mark.parametrize("verb", ["predict", "export", "pick", "report"])
def test_two_of_one_verb_to_one_place(made: Path, run: Path, tmp_path: Path, verb: str) -> None:
    model, out = save_tiny(tmp_path / "m"), tmp_path / ("out" if verb in ("export", "pick") else f"{verb}.html")
    texts = {"input": made / "dev.tsv", "text": "text", "threads": 1}
    calls: dict[str, Callable[[], Any]] = {
        "predict": lambda: cutbert.predict(model, out=out.with_suffix(".csv"), **texts),
        "export": lambda: cutbert.export(model, onnx=True, out=out, threads=1),
        "pick": lambda: cutbert.pick(run, max_params=10**9, out=out),
        "report": lambda: cutbert.report(run, out=out),
    }
    results = together(calls[verb], calls[verb])
    refused = [each for each in results if isinstance(each, InputError)]
    assert len(refused) == (verb != "report")  # a report replaces an earlier one
    check_nothing_aside(tmp_path)
    if verb != "report":
        with pytest.raises(InputError, match="must be"):
            calls[verb]()


@pytest.mark.parametrize("verb", ["predict", "cost", "export"])
def test_export_in_place_beside_what_reads_the_model(made: Path, tmp_path: Path, verb: str) -> None:
    """A reader has the model whole, whatever is written meanwhile."""
    model, out = save_tiny(tmp_path / "m"), tmp_path / "out.csv"
    weights = (model / "model.safetensors").read_bytes()
    calls: dict[str, Callable[[], Any]] = {
        "predict": lambda: cutbert.predict(model, input=made / "dev.tsv", text="text", threads=1, out=out),
        "cost": lambda: cutbert.cost(model),
        "export": lambda: cutbert.export(model, onnx=True, threads=1),
    }
    results = together(calls["export"], calls[verb])
    assert verb == "export" or not any(isinstance(each, InputError) for each in results)
    assert any(" export " in line for line in read_json(model / "cutbert.json")["commands"])
    assert (model / "onnx" / "model.onnx").is_file() and (model / "model.safetensors").read_bytes() == weights
    assert out.exists() == (verb == "predict")
    check_nothing_aside(tmp_path)


@pytest.mark.parametrize("verbs", [("finetune", "finetune"), ("finetune", "dynabert")])
def test_two_runs_in_one_folder(made: Path, tmp_path: Path, verbs: tuple[str, str]) -> None:
    task, out = tiny_task(made), tmp_path / "run"
    one, other = (lambda verb=verb: getattr(cutbert, verb)(str(made / "tiny"), out=str(out), **task) for verb in verbs)
    results = together(one, other)
    done = next(each for each in results if not isinstance(each, InputError))
    assert read_json(out / "run.json")["result"] == json.loads(json.dumps(dict(done.data)))
    check_nothing_aside(tmp_path)


def test_two_sweeps_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute_here(monkeypatch)
    plan = make_plan(tmp_path)
    one = ["steps.student.grid.learning_rate=[0.001]", "grid.seed=[0]"]
    plans = (one, [*one, "steps.teacher.learning_rate=0.002"])
    results = together(*(lambda sets=sets: cutbert.sweep(plan, out=tmp_path / "out", set=sets) for sets in plans))
    (done,) = (each for each in results if not isinstance(each, InputError))
    assert [each["status"] for each in done["runs"]] == ["finished"] * 2
    assert len(SweepFolder.read(tmp_path / "out").runs) == 2
    check_nothing_aside(tmp_path)


def test_a_counter_in_a_file_loses_no_step(tmp_path: Path) -> None:
    """Each reads what the others wrote: the sum is whole, whatever the pauses."""
    path = tmp_path / "count.json"

    def count() -> None:
        for _ in range(5):
            change_json(path, lambda: read_json(path) + 1 if path.is_file() else 1)

    together(*[count] * 4)
    assert read_json(path) == 20 and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("writing", [replacing_file, replacing_folder])
def test_of_many_writers_of_something_new_one_is_left(tmp_path: Path, writing: Callable[..., Any]) -> None:
    path = tmp_path / "new"

    def write(i: int) -> int:
        with writing(path, is_new=True) as aside:
            (aside / "text" if aside.is_dir() else aside).write_text(str(i))
        return i

    results = together(*(lambda i=i: write(i) for i in range(6)))
    (winner,) = (each for each in results if not isinstance(each, InputError))
    assert (path / "text" if path.is_dir() else path).read_text() == str(winner)
    assert list(tmp_path.iterdir()) == [path]
