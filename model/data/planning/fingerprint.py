"""The fingerprint of a data set: spacings, shapes, and HU of its lesions, as nnU-Net's.

Nothing is cropped first (the published preprocessor for point prompts does not either), so that a point keeps
its place. Foreground is every voxel with a label above 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from ...case.geometry import Index, Vector
from ...case.lesion_json import write_json
from ...errors import InputError
from ..scan_survey import ScanSurvey

FINGERPRINT_FILE = "fingerprint.json"


class Intensities(BaseModel):
    """HU of the foreground, in the words of a plan."""

    model_config = ConfigDict(frozen=True)

    mean: float
    median: float
    std: float
    min: float
    max: float
    percentile_00_5: float
    percentile_99_5: float


class Fingerprint(BaseModel):
    """Spacings (mm) and shapes of all scans in axial order (z, y, x); what the planner starts from."""

    model_config = ConfigDict(frozen=True)

    spacings_zyx: tuple[Vector, ...]
    shapes_zyx: tuple[Index, ...]
    foreground: Intensities
    sampled_voxels: int

    @property
    def median_spacing_zyx(self) -> Vector:
        z, y, x = np.median(np.asarray(self.spacings_zyx), 0).tolist()
        return (z, y, x)

    @property
    def median_shape_zyx(self) -> Vector:
        z, y, x = np.median(np.asarray(self.shapes_zyx), 0).tolist()
        return (z, y, x)


def fingerprint_of(surveys: Sequence[ScanSurvey]) -> Fingerprint:
    """The fingerprint of scans that were looked at, none of them with faults.

    Raises:
        InputError: no scan has a foreground, or it is all of one HU.
    """
    grids = [survey.geometry.reoriented(survey.geometry.axial_map()) for survey in surveys]
    samples = [np.asarray(survey.intensities, np.float32) for survey in surveys if survey.intensities]
    if not samples:
        raise InputError("the data set: its labelmaps hold no lesion; expected one voxel or more")
    values = np.concatenate(samples)
    low, median, high = (float(value) for value in np.percentile(values, (0.5, 50, 99.5)))
    if not low < high:
        raise InputError(f"the data set: all lesions have {low:g} HU; expected CTs in HU with their lesions")
    return Fingerprint(
        spacings_zyx=tuple(grid.spacing_zyx for grid in grids),
        shapes_zyx=tuple(grid.shape_zyx for grid in grids),
        foreground=Intensities(
            mean=float(values.mean(dtype=np.float64)),
            median=median,
            std=float(values.std(dtype=np.float64)),
            min=float(values.min()),
            max=float(values.max()),
            percentile_00_5=low,
            percentile_99_5=high,
        ),
        sampled_voxels=int(values.size),
    )


def write_fingerprint(folder: Path, fingerprint: Fingerprint) -> None:
    """Write it beside the plan, in full precision."""
    write_json(folder / FINGERPRINT_FILE, fingerprint.model_dump(mode="json"), decimals=None)
