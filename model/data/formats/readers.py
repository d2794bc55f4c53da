"""Choice of the reader for a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...errors import InputError
from ..dataset import Cohort
from .challenge_release import challenge_tables, read_challenge
from .longiseg import PATIENTS_FILE, read_longiseg
from .manifest import read_manifest

MANIFEST_FILE = "manifest.csv"

_READERS: dict[str, Callable[[Path], Cohort]] = {
    "challenge": read_challenge,
    "longiseg": read_longiseg,
    "manifest": read_manifest,
}
_EXPECTED = (
    f"a manifest (CSV), or a folder with {MANIFEST_FILE}, in LongiSeg's layout ({PATIENTS_FILE}), or with "
    "the challenge's tables"
)


def read_cohort(path: Path, data_format: str = "auto") -> Cohort:
    """Read a data set in the given format (`auto`, `challenge`, `longiseg` or `manifest`).

    Raises:
        InputError: the path is missing or not in this format.
    """
    if not path.exists():
        raise InputError(f"{path}: is missing; expected {_EXPECTED}")
    chosen = data_format if data_format != "auto" else _detected_format(path)
    if chosen == "manifest" and path.is_dir():
        path = path / MANIFEST_FILE
    if chosen != "manifest" and not path.is_dir():
        raise InputError(f"{path}: is not a folder; expected one, as the format is {chosen}")
    return _READERS[chosen](path)


def _detected_format(path: Path) -> str:
    if path.is_file() or (path / MANIFEST_FILE).is_file():
        return "manifest"
    if (path / PATIENTS_FILE).is_file():
        return "longiseg"
    if challenge_tables(path):
        return "challenge"
    raise InputError(f"{path}: holds no known data set; expected {_EXPECTED}")
