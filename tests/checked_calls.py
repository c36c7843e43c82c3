"""Command lines whose options are read and checked, and nothing done."""

from __future__ import annotations

import pytest

from cutbert.cli.parser import Call
from cutbert.settings import build_settings


def check_only(patch: pytest.MonkeyPatch) -> list[str]:
    """Let `cli.main` read and check a call's options in the place of running it; return the verbs, as they are seen."""
    seen: list[str] = []

    def only_checked(call: Call) -> None:
        _, options = call.read()
        build_settings(options, *call.verb.settings)
        seen.append(call.verb.name)

    patch.setattr("cutbert.cli.call.run", only_checked)
    return seen
