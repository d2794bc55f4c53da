"""No regular expression of the package takes more than linear time on a long text."""

from __future__ import annotations

import ast
import re
import time

import pytest

from test.helpers.paths import CHECKOUT

_LENGTH = 30_000
# Repeated, they make an expression try again and again; the ends make it fail at last.
_PIECES = (
    "1",
    "a",
    " ",
    "_",
    ".",
    "-",
    "1 ",
    "1>1+",
    "1,",
    "_img_1",
    "_BL",
    "_BL_img_1",
    "module.",
    "2024-01-01",
    "GLOBAL ",
)
_ENDS = ("", "x", "!", "\n")


Use = tuple[re.Pattern[str], str]


def _uses() -> dict[str, Use]:
    """Each expression with the methods that it is used with, by place."""
    found = {}
    for path in sorted((CHECKOUT / "model").rglob("*.py")):
        text = path.read_text()
        if "re." not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call) or not node.args or not isinstance(node.func, ast.Attribute):
                continue
            first = node.args[0]
            if getattr(node.func.value, "id", "") != "re" or not isinstance(first, ast.Constant):
                continue
            assert isinstance(first.value, str | bytes)
            source = first.value.decode() if isinstance(first.value, bytes) else first.value
            methods = [node.func.attr]
            if methods == ["compile"]:  # NAME = re.compile(...)
                name = text.splitlines()[node.lineno - 1].partition("=")[0].strip()
                methods = re.findall(rf"\b{name}\.(\w+)\(", text) or ["search", "fullmatch"]
            for method in set(methods):
                place = f"{path.relative_to(CHECKOUT / 'model')}:{node.lineno} {method}"
                found[place] = (re.compile(source), method)
    return found


USES = _uses()


def test_all_expressions_are_found() -> None:
    assert len(USES) > 15


@pytest.mark.parametrize("place", USES)
def test_an_expression_takes_linear_time(place: str) -> None:
    (expression, method), start = USES[place], time.perf_counter()
    for piece in _PIECES:
        for end in _ENDS:
            text = piece * (_LENGTH // len(piece)) + end
            if method == "sub":
                expression.sub("", text)
            elif method == "finditer":
                list(expression.finditer(text))
            else:
                getattr(expression, method)(text)
    assert time.perf_counter() - start < 3.0  # quadratic ones take much longer
