"""Versions of Python and of the packages that are needed. Standard library only."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

from .. import __version__
from .condition import Condition, broken, doubtful, works

Release = tuple[int, ...]

LEAST_PYTHON: Release = (3, 11)

REQUIRED: dict[str, tuple[Release, Release | None]] = {
    "torch": ((2, 6), None),
    "numpy": ((2,), (3,)),
    "scipy": ((1, 13), None),
    "SimpleITK": ((2, 4), None),
    "acvl-utils": ((0, 2, 5), (0, 3)),
    "connected-components-3d": ((4,), (5,)),
    "safetensors": ((0, 4, 5), None),
    "zlib-ng": ((0, 5), None),
    "pydantic": ((2, 8), (3,)),
    "convexAdam": ((0, 2), (0, 3)),
    "rich": ((13,), None),
    "scikit-image": ((0, 24), None),
}
"""Packages that every run needs: the least release that works, and the first that is not known to."""

SLOW_TORCH: Release = (2, 9)
"""Its 3-D convolutions are several times slower in half precision."""

EXTRAS: dict[str, tuple[str, ...]] = {
    "train": ("batchgeneratorsv2", "blosc2", "scikit-image", "tqdm"),
    "evaluate": ("scikit-image",),
    "serve": ("starlette", "uvicorn"),
    "completion": ("argcomplete",),
    "dicom": ("pydicom",),
    "curves": ("matplotlib", "tensorboard"),
}
"""Packages that only some commands need, by extra."""

_PIP = "python -m pip install"


def installed_version(package: str) -> str | None:
    """The installed version of a package; None if it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def python_condition(release: Release = sys.version_info[:3]) -> Condition:
    """The version of Python."""
    machine = f"{platform.system()} {platform.machine()}"
    found = f"{'.'.join(map(str, release))} on {machine}, longilesion {__version__}"
    if release < LEAST_PYTHON:
        least = ".".join(map(str, LEAST_PYTHON))
        return broken("python", found, f"install Python {least} or newer and make the environment again")
    return works("python", found)


def package_conditions(of: Callable[[str], str | None] = installed_version) -> Iterator[Condition]:
    """All packages that are needed in one line if they are there, and a line for each that is not.

    Args:
        of: gives the installed version of a package, None if it is missing.
    """
    fine = []
    for package, (least, beyond) in REQUIRED.items():
        found = of(package)
        faults = None if found is None else _fault(package, found, least, beyond)
        wanted = _requirement(package, least, beyond)
        if found is None:
            yield broken(package, "is not installed", f"{_PIP} '{wanted}'")
        elif faults is None:
            fine.append(f"{package} {found}")
        else:
            kind = broken if _release(found) < least else doubtful
            yield kind(package, f"{found}{faults}", f"{_PIP} '{wanted}'")
    if fine:
        yield works("packages", ", ".join(fine))
    yield works("extras", _extras(of))


def _fault(package: str, found: str, least: Release, beyond: Release | None) -> str | None:
    release = _release(found)
    if release < least:
        return " is too old"
    if package == "torch" and release[: len(SLOW_TORCH)] == SLOW_TORCH:
        return ", whose 3-D convolutions are several times slower in half precision"
    if beyond is not None and release >= beyond:
        return " is newer than what is known to work"
    return None


def _requirement(package: str, least: Release, beyond: Release | None) -> str:
    text = f"{package}>={'.'.join(map(str, least))}"
    if package == "torch":
        text += f",!={'.'.join(map(str, SLOW_TORCH))}.*"
    return text if beyond is None else f"{text},<{'.'.join(map(str, beyond))}"


def _extras(of: Callable[[str], str | None]) -> str:
    """Which extras are installed, and what the others lack."""
    words = []
    for extra, packages in EXTRAS.items():
        missing = [package for package in packages if of(package) is None]
        words.append(f"{extra} lacks {' and '.join(missing)}" if missing else extra)
    return ", ".join(words)


def _release(text: str) -> Release:
    """The numbers a version begins with."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, match[0].split("."))) if match else ()
