"""Fingerprint of a data set, as nnU-Net's: spacings, shapes and HU of its lesions.

Scans are not cropped first (nor in the published preprocessor for point prompts), so that points keep their
place. Foreground is every voxel with a label above 0.
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
    """HU statistics of the foreground, named as in a plan."""

    model_config = ConfigDict(frozen=True)

    mean: float
    median: float
    std: float
    min: float
    max: float
    percentile_00_5: float
    percentile_99_5: float


class Fingerprint(BaseModel):
    """The planner's input.

    Attributes:
        spacings_zyx: spacings of all scans in axial order, mm.
        shapes_zyx: their shapes in voxels.
        foreground: HU of their lesions.
        sampled_voxels: number of voxels behind these statistics.
    """

    model_config = ConfigDict(frozen=True)

    spacings_zyx: tuple[Vector, ...]
    shapes_zyx: tuple[Index, ...]
    foreground: Intensities
    sampled_voxels: int

    @property
    def median_spacing_zyx(self) -> Vector:
        """Median spacing of the scans per axis, mm."""
        z, y, x = np.median(np.asarray(self.spacings_zyx), 0).tolist()
        return (z, y, x)

    @property
    def median_shape_zyx(self) -> Vector:
        """Median shape of the scans per axis, in voxels."""
        z, y, x = np.median(np.asarray(self.shapes_zyx), 0).tolist()
        return (z, y, x)


def fingerprint_of(surveys: Sequence[ScanSurvey]) -> Fingerprint:
    """Compute the fingerprint of scans without faults.

    Raises:
        InputError: no scan has a foreground, or all of it has one HU.
    """
    grids = [survey.geometry.in_axial_order() for survey in surveys]
    samples = [survey.intensities for survey in surveys]
    return Fingerprint(
        spacings_zyx=tuple(grid.spacing_zyx for grid in grids),
        shapes_zyx=tuple(grid.shape_zyx for grid in grids),
        foreground=intensities_of(samples, "HU", "CTs in HU with their lesions"),
        sampled_voxels=sum(map(len, samples)),
    )


def intensities_of(samples: Sequence[Sequence[float]], unit: str, expected: str) -> Intensities:
    """Statistics of the foreground of one channel.

    Args:
        samples: values of each scan's foreground; empty for a scan without one.
        unit: of the values, for messages.
        expected: what a data set should hold instead of one value alone.

    Raises:
        InputError: no scan has a foreground, or all of it has one value.
    """
    kept = [np.asarray(sample, np.float32) for sample in samples if len(sample)]
    if not kept:
        raise InputError("the data set: its labelmaps hold no lesion; expected one voxel or more")
    values = np.concatenate(kept)
    low, median, high = (float(value) for value in np.percentile(values, (0.5, 50, 99.5)))
    if not low < high:
        raise InputError(f"the data set: all lesions have {low:g} {unit}; expected {expected}")
    return Intensities(
        mean=float(values.mean(dtype=np.float64)),
        median=median,
        std=float(values.std(dtype=np.float64)),
        min=float(values.min()),
        max=float(values.max()),
        percentile_00_5=low,
        percentile_99_5=high,
    )


def write_fingerprint(folder: Path, fingerprint: Fingerprint) -> None:
    """Write the fingerprint beside the plan, in full precision."""
    write_json(folder / FINGERPRINT_FILE, fingerprint.model_dump(mode="json"), decimals=None)
