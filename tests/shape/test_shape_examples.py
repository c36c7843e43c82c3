"""The worked examples in the docstrings of shape/ are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import cutbert.shape

MODULES = [f"cutbert.shape.{each.name}" for each in pkgutil.iter_modules(cutbert.shape.__path__)]
WITH_EXAMPLES = {"budget", "cost", "head", "ingredients", "pattern", "shape", "space", "subnet", "units"}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    failed, attempted = doctest.testmod(module)
    assert not failed
    assert bool(attempted) == (name.rpartition(".")[2] in WITH_EXAMPLES)
