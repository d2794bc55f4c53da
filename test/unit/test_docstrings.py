"""Docstrings of the package: every public function has one, with shapes, axis order and units of arrays."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from test.helpers.paths import CHECKOUT

PACKAGE = CHECKOUT / "model"
# Annotations of arrays, points, boxes and spacings.
ARRAYS = re.compile(
    r"\b(Array|FloatArray|BoolArray|FloatVolume|FloatField|Volume|NDArray|Tensor|Vector|Index|Box|Mask)\b"
)
# Words that give a shape, an axis order, a unit or a grid.
SHAPES = re.compile(
    r"\([zxbnc][^()]*,[^()]*\)|\[[^\]]*\]|\bshape|\bmm\b|\bvoxel|zyx|xyz|\bHU\b|half-open|\bgrid\b|[13]-D",
    re.I,
)


def _public_functions(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef, str]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node, node.name
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef):
                    yield inner, f"{node.name}.{inner.name}"


def _missing(function: ast.FunctionDef) -> list[str]:
    """Parts that the docstring of a function lacks."""
    text = ast.get_docstring(function) or ""
    is_property = any("property" in ast.unparse(decorator) for decorator in function.decorator_list)
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    takes = any(one.annotation and ARRAYS.search(ast.unparse(one.annotation)) for one in arguments)
    returns = function.returns is not None and bool(ARRAYS.search(ast.unparse(function.returns)))
    if not takes and not returns:
        return [] if text or is_property else ["a docstring"]
    missing = [] if SHAPES.search(text) else ["shape, axis order or unit"]
    if not is_property and takes and "Args:" not in text:
        missing.append("Args:")
    if not is_property and returns and not re.search(r"(Returns|Yields):", text):
        missing.append("Returns:")
    return missing


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_public_functions_describe_their_arrays(path: Path) -> None:
    functions = _public_functions(ast.parse(path.read_text()))
    missing = {name: _missing(one) for one, name in functions if not one.name.startswith("_")}
    assert {name: parts for name, parts in missing.items() if parts} == {}
