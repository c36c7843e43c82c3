"""What differs from when a run began is refused by name; what may differ is not looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cutbert.errors import RunError
from cutbert.train.run_record import check_same, check_unchanged

OUT = Path("runs/one")
SETTINGS = {"model": "m", "train": {"epochs": 3.0, "seed": 7, "threads": 2, "checkpoint_seconds": 60.0}}
MACHINE: dict[str, Any] = {"processor": "P", "threads": 2, "processes": 1, "accelerator": None, "cores": 4}
VERSIONS = {"cutbert": "0.1.0", "torch": "2.0", "transformers": "5.17", "numpy": "2.0"}


def check(command: str = "dynabert", model: str = "m", **train: Any) -> None:
    now = {"model": model, "train": {**SETTINGS["train"], **train}}
    check_same(OUT, {"command": "dynabert", "settings": SETTINGS}, command, now)


def test_other_settings_are_refused_and_named() -> None:
    check()
    check(threads=4, checkpoint_seconds=1.0)
    with pytest.raises(RunError) as caught:
        check(model="n", epochs=1.0, threads=4, dropout=0.1)
    assert caught.value.mistakes == (
        "runs/one: --out holds a run of dynabert with other settings; repeat them or give another --out",
        "runs/one: model was 'm', now 'n'",
        "runs/one: train.dropout was None, now 0.1",
        "runs/one: train.epochs was 3.0, now 1.0",
    )


def test_another_command_is_refused() -> None:
    with pytest.raises(RunError, match="--out must be new or a run of finetune, got a run of dynabert"):
        check("finetune")


def test_a_changed_machine_is_refused_where_bits_depend_on_it() -> None:
    stored = {"machine": MACHINE, "versions": VERSIONS}
    check_unchanged(OUT, stored, {**MACHINE, "cores": 8}, {**VERSIONS, "numpy": "2.1"})
    with pytest.raises(RunError) as caught:
        check_unchanged(OUT, stored, {**MACHINE, "processor": "Q", "threads": 1}, {**VERSIONS, "torch": "2.1"})
    assert caught.value.mistakes == (
        "runs/one: cannot resume with the same bits: the machine changed; --allow-changed resumes all the same",
        "runs/one: processor was 'P', now 'Q'",
        "runs/one: threads was 2, now 1",
        "runs/one: torch was '2.0', now '2.1'",
    )
