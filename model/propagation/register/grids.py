"""Small copies of a scan for registration: clipped, averaged down, with masks of what they show.

The only place where registration's arrays (z, y, x) become SimpleITK images and back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from ...case.geometry import Array, FloatArray, Geometry, Vector, flip_order
from . import RegistrationImage

AIR_HU = -1000.0
# Bone, contrast medium and metal above this differ between dates; soft tissue, fat and lung do not.
UPPER_HU = 300.0
# Some scanners fill what they have not seen with -2048 or -3024; real noise stays above this.
_PADDING_HU = -1500.0
# Between fat and lung: what is above belongs to the body's shell, the couch or the arms.
_BODY_HU = -300.0
# Wide enough to hold the skin's edge, which says most about the place of the body.
_BODY_MARGIN_MM = 12.0

FloatVolume = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Level:
    """A scan at one resolution: HU from AIR_HU to UPPER_HU, where it was measured, where the body is."""

    image: sitk.Image
    seen: sitk.Image
    body: sitk.Image


def averaged(scan: RegistrationImage, spacing_mm: float) -> tuple[FloatVolume, Mask, Geometry]:
    """Means of blocks of voxels whose sides are as long as possible but at most ``spacing_mm``.

    Returns HU (z, y, x) float32, whether at least half of each block was measured, and their grid.
    Works slice by slice, so that no full-size copy in floats is ever made.
    """
    factors = [
        max(1, min(int(spacing_mm / s + 1e-6), n))
        for s, n in zip(scan.geometry.spacing_zyx, scan.geometry.shape_zyx, strict=True)
    ]
    fz, fy, fx = factors
    nz, ny, nx = (n // f for n, f in zip(scan.geometry.shape_zyx, factors, strict=True))
    hu = np.empty((nz, ny, nx), np.float32)
    seen = np.empty((nz, ny, nx), np.bool_)
    for z in range(nz):
        block = scan.array[z * fz : (z + 1) * fz, : ny * fy, : nx * fx]
        hu[z], seen[z] = _block_means(block, (ny, fy, nx, fx))
    return hu, seen, _averaged_geometry(scan.geometry, (nz, ny, nx), (fz, fy, fx))


def _block_means(block: Array, sides: tuple[int, int, int, int]) -> tuple[FloatVolume, Mask]:
    """One slab (fz, ny*fy, nx*fx) -> clipped means and measured flags, each (ny, nx)."""
    ny, fy, nx, fx = sides
    values = block.astype(np.float32)
    measured = np.isfinite(values)
    measured &= values > _PADDING_HU
    np.nan_to_num(values, copy=False, nan=AIR_HU, posinf=AIR_HU, neginf=AIR_HU)
    np.clip(values, AIR_HU, UPPER_HU, out=values)
    means = values.mean(axis=0).reshape(ny, fy, nx, fx).mean(axis=(1, 3))
    shares = measured.mean(axis=0, dtype=np.float32).reshape(ny, fy, nx, fx).mean(axis=(1, 3))
    return means, shares >= 0.5


def _averaged_geometry(
    source: Geometry, shape_zyx: tuple[int, int, int], factors_zyx: tuple[int, int, int]
) -> Geometry:
    z, y, x = ((f - 1) / 2 for f in factors_zyx)
    spacing = np.multiply(source.spacing_xyz, flip_order(factors_zyx))
    return Geometry(
        flip_order(shape_zyx),
        (float(spacing[0]), float(spacing[1]), float(spacing[2])),
        source.zyx_to_world((z, y, x)),
        source.direction,
    )


def to_image(array: Array, geometry: Geometry) -> sitk.Image:
    """(z, y, x) -> SimpleITK image on its grid; bool becomes 0/1 of uint8."""
    image = sitk.GetImageFromArray(array.astype(np.uint8) if array.dtype == np.bool_ else array)
    image.SetSpacing(geometry.spacing_xyz)
    image.SetOrigin(geometry.origin_xyz)
    image.SetDirection(geometry.direction)
    return image


def first_level(scan: RegistrationImage, spacing_mm: float) -> Level:
    """The finest level, straight from the scan, on the scan's own axes."""
    hu, seen, geometry = averaged(scan, spacing_mm)
    return Level(*_images(hu, seen, geometry))


def _images(hu: FloatVolume, seen: Mask, geometry: Geometry) -> tuple[sitk.Image, sitk.Image, sitk.Image]:
    image, seen_image = to_image(hu, geometry), to_image(seen, geometry)
    return image, seen_image, sitk.And(body_mask(image), seen_image)


def body_mask(image: sitk.Image) -> sitk.Image:
    """The body with a margin, without what a thin gap of air parts from it (couch, blankets)."""
    spacing = image.GetSpacing()

    def voxels(mm: float) -> list[int]:
        return [max(1, round(mm / s)) for s in spacing]

    tissue = image > _BODY_HU
    opened = sitk.BinaryMorphologicalOpening(tissue, voxels(4.0))
    largest = sitk.RelabelComponent(sitk.ConnectedComponent(opened), sortByObjectSize=True) == 1
    # The lungs are inside; holes are filled slice by slice, as they are open at the ends of a scan.
    filled = sitk.BinaryFillhole(largest)
    filled = _filled_slices(filled)
    return sitk.BinaryDilate(filled, voxels(_BODY_MARGIN_MM))


def _filled_slices(mask: sitk.Image) -> sitk.Image:
    slices = [sitk.BinaryFillhole(mask[:, :, z]) for z in range(mask.GetSize()[2])]
    filled = sitk.JoinSeries(slices)
    filled.CopyInformation(mask)
    return filled


def coarser(level: Level, spacing_mm: float) -> Level:
    """The level on an isotropic grid along the world's axes that holds all of it."""
    grid = _world_grid(level.image, spacing_mm)
    sigma = [0.45 * np.sqrt(max(spacing_mm**2 - s**2, 0.01)) for s in level.image.GetSpacing()]
    smooth = level.image
    if min(level.image.GetSize()) >= 4:
        smooth = sitk.SmoothingRecursiveGaussian(level.image, [float(s) for s in sigma])
    image = sitk.Resample(smooth, grid, sitk.Transform(), sitk.sitkLinear, AIR_HU, sitk.sitkFloat32)
    seen, body = (
        sitk.Resample(mask, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
        for mask in (level.seen, level.body)
    )
    return Level(image, seen, body)


def _world_grid(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """An empty image along the world's axes, as large as the given one's bounding box."""
    size = np.asarray(image.GetSize())
    corners = [
        image.TransformContinuousIndexToPhysicalPoint([float(v) for v in corner])
        for corner in np.array(list(np.ndindex(2, 2, 2))) * size - 0.5
    ]
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    count = np.maximum(1, np.round((high - low) / spacing_mm)).astype(int)
    origin = (low + high) / 2 - (count - 1) / 2 * spacing_mm
    grid = sitk.Image([int(n) for n in count], sitk.sitkUInt8)
    grid.SetSpacing([spacing_mm] * 3)
    grid.SetOrigin([float(v) for v in origin])
    return grid


def centre_mm(image: sitk.Image) -> Vector:
    """The middle of the image, LPS mm."""
    x, y, z = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
    return (x, y, z)


def array_of(image: sitk.Image) -> Array:
    """SimpleITK image -> (z, y, x), a view that must not outlive the image."""
    return sitk.GetArrayViewFromImage(image)


def world_box(image: sitk.Image) -> tuple[FloatArray, FloatArray]:
    """Lower and upper corner, LPS mm, of an image along the world's axes."""
    low = np.asarray(image.TransformContinuousIndexToPhysicalPoint([-0.5] * 3))
    high = np.asarray(image.TransformContinuousIndexToPhysicalPoint([n - 0.5 for n in image.GetSize()]))
    return low, high
