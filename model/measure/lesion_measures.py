"""Measurements of all lesions of a labelmap on its CT.

`docs/measurements.md` states each definition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..case.case import Scan
from ..case.connected_components import label_components
from ..case.geometry import Array, Vector, flip_order
from ..case.labelmaps import LabelRegion, label_boxes, label_regions
from .diameters import Caliper, SliceDiameters, axial_diameters, longest_diameter
from .lesion_shape import sphericity

BoolArray = npt.NDArray[np.bool_]

HU_PERCENTILES = (10, 25, 50, 75, 90)

# A piece below these is a crumb of the segmentation, and no part of a lesion that has split; the same as of
# the fate of a tracked lesion (`tracking.fates.FateOptions`).
MIN_PIECE_ML = 0.05
MIN_PIECE_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a scan: voxel index (x, y, z) in its file, in fractions of voxels, and LPS mm (x, y, z)."""

    voxel_xyz: Vector
    world_mm: Vector


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line in a scan, with its length in mm."""

    length_mm: float
    start: Place
    end: Place


@dataclass(frozen=True, slots=True)
class AxialLines:
    """The longest axial diameter and the longest perpendicular to it.

    Attributes:
        slice_index: of the axial slice, counted along the axis of the file that runs through the slices.
    """

    slice_index: int
    long: Line
    short: Line


@dataclass(frozen=True, slots=True)
class Density:
    """HU over the voxels of a lesion that hold a number.

    Attributes:
        percentiles: by their number, `HU_PERCENTILES`.
        not_a_number: voxels that hold none.
    """

    mean: float
    std: float
    min: float
    max: float
    percentiles: dict[str, float]
    not_a_number: int = 0


@dataclass(frozen=True, slots=True)
class PieceMeasures:
    """A piece (26 neighbours) of a lesion: volume, and its own diameters within an axial slice."""

    volume_ml: float
    long_mm: float
    short_mm: float


@dataclass(frozen=True, slots=True)
class LesionMeasures:
    """One lesion on one scan.

    Attributes:
        axial: both diameters in the slice in which the longest one lies.
        longest: longest diameter in space, within one piece.
        density: None if no voxel of the lesion holds a number.
        pieces: number of pieces (26 neighbours).
        parts: those of at least `MIN_PIECE_ML` and `MIN_PIECE_SHARE` of the lesion, or the largest one, in
            descending order.
        touches_border: a voxel lies at the border of the scan, which may cut the lesion.
    """

    lesion_id: int
    voxels: int
    volume_ml: float
    axial: AxialLines
    longest: Line
    density: Density | None
    centroid: Place
    sphericity: float
    pieces: int
    parts: tuple[PieceMeasures, ...]
    touches_border: bool


def measure_lesions(scan: Scan, labelmap: Array) -> dict[int, LesionMeasures]:
    """Measure every lesion of a labelmap.

    Args:
        scan: the CT on which the labelmap lies.
        labelmap: lesion ids (z, y, x) on the scan's axial grid.

    Returns:
        Lesion id -> its measurements, ids ascending.
    """
    at_border = _ids_at_border(scan, labelmap)
    return {
        lesion_id: _measured(scan, labelmap, lesion_id, region, lesion_id in at_border)
        for lesion_id, region in label_regions(labelmap).items()
    }


def _ids_at_border(scan: Scan, labelmap: Array) -> set[int]:
    """Lesions with a voxel at the border of the file, whose axes may be sheared."""
    if scan.shear is not None:
        labelmap = scan.shear.to_sheared(labelmap)
    return {
        lesion_id
        for lesion_id, box in label_boxes(labelmap).items()
        if 0 in box.start_zyx or any(map(int.__eq__, box.stop_zyx, labelmap.shape))
    }


def _measured(
    scan: Scan, labelmap: Array, lesion_id: int, region: LabelRegion, touches_border: bool
) -> LesionMeasures:
    geometry = scan.geometry
    mask = labelmap[region.box.slices] == lesion_id
    pieces = _pieces(mask)
    start = np.asarray(region.box.start_zyx)
    found = [_piece_lines(piece, start + offset, geometry.spacing_zyx) for piece, offset in pieces]
    volumes = [int(np.count_nonzero(piece)) * geometry.voxel_volume_ml for piece, _ in pieces]
    axial = max(
        (lines for lines, _ in found), key=lambda lines: (lines.long.length_mm, lines.short.length_mm)
    )
    longest = max((line for _, line in found), key=lambda line: line.length_mm)
    return LesionMeasures(
        lesion_id=lesion_id,
        voxels=region.voxels,
        volume_ml=region.voxels * geometry.voxel_volume_ml,
        axial=AxialLines(axial.slice_index, _line(scan, axial.long), _line(scan, axial.short)),
        longest=_line(scan, longest),
        density=_density(scan.ct[region.box.slices][mask]),
        centroid=_place(scan, region.centre_zyx),
        sphericity=sphericity(mask, geometry.spacing_zyx),
        pieces=len(pieces),
        parts=_parts(volumes, [lines for lines, _ in found]),
        touches_border=touches_border,
    )


def _pieces(mask: BoolArray) -> list[tuple[BoolArray, Array]]:
    """The pieces of a mask, each cut out, with its first index (z, y, x)."""
    labels, count = label_components(mask)
    if count == 1:
        return [(mask, np.zeros(3, np.int64))]
    boxes = label_boxes(labels)
    return [(labels[box.slices] == label, np.asarray(box.start_zyx)) for label, box in boxes.items()]


def _piece_lines(piece: BoolArray, offset: Array, spacing_zyx: Vector) -> tuple[SliceDiameters, Caliper]:
    """The diameters of a piece, as voxel indices (z, y, x) of the scan."""
    axial, longest = axial_diameters(piece, spacing_zyx), longest_diameter(piece, spacing_zyx)
    assert axial is not None and longest is not None  # a piece has a voxel
    return (
        SliceDiameters(
            axial.slice_index + int(offset[0]), _moved(axial.long, offset), _moved(axial.short, offset)
        ),
        _moved(longest, offset),
    )


def _moved(line: Caliper, offset: Array) -> Caliper:
    first, second = ((z + offset[0], y + offset[1], x + offset[2]) for z, y, x in line.ends_zyx)
    return Caliper(line.length_mm, (first, second))


def _parts(volumes: list[float], lines: list[SliceDiameters]) -> tuple[PieceMeasures, ...]:
    least = min(max(MIN_PIECE_ML, MIN_PIECE_SHARE * sum(volumes)), max(volumes))
    parts = [
        PieceMeasures(volume, axial.long.length_mm, axial.short.length_mm)
        for volume, axial in zip(volumes, lines, strict=True)
        if volume >= least
    ]
    return tuple(sorted(parts, key=lambda part: (-part.volume_ml, -part.long_mm)))


def _density(hu: Array) -> Density | None:
    finite = hu[np.isfinite(hu)].astype(np.float64)
    if not finite.size:
        return None
    values = np.percentile(finite, HU_PERCENTILES)
    return Density(
        mean=float(finite.mean()),
        std=float(finite.std()),
        min=float(finite.min()),
        max=float(finite.max()),
        percentiles={str(name): float(value) for name, value in zip(HU_PERCENTILES, values, strict=True)},
        not_a_number=int(hu.size - finite.size),
    )


def _line(scan: Scan, line: Caliper) -> Line:
    start, end = (_place(scan, point) for point in line.ends_zyx)
    return Line(line.length_mm, start, end)


def _place(scan: Scan, point_zyx: Vector) -> Place:
    return Place(flip_order(scan.file_grid.file_point(point_zyx)), scan.geometry.zyx_to_world(point_zyx))
