"""The wheel holds what the checkout holds, under the project's name."""

from __future__ import annotations

import tomllib

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


def test_types_ship() -> None:
    assert (CHECKOUT / "model" / "py.typed").is_file()
    assert PROJECT["tool"]["setuptools"]["package-data"] == {"longilesion": ["py.typed"]}


def test_tests_are_packages() -> None:
    # Python has a package "test" of its own: ours is found by its __init__.py files.
    folders = {path.parent for path in (CHECKOUT / "test").rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders | {CHECKOUT / "test" / "unit"})
