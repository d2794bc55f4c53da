"""The wheel holds what the checkout holds, under the project's name."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from model import __version__
from test.helpers.paths import CHECKOUT

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())


def test_every_package_is_installed() -> None:
    setuptools = PROJECT["tool"]["setuptools"]
    folders = {path.parent for path in (CHECKOUT / "model").rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)
    names = {".".join(("longilesion", *folder.relative_to(CHECKOUT / "model").parts)) for folder in folders}
    assert set(setuptools["packages"]) == names
    assert len(setuptools["packages"]) == len(names)
    assert setuptools["package-dir"] == {"longilesion": "model"}


def test_one_version() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"] and "version" not in PROJECT["project"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "longilesion.__version__"}
    assert f"## [{__version__}]" in (CHECKOUT / "CHANGELOG.md").read_text()
    assert f"version: {__version__}\n" in (CHECKOUT / "CITATION.cff").read_text()


def _pins(name: str) -> dict[str, str]:
    lines = (CHECKOUT / name).read_text().splitlines()
    found = (re.match(r"([\w.-]+)==([\w.]+)", line) for line in lines)
    return {canonicalize_name(match[1]): match[2] for match in found if match}


def test_the_lock_has_the_checksums_of_the_pinned_packages() -> None:
    assert _pins("requirements.lock") == _pins("requirements.txt")
    entries = re.split(r"\n(?=\S)", (CHECKOUT / "requirements.lock").read_text())
    assert all("--hash=sha256:" in entry for entry in entries if not entry.startswith("#"))


def test_the_lock_is_complete_but_for_torch() -> None:
    """The image installs nothing that is not listed."""
    listed = _pins("requirements.txt").keys()
    from_torch, waiting = set[str](), ["torch"]
    while waiting:
        name = waiting.pop()
        if name not in from_torch:
            from_torch.add(name)
            waiting += _needed(name)
    missing = {needed for name in listed for needed in _needed(name)} - listed - from_torch
    assert not missing


def _needed(name: str) -> list[str]:
    """Packages that an installed one needs here, without extras; none if it is not installed."""
    try:
        lines = requires(name) or []
    except PackageNotFoundError:
        return []
    needed = (Requirement(line) for line in lines)
    return [
        canonicalize_name(one.name)
        for one in needed
        if one.marker is None or one.marker.evaluate({"extra": ""})
    ]


def test_types_ship() -> None:
    assert (CHECKOUT / "model" / "py.typed").is_file()
    assert PROJECT["tool"]["setuptools"]["package-data"] == {"longilesion": ["py.typed", "serve/page/*"]}


def test_tests_are_packages() -> None:
    # Python has a package "test" of its own: ours is found by its __init__.py files.
    folders = {path.parent for path in (CHECKOUT / "test").rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders | {CHECKOUT / "test" / "unit"})
