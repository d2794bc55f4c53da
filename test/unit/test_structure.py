"""Structure of the package: directions of imports, one meaning per name, one room for the command line."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from test.helpers.paths import CHECKOUT

PACKAGE = CHECKOUT / "model"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Rooms that each room may import; "" is the package itself (its version). Data flows one way: no cycles.
ALLOWED = {
    "errors": set(),
    "timing": set(),
    "progress": set(),
    "extensions": {"errors"},
    "case": {"errors"},
    "prompts": {"errors", "case"},
    "click_simulation": {"errors", "case"},
    "network": {"errors", "case", ""},
    "propagation": {"errors", "progress", "case", "extensions"},
    "evaluation": {"errors", "case"},
    "measure": {"errors", "case"},
    "inference": {
        *("errors", "timing", "progress", "extensions", "case", "prompts", "network", "propagation", "")
    },
    "interactive": {"errors", "case", "network", "propagation", "inference"},
    "serve": {"errors", "case", "interactive"},
    "installation": {"errors", "case", "network", "inference", ""},
    "tracking": {"errors", "case", "prompts", "measure", "propagation", "inference", ""},
    "report": {"errors", "case", "measure", "inference", "tracking", ""},
    "floor": {"errors", "case", "propagation", "inference", "evaluation"},
    "data": {"errors", "case", "network"},
    "synthesis": {"errors", "case", "propagation", "data"},
    "training": {"errors", "case", "network", "data", "click_simulation"},
    "crossval": {
        *("errors", "case", "network", "propagation", "inference", "floor", "evaluation", "data", "training"),
        "protocol",
    },
    "protocol": {
        *("errors", "case", "network", "inference", "interactive", "evaluation", "data", "click_simulation")
    },
    "comparison": {"errors", "case", "network", "floor", "evaluation", "data", "training", "crossval"},
    "api_results": {"errors", "case", "propagation", "inference", "tracking"},
    "api": {"api_results", "errors", "case", "prompts", "propagation", "inference", "tracking", "evaluation"},
}
# The top: the command line may import every room, the package itself exports the Python API lazily.
ALLOWED["cli"] = {*ALLOWED, ""} - {"api", "api_results"}
ALLOWED["__main__"] = {"cli"}
ALLOWED["__init__"] = {"api", "api_results", "errors", "case", "evaluation", "inference", "interactive"}


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _imported_rooms(path: Path) -> set[str]:
    """Rooms that a module imports, also inside of functions; "" is the package itself."""
    rooms = set()
    parts = ("model", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom):
            base = list(parts[: len(parts) - node.level + 1]) if node.level else []
            target = base + (node.module.split(".") if node.module else [])
            if target[:1] == ["model"]:
                rooms |= {target[1]} if len(target) > 1 else _rooms_named(node)
    return rooms


def _rooms_named(node: ast.ImportFrom) -> set[str]:
    names = {alias.name for alias in node.names}
    return {name if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists() else "" for name in names}


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_point_down(path: Path) -> None:
    room = _room(path)
    assert _imported_rooms(path) - {room} <= ALLOWED[room]


def test_every_room_has_a_rule() -> None:
    assert {_room(path) for path in MODULES} == ALLOWED.keys()


def test_rules_have_no_cycle() -> None:
    below = {room: ALLOWED[room] - {"", room} for room in ALLOWED}
    while leaves := {room for room, rooms in below.items() if not rooms}:
        below = {room: rooms - leaves for room, rooms in below.items() if room not in leaves}
    assert below == {}


def _calls(path: Path) -> Iterator[str]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


@pytest.mark.parametrize("path", [path for path in MODULES if _room(path) != "cli"], ids=_name)
def test_only_the_command_line_parses_prints_and_configures_logging(path: Path) -> None:
    imported = {
        alias.name for node in ast.walk(_tree(path)) if isinstance(node, ast.Import) for alias in node.names
    }
    assert "argparse" not in imported
    forbidden = {"print", "logging.basicConfig", "basicConfig", "sys.exit", "exit"} & set(_calls(path))
    assert forbidden == ({"sys.exit"} if path.name == "__main__.py" else set())


def _public_names(kind: type[ast.ClassDef] | type[ast.FunctionDef]) -> dict[str, list[str]]:
    modules = defaultdict(list)
    for path in MODULES:
        for node in _tree(path).body:
            if isinstance(node, kind) and not node.name.startswith("_"):
                modules[node.name].append(_name(path))
    return modules


def test_public_classes_have_one_meaning() -> None:
    assert {name: where for name, where in _public_names(ast.ClassDef).items() if len(where) > 1} == {}


def test_public_functions_have_one_meaning() -> None:
    # Each command has `add_arguments` and `run`; api.py offers what lies below it under the user's words.
    twice = {
        name: [module for module in where if not module.startswith("cli/") and module != "api.py"]
        for name, where in _public_names(ast.FunctionDef).items()
        if len(where) > 1
    }
    assert {name: where for name, where in twice.items() if len(where) > 1} == {}


def test_modules_have_names_of_their_own() -> None:
    where = defaultdict(list)
    for path in MODULES:
        if path.name != "__init__.py":
            where[path.name].append(_name(path))
    assert {name: paths for name, paths in where.items() if len(paths) > 1} == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("model", ("torch", "SimpleITK", "numpy", "scipy")),
        ("model.cli.main", ("torch", "SimpleITK", "numpy")),
        ("model.case.challenge", ("torch",)),
        ("model.propagation.points", ("torch",)),
        ("model.inference.segment_case", ("torch",)),
        ("model.cli.case_run", ("torch",)),
        ("model.evaluation.evaluate_files", ("torch", "pandas")),
        ("model.report.measure_run", ("torch", "pandas")),
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
