"""What run.json holds: how a run's record begins, and reading one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cutbert.errors import RunError
from cutbert.files import read_json
from cutbert.train.run_changes import flat

FORMAT_VERSION = 1
RECORD = "run.json"
RECORD_KEYS = {"command": str, "line": str, "settings": dict, "timings": dict}


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
    missing = [name for name, kind in RECORD_KEYS.items() if not isinstance(data.get(name), kind)]
    if missing:
        raise RunError(f"{path / RECORD}: must have {', '.join(missing)} as a run writes them; give another --out")
    return dict(data)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
