"""What strangers wrote reaches no terminal raw, in errors, messages and tables alike."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutbert.cli.main import main
from cutbert.errors import InputError, MissingError, Mistakes, ModelError
from cutbert.folders.weights import read_weights
from cutbert.printable import printable, reason_of
from cutbert.sweeps.engines import error_of
from cutbert.table import Table, as_text
from cutbert.train.progress import say
from tiny_runs import save_tiny

EVIL = "a\x1b[2J\x9b1m\ncutbert: error: forged\r\x07\u202e\udcff\u2028"
SAFE = r"a\x1b[2J\x9b1m\ncutbert: error: forged\r\x07\u202e\udcff\u2028"
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u202e\u2028\udcff]")


@given(st.text(st.characters()))
def test_a_line_is_encodable_and_stays_the_same_when_escaped_twice(text: str) -> None:
    line = printable(text)
    assert not UNSEEN.search(line) and printable(line) == line and line.encode("utf-8").decode("utf-8") == line
    assert printable(text, many_lines=True).count("\n") == text.count("\n")


def test_what_is_seen_stays() -> None:
    assert printable("größe 模型 🙂 \\ [red]") == "größe 模型 🙂 \\ [red]" and printable(EVIL) == SAFE


def test_every_error_of_ours_is_escaped_and_keeps_its_mistakes() -> None:
    error = ModelError(f"tensor {EVIL}", "second")
    assert error.mistakes == (f"tensor {SAFE}", "second") and str(error) == f"tensor {SAFE}\nsecond"
    assert pickle.loads(pickle.dumps(error)).mistakes == error.mistakes
    mistakes = Mistakes()
    mistakes.extend(error.mistakes)
    with pytest.raises(InputError) as again:
        mistakes.check()
    assert again.value.mistakes == error.mistakes
    assert str(MissingError(EVIL)) == SAFE


def test_messages_and_tables_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"stage {EVIL}")
    assert capsys.readouterr().err == f"stage {SAFE}\n"
    text = as_text((Table(("name",), ((EVIL,),)), f"line\n{EVIL}"), 200)
    assert SAFE in text and not UNSEEN.search(text.replace("\n", ""))


def test_a_runs_log_is_escaped_in_the_error_of_a_sweep(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"cutbert: error: bad \x1b[31m\xff name\r\n")
    assert error_of(log, 0, 2) == "bad \\x1b[31m\ufffd name\\r"


def test_a_tensors_name_forges_no_error_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_tiny(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save({"x\x1b[2J\ncutbert: error: forged": torch.zeros(2)}, folder / "pytorch_model.bin")
    (tmp_path / "dev.tsv").write_text("text\ngood\n")
    words = ["predict", str(folder), "--input", str(tmp_path / "dev.tsv"), "--text", "text", "--out"]
    assert main([*words, str(tmp_path / "o.tsv")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert not any(line == "cutbert: error: forged" or "\x1b" in line for line in lines)
    assert any(r"x\x1b[2J\ncutbert: error: forged" in line for line in lines)


class Runs:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("ran",)


def test_no_advice_to_let_files_run_code_is_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weight": Runs()}, path)
    with pytest.raises(ModelError, match="more than plain data, or asks for code of its own") as caught:
        read_weights((path,))
    assert "weights_only" not in str(caught.value) and "ran" not in capsys.readouterr().out
    advice = "Loading x requires you to execute code; set the option `trust_remote_code=True` to remove this error."
    assert "trust" not in reason_of(ValueError(advice))


def test_json_stays_json_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    from cutbert.cli.streams import show_json

    show_json({"name": EVIL, "größe": 1})
    line = capsys.readouterr().out
    assert json.loads(line) == {"name": EVIL, "größe": 1} and not UNSEEN.search(line.removesuffix("\n"))
