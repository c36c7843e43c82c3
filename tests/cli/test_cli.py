"""The command line: help, errors a line each, exit codes, the JSON object last."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from cutbert import api
from cutbert.api.table import TABLE
from cutbert.api.verb import Verb, Word
from cutbert.cli.main import main
from cutbert.cli.parser import Call
from cutbert.errors import InputError, InterruptedRun, MissingError
from cutbert.lacks import LACKS, NO_FOLDERS
from cutbert.options import option
from cutbert.settings import GROUPS, RUN, Settings
from cutbert.shape.cost import cost_of
from cutbert.shape.paper_shapes import PAPER_SHAPES
from cutbert.shape.shape import EncoderShape

SHAPE = EncoderShape.uniform(hidden_size=8, num_layers=2, num_heads=2, intermediate_size=4, vocab_size=9)


@pytest.fixture
def shape_file(tmp_path: Path) -> str:
    path = tmp_path / "shape.json"
    path.write_text(json.dumps(SHAPE.to_json()))
    return str(path)


def errors(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """Return the error lines of a refused command."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert not out and lines and all(line.startswith("cutbert: error: ") for line in lines)
    return [line.removeprefix("cutbert: error: ") for line in lines]


def test_json_is_the_last_line(shape_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", shape_file, "--sequence-length", "7", "--json"]) == 0
    data = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(data) == {"params", "params_embeddings", "params_encoder", "macs", "bytes", "sequence_length"}
    assert data["sequence_length"] == 7


def test_costs_of_an_architecture_that_schubert_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "99M", "--json"]) == 0
    data = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert data["params"] == cost_of(PAPER_SHAPES["99M"]).params == pytest.approx(99e6, rel=0.01)


def test_without_json_a_table(shape_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", shape_file]) == 0
    out = capsys.readouterr().out
    assert "params_encoder" in out and "{" not in out


def test_names_are_no_markup(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = api.Result("predict", {"rows": 3, "labels": {"[/b]": 1, "[red]": 2}, "out": "o:smile:.tsv"})
    monkeypatch.setattr(api, "predict", lambda model, **options: found)
    assert main(["predict", "m", "--input", "i", "--text", "t", "--out", "o.tsv"]) == 0
    out = capsys.readouterr().out
    assert "[/b]" in out and "[red]" in out and "o:smile:.tsv" in out


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0 and capsys.readouterr().out == "0.1.0\n"
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(verb.name in out for verb in TABLE)


@pytest.mark.parametrize("verb", TABLE, ids=lambda verb: verb.name)
def test_help_lists_the_options_that_have_an_effect_under_headings(
    verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb.name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Usage: cutbert {' '.join([verb.name, *(word.usage for word in verb.words)])} [OPTIONS]" in out
    assert all(len(line) <= 80 for line in out.splitlines())
    listed = re.findall(r"^  (--[\w-]+)", out, re.MULTILINE)
    assert listed == [*(each.name for each in verb.listed_options()), "--json", "--help"]
    headings = re.findall(r"^([A-Z][\w ]+):$", out, re.MULTILINE)
    assert headings == [*(group for group in GROUPS if group in headings), "Output"]
    for each in verb.listed_options():
        assert each.help and ("equired." in each.help) == each.is_required
        assert not re.search(r"\b(so many|anew|number type|teacher says)\b", each.help)


def test_common_options_are_first_under_their_heading(capsys: pytest.CaptureFixture[str]) -> None:
    main(["dynabert", "--help"])
    out = capsys.readouterr().out
    places = [
        out.index(f"  {name} ") for name in ("--out", "--task", "--select", "--width-mult", "--augment", "--epochs")
    ]
    assert places == sorted(places)
    assert "--precision" not in out_of("cost", capsys) and "--sequence-length" in out_of("cost", capsys)


def out_of(verb: str, capsys: pytest.CaptureFixture[str]) -> str:
    main([verb, "--help"])
    return capsys.readouterr().out


def test_verbs_are_refused_with_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    names = ", ".join(verb.name for verb in TABLE)
    assert errors(capsys, "xyz", "m") == [f"verb must be one of {names}, got 'xyz'"]
    assert errors(capsys, "dynabrt", "m") == [f"verb must be one of {names}, got 'dynabrt'; did you mean dynabert?"]
    assert errors(capsys)[0].startswith(f"a verb must be given, one of {names}")


def test_the_parsers_mistakes_come_together(capsys: pytest.CaptureFixture[str]) -> None:
    found = errors(
        capsys, "finetune", "--epchs", "3", "--batch-size", "many", "--learning-rate", "x", "--schedule", "up"
    )
    assert found == [
        "finetune has no option --epchs; did you mean --epochs?",
        "--out must be given: Run folder: absent, empty, or this command's own run, which then goes on.",
        "--batch-size must be an integer, such as 15M, got 'many'",
        "--learning-rate must be a number, got 'x'",
        "--schedule must be one of linear, cosine, constant, got 'up'",
    ]


def test_words(capsys: pytest.CaptureFixture[str], shape_file: str) -> None:
    assert errors(capsys, "cost") == [
        "MODEL must be given: a model folder, a run folder, a shape file (.json), a hub id, "
        "or schuBERT's 99M and others."
    ]
    assert errors(capsys, "cost", "a", "b", "c") == ["cost takes MODEL, got more: b c"]
    assert errors(capsys, "demo", "x") == ["demo takes options only, got more: x"]
    assert errors(capsys, "cost", "a", "--sequence-length") == ["Option '--sequence-length' requires an argument."]
    assert errors(capsys, "cost", shape_file, "--bogus=3") == ["cost has no option --bogus"]


def test_settings_out_of_range_and_bad_data_come_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    found = errors(capsys, "finetune", "./no/model", "--task", "nosuch", "--epochs", "-1", "--out", str(out))
    assert any("--epochs must be at least 0, got -1.0" in line for line in found)
    assert any("--task must be one of" in line for line in found)
    assert any("a model must be a folder or a hub id, got './no/model'" in line for line in found)
    assert not out.exists()


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("dynabert hub/id --task sst2 --out out --teacher ./no/model", "--teacher"),
        ("dynabert hub/id --task sst2 --out out --augment mlm --augment-model ./no/model", "--augment-model"),
        ("analyze hub/id --task sst2 --against ./no/model", "--against"),
        ("demo --out out --model ./no/model", "--model"),
    ],
)
def test_a_message_about_a_model_names_its_option(
    line: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (found,) = errors(capsys, *line.split())
    assert f"{option}: a model must be a folder or a hub id, got './no/model'" in found
    assert not list(tmp_path.iterdir())


def test_an_occupied_out_is_refused_beside_other_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    found = errors(capsys, "dynabert", "hub/id", "--task", "sst2", "--temperature", "0", "--out", str(tmp_path))
    assert "is not empty and holds no run" in found[0] and "--temperature must be above 0" in found[1]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "line",
    [
        "dynabert hub/id --task sst2 --temperature 0 --out /proc/x",
        "export no/model --onnx --max-drop 1 --out /proc/x",
        "pick no/run --stock --backend onnx --out /proc/x",
        "report no/run --out /proc/x",
        "predict no/model --input no.csv --out /proc/x.csv",
    ],
)
def test_an_out_that_cannot_be_written_is_refused_beside_other_mistakes(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = errors(capsys, *line.split())
    assert len(found) > 1 and any(each.endswith(NO_FOLDERS) and "/proc/x" in each for each in found)


def test_run_verbs_want_a_finished_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("front", "pick"):
        assert "must be a run folder (with run.json)" in errors(capsys, verb, str(tmp_path / "no"))[0]


def fail(error: BaseException) -> Any:
    def run(*words: Any, **options: Any) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("one", "two"), 2, "cutbert: error: one\ncutbert: error: two\n"),
        (MissingError("no CUDA"), 2, "cutbert: error: no CUDA\n"),
        (InterruptedRun("saved; the same command goes on"), 130, "cutbert: saved; the same command goes on\n"),
        (KeyboardInterrupt(), 130, "cutbert: interrupted; the same command starts again\n"),
        (PermissionError(13, "Permission denied", "/x"), 2, f"cutbert: error: /x: {LACKS[13]}\n"),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(api, "cost", fail(error))
    assert main(["cost", "m"]) == code
    assert capsys.readouterr().err == line


def test_an_interrupted_run_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(api, "finetune", fail(KeyboardInterrupt()))
    assert main(["finetune", "m", "--out", "o"]) == 130
    assert capsys.readouterr().err == "cutbert: interrupted; the same command goes on from what is saved\n"


@pytest.mark.parametrize("verb", TABLE, ids=lambda verb: verb.name)
def test_every_verb_takes_the_common_options(verb: Verb) -> None:
    raw = {"seed": "1", "device": "cpu", "precision": "float32", "threads": "2", "out": "o", "input": "i", "text": "t"}
    names = verb.options().keys() | verb.ignored_options().keys()
    assert {"seed", "device", "precision", "threads"} <= names
    words = [word.name for word in verb.words]
    _, values = Call(verb, words, as_read({name: value for name, value in raw.items() if name in names}), False).read()
    assert values.keys() <= verb.options().keys()  # what has no effect is not handed on


def test_a_closed_pipe_is_no_error(shape_file: str) -> None:
    command = f"{sys.executable} -m cutbert cost {shape_file} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.strip() == "0" and not done.stderr


@pytest.mark.parametrize("error", [ZeroDivisionError("ours"), FileNotFoundError(2, "ours")])
def test_our_bugs_are_not_dressed_up(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "cost", fail(error))
    with pytest.raises(type(error), match="ours"):
        main(["cost", "m"])


def test_other_processes_print_nothing(
    shape_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert main(["cost", shape_file, "--json"]) == 0 and not capsys.readouterr().out


@dataclass(frozen=True, kw_only=True)
class Sample(Settings):
    """Every type a setting may have."""

    GROUP = RUN

    name: str = field(metadata=option("A name."))
    kind: Literal["a", "b"] | None = field(default=None, metadata=option("A kind."))
    files: tuple[str, ...] = field(default=(), metadata=option("Files."))
    depths: tuple[int, ...] = field(default=(6, 3), metadata=option("Depths."))
    mults: tuple[float, ...] = field(default=(), metadata=option("Mults.", flag="--width-mult"))
    rate: float | None = field(default=None, metadata=option("A rate."))
    count: int = field(default=1, metadata=option("A count.", unit="rows"))
    size: int = field(default=1, metadata=option("A size.", unit="bytes"))
    pause: float = field(default=1.0, metadata=option("A pause.", unit="seconds"))
    fast: bool = field(default=False, metadata=option("A flag."))
    stock: bool | None = field(default=None, metadata=option("A flag with no default."))


VERB = Verb("sample", "s", (Word("MODEL", "m", is_many=True),), (Sample,))


def read(given: list[str], raw: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    return Call(VERB, given, as_read(raw), False).read()


def as_read(raw: dict[str, Any]) -> dict[str, Any]:
    """Return values as the parser reads them: one word too is in a list."""
    return {name: [value] if isinstance(value, str) else value for name, value in raw.items()}


@pytest.mark.parametrize(
    ("field", "word", "value"),
    [
        ("count", "15M", 15_000_000),
        ("count", "1.5k", 1500),
        ("count", "12", 12),
        ("size", "8MB", 8_000_000),
        ("size", "2KiB", 2048),
        ("pause", "20m", 1200.0),
        ("pause", "1.5h", 5400.0),
        ("pause", "7", 7.0),
    ],
)
def test_counts_bytes_and_times_may_be_short(field: str, word: str, value: float) -> None:
    assert read(["m"], {"name": "n", field: word})[1][field] == value


@pytest.mark.parametrize(
    ("field", "word", "message"),
    [
        ("count", "15m", "--count must be an integer, such as 15M, got '15m'"),
        ("count", "0.0001k", "--count must be an integer, such as 15M, got '0.0001k'"),
        ("count", "3MB", "--count must be an integer, such as 15M, got '3MB'"),
        ("size", "8M", "--size must be an integer, such as 8MB, got '8M'"),
        ("pause", "20min", "--pause must be a number, such as 20m, got '20min'"),
        ("rate", "2k", "--rate must be a number, got '2k'"),
    ],
)
def test_short_numbers_that_are_not_clear_are_refused(field: str, word: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(["m"], {"name": "n", field: word})
    assert caught.value.mistakes == (message,)


def test_values_get_their_types() -> None:
    raw = {
        "name": "n", "kind": "b", "files": ["a,b.tsv", "*.tsv"], "depths": ["6,5", "3"], "mults": ["1.0, .5,"],
        "rate": "2e-5", "count": None, "fast": True, "stock": False,
    }  # fmt: skip
    words, values = read(["x", "y"], raw)
    assert words == ["x", "y"]
    assert Sample(**values) == Sample(
        name="n", kind="b", files=("a,b.tsv", "*.tsv"), depths=(6, 5, 3), mults=(1.0, 0.5), rate=2e-5, fast=True,
        stock=False,
    )  # fmt: skip
    assert "count" not in values


def test_a_second_value_of_an_option_that_takes_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    line = "finetune m --out o --epochs 2 --epochs 3 --seed 1 --seed=1 --train a.csv --train b.csv"
    assert errors(capsys, *line.split()) == [
        "--seed must be given once, got 1 and 1",
        "--epochs must be given once, got 2 and 3",
    ]


def test_a_flag_may_be_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(api, "dynabert", lambda model, **options: seen.append(options["stock"]) or fail(InputError())())
    for flags in (["--no-stock", "--no-stock"], ["--stock", "--no-stock"], ["--no-stock", "--stock"]):
        main(["dynabert", "m", "--out", "o", *flags])
    assert seen == [False, False, True]


def test_wrong_values_are_all_named() -> None:
    raw = {"name": "n", "kind": "c", "depths": ["6,x", "y"], "mults": ["half"], "rate": "?"}
    with pytest.raises(InputError) as caught:
        read(["--bog", "x"], raw)
    assert caught.value.mistakes == (
        "sample has no option --bog",
        "--kind must be one of a, b, got 'c'",
        "--depths must be an integer, got 'x'",
        "--depths must be an integer, got 'y'",
        "--width-mult must be a number, got 'half'",
        "--rate must be a number, got '?'",
    )


def test_flags_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(api, "dynabert", lambda model, **options: seen.update(options) or api.Result("dynabert", {}))
    with pytest.raises(KeyError):  # the empty result has nothing to show
        main(["dynabert", "m", "--no-stock", "--depths", "6,5,3", "--depths", "1", "--out", "o", "--select", "dev"])
    assert seen == {"stock": False, "depths": (6, 5, 3, 1), "out": "o", "select": "dev"}


def test_module_runs_and_help_is_quick_and_light() -> None:
    script = (
        "import sys\n"
        "from cutbert.cli.main import main\n"
        "code = main(sys.argv[1:])\n"
        "heavy = [name for name in ('torch', 'transformers', 'numpy', 'datasets') if name in sys.modules]\n"
        "sys.exit(f'loads {heavy}' if heavy else code)\n"
    )
    for words in (["dynabert", "--help"], ["cost", "--nosuch"]):
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
        assert done.returncode == (0 if "--help" in words else 2), done.stderr
    done = subprocess.run([sys.executable, "-m", "cutbert", "nosuch"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("cutbert: error: verb must be one of fit, ")
