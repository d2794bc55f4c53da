"""The original files of a prepared data set, and its lesions with points on the grids of those files.

Training needs none of this; cross-validation predicts on the original files.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ..case.lesion_json import write_json
from ..case.raw_lesion import RawLesion
from ..case.text_files import read_json
from ..errors import InputError
from .dataset import Cohort, RawScan
from .store import INDEX_FILE

SOURCES_FILE = "sources.json"


class SourcesDocument(BaseModel):
    """Content of `sources.json`: checked scans with absolute paths, and lesions with resolved links."""

    model_config = ConfigDict(frozen=True)

    scans: tuple[RawScan, ...]
    lesions: tuple[RawLesion, ...]


def write_sources(folder: Path, cohort: Cohort) -> None:
    """Write the scans and lesions of a checked cohort.

    Raises:
        OutputError: it cannot be written.
    """
    document = SourcesDocument(scans=tuple(map(_absolute, cohort.scans)), lesions=cohort.lesions)
    write_json(folder / SOURCES_FILE, document.model_dump(mode="json"), decimals=None)


def _absolute(scan: RawScan) -> RawScan:
    labels = scan.labels.absolute() if scan.labels is not None else None
    points = scan.points.absolute() if scan.points is not None else None
    return replace(scan, image=scan.image.absolute(), labels=labels, points=points)


def read_sources(folder: Path) -> SourcesDocument:
    """Read the original files and lesions of a prepared data set; the files themselves are not opened.

    Raises:
        InputError: the folder is no prepared data set, or one of an earlier version without `sources.json`.
    """
    if not (folder / INDEX_FILE).is_file():
        raise InputError(f"{folder / INDEX_FILE}: is missing; expected a data set made by 'train prepare'")
    path = folder / SOURCES_FILE
    try:
        return SourcesDocument.model_validate(read_json(path, "the list of original files"))
    except (InputError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); expected the file that 'train prepare' writes: run it again, "
            "prepared scans are kept"
        ) from error
