"""JSON and TOML of strangers: whatever they are, plain data comes out or a ValueError, and readers raise our errors."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutbert.api.table import VERBS
from cutbert.bench.latency_table import LatencyTable
from cutbert.errors import InputError, RunError
from cutbert.files import read_json
from cutbert.fronts.entry import Entry
from cutbert.fronts.front import Front
from cutbert.fronts.leaderboard import Leaderboard
from cutbert.options import CEILINGS
from cutbert.parsing import MOST_DEPTH, parse_json, parse_toml
from cutbert.settings import MOST_THREADS
from cutbert.shape.budget import Budget
from cutbert.shape.folder import read_folder_shape
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.shape.subnet import Subnet
from cutbert.train.checkpoint import read_position
from cutbert.train.run_record import read_record
from cutbert.work.augment import stored_rows

NUMBERS = st.floats() | st.integers() | st.integers(min_value=-(10**400), max_value=10**400)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "must be nested at most 100 deep"),
        ("[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1), "must be nested at most 100 deep"),
        ('{"a":' * 100_000, "must be nested at most 100 deep"),
        ("[NaN]", "numbers must be finite, got nan"),
        ('{"a": -Infinity}', "numbers must be finite, got -inf"),
        ("1e309", "numbers must be finite, got inf"),
        ("1" + 400 * "0", "numbers must be finite, got 1000"),
        (r'["\ud800"]', r"text must be UTF-8, got '\\ud800'"),
        (r'{"\udfff": 1}', r"text must be UTF-8, got '\\udfff'"),
        ("9" * 5000, "4300 digits"),
        ("{", "Expecting property name"),
    ],
)
def test_what_no_file_of_ours_holds_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)
    path = tmp_path / "some.json"
    path.write_text(text)
    with pytest.raises(RunError, match=rf"some\.json: must be JSON: .*{message}"):
        read_json(path, RunError)


def test_depth_and_surrogates_that_are_taken() -> None:
    deep = "[" * MOST_DEPTH + "]" * MOST_DEPTH
    assert json.dumps(parse_json(deep)) == deep
    assert parse_json(r'["\ud800", NaN]', any_value=True)[0] == "\ud800"
    assert parse_json(r'"\ud83d\ude00"') == "\U0001f600"


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = nan", "a = 1e400", "a = " + "9" * 5000, "a = [", "\0"])
def test_toml_is_read_alike(text: str) -> None:
    with pytest.raises(ValueError):
        parse_toml(text)


def test_a_reader_that_fails_means_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "position.json"
    for text in ("[]", "3", '{"steps": 1}', "{}"):
        path.write_text(text)
        if text == "{}":
            assert read_position(path).step == 0
            continue
        with pytest.raises(RunError, match=r"position\.json: must hold what cutbert writes there, got TypeError"):
            read_position(path)


@pytest.mark.parametrize("data", [3, [], [["a"], ["b", "c"]], [[3], None], ["text", None]])
def test_variants_that_are_kept_are_checked(data: Any, tmp_path: Path) -> None:
    path = tmp_path / "augmented.json"
    path.write_text(json.dumps(data))
    with pytest.raises(RunError, match=r"augmented\.json: must"):
        read_json(path, RunError, stored_rows)
    path.write_text(json.dumps([["a"], ["b"]]))
    kept = read_json(path, RunError, stored_rows)
    assert (kept.text, kept.text_pair) == (["a"], ["b"])


@given(st.text())
def test_any_text_is_data_or_a_value_error(text: str) -> None:
    for parse in (parse_json, parse_toml):
        try:
            parse(text)
        except ValueError:
            continue


@pytest.mark.parametrize(
    "read",
    [
        EncoderShape.from_json,
        Subnet.from_json,
        HeadSpec.from_json,
        Entry.from_json,
        Front.from_json,
        Leaderboard.from_json,
        LatencyTable.from_json,
    ],
)
def test_readers_raise_our_errors(read: Callable[[Any], Any]) -> None:
    @given(JSON)
    def check(data: Any) -> None:
        with pytest.raises(InputError):
            read(data)

    check()


@given(data=JSON, name=st.sampled_from(["run.json", "config.json", "shape.json"]))
def test_files_raise_our_errors(data: Any, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / name).write_text(json.dumps(data), encoding="utf-8", errors="surrogatepass")
    with pytest.raises(InputError):
        read_record(folder) if name == "run.json" else read_folder_shape(folder)


OPTIONS = {f"{verb.name} {each.name}": each for verb in VERBS.values() for each in verb.options().values()}


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.kind in (int, float)])
def test_every_number_has_a_range(name: str) -> None:
    """No number is so large, so small or so odd that it reaches a verb, on the command line or from Python."""
    option = OPTIONS[name]
    assert option.range.has_top or option.range.ceiling is not None
    for word in (
        "1e309",
        "nan",
        "inf",
        "-inf",
        "1" + "0" * 23,
        "9" * 400,
        "9" * 5000,
        "1e23",
        "",
        "0x10",
        "1" * 400 + "s",
    ):
        try:
            value = option.parse([word])
        except InputError:
            continue  # no number, or no integer
        assert list(option.mistakes(value)) or value == ()  # no value at all
    for value in (math.nan, math.inf, 10**23, 10**400, -(10**400), 1e308):
        given_value = (value,) if option.is_list else value
        assert list(option.mistakes(given_value))


def test_the_ceiling_is_named_where_it_is_passed() -> None:
    option = OPTIONS["finetune --batch-size"]
    assert list(option.mistakes(10**23)) == [f"--batch-size must be at most 65,536 examples, got {10**23}"]
    assert list(option.mistakes(0)) == ["--batch-size must be at least 1, got 0"]
    assert CEILINGS["examples"] == 65_536 and not list(option.mistakes(65_536))
    assert list(OPTIONS["finetune --threads"].mistakes(10**22)) == [
        f"--threads must be at most {MOST_THREADS:,}, got {10**22}"
    ]


@given(st.text() | st.from_regex(r"(params|macs|bytes|latency_ms)=[0-9.eE+-]{0,400}[A-Za-z]{0,3}"))
def test_a_budget_is_a_number_or_our_error(text: str) -> None:
    with suppress(InputError):
        assert 0 < Budget.parse(text).value < math.inf
