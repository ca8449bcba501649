"""Imports go down only; see the package's layers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import blastogan

ROOT = Path(blastogan.__file__).parent
LEVELS = {
    "allocator": 0,
    "errors": 0, "grades": 0, "growth": 0, "seeding": 0, "run_folder": 0, "presets": 0,
    "recipe": 0, "recipe_rules": 0,
    "files": 0, "run_lock": 0, "run_table": 0,
    "plots": 1, "terminal": 1,
    "networks": 1, "losses": 1, "augment": 1, "grids": 1, "data": 1, "metrics": 1,
    "modules": 2,
    "callbacks": 3, "comparison": 3, "loggers": 3, "rollback": 3, "run_resume": 3,
    "audit_figure": 3, "audit_report": 3,
    "audit": 4, "cli": 4, "run_cli": 4, "evaluate": 4, "grade_cli": 4, "phantom_cli": 4, "tools": 4,
    "recipe_cli": 4,
    "__main__": 4,
}  # fmt: skip
FORBIDDEN = {
    "networks": {"pytorch_lightning", "blastogan.data", "blastogan.metrics"},
    "losses": {"pytorch_lightning"},
    "data": {"blastogan.networks", "blastogan.losses", "blastogan.metrics"},
    "metrics": {"blastogan.networks", "blastogan.losses", "blastogan.data", "pytorch_lightning"},
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "blastogan":
            yield from (f"blastogan.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


FILES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path):
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "blastogan" and len(parts) > 1:
            assert LEVELS[parts[1]] <= LEVELS[room], f"{room} imports {module}"
        above = FORBIDDEN.get(room, set())
        assert not any(module == name or module.startswith(name + ".") for name in above), module
        if LEVELS[room] == 0:
            assert parts[0] in sys.stdlib_module_names | {"blastogan"}, module


@pytest.mark.parametrize("module", ["blastogan", "blastogan.growth", "blastogan.grades"])
def test_the_bottom_loads_without_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_are_there_and_sorted():
    assert blastogan.__all__ == sorted(blastogan.__all__)
    for name in blastogan.__all__:
        assert getattr(blastogan, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = blastogan.absent
