"""Distances between the surfaces of two masks: HD95, ASSD and NSD, weighted by surface area.

The definition is that of DeepMind's surface-distance (Nikolov et al. 2018, arXiv:1809.04430): there is one
surface element in each cell of 2x2x2 voxels that the surface crosses, its weight is the area of the surface
in the cell by marching cubes, and distances are between elements. MONAI computes the same NSD with
``use_subvoxels=True``; its default counts border voxels instead, which gives other numbers. surface-distance
itself is used only by the tests, as it calls namespaces that SciPy 2 has removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from ..case.connected_components import label_components
from ..case.geometry import FloatArray, Vector
from ..errors import LongilesionError

NSD_TOLERANCE_MM = 2.0
NSD_KIND = (
    "NSD at 2 mm: surface elements of marching cubes weighted by area, as surface-distance and MONAI with "
    "use_subvoxels=True"
)

BoolArray = npt.NDArray[np.bool_]

_CORNERS = tuple(product((0, 1), repeat=3))  # bit k of a cell's code is the voxel at corner k


@dataclass(frozen=True, eq=False)
class SurfaceElements:
    """Surface elements: positions (n, 3) of their cells in mm (z, y, x) and areas (n,) in mm²; float64."""

    points_mm: FloatArray
    areas_mm2: FloatArray


@dataclass(frozen=True, slots=True)
class SurfaceDistances:
    """``hd95_mm``: the larger of both directed 95th percentiles; ``assd_mm``: mean over both surfaces.

    ``nsd_2mm`` is the share of both surfaces that lies within 2 mm of the other one, 0 to 1.
    """

    hd95_mm: float
    assd_mm: float
    nsd_2mm: float


def surface_elements(mask: BoolArray, spacing_zyx: Vector) -> SurfaceElements:
    """Find the surface elements of a mask; outside the array is background.

    Each component is processed in its own box, so that stray voxels far away take no time.

    Args:
        mask: bool (z, y, x).
        spacing_zyx: voxel spacing (z, y, x) in mm.
    """
    if not mask.any():
        return SurfaceElements(np.zeros((0, 3)), np.zeros(0))
    # Components that share a cell share at least a corner, so 26 neighbours keep each cell in one piece.
    labels, _ = label_components(mask)
    points, codes = [], []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        code = _cell_codes(labels[box] == label)
        cells = np.nonzero((code != 0) & (code != 255))
        points.append(np.stack(cells, axis=1) + [side.start for side in box])
        codes.append(code[cells])
    areas = _cell_areas(tuple(spacing_zyx))[np.concatenate(codes)]
    return SurfaceElements(np.concatenate(points) * np.asarray(spacing_zyx, np.float64), areas)


def surface_distances(reference: SurfaceElements, prediction: SurfaceElements) -> SurfaceDistances:
    """Compare two surfaces on the same grid, each with at least one element.

    Raises:
        ValueError: a surface has no elements.
    """
    if not len(reference.points_mm) or not len(prediction.points_mm):
        raise ValueError("surface distances need two surfaces that are not empty")
    to_prediction = cKDTree(prediction.points_mm).query(reference.points_mm)[0]
    to_reference = cKDTree(reference.points_mm).query(prediction.points_mm)[0]
    distances = np.concatenate([to_prediction, to_reference])
    areas = np.concatenate([reference.areas_mm2, prediction.areas_mm2])
    return SurfaceDistances(
        hd95_mm=max(
            _percentile(to_prediction, reference.areas_mm2, 0.95),
            _percentile(to_reference, prediction.areas_mm2, 0.95),
        ),
        assd_mm=float(distances @ areas / areas.sum()),
        nsd_2mm=float(areas[distances <= NSD_TOLERANCE_MM].sum() / areas.sum()),
    )


def _percentile(distances: FloatArray, areas: FloatArray, share: float) -> float:
    """Smallest distance within which a share of the area lies."""
    order = np.lexsort((areas, distances))
    cumulative = np.cumsum(areas[order]) / areas.sum()
    return float(distances[order][min(int(np.searchsorted(cumulative, share)), len(order) - 1)])


def _cell_codes(mask: BoolArray) -> npt.NDArray[np.uint8]:
    """Encode for each cell which of its eight voxels are in the mask; one more cell than voxels per axis."""
    padded = np.pad(mask, 1).astype(np.uint8)
    code = np.zeros([n + 1 for n in mask.shape], np.uint8)
    for bit, corner in enumerate(_CORNERS):
        window = tuple(slice(d, d + n) for d, n in zip(corner, code.shape, strict=True))
        code |= padded[window] << np.uint8(bit)
    return code


@lru_cache(maxsize=64)
def _cell_areas(spacing_zyx: Sequence[float]) -> FloatArray:
    """Area in mm² of the surface in a cell, by code (256,)."""
    try:
        from skimage.measure import marching_cubes, mesh_surface_area
    except ImportError as error:
        raise LongilesionError(
            "scikit-image: is not installed, but surface distances need it; expected the extra 'evaluate' "
            "(pip install 'longilesion[evaluate]')"
        ) from error

    areas = np.zeros(256)
    for code in range(1, 255):
        # A cell with more than four voxels is replaced by its negative, as in surface-distance.
        sparse = code if code.bit_count() <= 4 else 255 - code
        cell = np.array([float(sparse >> bit & 1) for bit in range(8)]).reshape(2, 2, 2)
        vertices, faces, *_ = marching_cubes(cell, 0.5, spacing=tuple(spacing_zyx), method="lorensen")
        areas[code] = mesh_surface_area(vertices, faces)
    return areas
