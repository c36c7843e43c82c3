"""Every verb on tiny models, killed and repeated: what it makes, and what is left beside that, against an unkilled run.

Commands run in forks of one process that has imported everything and computed nothing, so that kills fall into the
work itself. A fork is killed after some time, or before one of its changes of a file or folder: an audit hook of Python
sees these.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pkgutil
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import cutbert
from cutbert.data.rows import Rows
from cutbert.files import file_sha256, read_json, write_json
from cutbert.folders.save import save_model
from cutbert.folders.tokenizer import tokenizer_of
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.shape.source import find_model
from cutbert.train.progress import say

WORDS = ("good", "bad", "film", "book", "a", "very", "fine", "dull", "and", "not")
HEAD = HeadSpec("single_label", ("neg", "pos"))
MODELS = {"model": HEAD, "bare": HeadSpec("pooler"), "mlm": HeadSpec("masked_lm")}
ROWS = {"train": 41, "select": 16, "dev": 18}
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.chmod")
BYTES = (".safetensors", ".onnx", ".npy", ".csv", ".jsonl", ".txt")
NOT_COMPARED = ("log.jsonl",)  # a run that goes on repeats its lines since the last checkpoint
# What differs from run to run: times, and what is made of them.
VOLATILE = ("latency", "measured", "machine", "versions", "timings", "started", "finished", "peak_bytes", "seconds",
            "train_seconds", "throughput_per_s", "tokens_per_s", "identity", "latency_ratio", "latency_error",
            "teacher_int8", "others", "int8_within_limit", "verdict", "time_limit_s", "memory", "speed", "quality",
            "noise", "notes", "is_quiet", "spread")  # fmt: skip
VOLATILE_ENDS = ("_ms", "_seconds", "_s", "peak_bytes", "before_bytes")
PLAN = """
[defaults]
{defaults}

[steps.family]
verb = "dynabert"
model = "{base}/bare"
width_mult = [1.0, 0.5]
depths = [3, 1]
importance_samples = 16

[steps.small]
verb = "pick"
model = "{{family}}"
max_params = 1000000000
"""


@dataclass(frozen=True)
class Killed:
    """A command that is killed.

    Args:
        name: of it in the record.
        words: without `cutbert`; paths are below the folder it runs in, or absolute.
        needs: folders of the base that it changes, copied into the folder it runs in.
    """

    name: str
    words: tuple[str, ...]
    needs: tuple[str, ...] = ()


def commands(base: Path) -> list[Killed]:
    """Return every command that leaves something behind; a demo is a fit."""
    data, train = [*data_words(base), "--threads", "1"], training_words(base)
    scored = [*data_words(base, "train", "dev"), "--threads", "1"]
    text = ["--train", f"{base}/text.txt", "--dev", f"{base}/dev.txt"]
    quick = ["--epochs", "2", "--batch-size", "8", "--threads", "1", "--precision", "float32"]
    out, search = ["--out", "out"], ["--trials", "14", "--keep", "4", "--threads", "1"]
    all_of_them = {
        "finetune": (["finetune", f"{base}/bare", *train, *out], []),
        "pretrain": (["pretrain", f"{base}/mlm", *text, "--sequence-length", "17", *quick, *out], []),
        "dynabert": (["dynabert", f"{base}/bare", *train, *FAMILY, *out], []),
        "schubert": (["schubert", f"{base}/model", *train, "--budget", "macs=0.6", "--rounds", "2", "--gate-steps", "3",
                      "--multiple-of", "1", *out], []),
        "undivided": (["undivided", f"{base}/model", *train, "--num-ffn", "1", "--removal", "gradual",
                       "--final-epochs", "1", *out], []),
        "depth": (["depth", f"{base}/bare", *train, "--against-full", *out], []),
        "fit": (["fit", f"{base}/bare", *data, *FIT, "--plan", f"{base}/{PLANNED}", *out], []),
        "search": (["search", "run", *search, "--train-steps", "3"], ["run"]),
        "search --repair": (["search", "run", *search, "--repair"], ["run"]),
        "front --measure": (["front", "run", "--measure", "--rounds", "2", "--threads", "1"], ["run"]),
        "pick": (["pick", "run", "--max-params", "1000000000", *out], ["run"]),
        "pick --repair": (["pick", "run", "--max-params", "1000000000", "--repair", *out], ["run"]),
        "export": (["export", f"{base}/model", "--onnx", "--int8", "--no-gate", "--threads", "1", *out], []),
        "export in place": (["export", "model", "--onnx", "--int8", "--no-gate", "--threads", "1"], ["model"]),
        "export a run": (["export", "run", "--onnx", "--threads", "1"], ["run"]),
        "measure": (["measure", f"{base}/model", *scored, "--backend", "onnx", "--rounds", "2"], []),
        "predict": (["predict", f"{base}/model", "--input", f"{base}/dev.tsv", "--text", "text", "--threads", "1",
                     "--out", "out.csv"], []),
        "report": (["report", "run", "--out", "out.html"], ["run"]),
        "analyze": (["analyze", f"{base}/model", *data, "--num-examples", "16", *out], []),
        "sweep": (["sweep", f"{base}/plan.toml", *out], []),
    }  # fmt: skip
    return [Killed(name, tuple(words), tuple(needs)) for name, (words, needs) in all_of_them.items()]


FIT = ["--max-macs", "700000", "--candidates", "3", "--rounds", "2", "--checkpoint-seconds", "0.5",
       "--precision", "float32"]  # fmt: skip
FIT_TIME = ["--time", "240"]  # of the run whose plan the killed ones take
PLANNED = "planned"
FAMILY = ["--width-mult", "1.0,0.5", "--depths", "3,1", "--importance-samples", "16"]
FEW_STEPS = 20


def training_words(base: Path) -> list[str]:
    """Return the options of a short training on the data."""
    quick = ["--epochs", "2", "--batch-size", "8", "--precision", "float32", "--checkpoint-seconds", "0"]
    return [*data_words(base), "--threads", "1", *quick]


def shortened(plan: dict[str, Any]) -> dict[str, Any]:
    """Return a plan of fit with few steps in each of its trainings under the limit."""
    few: dict[str, Any] = {}
    for name, value in plan.items():
        if name.endswith("-last"):
            few[name] = [[0, FEW_STEPS]]
        elif name.endswith("-steps") or "-round-" in name:
            few[name] = min(value, FEW_STEPS)
    return {**plan, **few}


def is_finished(run: Path) -> bool:
    """Return whether a run has its result."""
    return (run / "run.json").is_file() and "result" in read_json(run / "run.json")


def data_words(base: Path, *names: str) -> list[str]:
    """Return the options that name the data: the given tables, or all."""
    files = [word for name in names or ROWS for word in (f"--{name}", f"{base}/{name}.tsv")]
    return [*files, "--text", "text", "--label", "label", "--max-length", "16"]


class Place:
    """The working folder of a measurement: a base that is only read, and a folder for each try of a command.

    Args:
        folder: new, or of a measurement that was stopped.
        model: whose tokenizer the tiny models take.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.folder, self.base = folder, folder / "base"
        for each in pkgutil.walk_packages(cutbert.__path__, "cutbert."):
            if not each.name.endswith(("__main__", "ray_engine", "child")):
                import_module(each.name)
        self.log = folder / "log.txt"
        folder.mkdir(parents=True, exist_ok=True)
        if not (self.base / "plan.toml").exists():  # what is written last
            shutil.rmtree(self.base, ignore_errors=True)
            self.base.mkdir()
            make_apart(lambda: make_models(self.base, model))

    def make_runs(self, command: Killed) -> None:
        """Make the runs of the base that a command reads or changes, where they are not there."""
        family, fit = self.base / "run", self.base / PLANNED
        if family.name in command.needs and not is_finished(family):
            self._must("dynabert", f"{self.base}/model", *training_words(self.base), *FAMILY, "--out", family.name)
        if str(fit) in command.words and not is_finished(fit):
            words = [*data_words(self.base), "--threads", "1", *FIT, *FIT_TIME, "--out", fit.name]
            self._must("fit", f"{self.base}/bare", *words)
            write_json(fit / "plan.json", shortened(read_json(fit / "plan.json")))

    def _must(self, *words: str) -> None:
        code = self.ends(self.base, words, None, None)
        if code != 0:
            raise RuntimeError(f"cutbert {' '.join(words)} ended with {code}; see {self.log}")

    def new(self, command: Killed, name: str) -> Path:
        """Return a new folder to run a command in."""
        self.make_runs(command)
        folder = self.folder / command.name.replace(" ", "_") / name
        shutil.rmtree(folder, ignore_errors=True)
        for each in ("temporary", "cache"):
            (folder / each).mkdir(parents=True)
        for each in command.needs:
            shutil.copytree(self.base / each, folder / each)
        return folder

    def whole(self, command: Killed) -> dict[str, Any]:
        """Return how long a command takes, how many changes it makes, and what it leaves, when it is not killed."""
        stored = self.folder / command.name.replace(" ", "_") / "whole.json"
        if not stored.is_file():
            folder, begun = self.new(command, "whole"), time.monotonic()
            count = folder.parent / "count"
            code = self.ends(folder, command.words, None, None, count=count)
            if code != 0:
                raise RuntimeError(f"cutbert {' '.join(command.words)} ended with {code}; see {self.log}")
            facts: dict[str, Any] = {
                "seconds": time.monotonic() - begun,
                "changes": int(count.read_text()),
                "left": left(folder),
            }
            write_json(stored, facts)
            say(f"{command.name}: {facts['seconds']:.1f} s, {facts['changes']} changes, {len(facts['left'])} files")
        return dict(read_json(stored))

    def ends(
        self,
        folder: Path,
        words: Sequence[str],
        after_s: float | None,
        at_change: int | None,
        count: Path | None = None,
    ) -> int | None:
        """Run a command in a fork; return its exit code, None where it was killed.

        Args:
            folder: that it runs in.
            words: of the command.
            after_s: kill it after these seconds; None not by time.
            at_change: kill it before this change of a file, counted from 1; None not by changes.
            count: file that receives the number of its changes.
        """
        child = os.fork()
        if child == 0:
            run_here(folder, words, at_change, count, self.log)
        begun = time.monotonic()
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
            if after_s is not None and time.monotonic() - begun >= after_s:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return None
            time.sleep(0.005)


def run_here(folder: Path, words: Sequence[str], at_change: int | None, count: Path | None, log: Path) -> None:
    """Become a command: run it in this process, which then ends."""
    os.chdir(folder)
    os.environ |= {"TMPDIR": str(folder / "temporary"), "CUTBERT_CACHE": str(folder / "cache")}
    tempfile.tempdir = os.environ["TMPDIR"]  # else Python looks for one, and leaves a file when it is killed then
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    seen = 0

    def on_event(event: str, arguments: Any) -> None:
        nonlocal seen
        if event in CHANGES or (event == "open" and is_written(arguments, folder)):
            seen += 1
            if seen == at_change:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_event)
    code = 99
    try:
        code = import_module("cutbert.cli.main").main(list(words))
    finally:
        if count is not None:
            count.write_text(str(seen))
        sys.stdout.flush()
        os._exit(code)


def is_written(arguments: Any, folder: Path) -> bool:
    """Return whether an open is one for writing below a folder; arguments as Python's audit event has them."""
    path, _, flags = arguments
    is_named = isinstance(path, str | bytes | os.PathLike)
    return (
        is_named
        and bool(flags & (os.O_WRONLY | os.O_RDWR))
        and os.path.abspath(os.fsdecode(path)).startswith(str(folder))
    )


def make_apart(make: Any) -> None:
    """Run something in a fork, so that this process computes nothing."""
    child = os.fork()
    if child == 0:
        try:
            make()
            os._exit(0)
        finally:
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("the tiny models could not be made")


def make_models(base: Path, model: str) -> None:
    """Write tiny models, tables, texts and a plan."""
    import torch

    tokenizer = tokenizer_of(find_model(model))
    shape = EncoderShape.uniform(
        hidden_size=24, num_layers=3, num_heads=4, intermediate_size=32, vocab_size=len(tokenizer), num_positions=128
    )
    for seed, (name, head) in enumerate(MODELS.items()):
        torch.manual_seed(seed)
        network = TaskModel(shape, EncoderStyle(family="bert"), head)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(0.0, 0.3)
        about = {"format_version": 1, "base_model": "tiny", "base_sha256": {}, "licence": None, "commands": []}
        save_model(base / name, network.eval(), tokenizer, provenance={**about, "data": {}, "scores": {}})
    draw = random.Random(0)

    def texts(count: int) -> Rows:
        return Rows([" ".join(draw.choices(WORDS, k=draw.randint(2, 9))) for _ in range(count)])

    for name, count in ROWS.items():
        lines = [f"{text} {name}\t{draw.choice(HEAD.labels)}\n" for text in texts(count).text]
        (base / f"{name}.tsv").write_text("text\tlabel\n" + "".join(lines), encoding="utf-8")
    for name, count in (("text", 200), ("dev", 40)):
        (base / f"{name}.txt").write_text("\n\n".join(texts(count).text) + "\n", encoding="utf-8")
    defaults = {name: f"{base}/{name}.tsv" for name in ROWS}
    defaults |= {"text": "text", "label": "label", "precision": "float32"}
    numbers = {"max_length": 16, "threads": 1, "epochs": 2, "batch_size": 8, "checkpoint_seconds": 0}
    lines = [f"{name} = {json.dumps(value)}" for name, value in (defaults | numbers).items()]
    (base / "plan.toml").write_text(PLAN.format(base=base, defaults="\n".join(lines)), encoding="utf-8")


def left(folder: Path) -> dict[str, str]:
    """Return what a command left, by path: a hash of each file that must be equal, else nothing; of folders too."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            found[name + "/"] = ""
        elif path.name in NOT_COMPARED:
            found[name] = ""
        elif path.name == "table.csv":  # of a sweep
            with path.open(encoding="utf-8", newline="") as file:
                rows = without_volatile(list(csv.DictReader(file)))
            found[name] = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
        elif path.suffix in BYTES:
            found[name] = file_sha256(path)
        elif path.suffix == ".json":
            text = path.read_text(encoding="utf-8").replace(str(folder), "")
            plain = json.dumps(without_volatile(json.loads(text)), sort_keys=True)
            found[name] = hashlib.sha256(plain.encode()).hexdigest()
        else:
            found[name] = ""
    return found


def without_volatile(data: Any) -> Any:
    """Return JSON without what differs from run to run."""
    if isinstance(data, dict):
        return {
            name: without_volatile(value)
            for name, value in data.items()
            if name not in VOLATILE and not name.endswith(VOLATILE_ENDS)
        }
    return [without_volatile(each) for each in data] if isinstance(data, list) else data


def killed_try(place: Place, command: Killed, name: str, most: int, moments: random.Random) -> dict[str, Any]:
    """Kill a command up to `most` times, let it end, and compare what is left with what an unkilled one leaves.

    Returns:
        `kills`: how each fell. `lost`: what is missing or differs. `left_over`: what should not be there.
    """
    whole, folder, kills = place.whole(command), place.new(command, name), list[dict[str, Any]]()
    code: int | None = None
    while len(kills) < most:
        after_s = at_change = None
        if moments.random() < 0.5:
            after_s = round(moments.uniform(0, whole["seconds"]), 3)
        else:
            at_change = moments.randint(1, whole["changes"])
        code = place.ends(folder, command.words, after_s, at_change)
        if code is not None:
            break
        kills.append({"after_s": after_s} if at_change is None else {"at_change": at_change})
    if code is None:
        code = place.ends(folder, command.words, None, None)
    wanted, got = whole["left"], left(folder)
    lost = sorted(path for path in wanted if got.get(path) != wanted[path])
    # A command that was killed when all was done refuses to do it again.
    fails = [] if code == 0 or (code == 2 and not lost) else [f"exit code {code}"]
    return {
        "command": command.name,
        "kills": kills,
        "lost": [*lost, *fails],
        "left_over": sorted(got.keys() - wanted.keys()),
    }
