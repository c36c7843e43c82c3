"""What run.json holds: how a run's record begins, reading one, and what must be the same for a run to go on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cutbert.checks import NUMBERS, OBJECT, TEXT, Check, or_null
from cutbert.errors import RunError
from cutbert.files import read_json

FORMAT_VERSION = 1
RECORD = "run.json"
REQUIRED: dict[str, Check] = {"command": TEXT, "line": TEXT, "settings": OBJECT, "timings": NUMBERS}
OPTIONAL: dict[str, Check] = {
    "result": or_null(OBJECT),
    "facts": OBJECT,
    "machine": OBJECT,
    "versions": OBJECT,
    "peak_bytes": NUMBERS,
}
SAME_VERSIONS = ("cutbert", "torch", "transformers")
SAME_MACHINE = ("processor", "threads", "processes", "accelerator")
FREE_SETTINGS = ("threads", "checkpoint_seconds")


def new_record(command: str, settings: dict[str, Any], line: str) -> dict[str, Any]:
    seeds = [value for name, value in flat(settings).items() if name.split(".")[-1] == "seed"]
    record: dict[str, Any] = {"format_version": FORMAT_VERSION, "command": command, "line": line}
    record["settings"] = settings
    if seeds:
        record["seed"] = seeds[0]
    return {**record, "started": now(), "timings": {}}


def read_record(path: Path) -> dict[str, Any]:
    """Read run.json.

    Raises:
        RunError: the folder holds no run, or one of an unknown format.
    """
    if not (path / RECORD).is_file():
        state = "is not empty and holds no run" if path.is_dir() else "is no folder with a run"
        raise RunError(f"{path}: must be a run folder (with {RECORD}), but {state}")
    data = read_json(path / RECORD, RunError)
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != FORMAT_VERSION:
        raise RunError(f"{path / RECORD}: format_version must be {FORMAT_VERSION}, got {version!r}")
    wrong = [name for name, (passes, _) in REQUIRED.items() if name not in data or not passes(data[name])]
    wrong += [name for name, (passes, _) in OPTIONAL.items() if name in data and not passes(data[name])]
    if wrong:
        raise RunError(f"{path / RECORD}: must have {', '.join(wrong)} as a run writes them; give another --out")
    return dict(data)


def now() -> str:
    """Return the time in UTC, in whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def check_same(path: Path, stored: Mapping[str, Any], command: str, settings: Mapping[str, Any]) -> None:
    """Raise unless the stored run is one of this command with these settings."""
    if stored["command"] != command:
        raise RunError(f"{path}: --out must be new or a run of {command}, got a run of {stored['command']}")
    changes = differences(binding(stored["settings"]), binding(settings))
    if changes:
        raise RunError(
            f"{path}: --out holds a run of {command} with other settings; repeat them or give another --out",
            *(f"{path}: {text}" for text in changes),
        )


def check_unchanged(
    path: Path, stored: Mapping[str, Any], machine: Mapping[str, Any], versions: Mapping[str, str]
) -> None:
    """Raise where something that bits depend on differs from when the unfinished run last ran."""
    then = {name: stored["machine"].get(name) for name in SAME_MACHINE}
    now = {name: machine.get(name) for name in SAME_MACHINE}
    changes = differences(then, now)
    then_versions = {name: stored["versions"].get(name) for name in SAME_VERSIONS}
    changes += differences(then_versions, {name: versions.get(name) for name in SAME_VERSIONS})
    if changes:
        raise RunError(
            f"{path}: cannot resume with the same bits: the machine changed; --allow-changed resumes all the same",
            *(f"{path}: {text}" for text in changes),
        )


def binding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings flat, without those that may change between the parts of one run.

    Threads are compared as the machine's, which counts those really used.
    """
    return {name: value for name, value in flat(settings).items() if name.split(".")[-1] not in FREE_SETTINGS}


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return one line per value that differs, with its dotted name."""
    before, after = flat(then), flat(now)
    names = sorted(before.keys() | after.keys())
    return [
        f"{name} was {before.get(name)!r}, now {after.get(name)!r}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one mapping with dotted names."""
    result: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[f"{prefix}{name}"] = value
    return result
