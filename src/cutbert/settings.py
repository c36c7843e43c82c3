"""Settings: what all have in common, those that several verbs share, and how arguments become settings."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from cutbert.aside import is_free, remove_leftovers
from cutbert.errors import InputError, Mistakes
from cutbert.files import write_mistakes
from cutbert.options import did_you_mean, given_words, option, option_name, options_of

Precision = Literal["auto", "float32", "bf16"]
EngineName = Literal["local", "ray"]
LAST_SEED = 2**32 - 1
MOST_THREADS = max(64, 4 * (os.cpu_count() or 1))  # more only wait for each other

# Headings of the help, in this order; GROUP of a class is one of them.
RUN, LIMITS, DATA, TEXT, MODEL, METHOD, MEASURING, TRAINING, MACHINE = (
    "Run", "Limits", "Data", "Plain text", "Model and teacher", "Method", "Measuring", "Training", "Machine",
)  # fmt: skip
GROUPS = (RUN, LIMITS, DATA, TEXT, MODEL, METHOD, MEASURING, TRAINING, MACHINE)

OF_RECIPE = "the recipe's own"
LOGIT_WEIGHT = option("Weight of the logit loss.", least=0, default_text=OF_RECIPE)
HIDDEN_WEIGHT = option("Weight of the embedding and hidden losses.", least=0, default_text=OF_RECIPE)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A frozen set of options that knows what is wrong with it.

    Type, range and choices are metadata of each field; `missing` and `conflicts` join several fields.
    """

    GROUP: ClassVar[str]
    ERROR: ClassVar[type[InputError]] = InputError

    def check(self) -> None:
        """Raise with everything that is out of range or does not fit together.

        Raises:
            InputError: all mistakes together; the class's own kind of it.
        """
        mistakes = Mistakes()
        for name, each in options_of(type(self)).items():
            mistakes.extend(each.mistakes(getattr(self, name)))
        mistakes.extend(self.missing())
        mistakes.extend(self.conflicts())
        mistakes.check(self.ERROR)

    def missing(self) -> Iterable[str]:
        """Yield a mistake for each thing that must be given, in one option or another, and is not."""
        return ()

    def conflicts(self) -> Iterable[str]:
        """Yield a mistake for each rule that joins several fields and is broken."""
        return ()

    def is_given(self, name: str) -> bool:
        """Return whether a field differs from its default."""
        return bool(getattr(self, name) != next(each.default for each in fields(self) if each.name == name))

    def given(self, *names: str) -> list[str]:
        """Return the options, of some fields, that differ from their default."""
        return [option_name(name) for name in names if self.is_given(name)]


@dataclass(frozen=True, kw_only=True)
class ThreadSettings(Settings):
    """How many cores are used."""

    GROUP = MACHINE

    threads: int | None = field(
        default=None, metadata=option("CPU threads; default all cores.", least=1, ceiling=MOST_THREADS)
    )


@dataclass(frozen=True, kw_only=True)
class DeviceSettings(ThreadSettings):
    """What computes."""

    GROUP = MACHINE

    device: str = field(
        default="auto",
        metadata=option(
            "auto (CUDA where there is one; ONNX Runtime always on the CPU), cpu, cuda or cuda:N.",
            form=(r"auto|cpu|cuda(:\d+)?", "auto, cpu, cuda or cuda:N"),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class SeedSettings(Settings):
    """What everything random is drawn from."""

    GROUP = MACHINE

    seed: int = field(default=0, metadata=option("Seed of everything random.", least=0, most=LAST_SEED))


@dataclass(frozen=True, kw_only=True)
class MachineSettings(DeviceSettings, SeedSettings):
    """What every verb accepts, so that scripts may pass the same options to all; some have no use for some."""

    GROUP = MACHINE

    precision: Precision = field(
        default="auto",
        metadata=option(
            "dtype of training; auto: bf16 where the processor computes it natively. Scores are always float32."
        ),
    )


@dataclass(frozen=True, kw_only=True)
class ResumeSettings(Settings):
    """When a stopped run goes on."""

    GROUP = RUN

    allow_changed: bool = field(
        default=False,
        metadata=option("Resume although machine, threads or versions changed; results may then differ slightly."),
    )


@dataclass(frozen=True, kw_only=True)
class RunSettings(ResumeSettings):
    """Where a run is kept."""

    GROUP = RUN

    out: str = field(metadata=option("Run folder: absent, empty, or this command's own run, which then goes on."))


@dataclass(frozen=True, kw_only=True)
class DistillationSettings(Settings):
    """The teacher, and the weights of the distillation losses; None leaves them to the recipe."""

    GROUP = MODEL

    teacher: str | None = field(
        default=None, metadata=option("Another model with the same labels to imitate.", is_common=True)
    )
    logit_weight: float | None = field(default=None, metadata=LOGIT_WEIGHT)
    hidden_weight: float | None = field(default=None, metadata=HIDDEN_WEIGHT)
    temperature: float = field(default=1.0, metadata=option("Temperature of the logit loss.", above=0))

    def conflicts(self) -> Iterable[str]:
        if self.logit_weight == self.hidden_weight == 0:
            yield "one of --logit-weight and --hidden-weight must be above 0: nothing else is trained for"


@dataclass(frozen=True, kw_only=True)
class HealingSettings(DistillationSettings):
    """Distillation of a network that was cut, with our own loss weights."""

    GROUP = MODEL

    logit_weight: float = field(default=1.0, metadata=LOGIT_WEIGHT)
    hidden_weight: float = field(default=30.0, metadata=HIDDEN_WEIGHT)


def out_mistakes(out: str | None) -> Iterable[str]:
    """Yield what is wrong with a folder that a model is to be written to."""
    if out is None:
        return
    path = Path(out)
    remove_leftovers(path.parent)
    if not is_free(path):
        yield f"--out must be absent or an empty folder, but {path} is not"
    yield from place_mistakes(path)


def place_mistakes(path: Path) -> Iterable[str]:
    """Yield a mistake for each place where a path needs a folder and something else is, or why it cannot be written."""
    files = [parent for parent in path.parents if os.path.lexists(parent) and not os.path.isdir(parent)]
    yield from (f"--out must lie in a folder, but {parent} is a file" for parent in files)
    if not files:
        yield from (f"--out {mistake}" for mistake in write_mistakes(path))


def paths_as_text(value: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Return one path or several as settings hold them."""
    return tuple(os.fspath(each) for each in ([value] if isinstance(value, str | os.PathLike) else value))


def build_settings(options: Mapping[str, Any], *kinds: type[Any]) -> list[Any]:
    """Return one instance of each settings dataclass, made of keyword arguments.

    A field that several of them have goes to all of them. Ranges are left to each one's `check`.

    Raises:
        InputError: unknown or missing arguments, or values of the wrong type; all mistakes together.
    """
    mistakes = Mistakes()
    known = options_of(*kinds)
    for name in options.keys() - known:
        mistakes.add(f"unknown argument {name!r}{did_you_mean(name, known)}")
    required = sorted(name for name, each in known.items() if each.is_required)
    mistakes.extend(f"argument {name!r} must be given" for name in required if name not in options)
    values = {}
    for name, each in known.items():
        if name in options:
            with mistakes.collect():
                values[name] = each.take(options[name])
    mistakes.check()
    return [kind(**{each.name: values[each.name] for each in fields(kind) if each.name in values}) for kind in kinds]


def command_line(verb: str, words: Sequence[str], *settings: Any) -> str:
    """Return the command that stands for words and settings, defaults left out."""
    parts = ["cutbert", verb, *words]
    written: set[str] = set()  # some have a field in common
    for each in settings:
        values = asdict(each)
        for name, made in options_of(type(each)).items():
            if name in written:
                continue
            written.add(name)
            if values[name] != made.field.default and values[name] is not None:
                parts += given_words(made.name, values[name])
    return shlex.join(parts)
