"""What the machine lacks is one error of ours, however a library reports it; other errors pass."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException
from pyarrow.lib import ArrowMemoryError
from safetensors import SafetensorError

import cutbert
from cutbert.errors import DataError, InputError, MissingError
from cutbert.files import append_line, replacing_file, replacing_folder, write_json
from cutbert.lacks import LACKS, MISTAKES, NO_PLACE, LackError, check_room, lack_of, naming_lacks, refuse_lack
from machine_limits import largest_file
from tiny_runs import make_run, save_tiny

DISK = Path("/disk/file")


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.ENOSPC, "x"), errno.ENOSPC),
        (OSError(errno.EDQUOT, "x"), errno.EDQUOT),
        (OSError(errno.EFBIG, "x"), errno.EFBIG),
        (OSError(errno.EMFILE, "x"), errno.EMFILE),
        (PermissionError(errno.EACCES, "x"), errno.EACCES),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), errno.ENOSPC),
        (SafetensorError("Error while serializing: I/O error: Permission denied (os error 13)"), errno.EACCES),
        (Exception("File too large (os error 27)"), errno.EFBIG),
        (OSError("Error writing bytes to file. Detail: [errno 28] No space left on device"), errno.ENOSPC),
        (OSError("524288 requested and 1024 written"), errno.ENOSPC),
        (ImportError("libtorch.so: cannot open shared object file: Too many open files"), errno.EMFILE),
        (RuntimeError("Internal: write failed: Disk quota exceeded"), errno.EDQUOT),
    ],
)
def test_lacks_of_a_file_name_it(error: Exception, number: int) -> None:
    lack = lack_of(error, DISK)
    assert isinstance(lack, LackError) and str(lack) == f"{DISK}: {LACKS[number]}"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ArrowMemoryError("malloc of size 8589934592 failed"),
        RuntimeError("could not create a primitive"),
        RuntimeException("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer"),
        RuntimeError("std::bad_alloc"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_lacks_of_memory_name_no_file(error: Exception) -> None:
    assert str(lack_of(error, DISK)) == LACKS[errno.ENOMEM]


def test_what_libraries_really_raise_without_memory() -> None:
    with pytest.raises(LackError, match="out of memory"), naming_lacks():
        torch.empty(10**15)
    with pytest.raises(LackError, match="out of memory"), naming_lacks():
        np.empty(10**15)


def test_a_lost_process_and_no_more_threads() -> None:
    gloo = RuntimeError("[/third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer")
    assert str(lack_of(gloo)) == LACKS[errno.ECONNRESET]
    assert lack_of(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")) is None  # of the hub
    assert str(lack_of(RuntimeError("can't start new thread"))) == LACKS[errno.EAGAIN]


@pytest.mark.parametrize("number", MISTAKES)
def test_paths_that_cannot_be_one_are_the_users_mistake(number: int) -> None:
    error = lack_of(OSError(number, "x", "/a/b"))
    assert type(error) is InputError and str(error) == f"/a/b: {MISTAKES[number]}"


def test_bytes_that_are_not_utf8_are_named() -> None:
    with pytest.raises(InputError, match=r"must be UTF-8 here, got 'bad\\udcff'"), naming_lacks():
        "bad\udcff".encode()


@pytest.mark.parametrize("error", [ValueError("ours"), FileNotFoundError(errno.ENOENT, "ours"), DataError("no")])
def test_other_errors_pass(error: Exception) -> None:
    assert lack_of(error) is None
    with pytest.raises(type(error)) as caught, naming_lacks():
        raise error
    assert caught.value is error
    refuse_lack(error)


def test_a_working_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(LackError) as caught, naming_lacks():
        Path("x").absolute()
    assert str(caught.value) == NO_PLACE


def test_it_is_the_target_that_is_named_not_what_is_written_aside(tmp_path: Path) -> None:
    def fail(path: Path | None) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", *([] if path is None else [str(path)]))

    for inside in (None, "shape.json"):
        with pytest.raises(LackError) as caught, replacing_folder(tmp_path / "new" / "model") as aside:
            fail(inside and aside / inside)
        assert str(caught.value) == f"{tmp_path / 'new' / 'model'}: {LACKS[errno.ENOSPC]}"
    with pytest.raises(LackError, match=r"/input/dev\.tsv: too many open files"), replacing_file(tmp_path / "o"):
        raise OSError(errno.EMFILE, "Too many open files", "/input/dev.tsv")
    with pytest.raises(LackError) as nested, replacing_folder(tmp_path / "model") as aside:
        write_json(aside / "a.json", {})
        with replacing_file(aside / "b.json"):
            fail(None)
    assert str(nested.value) == f"{tmp_path / 'model'}: {LACKS[errno.ENOSPC]}"
    assert not list(tmp_path.iterdir())


def test_room_for_libraries_that_do_not_look(tmp_path: Path) -> None:
    check_room(str(tmp_path), 1)
    with pytest.raises(LackError, match="no space left"):
        check_room(str(tmp_path), 2**62)


def test_lacks_travel_between_processes() -> None:
    lack = pickle.loads(pickle.dumps(LackError("what", "where")))
    assert (lack.what, lack.where, str(lack)) == ("what", "where", "where: what")


def test_a_line_is_appended_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append_line(path, "one")
    with largest_file(6), pytest.raises(LackError, match="larger than a file may be here"):
        append_line(path, "another")
    append_line(path, "two")
    assert path.read_text() == "one\ntwo\n"


def test_python_gets_errors_of_ours(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    with largest_file(2000), pytest.raises(MissingError, match=f"{tmp_path / 'small'}: larger than a file may be"):
        cutbert.pick(run.path, max_params=10**6, out=str(tmp_path / "small"))
    with largest_file(2000), pytest.raises(MissingError, match="larger than a file may be"):
        cutbert.pick(run.path, max_params=10**6).save_pretrained(tmp_path / "small")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_umask_decides_on_every_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        folder = save_tiny(tmp_path / "model")
        make_run(tmp_path / "run")
    finally:
        os.umask(before)
    for path in (folder, *folder.rglob("*"), *(tmp_path / "run").rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path
