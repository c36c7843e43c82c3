"""Imports go down the floors only, and what must be light loads neither torch nor transformers."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "cutbert"

# Which floor each package or top-level file stands on. An import must go to a lower floor or stay in its package.
FLOORS = {
    "printable": -7,
    "version": -7,
    "spans": -7,
    "errors": -6,
    "lacks": -5,
    "locks": -5,
    "parsing": -5,
    "aside": -4,
    "quantities": -3,
    "checks": -3,
    "files": -3,
    "lengths": -3,
    "table": -3,
    "options": -2,
    "settings": -1,
    "shape": 0,
    "runtime": 0,
    "demo_data": 0,
    "model": 1,
    "data": 1,
    "folders": 2,
    "hub": 3,
    "surgery": 2,
    "train": 3,
    "analysis": 3,
    "exporters": 4,
    "bench": 5,
    "fronts": 6,
    "work": 7,
    "methods": 8,
    "sweeps": 9,
    "pages": 9,
    "api": 10,
    "cli": 11,
    "__init__": 12,
    "__main__": 12,
}
# Pairs on one floor of which the first may import the second.
SIDEWAYS: frozenset[tuple[str, str]] = frozenset({("analysis", "train")})
LIGHT = (
    "printable", "errors", "lacks", "version", "parsing", "quantities", "lengths", "checks", "locks", "aside",
    "files", "table", "options", "shape", "demo_data", "api", "cli",
)  # fmt: skip
HEAVY = ("torch", "transformers", "accelerate", "datasets")


def is_settings(module: str) -> bool:
    """Settings files load no torch and are open to every floor."""
    return module.split(".")[-1].endswith("settings")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def place(module: str) -> str:
    """Return the key in FLOORS of a module of ours: cutbert.shape.cost is at shape."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of every module a file imports, inside functions too; a relative name as it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield node.lineno, whole if is_module(whole) else base


def is_module(name: str) -> bool:
    path = ROOT.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def complaint(importer: str, imported: str) -> str | None:
    """Return what is wrong with one import, None where nothing is."""
    if imported.startswith("."):
        return f"{imported} must be written in full"
    if imported.split(".")[0] != "cutbert":
        return None
    above, below = place(importer), place(imported)
    if below not in FLOORS:
        return f"{below} has no floor"
    if above == below or is_settings(imported) or FLOORS[below] < FLOORS[above] or (above, below) in SIDEWAYS:
        return None
    return f"{above} (floor {FLOORS[above]}) must not import {imported} (floor {FLOORS[below]})"


def all_files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", all_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    module = module_name(path)
    assert place(module) in FLOORS, f"{module} has no floor"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [
        f"{path.name}:{line}: {wrong}"
        for line, imported in imported_modules(tree)
        if (wrong := complaint(module, imported))
    ]
    assert not found, "\n".join(dict.fromkeys(found))


@pytest.mark.parametrize(
    ("importer", "imported", "is_wrong"),
    [
        ("cutbert.shape.cost", "cutbert.errors", False),
        ("cutbert.shape.cost", "cutbert.shape.shape", False),
        ("cutbert.shape.cost", "cutbert.model.style", True),
        ("cutbert.model.encoder", "cutbert.data.batches", True),
        ("cutbert.data.batches", "cutbert.model.encoder", True),
        ("cutbert.data.tasks", "cutbert.methods.dynabert_settings", False),
        ("cutbert.api", "cutbert.cli.main", True),
        ("cutbert.cli.main", "cutbert.api", False),
        ("cutbert.shape.cost", "cutbert.unknown", True),
        ("cutbert.shape.cost", ".shape", True),
        ("cutbert.shape.cost", "numpy", False),
        ("cutbert.shape.cost", "cutbert", True),
        ("cutbert.cli.parser", "cutbert.version", False),
    ],
)
def test_complaints(importer: str, imported: str, is_wrong: bool) -> None:
    assert (complaint(importer, imported) is not None) == is_wrong


def named_types(tree: ast.Module) -> Iterator[str]:
    """Yield the names of classes, and of types and aliases at the top of a file: written as one word each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name
    for node in tree.body:
        names = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        yield from (name.id for name in names if isinstance(name, ast.Name) and re.match("[A-Z].*[a-z]", name.id))


def test_the_name_of_a_type_means_one_thing() -> None:
    places: dict[str, list[str]] = {}
    for path in all_files():
        for name in named_types(ast.parse(path.read_text(encoding="utf-8"))):
            places.setdefault(name, []).append(module_name(path))
    assert not {name: found for name, found in places.items() if len(found) > 1}


def test_all_kinds_of_import_are_seen() -> None:
    text = (
        "import cutbert.api\nfrom cutbert.shape import cost\nfrom cutbert.errors import ShapeError\nfrom . import space"
    )
    found = [name for _, name in imported_modules(ast.parse(text))]
    assert found == ["cutbert.api", "cutbert.shape.cost", "cutbert.errors", "."]


def test_light_modules_load_nothing_heavy() -> None:
    names = [module_name(path) for path in all_files()]
    light = [name for name in names if place(name) in LIGHT or is_settings(name)]
    # No package above may be a settings file's parent and load torch, and every --help must answer at once.
    light = ["cutbert", *light]
    script = (
        "import importlib, json, sys\n"
        f"heavy = {HEAVY!r}\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    importlib.import_module(name)\n"
        "    loaded = [each for each in heavy if each in sys.modules]\n"
        "    assert not loaded, f'{name} loads {loaded}'\n"
    )
    done = subprocess.run([sys.executable, "-c", script, json.dumps(light)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_only_transformers_classes_load_what_is_slow() -> None:
    """Its model classes take two seconds to load, and torch's compiler one: no command needs them."""
    names = [name for name in map(module_name, all_files()) if place(name) not in ("hub", "pages", "cli")]
    script = (
        "import importlib, json, sys\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    importlib.import_module(name)\n"
        "    for slow in ('transformers.modeling_utils', 'torch._dynamo', 'sklearn', 'scipy'):\n"
        "        assert slow not in sys.modules, f'{name} loads {slow}'\n"
    )
    done = subprocess.run([sys.executable, "-c", script, json.dumps(names)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
