"""Files written whole or not at all, killed at every step; what the dead leave is removed, the living's stays."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cutbert
from cutbert.aside import aside_of, remove_leftovers
from cutbert.checks import is_inside, is_plain_name
from cutbert.data.cache import cached_arrays
from cutbert.errors import InputError, RunError
from cutbert.files import (
    change_mistakes,
    exchanged,
    read_json,
    replacing_file,
    replacing_folder,
    scratch_folder,
    temporary_files_in,
    write_json,
    write_mistakes,
)
from cutbert.fronts.front import Front
from cutbert.lacks import LACKS, MISTAKES, NO_FOLDERS
from cutbert.locks import holding
from cutbert.methods.fit_candidates import Entrant
from cutbert.sweeps.folder import SweepFolder
from cutbert.train.run_folder import RunFolder
from kills import killed_before
from sweeps.tiny_plan import make_plan
from tiny_runs import MEASURED, make_run, save_tiny

STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "fcntl.flock", "shutil.rmtree")
MOST_STEPS = 80


def fill(path: Path, text: str) -> None:
    with replacing_folder(path) as aside:
        (aside / "file.txt").write_text(text)


def write(path: Path, text: str) -> None:
    with replacing_file(path) as aside:
        aside.write_text(text)


def dies_at(step: int, call: Callable[[], object]) -> bool:
    """Run something in a child that is killed before its `step`th change of a file; return whether it was killed."""
    child = os.fork()
    if child == 0:
        count = 0

        def kill(event: str, arguments: Any) -> None:
            nonlocal count
            if event in STEPS:
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(kill)
            call()
        except BaseException:
            os._exit(1)  # or it would go on with these tests beside its parent
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("parts", ["model", "new/model", "new/deeper/model"])
def test_whether_a_path_can_be_written_is_tried_and_nothing_is_left(tmp_path: Path, parts: str) -> None:
    assert not [*write_mistakes(tmp_path / parts), *change_mistakes(tmp_path / parts)]
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_stays_when_it_is_tried(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "model"):  # another process is writing it
        assert not [*write_mistakes(tmp_path / "model"), *change_mistakes(tmp_path)]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("path", "mistake"),
    [
        ("/proc/x", f"/proc/x: {NO_FOLDERS}"),
        ("/proc/x/y", f"/proc/x: {NO_FOLDERS}"),
        ("/dev/null/x", f"/dev/null: {MISTAKES[errno.EEXIST]}"),
        (f"/tmp/{'a' * 300}", f"/tmp/{'a' * 300}: {MISTAKES[errno.ENAMETOOLONG]}"),
    ],
)
def test_a_path_that_cannot_be_written(path: str, mistake: str) -> None:
    assert list(write_mistakes(Path(path))) == [mistake]


def test_a_folder_that_may_not_be_changed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, mode: int = 0) -> None:
        if folder != tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr("cutbert.aside.make_folder", refuse)
    assert list(change_mistakes(tmp_path)) == [f"{tmp_path}: {LACKS[errno.EACCES]}"]


def test_an_interrupt_between_the_two_renames_keeps_the_former_folder(tmp_path: Path) -> None:
    path = tmp_path / "model"
    fill(path, "former")
    with killed_before(path):
        fill(path, "new")
    assert (path / "file.txt").read_text() == "former" and list(tmp_path.iterdir()) == [path]
    fill(path, "new")
    assert (path / "file.txt").read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["file", "folder", "folder in two steps"])
def test_killed_at_every_step_leaves_the_old_or_the_new(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_folder = kind != "file"
    if kind == "folder in two steps":
        monkeypatch.setattr("cutbert.files.exchanged", lambda one, other: False)
    path, make, number = tmp_path / "model", fill if is_folder else write, 0
    text = path / "file.txt" if is_folder else path
    for number in range(1, MOST_STEPS):
        make(path, f"old {number}")
        was_killed = dies_at(number, lambda: make(path, f"new {number}"))  # noqa: B023
        write(tmp_path / "other", "beside it")
        assert text.read_text() in (f"old {number}", f"new {number}")
        assert {each.name for each in tmp_path.iterdir()} == {"model", "other"}
        if not was_killed:
            break
    assert 10 < number < MOST_STEPS - 1 and text.read_text() == f"new {number}"


def test_who_reads_a_folder_that_is_replaced_finds_it(tmp_path: Path) -> None:
    """Where the system exchanges folders at once; else it is missing for a moment."""
    path, is_over = tmp_path / "model", threading.Event()
    fill(path, "0")
    (tmp_path / "other").mkdir()
    if not exchanged(path, tmp_path / "other"):
        pytest.skip("this file system does not exchange folders")
    exchanged(path, tmp_path / "other")

    def replace_often() -> None:
        for i in range(60):
            fill(path, str(i))
        is_over.set()

    writer, missed, looks = threading.Thread(target=replace_often), 0, 0
    writer.start()
    while not is_over.is_set():
        missed, looks = missed + (not path.is_dir()), looks + 1
    writer.join()
    assert looks > 10 and not missed
    assert (path / "file.txt").read_text() == "59" and len(list(tmp_path.iterdir())) == 2


def test_the_umask_is_kept_and_never_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is of the whole process: of two threads that set it for a moment, one could leave it open for good."""

    def refuse(mask: int) -> int:
        raise AssertionError("umask")

    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", refuse)
            with replacing_file(tmp_path / "file") as aside:
                aside.unlink()
                aside.touch(0o600)  # as safetensors does
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_folders_by_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder itself, and what a link names: the link stays."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with replacing_folder(Path("."), is_new=True) as aside:
        (aside / "a").touch()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    (tmp_path / "there").mkdir()
    with replacing_folder(tmp_path / "link", is_new=True) as aside:
        (aside / "b").touch()
    assert (tmp_path / "here" / "a").exists() and (tmp_path / "there" / "b").exists()
    assert (tmp_path / "link").is_symlink() and len(list(tmp_path.iterdir())) == 3


def test_scratch_of_a_killed_process_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def work() -> None:
        with scratch_folder() as folder, temporary_files_in(folder):
            (folder / "large.onnx").write_text("x")
            assert Path(tempfile.mkdtemp(prefix="library.")).parent == folder
            os.kill(os.getpid(), signal.SIGKILL)

    assert dies_at(0, work) and list(tmp_path.iterdir())
    with scratch_folder() as folder:
        assert not list(folder.iterdir()) and len(list(tmp_path.iterdir())) == 1
    assert not list(tmp_path.iterdir())


def test_a_scratch_folder_is_apart_from_where_a_library_has_its_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with ExitStack() as stack:
        with scratch_folder() as folder, temporary_files_in(folder):
            other = stack.enter_context(scratch_folder())
        assert other.is_dir() and not folder.exists() and tempfile.gettempdir() == str(tmp_path)


def test_what_a_live_process_writes_stays(tmp_path: Path) -> None:
    """Others that write beside it leave it alone, and one that wants the same path waits, or is refused."""
    path, order = tmp_path / "model", list[str]()

    def second() -> None:
        write(path, "second")
        order.append("second")

    with replacing_file(path) as aside:
        aside.write_text("first")
        waiting = threading.Thread(target=second)
        waiting.start()
        write(tmp_path / "other", "")
        remove_leftovers(tmp_path)
        with pytest.raises(InputError, match="another process is writing it"), replacing_file(path, is_new=True):
            pass
        assert aside.read_text() == "first" and waiting.is_alive()
        order.append("first")
    waiting.join()
    assert order == ["first", "second"] and path.read_text() == "second"
    with pytest.raises(InputError, match="must be new, but it is there already"), replacing_file(path, is_new=True):
        pass
    assert {each.name for each in tmp_path.iterdir()} == {"model", "other"}


def test_a_lock_of_a_file_that_was_removed_is_none(tmp_path: Path) -> None:
    """Who waited for a holder that removes the file makes it again, and keeps others out by the new one."""
    lock, is_held = tmp_path / "lock", list[bool]()

    def wait() -> None:
        with holding(lock, patience_s=None), holding(lock, patience_s=0) as again:
            is_held.append(again)

    with holding(lock):
        waiting = threading.Thread(target=wait)
        waiting.start()
        lock.unlink()
    waiting.join()
    assert is_held == [False] and lock.exists()


def leave_aside(path: Path) -> None:
    """Leave what a process does that is killed while it writes a path."""
    aside_of(path).mkdir(parents=True)
    (aside_of(path) / "lock").touch()
    (aside_of(path) / "new").write_text("half")


def asides(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".part")]


def test_the_next_command_removes_what_is_left_in_its_run(tmp_path: Path) -> None:
    """In folders below it too; of a finished run the same command removes the checkpoint, unless one is running."""
    run = RunFolder.open(tmp_path / "run", "finetune", {})
    places = [run.path / name for name in ("run.json", "rounds/r1", "predictions/a.json", "searches/s/networks/n")]
    leave_aside(places[0])
    run = RunFolder.open(tmp_path / "run", "finetune", {})
    with run.start():
        for path in places[1:]:
            leave_aside(path)
    with RunFolder.open(run.path, "finetune", {}).start():
        assert not asides(tmp_path)
    run.finish({})
    for path in places:
        leave_aside(path)
    (run.path / "checkpoint" / "stage").mkdir(parents=True)
    with holding(run.path / ".lock"):
        RunFolder.open(run.path, "finetune", {})
        assert len(asides(tmp_path)) == len(places) and (run.path / "checkpoint").exists()
    RunFolder.open(run.path, "finetune", {})
    assert not asides(tmp_path) and not (run.path / "checkpoint").exists()


def test_a_refused_command_removes_what_was_left_at_its_place(tmp_path: Path) -> None:
    run, model = make_run(tmp_path / "run").path, save_tiny(tmp_path / "model")
    calls: dict[str, Callable[[Path], object]] = {
        "pick": lambda out: cutbert.pick(run, max_params=1, out=out),
        "predict": lambda out: cutbert.predict(model, input="none.tsv", text="a", out=out),
        "export": lambda out: cutbert.export(model, onnx=True, out=out),
        "report": lambda out: cutbert.report(run, run, out=out),
    }
    for name, call in calls.items():
        out = tmp_path / "outs" / f"{name}.csv"
        leave_aside(out)
        out.write_text("something else")
        with pytest.raises(InputError):
            call(out)
        assert not asides(tmp_path)


def test_a_sweep_killed_while_its_first_file_is_written_goes_on(tmp_path: Path) -> None:
    out, plan = tmp_path / "out", make_plan(tmp_path)
    leave_aside(out / "sweep.json")
    (out / ".lock").touch()
    done = SweepFolder.open(out, [])
    with done.start():
        assert not asides(tmp_path)
    assert plan.is_file() and read_json(out / "sweep.json")["runs"] == []


def test_a_sweep_begun_by_another_process_meanwhile_is_left_alone(tmp_path: Path) -> None:
    first, second = (SweepFolder.open(tmp_path / "out", []) for _ in range(2))
    with first.start():
        pass
    with pytest.raises(RunError, match="another process has just begun a sweep in this folder"), second.start():
        pass
    assert SweepFolder.read(tmp_path / "out").identity == first.identity


def test_what_is_left_in_the_token_cache_is_removed_by_the_next_who_reads_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUTBERT_CACHE", str(tmp_path))
    for _ in range(2):
        leave_aside(tmp_path / "tokens" / "other")
        arrays = cached_arrays("key", lambda: {"ids": np.arange(3)}, "three numbers")
        assert arrays["ids"].tolist() == [0, 1, 2] and not asides(tmp_path)


# Names


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/../b", "/x", "a//b", "a/", "a\0b", 3, None])
def test_names_that_lead_out(name: object) -> None:
    assert not is_plain_name(name) and not is_inside(name)


def test_names_that_stay_inside() -> None:
    assert is_plain_name("w1.0 d3-t50") and is_plain_name("..a") and not is_plain_name("a/b")
    assert is_inside("searches/1a2b/networks/s1-t50") and is_inside("rounds")


@pytest.mark.parametrize(
    ("key", "value"),
    [("name", "../../../secret"), ("folder", "/etc"), ("folder", "../other"), ("search", "searches/../../x")],
)
def test_a_front_that_names_files_outside_its_run(tmp_path: Path, key: str, value: str) -> None:
    run = make_run(tmp_path / "run").path
    data = read_json(run / "front.json")
    data["subnets"][0][key] = value
    write_json(run / "front.json", data)
    write_json(tmp_path / "secret.json", {"logits": [[1.0]], "labels": [1]})
    for call in (cutbert.front, lambda path: cutbert.pick(path, max_params=10**9)):
        with pytest.raises(RunError, match=f"{key} must be .*, got '{value}'"):
            call(run)


def test_other_files_that_name_files_outside(tmp_path: Path) -> None:
    run = {"name": "../x", "step": "a", "verb": "finetune", "labels": {}, "seeds": [], "model": "m", "after": []}
    write_json(
        tmp_path / "sweep.json", {"format_version": 1, "identity": "", "runs": [{**run, "options": {}}], "failures": {}}
    )
    with pytest.raises(RunError, match="runs must be a list of runs as cutbert sweep writes them"):
        SweepFolder.read(tmp_path)
    with pytest.raises(RunError, match="weights of a candidate must be inside the run's checkpoint/"):
        Entrant.from_json({"candidate": {}, "weights": "/x"})
    with pytest.raises(RunError, match=r"name of a candidate must be text without /, got 'x/../../y'"):
        Entrant.from_json({"candidate": {"name": "x/../../y"}, "weights": "x"})


def test_commands_that_are_offered_can_be_copied(tmp_path: Path) -> None:
    """Whatever the run's path holds."""
    path = tmp_path / "it's $HOME; a run"
    run = make_run(path).path
    with pytest.raises(RunError) as unmeasured:
        cutbert.front(run, backend="onnx")
    Front.load(run).with_times({"teacher": {}}, MEASURED).save(run)
    front = replace(Front.load(run), measured={**MEASURED, "machine": {"processor": "Z80"}})
    front.save(run)
    with pytest.raises(RunError) as elsewhere:
        cutbert.pick(run, max_latency_ms=1, backend="onnx-int8")
    for error in (unmeasured, elsewhere):
        offered = str(error.value).split("`")[1]
        assert shlex.split(offered)[:4] == ["cutbert", "front", str(path), "--measure"]
    assert json.loads((run / "front.json").read_text())["format_version"] == 1
