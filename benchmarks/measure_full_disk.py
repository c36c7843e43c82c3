"""A disk that runs full at each of a command's writes: every verb must say so in one line and leave nothing behind.

Each verb runs on tiny models in a small tmpfs that has room for k more pages, or k more files, for k from 0 to what the
verb needs. Each time it must end with exit code 2 and one line of error, without a traceback; leave no file that it
writes aside, and where it makes no run, no file at all; and finish, when the same command is given again with room.
Needs the right to mount a tmpfs (root). Commands run in forks of one process that has imported everything.
A measurement that is stopped goes on from --kept.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cutbert
from cutbert.cli.main import main as run_command
from cutbert.files import append_line, change_json, file_sha256, read_json
from cutbert.train.progress import say
from recording import ROOT, git, make_parser, names, parse, recorded

PAGE = 4096
ROOMY = "size=512m,nr_inodes=100k"
LONGEST_S, POLL_S = 600.0, 0.01
ASIDE = (".part", ".old", ".tmp")
MOST_ROOM = 16_384
DATA = "--train ../train.tsv --select ../select.tsv --dev ../dev.tsv --text text --label label"
QUICK = "--epochs 1 --batch-size 8 --threads 1 --max-length 16 --precision float32 --checkpoint-seconds 0"
FIT = "--threads 1 --max-macs 3M --candidates 3 --rounds 1"
# Of a run of fit, in place of what its time allowed: a few steps of each training, so that a case takes seconds.
FEW_STEPS = {
    "teacher-1": 6,
    "teacher-2": 0,
    "limit-1-gates-steps": 0,
    "limit-1-candidates": 3,
    "limit-1-round-1": 4,
    "limit-1-last-steps": 4,
    "limit-1-last": [[0, 4]],
}
PLAN = """
[defaults]
train = "../train.tsv"
select = "../select.tsv"
dev = "../dev.tsv"
text = "text"
label = "label"
epochs = 1
batch_size = 8
max_length = 16

[steps.teacher]
verb = "finetune"
model = "../base"
"""


@dataclass(frozen=True)
class Case:
    """A command, run in the folder of the disk.

    Args:
        words: the command.
        copied: folders that are copied to the disk first.
        makes_run: whether it makes a run, which may stay unfinished.
    """

    words: str
    copied: tuple[str, ...] = ()
    makes_run: bool = False


CASES = {
    "finetune": Case(f"finetune ../base {DATA} {QUICK} --out o", makes_run=True),
    "dynabert": Case(f"dynabert ../model {DATA} {QUICK} --width-mult 1,0.5 --depths 3,1 --out o", makes_run=True),
    "schubert": Case(f"schubert ../model {DATA} {QUICK} --budget params_encoder=0.6 --gate-steps 4 --out o", (), True),
    "undivided": Case(f"undivided ../model {DATA} {QUICK} --num-ffn 1 --out o", makes_run=True),
    "depth": Case(f"depth ../base {DATA} {QUICK} --epsilon 1 --num-examples 30 --out o", makes_run=True),
    "pretrain": Case(
        "pretrain ../base --train ../text.txt --dev ../dev.txt --sequence-length 17 --epochs 1 --batch-size 8 "
        "--threads 1 --checkpoint-seconds 0 --out o",
        makes_run=True,
    ),
    "fit": Case(f"fit ../base {DATA} {FIT} --plan ../planned --checkpoint-seconds 0 --out o", makes_run=True),
    "search": Case("search family --trials 6 --keep 2 --cost macs --threads 1", ("family",), True),
    "front": Case("front family --measure --threads 1 --rounds 1", ("family",)),
    "pick": Case("pick family --max-params 1M --out o", ("family",)),
    "analyze": Case(f"analyze ../model {DATA} --threads 1 --max-length 16 --out o", makes_run=True),
    "predict": Case("predict ../model --input ../dev.tsv --text text --out new/o.tsv"),
    "report": Case("report family --out new/o.html", ("family",)),
    "export": Case("export ../model --onnx --int8 --no-gate --out o"),
    "export in place": Case("export model --onnx", ("model",)),
    "sweep": Case("sweep ../plan.toml --out o", makes_run=True),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure as the command line says and write the record."""
    parser = make_parser(__file__, __doc__)
    parser.add_argument("--verbs", type=names, default=list(CASES), help="by commas")
    parser.add_argument("--cases", type=int, default=12, help="most cases of each verb and kind of room")
    parser.add_argument("--kept", type=Path, help="JSON lines of the verbs done, to go on from; None to keep nothing")
    parser.add_argument("--growth", type=float, default=1.5, help="of the room from case to case, until it is enough")
    parser.add_argument("--seed", type=int, default=0, help="of the rooms between the smallest and the largest")
    args = parse(parser, argv)
    record = recorded("full_disk", args, lambda: measure(args), seeds=[args.seed])
    print(*(f"{key} {record[key]}" for key in ("cases", "failed")))
    if record["failed"]:
        sys.exit(1)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run all cases; return their counts, and what was wrong in each that failed."""
    draw, verbs = random.Random(args.seed), dict[str, Any]()
    if args.kept is not None and args.kept.is_file():
        verbs = {name: each for line in args.kept.open() for name, each in json.loads(line).items()}
    left = [each for each in args.verbs if each not in verbs]
    if left:
        measure_more(left, args, draw, verbs)
    return {
        "cases": sum(each["pages"] + each["files"] for each in verbs.values()),
        "failed": sum(len(each["problems"]) for each in verbs.values()),
        "verbs": verbs,
    }


def measure_more(left: Sequence[str], args: argparse.Namespace, draw: random.Random, verbs: dict[str, Any]) -> None:
    """Run the cases of the verbs that are left, and add what came out to those that are done."""
    import_everything()
    with tempfile.TemporaryDirectory() as work, tmpfs(Path(work) / "disk") as disk:
        make_inputs(Path(work))
        if "fit" in left:
            make_plan(Path(work))
        for name in left:
            case = CASES[name]
            problems: list[str] = []
            counts = {
                kind: fill_up(case, disk, room_of, args, draw, problems)
                for kind, room_of in (("pages", pages), ("files", inodes))
            }
            verbs[name] = {"commit": git("rev-parse", "HEAD"), **counts, "problems": problems}
            if args.kept is not None:
                append_line(args.kept, json.dumps({name: verbs[name]}))
            say(f"{name}: {counts} cases, {len(problems)} problems")


def import_everything() -> None:
    """Import what commands load, so that a fork begins at once."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    for each in pkgutil.walk_packages(cutbert.__path__, "cutbert."):
        if not each.name.endswith(("__main__", "ray_engine")):
            importlib.import_module(each.name)
    for name in ("transformers.models.bert.modeling_bert", "onnxruntime", "matplotlib.pyplot", "jinja2"):
        importlib.import_module(name)


def make_inputs(work: Path) -> None:
    """Write tiny models, data and a family of dynabert, which the disk's commands name as ../NAME."""
    sys.path.insert(0, str(ROOT / "tests"))
    tiny: Any = importlib.import_module("tiny_runs")
    tiny.save_tiny(work / "model")
    tiny.save_tiny(work / "base", tiny.tiny_model(tiny.HeadSpec("pooler")))
    for seed, (name, rows) in enumerate((("train", 41), ("select", 16), ("dev", 18))):
        tiny.write_tsv(work / f"{name}.tsv", tiny.tiny_rows(rows, seed))
    for name, words in (("text.txt", tiny.WORDS), ("dev.txt", tiny.WORDS[::-1])):
        (work / name).write_text(f"{' '.join(words)}\n\n" * 40, encoding="utf-8")
    (work / "plan.toml").write_text(PLAN, encoding="utf-8")
    make_run(CASES["dynabert"].words, work, "family")


def make_plan(work: Path) -> None:
    """Write a run of fit whose plan has a few steps of each training."""
    make_run(f"fit ../base {DATA} {FIT} --time 90 --out o", work, "planned")
    path = work / "planned" / "plan.json"
    change_json(path, lambda: {**read_json(path), **FEW_STEPS})


def make_run(words: str, work: Path, name: str) -> None:
    """Run a command that makes a run, and keep it under a name beside the disk."""
    (work / "made" / "temporary").mkdir(parents=True, exist_ok=True)
    code, text = attempt(words.split(), work / "made")
    if code != 0:
        sys.exit(f"no {name}: {text}")
    (work / "made" / "o").rename(work / name)


@contextmanager
def tmpfs(disk: Path) -> Iterator[Path]:
    """Mount a tmpfs at a new folder."""
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", ROOMY, "tmpfs", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def resize(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def pages(disk: Path, room: int) -> str:
    """Return the mount's options for room for some more pages."""
    status = os.statvfs(disk)
    return f"size={(status.f_blocks - status.f_bfree + room) * PAGE},nr_inodes=100k"


def inodes(disk: Path, room: int) -> str:
    """Return the mount's options for room for some more files or folders."""
    status = os.statvfs(disk)
    return f"size=512m,nr_inodes={status.f_files - status.f_ffree + room}"


def fill_up(
    case: Case,
    disk: Path,
    room_of: Callable[[Path, int], str],
    args: argparse.Namespace,
    draw: random.Random,
    problems: list[str],
) -> int:
    """Run a command with more and more room, until it has enough, then with room between; return how often it failed.

    Args:
        case: the command.
        disk: the mount.
        room_of: returns the mount's options for a number of pages or files.
        args: the most cases, about, and the room's growth.
        draw: of the room between.
        problems: what was wrong is added here.
    """
    room, failures = 0, 0
    while try_room(case, disk, room_of, room, problems) and room < MOST_ROOM:
        failures += 1
        room = max(room + 1, int(room * args.growth))
    between = sorted(draw.sample(range(room), min(room, max(0, args.cases - failures))))
    return failures + sum(try_room(case, disk, room_of, each, problems) for each in between)


def try_room(case: Case, disk: Path, room_of: Callable[[Path, int], str], room: int, problems: list[str]) -> bool:
    """Return whether a command lacked room; add what was wrong to the problems."""
    resize(disk, ROOMY)
    for each in disk.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    for copied in case.copied:
        shutil.copytree(disk.parent / copied, disk / copied)
    (disk / "temporary").mkdir()
    (disk / "full").write_bytes(bytes(PAGE))  # a tmpfs of 0 pages has no limit
    words = case.words.split()
    before = files_of(disk)
    resize(disk, room_of(disk, room))
    code, text = attempt(words, disk)
    if code == 0:
        return False
    where, wrong = f"{words[0]}, room for {room} {room_of.__name__}", list[str]()
    errors = [line for line in text.splitlines() if line.startswith("cutbert: error:")]
    if code != 2 or len(errors) != 1 or "Traceback" in text or "no space left" not in errors[0]:
        wrong.append(f"exit code {code}, {text[-1500:]}")
    after = files_of(disk)
    left = [name for name in after if any(part.endswith(ASIDE) for part in Path(name).parts)]
    left += [name for name in before if after.get(name) != before[name] and not case.makes_run]
    left += [name for name in after if name not in before and not case.makes_run and not is_cache(name)]
    if case.makes_run and "o" in after and "o/run.json" not in after and "o/sweep.json" not in after:
        left.append("a folder without a run")
    if left:
        wrong.append(f"left: {left}")
    resize(disk, ROOMY)
    code, text = attempt(words, disk)
    if code != 0:
        wrong.append(f"with room exit code {code}, {text[-1500:]}")
    left = [name for name in files_of(disk) if any(part.endswith(ASIDE) for part in Path(name).parts)]
    if left:
        wrong.append(f"left in the end: {left}")
    problems += [f"{where}: {each}" for each in wrong]
    for problem in wrong:
        say(f"{where}: {problem}")
    return True


def is_cache(name: str) -> bool:
    """Return whether a file is one of the token cache, or its lock."""
    return name.startswith("cache")


def files_of(disk: Path) -> dict[str, str]:
    """Return the SHA-256 of every file by its path, with folders, which have none."""
    return {str(path.relative_to(disk)): file_sha256(path) if path.is_file() else "" for path in disk.rglob("*")}


def attempt(words: Sequence[str], folder: Path) -> tuple[int, str]:
    """Run a command in a fork, with cache and temporary files in its folder; return its exit code and errors."""
    with tempfile.TemporaryFile("w+", dir="/tmp") as errors:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.chdir(folder)
                os.environ |= {"CUTBERT_CACHE": str(folder / "cache"), "TMPDIR": str(folder / "temporary")}
                tempfile.tempdir = str(folder / "temporary")
                os.dup2(errors.fileno(), 2)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                code = run_command(words)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        begun, ended, status = time.monotonic(), 0, 0
        while not ended:
            ended, status = os.waitpid(child, os.WNOHANG)
            if time.monotonic() - begun > LONGEST_S:
                os.kill(child, signal.SIGKILL)
            time.sleep(POLL_S)
        errors.seek(0)
        return os.waitstatus_to_exitcode(status), errors.read()


if __name__ == "__main__":
    main()
