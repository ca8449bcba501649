"""The rooms of the package and the rules between them; each rule is broken once to test it."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import blastogan

ROOT = Path(blastogan.__file__).parent
PACKAGE = ROOT.name
ROOMS = (
    ("__main__", "api"),
    ("cli",),
    ("callbacks",),
    ("evaluation",),
    ("modules",),
    ("audit", "generators"),
    ("data",),
    ("augment", "metrics", "phantoms", "runs"),
    ("networks", "pretrained", "recipe"),
    ("utils",),
    ("grades", "growth", "losses", "presets"),
    ("errors",),
)
"""From the top down: a room imports from rows below its own, never from its own row."""

LEVELS = {room: -level for level, row in enumerate(ROOMS) for room in row}
STANDARD_LIBRARY_ONLY = {"errors", "grades", "growth", "presets", "pretrained"}
FORBIDDEN = {
    "data": {"blastogan.networks", "blastogan.losses", "blastogan.metrics"},
    "generators": {"pytorch_lightning"},
    "losses": {"pytorch_lightning"},
    "metrics": {"blastogan.networks", "blastogan.losses", "pytorch_lightning"},
    "networks": {"pytorch_lightning"},
    "phantoms": {"pytorch_lightning"},
}
"""Imports that the rows would allow."""


def module_name(path: Path, root: Path) -> str:
    parts = (root.name, *path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST) -> Iterator[str]:
    """Every imported module, also of imports within functions and under TYPE_CHECKING.

    For ``from package import name`` that is ``package.name``, a module or a definition.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def strings(tree: ast.AST) -> Iterator[str]:
    """String constants that are no docstrings."""
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def faults(root: Path) -> list[str]:
    """Every import of a package that breaks a rule, and every dotted path of it in a string."""
    trees = {
        module_name(path, root): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(root.rglob("*.py"))
    }
    found = []
    graph: dict[str, set[str]] = {}
    for name, tree in trees.items():
        room = name.split(".")[1] if "." in name else ""
        targets = {_file_of(target, trees) for target in imports(tree)} - {None, name}
        # a package's public names come from its files, which never import the package back
        graph[name] = {target for target in targets if target}
        for target in sorted(graph[name]):
            other = target.split(".")[1] if "." in target else ""
            if room and other and other != room and LEVELS[other] >= LEVELS[room]:
                where = "its own row" if LEVELS[other] == LEVELS[room] else "above"
                found.append(f"{name} imports {target}, which is in {where}")
        for target in sorted(set(imports(tree))):
            if any(f"{target}.".startswith(f"{each}.") for each in FORBIDDEN.get(room, ())):
                found.append(f"{name} imports {target}, which {room} does without")
            if room in STANDARD_LIBRARY_ONLY and target.split(".")[0] not in (
                sys.stdlib_module_names | {root.name}
            ):
                found.append(f"{name} imports {target}, which is not of the standard library")
        found += [
            f"{name} has {text!r} in a string"
            for text in strings(tree)
            if re.search(rf"\b{root.name}\.[a-z_]+[.:][A-Za-z_]", text)
        ]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"circle: {' -> '.join(error.args[1])}")
    return found


def _file_of(target: str, trees: dict[str, ast.Module]) -> str | None:
    """The file that an import leads to: a module, or the package that a name is taken from."""
    while target and target not in trees:
        target = target.rpartition(".")[0]
    return target or None


def test_the_package_keeps_the_rules():
    assert faults(ROOT) == []


def test_every_room_has_its_row():
    rooms = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"__init__", "__pycache__", "py"} == set(LEVELS)


@pytest.mark.parametrize(
    ("path", "text", "fault"),
    [
        ("metrics/m.py", "from blastogan.modules.base import Base", "above"),
        ("metrics/m.py", "def f():\n    import blastogan.data.stream", "above"),
        ("metrics/m.py", "from blastogan.augment.warp import warp", "its own row"),
        ("growth.py", "from blastogan.grades import CLASSES", "its own row"),
        ("utils/a.py", "from blastogan.utils import b", "circle"),
        ("utils/b.py", "HOME = 'blastogan.metrics.fidelity'", "in a string"),
        ("utils/b.py", "HOME = 'blastogan.metrics:Fidelity'", "in a string"),
        ("networks/n.py", "from pytorch_lightning import Trainer", "does without"),
        ("growth.py", "import torch", "standard library"),
    ],
)
def test_each_rule_fails_where_it_is_broken(tmp_path, path, text, fault):
    root = tmp_path / PACKAGE
    sound = {
        "__init__.py": "", "grades.py": "CLASSES = ()", "modules/base.py": "class Base: ...",
        "augment/warp.py": "def warp(): ...", "data/stream.py": "", "utils/a.py": "",
        "utils/b.py": '"""As `blastogan.utils.a.f`."""\nfrom blastogan.utils import a',
    }  # fmt: skip
    for name, content in sound.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    assert faults(root) == []
    (root / path).parent.mkdir(exist_ok=True)
    (root / path).write_text(text)
    (only,) = faults(root)
    assert fault in only


@pytest.mark.parametrize("module", ["blastogan", "blastogan.growth", "blastogan.grades"])
def test_the_bottom_loads_without_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_are_there_and_sorted():
    assert blastogan.__all__ == sorted(blastogan.__all__)
    for name in blastogan.__all__:
        assert getattr(blastogan, name).__name__ == name
    # for completion: no name that the package imports for itself
    shown = {name for name in dir(blastogan) if name[:2] != "__"}
    assert shown - {path.stem for path in ROOT.iterdir()} == set(blastogan.__all__)
    assert "__version__" in dir(blastogan)
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = blastogan.absent


@pytest.mark.parametrize(
    "room", ["api", "audit", "callbacks", "data", "metrics", "modules", "phantoms"]
)
def test_each_room_has_the_names_that_it_lists(room):
    package = importlib.import_module(f"blastogan.{room}")
    assert package.__all__
    assert all(hasattr(package, name) for name in package.__all__)
    assert set(package.__all__) <= set(dir(package))
