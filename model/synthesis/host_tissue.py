"""Places for new lesions: the location and kind of the tissue around them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import ndimage

from ..case.geometry import Array, AxisMap, Vector
from .displacement import Mask, Volume

CLEARANCE_MM = 4.0
"""Distance of new lesions from others, and width of the surroundings that have to be suitable."""

_HOST_MM = 4.0
_SOLID_HU = -300.0
_SOFT_HU = (-140.0, 150.0)
_LUNG_HU = (-940.0, -650.0)
_BORDER_SHARE = 0.1
_MIN_LUNG_ML = 50.0
_FAT_HU, _MUSCLE_HU, _BONE_HU = (-130.0, -50.0), (0.0, 170.0), (220.0, 1200.0)
_ORGAN_BLOCKS = 3


class TissueKind(StrEnum):
    """Tissue that a new lesion lies in; an organ is soft tissue that reaches 12 mm in all directions."""

    LUNG = "lung"
    FAT = "fat"
    SOFT = "soft"
    ORGAN = "organ"
    BONE = "bone"


@dataclass(frozen=True, eq=False)
class HostTissue:
    """Candidate positions (N, 3) of new lesions, axis mm (z, y, x), in a fixed order.

    ``positions_mm`` are in soft tissue or lung; ``by_kind`` has those of each kind of tissue that there is.
    """

    positions_mm: Array
    by_kind: dict[TissueKind, Array]


def find_host_tissue(ct: Array, spacing_zyx: Vector, axial: AxisMap) -> HostTissue:
    """Find positions inside the body: not in the air around it, at its skin, or on the couch.

    Args:
        ct: HU (z, y, x).
        spacing_zyx: voxel spacing (z, y, x) in mm.
        axial: map to axial order; lungs are found as what the body encloses in axial slices.
    """
    small, steps = _reduced(ct, spacing_zyx)
    axial_hu = axial.array(small)
    solid = ndimage.binary_opening(axial_hu > _SOLID_HU, border_value=0)
    solid = _largest(solid)
    lung = (axial_hu > _LUNG_HU[0]) & (axial_hu < _LUNG_HU[1]) & _enclosed(solid)
    voxel_ml = float(np.prod(np.multiply(spacing_zyx, steps))) / 1000.0
    lung = _large(ndimage.binary_opening(lung), _MIN_LUNG_ML / voxel_ml)
    soft = solid & (axial_hu > _SOFT_HU[0]) & (axial_hu < _SOFT_HU[1])
    inside = ndimage.binary_erosion(solid | lung, iterations=1, border_value=1) & (soft | lung)
    back = axial.inverse().array(inside)
    centre = (np.asarray(steps) - 1) / 2
    size = np.asarray(spacing_zyx)
    kinds = {
        kind: (np.argwhere(axial.inverse().array(where)) * steps + centre) * size
        for kind, where in _kinds(axial_hu, solid, lung).items()
        if where.any()
    }
    return HostTissue((np.argwhere(back) * steps + centre) * size, kinds)


def _kinds(hu: Volume, solid: Mask, lung: Mask) -> dict[TissueKind, Mask]:
    """Classify tissue by the mean HU of blocks (z, y, x)."""
    body = ndimage.binary_erosion(solid | lung, border_value=1)
    soft = body & solid & (hu > _MUSCLE_HU[0]) & (hu < _MUSCLE_HU[1])
    organ = ndimage.binary_erosion(soft, iterations=_ORGAN_BLOCKS, border_value=1)
    return {
        TissueKind.LUNG: body & lung,
        TissueKind.FAT: body & solid & (hu > _FAT_HU[0]) & (hu < _FAT_HU[1]),
        TissueKind.SOFT: soft & ~organ,
        TissueKind.ORGAN: organ,
        TissueKind.BONE: body & solid & (hu > _BONE_HU[0]) & (hu < _BONE_HU[1]),
    }


def _reduced(ct: Array, spacing_zyx: Vector) -> tuple[Volume, tuple[int, int, int]]:
    """Average blocks of about 4 mm, plane by plane; returns the means and the block size (z, y, x)."""
    fz, fy, fx = (max(1, min(int(_HOST_MM / s), n)) for s, n in zip(spacing_zyx, ct.shape, strict=True))
    nz, ny, nx = ct.shape[0] // fz, ct.shape[1] // fy, ct.shape[2] // fx
    small = np.empty((nz, ny, nx), np.float32)
    for z in range(nz):
        block = ct[z * fz : (z + 1) * fz, : ny * fy, : nx * fx].reshape(fz, ny, fy, nx, fx)
        small[z] = block.mean(axis=(0, 2, 4), dtype=np.float32)
    return small, (fz, fy, fx)


def _largest(mask: Mask) -> Mask:
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def _large(mask: Mask, least_voxels: float) -> Mask:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    keep = np.bincount(labels.ravel()) >= least_voxels
    keep[0] = False
    return np.asarray(keep[labels])


def _enclosed(solid: Mask) -> Mask:
    """Fill the body in each slice; a side that it runs into (of a cropped scan) counts as closed."""
    padded = np.zeros((solid.shape[0], solid.shape[1] + 2, solid.shape[2] + 2), bool)
    padded[:, 1:-1, 1:-1] = solid
    for inner, outer in (
        (solid[:, 0], np.s_[:, 0, 1:-1]),
        (solid[:, -1], np.s_[:, -1, 1:-1]),
        (solid[:, :, 0], np.s_[:, 1:-1, 0]),
        (solid[:, :, -1], np.s_[:, 1:-1, -1]),
    ):
        if inner.size and inner.mean() > _BORDER_SHARE:
            padded[outer] = True
    for plane in padded:
        plane[:] = ndimage.binary_fill_holes(plane)
    return np.asarray(padded[:, 1:-1, 1:-1])
