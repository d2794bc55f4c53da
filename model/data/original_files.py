"""Where a prepared data set comes from: its files, and its lesions with points as the files count voxels.

Training needs none of this. Held-out patients are asked about on their original files.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ..case.lesion_json import write_json
from ..errors import InputError
from .dataset import Cohort, RawLesion, RawScan
from .store import INDEX_FILE

SOURCES_FILE = "sources.json"


class SourcesDocument(BaseModel):
    """What `sources.json` says: checked scans and lesions, links resolved. Paths are absolute."""

    model_config = ConfigDict(frozen=True)

    scans: tuple[RawScan, ...]
    lesions: tuple[RawLesion, ...]


def write_sources(folder: Path, cohort: Cohort) -> None:
    """Write down a checked cohort.

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
    """The files and lesions of a prepared data set; nothing of the files is looked at.

    Raises:
        InputError: nothing is prepared there, or by a version that did not write them down.
    """
    if not (folder / INDEX_FILE).is_file():
        raise InputError(f"{folder / INDEX_FILE}: is missing; expected a data set made by 'train prepare'")
    path = folder / SOURCES_FILE
    try:
        return SourcesDocument.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); expected what 'train prepare' writes: run it again, scans "
            "that are prepared stay"
        ) from error
