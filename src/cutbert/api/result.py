"""What every verb returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cutbert.api.views import VIEWS
from cutbert.table import Shown, View


@dataclass(frozen=True, repr=False)
class Result(Shown):
    """The result of a verb: the --json object, also by key; shown as a short table.

    Args:
        verb: its name.
        data: the object.
    """

    verb: str
    data: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def to_json(self) -> dict[str, Any]:
        return dict(self.data)

    def view(self) -> View:
        return VIEWS[self.verb](self.data)
