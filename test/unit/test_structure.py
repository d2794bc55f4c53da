"""The directions of imports: data flows one way, and so do the modules."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from test.helpers.paths import CHECKOUT

PACKAGE = CHECKOUT / "model"

# What each room may import from the others.
ALLOWED = {
    "errors": set(),
    "timing": set(),
    "extensions": {"errors"},
    "case": {"errors"},
    "prompts": {"errors", "case"},
    "network": {"errors", "case", ""},
    "propagation": {"errors", "case", "extensions"},
    "inference": {"errors", "case", "network", "propagation", "prompts", "timing", "extensions", ""},
    "tracking": {"errors", "case", "propagation", "prompts", "inference", ""},
    "evaluation": {"errors", "case"},
    "data": {"errors", "case", "network"},
    "synthesis": {"errors", "case", "propagation", "data"},
    "training": {"errors", "case", "network", "data"},
    "crossval": {"errors", "case", "network", "inference", "evaluation", "data", "training"},
    "comparison": {"errors", "case", "network", "evaluation", "data", "training", "crossval"},
    "cli": {
        "errors",
        "timing",
        "case",
        "network",
        "propagation",
        "prompts",
        "inference",
        "tracking",
        "evaluation",
        "data",
        "synthesis",
        "training",
        "crossval",
        "comparison",
        "",
    },
    "__main__": {"cli"},
    "__init__": set(),
}


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """Rooms of the package that a module imports, also inside of functions; "" is the package itself."""
    found = set()
    parts = ("model", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = list(parts[: len(parts) - node.level + 1]) if node.level else []
            target = base + (node.module.split(".") if node.module else [])
            if target[:1] == ["model"]:
                found |= {target[1]} if len(target) > 1 else _rooms_named(node)
    return found


def _rooms_named(node: ast.ImportFrom) -> set[str]:
    names = {alias.name for alias in node.names}
    return {name if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists() else "" for name in names}


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    room = _room(path)
    assert _imports(path) - {room} <= ALLOWED[room]


def test_every_room_is_held() -> None:
    assert {_room(path) for path in MODULES} == ALLOWED.keys()


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("model", ("torch", "SimpleITK", "numpy")),
        ("model.cli.main", ("torch", "SimpleITK", "numpy")),
        ("model.case.challenge", ("torch",)),
        ("model.propagation.points", ("torch",)),
        ("model.cli.case_run", ("torch",)),
        ("model.cli.segment", ("torch", "SimpleITK", "numpy")),
        ("model.inference.segment_case", ("torch",)),
        ("model.network.plan", ("torch", "SimpleITK")),
    ],
)
def test_heavy_libraries_are_not_imported(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT)
    assert done.stdout.strip() == "[]", done.stderr


def test_help_of_the_entrypoint_needs_no_torch() -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['process.py', '--help']\n"
        "try:\n    runpy.run_path('process.py', run_name='__main__')\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "print([name for name in ('torch', 'SimpleITK', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT)
    assert "--input" in done.stdout and done.stdout.splitlines()[-1] == "[]", done.stderr


def test_the_entrypoint_stays_a_page_long() -> None:
    assert len((CHECKOUT / "process.py").read_text().splitlines()) <= 60
