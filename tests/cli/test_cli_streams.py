"""The environment of a command: closed, full and ASCII-only streams, no home, no working folder, no rights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cutbert.lacks import NO_PLACE
from cutbert.shape.shape import EncoderShape
from tiny_runs import save_tiny

SHAPE = EncoderShape.uniform(hidden_size=8, num_layers=2, num_heads=2, intermediate_size=4, vocab_size=9)
NO_HOME = (
    "import os, pwd, sys\n"
    "def unknown(*words):\n"
    "    raise KeyError(words)\n"
    "pwd.getpwuid = pwd.getpwnam = unknown\n"
    "from cutbert.cli.main import main\n"
    "sys.exit(main())\n"
)
PREDICT_ALL = (
    "import sys\n"
    "from cutbert.cli.main import main\n"
    "for model in sys.argv[1:]:\n"
    "    print(main(['predict', model, '--input', 'dev.tsv', '--text', 'text', '--out', 'o.tsv']))\n"
)


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in a folder; $CUTBERT is the command, and shape.json is there."""
    (folder / "shape.json").write_text(json.dumps(SHAPE.to_json()))
    command = f"{sys.executable} -m cutbert"
    environment = {**os.environ, "CUTBERT": command, **environment}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, errors="replace"
    )


def test_closed_streams(tmp_path: Path) -> None:
    done = shell("$CUTBERT cost shape.json >&- 2>&- <&-; echo $?; $CUTBERT nope 2>&-; echo $?", tmp_path)
    assert (done.stdout, done.stderr) == ("0\n2\n", "")
    done = shell("$CUTBERT cost shape.json --json <&- 2>&-", tmp_path)
    assert done.returncode == 0 and json.loads(done.stdout)["params"] > 0


def test_what_is_opened_does_not_take_a_closed_streams_place(tmp_path: Path) -> None:
    script = (
        "import os\n"
        "from cutbert.cli.streams import open_streams\n"
        "open_streams()\n"
        "file = open('written', 'w')\n"
        "os.system('echo to nobody; echo to nobody >&2')\n"  # as a library that writes to the numbers 1 and 2
        "file.write(str(file.fileno() > 2))\n"
    )
    done = shell(f'{sys.executable} -c "{script}" >&- 2>&- <&-', tmp_path)
    assert done.returncode == 0 and (tmp_path / "written").read_text() == "True"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_and_ended_streams(tmp_path: Path) -> None:
    done = shell("$CUTBERT cost shape.json > /dev/full; echo $?", tmp_path)
    assert done.stdout == "2\n" and done.stderr.startswith("cutbert: error: standard output: no space left")
    done = shell("$CUTBERT nope 2> /dev/full; echo $?; $CUTBERT --help | true; echo ${PIPESTATUS[0]}", tmp_path)
    assert (done.stdout, done.stderr) == ("2\n0\n", "")


def test_streams_that_have_ascii_only(tmp_path: Path) -> None:
    (tmp_path / "é").mkdir()
    line = "$CUTBERT cost é; $CUTBERT cost shape.json --json; $CUTBERT fit --help > help; echo $?"
    done = shell(line, tmp_path, PYTHONIOENCODING="ascii")
    assert done.stderr == "cutbert: error: \\xe9 must hold a config.json or a shape.json, got neither\n"
    assert done.stdout.endswith("}\n0\n")


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    done = shell("mkdir $'bad\\xff'; $CUTBERT cost $'bad\\xff'; $CUTBERT cost $'no\\xff'", tmp_path)
    wanted = [
        "cutbert: error: cost takes UTF-8 text, got 'bad\\udcff'",
        "cutbert: error: cost takes UTF-8 text, got 'no\\udcff'",
    ]
    assert done.stderr.splitlines() == wanted


def test_no_home(tmp_path: Path) -> None:
    done = shell("$CUTBERT cost '~nouser/x'", tmp_path)
    assert (
        done.stderr
        == "cutbert: error: a model must be a folder or a hub id, got '~nouser/x', which is no folder here\n"
    )
    (tmp_path / "main.py").write_text(NO_HOME)
    command = f"{sys.executable} main.py cost"
    done = shell(f"unset HOME XDG_CACHE_HOME CUTBERT_CACHE; {command} '~/x'; {command} shape.json", tmp_path)
    assert done.stderr.count("\n") == 1 and "got '~/x'" in done.stderr and "params" in done.stdout


def test_the_token_cache_must_have_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from cutbert.data.cache import cache_folder
    from cutbert.errors import DataError

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("CUTBERT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(DataError, match="this user has no home; set CUTBERT_CACHE"):
        cache_folder()


def test_a_working_folder_that_is_gone(tmp_path: Path) -> None:
    done = shell("mkdir gone; cd gone; rmdir ../gone; $CUTBERT cost ../shape.json", tmp_path)
    assert (done.returncode, done.stderr) == (2, f"cutbert: error: {NO_PLACE}\n")


@pytest.mark.slow
def test_permission_is_named_as_permission(tmp_path: Path) -> None:
    """One process reads all three folders, since each takes seconds to start."""
    names = ("model.safetensors", "tokenizer.json", "config.json")
    for name in names:
        (save_tiny(tmp_path / name) / name).chmod(0)
    as_anybody = ""
    if os.access(tmp_path / names[0] / names[0], os.R_OK):  # root may read everything, unless that right is dropped
        rights = "-dac_override,-dac_read_search"
        as_anybody = f"setpriv --bounding-set {rights} --inh-caps {rights} "
        if shell(f"{as_anybody} cat {names[0]}/{names[0]}", tmp_path).stderr.find("Permission denied") < 0:
            pytest.skip("the rights of root cannot be dropped here")
    (tmp_path / "dev.tsv").write_text("text\ngood\n")
    (tmp_path / "all.py").write_text(PREDICT_ALL)
    done = shell(f"{as_anybody} {sys.executable} all.py {' '.join(names)}", tmp_path)
    assert done.stdout.split() == ["2", "2", "2"]
    for name, line in zip(names, done.stderr.splitlines(), strict=True):
        assert f"{name}/{name}: " in line and "permission denied" in line.lower()
