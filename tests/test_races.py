"""Commands that share a folder, run at the same time with pauses where they read and write: none loses another's work.

Each pair runs in threads, whose locks keep each other out as those of processes do. What can be shared, and where the
pairs are:

- a run's folder: what changes it, two and two (`ON_FRONT`); what reads it beside each (`READERS`, `OF_RUNS`), and while
  it is made (dynabert, fit, a sweep's runs);
- a model's folder: what adds files, two and two; what reads it beside both;
- --out: what writes there, two and two (`WRITERS`: all verbs that make a run, sweep, all that write a model or a file);
- a sweep's folder: two sweeps, one that is looked at, one whose run is begun by hand;
- the token cache, which somebody empties meanwhile.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from itertools import combinations, combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cutbert
from cutbert.api.sweeps import SWEPT
from cutbert.cli.main import main
from cutbert.data.cache import TRIES, cached_arrays
from cutbert.errors import InputError
from cutbert.files import change_json, put_back_on_error, read_json, replacing_file, replacing_folder, write_json
from cutbert.folders.load import load_model
from cutbert.fronts.front import Front
from cutbert.shape.cost import cost_of
from cutbert.shape.head import HeadSpec
from cutbert.sweeps.expand import read_runs
from cutbert.sweeps.folder import SweepFolder
from cutbert.train.run_folder import RunFolder, has_content
from cutbert.train.run_lock import LOCK
from known_times import take_known_memory, take_known_times
from methods.tiny_task import fit_quickly, measure_quickly, tiny_task
from sweeps.tiny_plan import make_plan
from tiny_runs import HEAD, SHAPE, save_tiny, tiny_model
from tiny_sweeps import compute_here

LONGEST_PAUSE_S = 0.01
BETWEEN_LOOKS_S = 0.05
HANGS_S = 600  # after which those that wait wait for ever
EMPTIED = TRIES // 2  # each may take away an entry as it is written, and once more as it is written again
SEARCH = {"trials": 14, "keep": 4, "threads": 1}
FAMILY = {"width_mult": (1.0, 0.5), "depths": (3, 1), "importance_samples": 16}
# What says that another process is at work, or was first.
REFUSALS = (
    "another process", "another plan", "must be new", "is there already", "must be absent", "must be an empty folder",
    "must be a folder", "must be a file", "a file is in its place", "is not empty and holds no run",
)  # fmt: skip
# What says that something is still being made.
UNFINISHED = (
    "is not finished", "must be finished", "is no folder here", "is no folder with a run", "must be a run with a",
    "must be the folder of a sweep", "which does not exist", "got neither",
)  # fmt: skip


def know_times(patch: pytest.MonkeyPatch) -> None:
    """Let a network take a millisecond for every million multiply-adds."""
    take_known_times(patch, lambda shape, length: cost_of(shape, HEAD, length).macs / 1e6)


@pytest.fixture
def known_times(monkeypatch: pytest.MonkeyPatch) -> None:
    know_times(monkeypatch)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, its task and a finished run of dynabert."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        know_times(patch)
        out, options = str(folder / "run"), {**tiny_task(folder), **FAMILY}
        cutbert.dynabert(str(save_tiny(folder / "tiny")), out=out, **options)
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

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(calls))]
    for each in threads:
        each.start()
    for each in threads:
        each.join(HANGS_S)
    assert not any(each.is_alive() for each in threads), "they wait for each other"
    broken = [each for each in results if isinstance(each, BaseException) and not is_refusal(each)]
    if broken:
        raise broken[0]
    assert any(not isinstance(each, InputError) for each in results), results
    return results


def is_refusal(error: BaseException, words: tuple[str, ...] = REFUSALS) -> bool:
    """Return whether an error says that another process is at work, or was first."""
    return isinstance(error, InputError) and any(part in str(error) for part in words)


def watched(make: Callable[[], Any], looks: Mapping[str, Callable[[], Any]]) -> tuple[Any, Counter[str]]:
    """Return what a call returns while others look at what it makes, again and again until it ends, and once after.

    Each look is answered, or told that it comes too soon.

    Returns:
        The result, and how often each look was answered before the end.
    """
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(make())
        except BaseException as error:
            results.append(error)

    maker, answered = threading.Thread(target=run, daemon=True), Counter[str]()
    maker.start()
    try:
        while maker.is_alive():
            for name, look in looks.items():
                try:
                    look()
                    answered[name] += maker.is_alive()
                except InputError as error:
                    if not is_refusal(error, (*UNFINISHED, *REFUSALS)):
                        raise
            time.sleep(BETWEEN_LOOKS_S)
    finally:
        maker.join(HANGS_S)
    (result,) = results
    if isinstance(result, BaseException):
        raise result
    for look in looks.values():
        look()
    return result, answered


def check_nothing_aside(folder: Path) -> None:
    assert not [path for path in folder.rglob("*") if path.name.endswith(".part")]


ON_FRONT: dict[str, Callable[[Path], Any]] = {
    "measure": lambda run: cutbert.front(run, measure=True, backend="torch", rounds=2, threads=1),
    "measure int8": lambda run: cutbert.front(run, measure=True, backend="onnx-int8", rounds=2, threads=1),
    "search": lambda run: cutbert.search(run, **SEARCH),
    "search 1": lambda run: cutbert.search(run, **SEARCH, seed=1),
    "pick": lambda run: cutbert.pick(run, max_params=10**9, out=run.parent / "picked"),
    "report": lambda run: cutbert.report(run, out=run / "report.html"),
    "export": lambda run: cutbert.export(run, onnx=True, threads=1),
}
TEXTS = {"text": "text", "threads": 1}
# What only reads a model, or a run's: beside each that adds to it. The folder is of the task, and for what is made.
READERS: dict[str, Callable[[Path, Path], Any]] = {
    "predict": lambda run, folder: cutbert.predict(run, input=folder / "dev.tsv", out=folder / "out.csv", **TEXTS),
    "predict again": lambda run, folder: cutbert.predict(run, input=folder / "dev.tsv", out=folder / "2.csv", **TEXTS),
    "cost": lambda run, folder: cutbert.cost(run),
    "measure": lambda run, folder: cutbert.measure(run, **task_in(folder), backend=("torch", "onnx"), **SHORT),
    "measure again": lambda run, folder: cutbert.measure(run, backend="onnx", length=4, **SHORT),
    "analyze": lambda run, folder: cutbert.analyze(run, out=folder / "analysis", **task_in(folder), **FEW),
    "export elsewhere": lambda run, folder: cutbert.export(run, onnx=True, out=folder / "onnx", threads=1),
    "finetune": lambda run, folder: cutbert.finetune(run, out=folder / "tuned", **task_in(folder), **ONE_STEP),
    "dynabert": lambda run, folder: cutbert.dynabert(
        run, teacher=str(run), out=folder / "family", **task_in(folder), **ONE_STEP, width_mult=1.0, depths=1
    ),
}
SHORT = {"rounds": 1, "threads": 1}
FEW = {"num_examples": 8, "probe_examples": 0, "importance_samples": 0, "pictures": "none", "threads": 1}
ONE_STEP = {"epochs": 1.0, "max_train_samples": 8, "batch_size": 8, "threads": 1, "precision": "float32"}
# What reads a run: beside each that changes it.
OF_RUNS: dict[str, Callable[[Path, Path], Any]] = {
    "predict": READERS["predict"],
    "cost": READERS["cost"],
    "own command": lambda run, folder: main([*own_command(run)]),
    "front": lambda run, folder: cutbert.front(run),
    "pick": lambda run, folder: cutbert.pick(run, max_params=10**9, out=folder / "picked"),
    "report": lambda run, folder: cutbert.report(run, out=folder / "report.html"),
}


def task_in(folder: Path) -> dict[str, Any]:
    files = {name: str(folder / f"{name}.tsv") for name in ("train", "dev")}
    return {**files, "text": "text", "label": "label", "max_length": 16}


def own_command(run: Path) -> list[str]:
    """Return the words of the command that made a run, for its copy."""
    words = shlex.split(read_json(run / "run.json")["line"])[1:]
    words[words.index("--out") + 1] = str(run)
    return words


@pytest.mark.parametrize("names", [*combinations(ON_FRONT, 2), *((name, name) for name in ON_FRONT)], ids="-".join)
def test_on_one_run(run: Path, known_times: None, names: tuple[str, str]) -> None:
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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure at two lengths, and no memory: each of these starts a process."""
    measure_quickly(monkeypatch)
    take_known_memory(monkeypatch)


@pytest.mark.parametrize("writer", ["measure", "search", "export"])
def test_all_that_read_a_run_beside_what_changes_it(
    run: Path, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    tiny_task(tmp_path)
    before, readers = {entry.name for entry in Front.load(run)}, {**OF_RUNS}
    if writer == "export":
        readers |= READERS
    else:
        know_times(monkeypatch)
    calls = [partial(read, run, tmp_path) for read in readers.values()]
    written, *found = together(lambda: ON_FRONT[writer](run), *calls)
    assert not [each for each in (written, *found) if isinstance(each, InputError)]
    assert before <= {entry.name for entry in Front.load(run)}
    assert dict(zip(readers, found, strict=True))["own command"] == 0
    assert (run / "model" / "onnx").is_dir() == (writer == "export")
    check_nothing_aside(tmp_path)


def test_all_that_read_a_model_beside_what_adds_to_it(made: Path, tmp_path: Path, quick: None) -> None:
    """A reader has the model whole, whatever is added meanwhile, and of what is added nothing is lost."""
    model = save_tiny(tmp_path / "m")
    tiny_task(tmp_path)
    weights = (model / "model.safetensors").read_bytes()
    cutbert.predict(model, input=tmp_path / "dev.tsv", out=tmp_path / "before.csv", **TEXTS)
    adding = [partial(cutbert.export, model, onnx=True, threads=1)] * 2
    adding += [partial(cutbert.export, model, int8=True, gate=False, threads=1)]
    results = together(*adding, *(partial(read, model, tmp_path) for read in READERS.values()))
    assert not [each for each in results if isinstance(each, InputError)]
    lines = read_json(model / "cutbert.json")["commands"]
    assert len({line for line in lines if " export " in line}) == len(set(adding)) == 2
    assert len(list((model / "onnx").glob("*.onnx"))) == 2
    assert (model / "model.safetensors").read_bytes() == weights
    labels = [[line.split(",")[0] for line in (tmp_path / f"{name}.csv").open()] for name in ("before", "out", "2")]
    assert labels[0] == labels[1] == labels[2]
    check_nothing_aside(tmp_path)


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


def test_searches_keep_each_others_networks_when_they_are_repeated(run: Path, known_times: None) -> None:
    """The one that was refused goes on afterwards, and finds the other's networks in the front."""
    calls = [lambda: cutbert.search(run, **SEARCH), lambda: cutbert.search(run, **SEARCH, seed=1)]
    together(*calls)
    found = [each["name"] for call in calls for each in call()["subnets"]]
    assert set(found) <= {entry.name for entry in Front.load(run)}


def test_a_search_puts_back_what_its_front_has_lost(
    run: Path, made: Path, known_times: None, capsys: pytest.CaptureFixture[str]
) -> None:
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


RECORDS = {"run.json": "run", "sweep.json": "sweep", "config.json": "model"}


def write_run(path: Path, command: str = "finetune") -> str:
    run = RunFolder.open(path, command, {"seed": 0})
    if run.result is None:
        with run.start():
            run.log(step=1)
            run.finish({"score": 0.5})
    return "run"


def write_sweep(path: Path) -> str:
    with SweepFolder.open(path, []).start():
        return "sweep"


def write_model(path: Path) -> str:
    with replacing_folder(path, is_new=True) as aside:
        write_json(aside / "config.json", {})
    return "model"


def write_file(path: Path) -> str:
    with replacing_file(path, is_new=True) as aside:
        aside.write_text("a")
    return "file"


# What is at --out: of all that train and of analyze; of sweep; of pick, export and save_pretrained; of predict.
WRITERS: dict[str, Callable[[Path], str]] = {
    "run": write_run,
    "other run": partial(write_run, command="dynabert"),
    "sweep": write_sweep,
    "model": write_model,
    "file": write_file,
}


@pytest.mark.parametrize("names", list(combinations_with_replacement(WRITERS, 2)), ids="-".join)
def test_two_of_all_that_write_to_one_place(tmp_path: Path, names: tuple[str, str]) -> None:
    """One has the place for itself, and the other is told, or finds its own result there."""
    for i in range(6):
        path = tmp_path / str(i) / "out"
        results = together(*(partial(WRITERS[name], path) for name in names))
        made = {each for each in results if not isinstance(each, InputError)}
        assert len(made) == 1
        if path.is_file():
            assert made == {"file"}
            continue
        left = {each.name for each in path.iterdir()}
        assert {kind for name, kind in RECORDS.items() if name in left} == made
        assert not (LOCK in left and made == {"model"})
        assert names[0] == names[1] in ("run", "sweep") or any(isinstance(each, InputError) for each in results)
        check_nothing_aside(tmp_path)


def test_a_place_from_which_a_refused_command_withdraws(tmp_path: Path) -> None:
    """What was refused takes its new folder away, perhaps under the hands of one that begins there.

    Of two that are refused the second may find the folder of the first, and leave it, empty but for a lock.
    """

    def refused(path: Path) -> None:
        with suppress(InputError), RunFolder.open(path, "finetune", {"seed": 0}).start():
            raise InputError("data that is none")

    for i in range(6):
        path = tmp_path / str(i) / "out"
        together(partial(refused, path), partial(write_run, path), partial(refused, path))
        made = has_content(path)
        assert not made or read_json(path / "run.json")["result"] == {"score": 0.5}
        assert write_run(path) == "run"
        check_nothing_aside(tmp_path)


@pytest.mark.parametrize("verbs", [("finetune", "finetune"), ("finetune", "dynabert")])
def test_two_runs_in_one_folder(made: Path, tmp_path: Path, known_times: None, verbs: tuple[str, str]) -> None:
    task, out = tiny_task(made), tmp_path / "run"
    one, other = (lambda verb=verb: getattr(cutbert, verb)(str(made / "tiny"), out=str(out), **task) for verb in verbs)
    results = together(one, other)
    done = next(each for each in results if not isinstance(each, InputError))
    assert read_json(out / "run.json")["result"] == json.loads(json.dumps(dict(done.data)))
    check_nothing_aside(tmp_path)


def test_a_family_whose_folder_is_read_while_it_is_made(
    made: Path, tmp_path: Path, known_times: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its teacher answers as soon as it is there; the rest says that it is not finished."""
    out, base, number = tmp_path / "run", save_tiny(tmp_path / "base", tiny_model(HeadSpec("pooler"))), iter(range(999))
    texts = {"input": made / "dev.tsv", **TEXTS}
    looks = {
        "predict": lambda: cutbert.predict(out / "teacher", out=tmp_path / f"{next(number)}.csv", **texts),
        "cost": lambda: cutbert.cost(out / "teacher"),
        "front": lambda: cutbert.front(out),
        "pick": lambda: cutbert.pick(out, max_params=10**9),
        "report": lambda: cutbert.report(out, out=tmp_path / "report.html"),
        "measure": lambda: cutbert.front(out, measure=True, rounds=1, threads=1),
    }
    options = {**tiny_task(made), **FAMILY, "checkpoint_seconds": 0.0}
    family, _ = watched(lambda: cutbert.dynabert(base, out=out, **options), looks)
    assert len(family.front.subnets) == len(family["subnets"])
    check_nothing_aside(tmp_path)


def test_two_fits_in_one_folder_that_is_read_meanwhile(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_quickly(monkeypatch)
    out, number = tmp_path / "run", iter(range(999))
    task = {name: each for name, each in tiny_task(made).items() if name not in ("epochs", "batch_size")}
    limit = {"max_params": int(0.8 * cost_of(SHAPE, HEAD).params), "time": 600.0, "rounds": 1, "backend": "onnx"}
    fit = partial(cutbert.fit, made / "tiny", out=out, **task, **limit, kinds="layers", candidates=1)
    texts = {"input": made / "dev.tsv", **TEXTS}
    looks = {
        "predict": lambda: cutbert.predict(out, out=tmp_path / f"{next(number)}.csv", **texts),
        "cost": lambda: cutbert.cost(out),
        "report": lambda: cutbert.report(out, out=tmp_path / "report.html"),
        "leaderboard": lambda: cutbert.open_run(out).leaderboard,
    }
    results, _ = watched(lambda: together(fit, fit), looks)
    (done, *same) = [each for each in results if not isinstance(each, InputError)]
    assert all(each.to_json() == done.to_json() for each in same)
    assert read_json(out / "run.json")["result"]["chosen"] == done["chosen"]
    assert (out / "model" / "onnx" / "model.onnx").is_file() and not (out / "checkpoint").exists()
    check_nothing_aside(tmp_path)


ONE_OF_EACH = ["steps.student.grid.learning_rate=[0.001]", "grid.seed=[0]"]


def test_two_sweeps_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute_here(monkeypatch)
    plan = make_plan(tmp_path)
    plans = (ONE_OF_EACH, [*ONE_OF_EACH, "steps.teacher.learning_rate=0.002"])
    results = together(*(lambda sets=sets: cutbert.sweep(plan, out=tmp_path / "out", set=sets) for sets in plans))
    (done,) = (each for each in results if not isinstance(each, InputError))
    assert [each["status"] for each in done["runs"]] == ["finished"] * 2
    assert len(SweepFolder.read(tmp_path / "out").runs) == 2
    check_nothing_aside(tmp_path)


def test_a_sweep_that_is_looked_at_and_whose_run_is_begun_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first run may be begun by its own command meanwhile: it is waited for, and no failure."""
    compute_here(monkeypatch)
    plan, out = make_plan(tmp_path), tmp_path / "out"
    first = next(iter(read_runs(plan, ONE_OF_EACH, SWEPT, out)))
    own, number = out / "runs" / first.name, iter(range(999))
    looks = {
        "show": lambda: cutbert.sweep(show=out),
        "report": lambda: cutbert.report(own, out=tmp_path / "report.html"),
        "predict": lambda: cutbert.predict(
            own, input=tmp_path / "dev.tsv", out=tmp_path / f"{next(number)}.csv", **TEXTS
        ),
    }
    by_hand = partial(main, [*first.words, "--threads", "1"])
    (done, code), _ = watched(lambda: together(partial(cutbert.sweep, plan, out=out, set=ONE_OF_EACH), by_hand), looks)
    assert [each["status"] for each in done["runs"]] == ["finished"] * 2 and code in (0, 2)
    assert {each["status"] for each in cutbert.sweep(show=out)["runs"]} == {"finished"}
    check_nothing_aside(tmp_path)


def test_a_token_cache_that_is_emptied_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wants an entry has it, though somebody removes the whole cache as it is written."""
    monkeypatch.setenv("CUTBERT_CACHE", str(tmp_path / "cache"))
    wanted = {name: np.arange(size, dtype=np.int32) for name, size in (("ids", 5000), ("offsets", 70))}

    def want(i: int) -> None:
        for each in range(6):
            found = cached_arrays(f"key{(i + each) % 3}", lambda: wanted, "some numbers")
            assert all(np.array_equal(found[name], array) for name, array in wanted.items())

    def empty() -> None:
        for _ in range(EMPTIED):
            time.sleep(BETWEEN_LOOKS_S)
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)

    together(*(partial(want, i) for i in range(3)), empty)


def test_a_change_of_several_files_that_fails_takes_nothing_of_another_back(tmp_path: Path) -> None:
    """Two add files to one folder, as two exports in place do; what one puts back is not older than the other's."""
    write_json(tmp_path / "count.json", 0)

    def add(fails: bool) -> None:
        for _ in range(3):
            with suppress(ZeroDivisionError), put_back_on_error(tmp_path, ("count.json",)):
                change_json(tmp_path / "count.json", lambda: read_json(tmp_path / "count.json") + 1)
                if fails:
                    raise ZeroDivisionError

    together(*(partial(add, fails) for fails in (False, True, False, True)))
    assert read_json(tmp_path / "count.json") == 6
    assert [each.name for each in tmp_path.iterdir()] == ["count.json"]


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
