"""Whatever a file or a number says, a command ends soon with 0 or 2, in our words, and leaves nothing behind.

CUTBERT_FUZZ_CASES=2000 runs more cases than the few of every day, CUTBERT_FUZZ_SEED=7 others.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import signal
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import pytest
from hostile import changed_bytes, changed_json, changed_line, changed_toml
from readers import READERS
from world import COMMANDS, OWN, make_world

from cutbert.api.table import VERBS
from cutbert.cli.main import main
from cutbert.train.run_lock import LOCK
from known_times import take_known_memory
from tiny_sweeps import compute_here

NUM_CASES = int(os.environ.get("CUTBERT_FUZZ_CASES", "60"))
SEED = int(os.environ.get("CUTBERT_FUZZ_SEED", "0"))
LIMIT_S = 30
NUMBERS = ("-1", "0", "nan", "inf", "-inf", "1e309", "1e23", "1" + "0" * 23, "1" + "0" * 400, "0.5", "1e-320", "x", "")
SLOW = ("fit", "demo")  # whose numbers are checked with a model that is not there

ENDLESS = (
    "--threads",
    "--trials",
    "--rounds",
    "--train-steps",
    "--gate-steps",
    "--augment-rounds",
)  # a large number is work


@dataclass(frozen=True)
class Case:
    """A command in the world with one file changed, or with one number."""

    name: str
    command: list[str]
    path: str | None = None
    data: bytes = b""


class TooSlow(BaseException):
    """A command that did not end in time."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return make_world(folder)


def number_cases(draw: random.Random) -> Iterator[Case]:
    """Yield every numeric option of every verb with every number, in random order."""
    pairs = [
        (verb.name, option.name, number)
        for verb in VERBS.values()
        for option in verb.options().values()
        if option.kind in (int, float)
        for number in NUMBERS
    ]
    pairs += [
        (verb.name, option.name, str(option.range.ceiling))
        for verb in VERBS.values()
        for option in verb.options().values()
        if option.kind is int and option.range.ceiling is not None and option.name not in ENDLESS
    ]
    draw.shuffle(pairs)
    for verb, option, number in pairs:
        base = COMMANDS.get(verb, f"{verb} --out out" if verb == "demo" else f"{verb} nowhere/at/all --out out {OWN}")
        if verb == "demo":
            base += " --model nowhere/at/all"
        yield Case(f"{verb} {option}={number[:30]}", [*base.split(), option, number])


def file_cases(world: Path, draw: random.Random) -> Iterator[Case]:
    """Yield commands with one of the files they read changed, without end."""
    files = {pattern: sorted(world.glob(pattern)) for pattern in READERS}
    assert all(files.values()), [pattern for pattern, paths in files.items() if not paths]
    while True:
        pattern = draw.choice(list(READERS))
        path = draw.choice(files[pattern])
        old = path.read_bytes()
        change_text = (
            {".json": changed_json, ".jsonl": changed_line, ".toml": changed_toml}.get(path.suffix)
            if draw.random() < 0.8
            else None
        )
        if change_text is None:
            new = changed_bytes(old, draw)
        else:
            new = change_text(old.decode(), draw).encode("utf-8", "surrogatepass")
        name = str(path.relative_to(world))
        yield Case(name, draw.choice(READERS[pattern]).split(), name, new)


def cases(world: Path, count: int) -> Iterator[Case]:
    """Yield cases of both kinds in turn."""
    numbers, files = number_cases(random.Random(SEED)), file_cases(world, random.Random(SEED))
    for i in range(count):
        case = next(numbers, None) if i % 3 == 0 else None
        yield case or next(files)


def test_no_file_and_no_number_breaks_a_command(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    compute_here(monkeypatch)
    take_known_memory(monkeypatch)
    problems = []
    for i, case in enumerate(cases(world, NUM_CASES)):
        folder = tmp_path / str(i)
        copy_world(world, folder, case)
        monkeypatch.chdir(folder)
        problem = problem_of(case, folder, capfd)
        if problem is not None:
            problems.append(
                f"case {i}, {case.name}: cutbert {shlex.join(case.command)}\n{change(world, case)}{problem}"
            )
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(folder)
    assert not problems, f"{len(problems)} of {NUM_CASES} cases\n\n" + "\n\n".join(problems)


def change(world: Path, case: Case) -> str:
    """Return where a case's file begins to differ, before and after."""
    if case.path is None:
        return ""
    old = (world / case.path).read_bytes()
    same = next((i for i, (one, other) in enumerate(zip(old, case.data, strict=False)) if one != other), 0)
    part = slice(max(0, same - 60), same + 60)
    return f"{old[part]!r} became {case.data[part]!r}\n"


def copy_world(world: Path, folder: Path, case: Case) -> None:
    """Copy what a case's command names, and change its file."""
    folder.mkdir()
    words = {re.split(r"[/.]", word)[0] for word in case.command} | {"data", "base"}
    for path in world.iterdir():
        if path.stem in words:
            shutil.copytree(path, folder / path.name) if path.is_dir() else shutil.copy(path, folder)
    if case.path is not None:
        (folder / case.path).write_bytes(case.data)


def problem_of(case: Case, folder: Path, capfd: pytest.CaptureFixture[str]) -> str | None:
    """Run a case; return what is wrong with its end, None where nothing is."""
    before = names_in(folder)
    try:
        with at_most(LIMIT_S), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = main(case.command)
    except TooSlow:
        return "did not end\n" + traceback.format_exc(limit=-6)
    except BaseException:
        return traceback.format_exc(limit=-6)
    finally:
        text = capfd.readouterr().err
    if code not in (0, 2):
        return f"exit {code}\n{text[-1500:]}"
    if "Traceback" in text:
        return text[-3000:]
    errors = [line for line in text.splitlines() if line.startswith("cutbert: error: ")]
    if (code == 2) != bool(errors):
        return f"exit {code} with errors {errors}\n{text[-1500:]}"
    if any(len(line) > 3000 for line in errors):
        return f"an error line of {max(map(len, errors))} characters: {max(errors, key=len)[:300]}"
    after = names_in(folder)
    new = after - before
    # A run whose training broke keeps what it has, and a sweep that began knows which of its runs failed.
    stays = code == 0 or "training must stay finite" in text or any(name.endswith("sweep.json") for name in new)
    left = sorted(name for name in new if not stays or re.search(r"\.(part|old)(/|$)", name))
    return f"exit {code} left {left[:5]}\n{text[-600:]}" if left else None


def names_in(folder: Path) -> set[str]:
    """Return the names of all files and folders in a folder, but locks."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != LOCK}


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TooSlow where the block takes the processor for longer; also where it waits for far longer.

    On a busy machine the processor's time is that of the block alone.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TooSlow

    limits = {signal.SIGPROF: (signal.ITIMER_PROF, seconds), signal.SIGALRM: (signal.ITIMER_REAL, 10 * seconds)}
    old = {each: signal.signal(each, stop) for each in limits}
    for timer, limit in limits.values():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for timer, _ in limits.values():
            signal.setitimer(timer, 0)
        for each, handler in old.items():
            signal.signal(each, handler)
