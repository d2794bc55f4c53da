"""Warnings about implausible scans, never fatal: values, grids, masks and clicks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from .body_map import NOT_MEASURED_HU, BodyMap, sampled_voxels
from .case import Scan
from .geometry import Array, Geometry
from .labelmaps import LabelRegion

log = logging.getLogger(__name__)

_LEAST_SPACING_MM, _LARGEST_SPACING_MM = 0.1, 20.0
_LEAST_EXTENT_MM, _LARGEST_EXTENT_MM = 20.0, 2500.0

# HU of fat to lung; every scan of a body has some of it, or of fat and noise around water.
_BELOW_FAT_HU = -200.0
# Fat, water and soft tissue with an offset of 1024; and air whose sign was changed. In HU it is dense bone.
_OFFSET_BAND = (850.0, 1250.0)
_BRIGHT_SHARE, _BONE_CROP_MM = 0.25, 100.0
_LARGEST_HU = 3071
# A window that ends above this is not that of air; what lies below it is all of one value then.
_CUT_OFF_HU, _CUT_OFF_SHARE = -900.0, 0.05
_UNMEASURED_SHARE, _PADDING_VALUES, _PADDING_SHARE = 0.1, 2, 0.5
_EXPECTED_HU = "a CT with air near -1000 and soft tissue near 0"

# A lesion counts as outside if a larger share of it is; small scans may be cropped around a lesion.
_OUTSIDE_SHARE = 0.5
_LARGE_SHARE = 0.4
_SMALL_SCAN_MM = 150.0
_VOXELS_PER_LESION = 4096


class PlausibilityKind(StrEnum):
    """The subject of a doubt, as `run.json` and `tracking.json` name it."""

    NOT_HU = "not-hu"
    GRID = "grid"
    MASK = "mask"
    CLICK = "click"
    PAIR = "pair"


@dataclass(frozen=True, slots=True)
class PlausibilityNote:
    """A doubt about a scan, or a pair of scans.

    Attributes:
        scan: name of the scan, or of the pair.
        kind: its subject.
        seen: what was found, the beginning of a sentence.
        expected: what a scan has.
    """

    scan: str
    kind: PlausibilityKind
    seen: str
    expected: str

    @property
    def sentence(self) -> str:
        """The note as a warning for users."""
        return f"{self.scan}: {self.seen}; expected {self.expected}"

    def document(self) -> dict[str, str]:
        """The note as JSON records hold it."""
        return {"scan": self.scan, "kind": str(self.kind), "seen": self.seen, "expected": self.expected}


def log_notes(notes: Iterable[PlausibilityNote]) -> tuple[PlausibilityNote, ...]:
    """Log the sentence of each note as a warning.

    Returns:
        The notes.
    """
    kept = tuple(notes)
    for note in kept:
        log.warning("%s", note.sentence)
    return kept


def check_scan(scan: Scan, regions: Mapping[int, LabelRegion]) -> tuple[PlausibilityNote, ...]:
    """Check the plausibility of a scan, its mask and its clicks.

    Args:
        scan: of any kind.
        regions: of the lesions in its mask, see `label_regions`.
    """
    notes = [
        *check_voxels(f"{scan.name}-ct", scan.ct, scan.geometry),
        *check_extent(scan.name, scan.geometry),
    ]
    if notes or not (scan.clicks or regions):
        return tuple(notes)  # where the body lies is not known if the numbers or the grid are wrong
    body = BodyMap.of(scan.ct, scan.geometry.spacing_zyx)
    return (*_mask_notes(scan, regions, body), *_click_notes(scan, body))


def check_voxels(name: str, ct: Array, geometry: Geometry) -> tuple[PlausibilityNote, ...]:
    """Check that the voxels of a scan look like HU.

    Crops of soft tissue, contrast medium or lung alone pass, and so does padding far below air.

    Args:
        name: the scan's.
        ct: its voxels (z, y, x).
        geometry: its grid.
    """
    samples, _ = sampled_voxels(ct, geometry.spacing_zyx)
    finite = np.asarray(samples, np.float64).ravel()
    finite = finite[np.isfinite(finite)]
    values = finite[finite > NOT_MEASURED_HU]
    extent_mm = max(n * step for n, step in zip(geometry.shape_zyx, geometry.spacing_zyx, strict=True))
    seen = _unlike_hu(values, ct.dtype, extent_mm > _BONE_CROP_MM) or _far_below_air(finite)
    if seen is None:
        return ()
    return (PlausibilityNote(name, PlausibilityKind.NOT_HU, f"is hardly in HU: {seen}", _EXPECTED_HU),)


def _unlike_hu(values: npt.NDArray[np.float64], dtype: np.dtype[np.generic], is_large: bool) -> str | None:
    """Describe why a scan (without padding) cannot be in HU, or None; large scans are not all bone."""
    if not values.size:
        return f"has no voxel above {NOT_MEASURED_HU:g}"
    low, high = float(values.min()), float(values.max())
    span = f"values from {low:g} to {high:g}"
    if low == high:
        return f"all voxels have the same value, {low:g}"
    if dtype.itemsize == 1:
        return f"{span} in 8 bits, which can hold no air"
    if high - low <= 10.0:
        return f"{span}, as of an image that was scaled or normalised"
    if low > _LARGEST_HU:
        return f"{span}, all above those of a CT"
    dense = values > 400.0
    in_band = dense & (values > _OFFSET_BAND[0]) & (values < _OFFSET_BAND[1])
    share = float(in_band.mean())
    if is_large and (bright := float((values > _OFFSET_BAND[0]).mean())) >= _BRIGHT_SHARE:
        return (
            f"{span}, {bright:.0%} of them above {_OFFSET_BAND[0]:g}, as of numbers with another zero or sign"
        )
    if share >= 0.05 and share >= 0.6 * float(dense.mean()):
        below = float((values < _BELOW_FAT_HU).mean())
        return (
            f"{span}, {share:.0%} of them within {_OFFSET_BAND[0]:g} to {_OFFSET_BAND[1]:g} and {below:.0%} "
            f"below {_BELOW_FAT_HU:g}, as of numbers with another zero or sign"
        )
    floor, top = (float(q) for q in np.percentile(values, [0.5, 99.5]))
    if abs(floor) < 20.0 and np.mean(values <= floor + 0.02 * (top - floor)) >= _CUT_OFF_SHARE:
        return f"{span} with a background of {floor:g}, as of an MR, PET or windowed image"
    if low > _CUT_OFF_HU and (cut := float(np.mean(values == low))) >= _CUT_OFF_SHARE:
        return f"{span}, {cut:.0%} of them the lowest one, as of an image that was cut to a window"
    if top > _LARGEST_HU:
        return f"{span}, of which 1 in 200 is above {top:.0f}, as of numbers in another unit"
    return None


def _far_below_air(finite: npt.NDArray[np.float64]) -> str | None:
    """What cannot be padding among the values far below air, or None; padding has one value or two."""
    below = finite[finite <= NOT_MEASURED_HU]
    if below.size < _UNMEASURED_SHARE * finite.size:
        return None
    counts = np.sort(np.unique(below, return_counts=True)[1])
    if counts[-_PADDING_VALUES:].sum() > _PADDING_SHARE * below.size:
        return None
    return (
        f"{below.size / finite.size:.0%} of the values lie below {NOT_MEASURED_HU:g} and differ, as of "
        "numbers whose offset was subtracted twice"
    )


def check_extent(name: str, geometry: Geometry) -> tuple[PlausibilityNote, ...]:
    """Check that spacing and extent of a scan look like mm.

    Args:
        name: the scan's.
        geometry: its grid.
    """
    spacing, notes = geometry.spacing_zyx, []
    extent = [n * step for n, step in zip(geometry.shape_zyx, spacing, strict=True)]
    shown = " x ".join(f"{step:.4g}" for step in spacing[::-1])
    sides = " x ".join(f"{side:.4g}" for side in extent[::-1])
    if min(spacing) < _LEAST_SPACING_MM or max(spacing) > _LARGEST_SPACING_MM:
        seen = f"its spacing is {shown} mm, as of numbers in another unit"
        expected = f"{_LEAST_SPACING_MM:g} to {_LARGEST_SPACING_MM:g} mm"
        notes.append(PlausibilityNote(name, PlausibilityKind.GRID, seen, expected))
    elif max(extent) < _LEAST_EXTENT_MM or max(extent) > _LARGEST_EXTENT_MM:
        seen = f"it measures {sides} mm"
        expected = f"a part of a body, {_LEAST_EXTENT_MM / 10:g} cm to {_LARGEST_EXTENT_MM / 1000:g} m long"
        notes.append(PlausibilityNote(name, PlausibilityKind.GRID, seen, expected))
    return tuple(notes)


def _mask_notes(scan: Scan, regions: Mapping[int, LabelRegion], body: BodyMap) -> Iterator[PlausibilityNote]:
    outside = [
        lesion_id
        for lesion_id, region in regions.items()
        if body.is_outside(_some_voxels(scan, lesion_id, region)).mean() > _OUTSIDE_SHARE
    ]
    if outside:
        seen = f"the mask of {_lesions(outside)} lies outside of the body, in air"
        yield PlausibilityNote(scan.name, PlausibilityKind.MASK, seen, "lesions within the body")
    labelled = sum(region.voxels for region in regions.values())
    share = labelled / max(1.0, body.body_share * np.prod(scan.ct.shape))
    extent = np.multiply(scan.geometry.shape_zyx, scan.geometry.spacing_zyx)
    if share > _LARGE_SHARE and extent.max() > _SMALL_SCAN_MM:
        seen = f"the mask covers {min(share, 1.0):.0%} of the body"
        yield PlausibilityNote(
            scan.name, PlausibilityKind.MASK, seen, f"lesions, at most {_LARGE_SHARE:.0%} of it"
        )


def _some_voxels(scan: Scan, lesion_id: int, region: LabelRegion) -> npt.NDArray[np.intp]:
    """Voxels of a lesion, evenly spread, (N, 3) z, y, x."""
    assert scan.mask is not None
    step = max(1, round((np.prod(region.box.shape_zyx) / _VOXELS_PER_LESION) ** (1 / 3)))
    part = scan.mask[region.box.slices]
    found = np.argwhere(part[::step, ::step, ::step] == lesion_id) * step
    if not len(found):
        found = np.argwhere(part == lesion_id)
    return np.asarray(found + np.asarray(region.box.start_zyx))


def _click_notes(scan: Scan, body: BodyMap) -> Iterator[PlausibilityNote]:
    inside = [click for click in scan.clicks if scan.geometry.depth_mm(click.point_zyx) >= 0]
    outside = [click.lesion_id for click in inside if body.is_outside(click.point_zyx)[0]]
    if outside:
        seen = f"the click of {_lesions(outside)} lies outside of the patient, in air"
        yield PlausibilityNote(scan.name, PlausibilityKind.CLICK, seen, "a point on the lesion")


def _lesions(ids: list[int]) -> str:
    return f"lesion {ids[0]}" if len(ids) == 1 else "the lesions " + ", ".join(map(str, ids))
