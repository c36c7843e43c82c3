"""One process at a time is in a run's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutbert.errors import RunError
from cutbert.train.run_lock import is_locked, locked


def test_a_second_one_is_refused_until_the_first_has_left(tmp_path: Path) -> None:
    assert not is_locked(tmp_path) and not list(tmp_path.iterdir())
    with locked(tmp_path):
        assert is_locked(tmp_path)
        with pytest.raises(RunError, match="another process is running in this folder"), locked(tmp_path):
            raise AssertionError("must not run")
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        pass
