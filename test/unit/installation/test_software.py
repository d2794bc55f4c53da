"""Versions of Python and packages: what is missing, too old, slow or unknown, and what to do."""

from __future__ import annotations

import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from model.installation.condition import Health, worst
from model.installation.software import (
    EXTRAS,
    LEAST_PYTHON,
    REQUIRED,
    SLOW_TORCH,
    package_conditions,
    python_condition,
)
from test.helpers.paths import CHECKOUT

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
GOOD = {package: ".".join(map(str, least)) for package, (least, _) in REQUIRED.items()}


def test_the_table_is_that_of_the_package() -> None:
    declared = {one.name: one.specifier for one in map(Requirement, PROJECT["dependencies"])}
    assert declared.keys() == REQUIRED.keys()
    for package, (least, beyond) in REQUIRED.items():
        first, *older = (".".join(map(str, release)) for release in (least, (*least[:-1], least[-1] - 1)))
        assert Version(first) in declared[package] and Version(older[0]) not in declared[package]
        last = Version("9999") if beyond is None else Version(".".join(map(str, beyond)))
        assert (last in declared[package]) is (beyond is None)
    assert Version(".".join(map(str, SLOW_TORCH))) not in declared["torch"]
    assert PROJECT["requires-python"] == f">={'.'.join(map(str, LEAST_PYTHON))}"
    extras = PROJECT["optional-dependencies"]
    assert {name: tuple(Requirement(one).name for one in extras[name]) for name in extras} == EXTRAS


def test_good_packages_are_one_line() -> None:
    packages, extras = package_conditions(GOOD.get)
    assert packages.health is Health.OK and "torch 2.6, numpy 2," in packages.found
    assert "serve lacks starlette and uvicorn" in extras.found


@pytest.mark.parametrize(
    ("package", "version", "health", "found", "action"),
    [
        ("torch", None, Health.BROKEN, "is not installed", "'torch>=2.6,!=2.9.*'"),
        ("torch", "2.5.1+cu121", Health.BROKEN, "2.5.1+cu121 is too old", "torch>=2.6"),
        ("torch", "2.9.1", Health.WARNING, "several times slower", "!=2.9.*"),
        ("numpy", "1.26.4", Health.BROKEN, "too old", "'numpy>=2,<3'"),
        ("numpy", "3.0.0rc1", Health.WARNING, "newer than what is known", "'numpy>=2,<3'"),
        ("scipy", "unknown", Health.BROKEN, "unknown is too old", "'scipy>=1.13'"),
    ],
)
def test_other_packages_are_named(
    package: str, version: str | None, health: Health, found: str, action: str
) -> None:
    condition, *others = package_conditions((GOOD | {package: version}).get)
    assert (condition.part, condition.health) == (package, health)
    assert found in condition.found and action in condition.action
    assert worst(others) is Health.OK and package not in others[0].found.split()


def test_python() -> None:
    assert python_condition().health is Health.OK
    assert python_condition((3, 10, 4)).health is Health.BROKEN
