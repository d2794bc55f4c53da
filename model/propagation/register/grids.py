"""Downsampled copies of a scan for registration, with masks of what was measured and of the body.

Arrays (z, y, x) are converted to SimpleITK images here as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from ...case.geometry import Array, FloatArray, Geometry, flip_order
from . import RegistrationImage

AIR_HU = -1000.0
# Bone, contrast medium and metal above this differ between dates; soft tissue, fat and lung do not.
UPPER_HU = 300.0
# Some scanners pad unmeasured voxels with -2048 or -3024; real noise stays above this.
_PADDING_HU = -1500.0
# Between lung and fat: voxels above belong to the body's shell, the arms or the couch.
_BODY_HU = -300.0
# Wide enough to include the edge of the skin, which determines the position of the body best.
_BODY_MARGIN_MM = 12.0
# Spacing at which the outline of the body is found; a finer one costs much more and is not needed.
_BODY_SPACING_MM = 5.0

FloatVolume = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Level:
    """A scan at one resolution.

    Attributes:
        image: HU clipped to AIR_HU ... UPPER_HU, float32.
        seen: measured voxels, 0/1 uint8.
        body: body with a margin of air, 0/1 uint8.
    """

    image: sitk.Image
    seen: sitk.Image
    body: sitk.Image


def block_average(scan: RegistrationImage, spacing_mm: float) -> tuple[FloatVolume, Mask, Geometry]:
    """Average blocks of voxels whose sides are as long as possible but at most ``spacing_mm``.

    Works slice by slice, so that no full-size copy in floats is made.

    Returns:
        Clipped HU (z, y, x) float32; mask (z, y, x) of the blocks of which at least half was measured; and
        their grid.
    """
    sizes = zip(scan.geometry.spacing_zyx, scan.geometry.shape_zyx, strict=True)
    # Rounded headers: 3.0 mm must be three voxels of 1.0 mm, not two.
    fz, fy, fx = (max(1, min(int(spacing_mm / s + 1e-3), n)) for s, n in sizes)
    nz, ny, nx = (n // f for n, f in zip(scan.geometry.shape_zyx, (fz, fy, fx), strict=True))
    hu = np.empty((nz, ny, nx), np.float32)
    seen = np.empty((nz, ny, nx), np.bool_)
    for z in range(nz):
        block = scan.array[z * fz : (z + 1) * fz, : ny * fy, : nx * fx]
        hu[z], seen[z] = _block_means(block, (ny, fy, nx, fx))
    return hu, seen, _averaged_geometry(scan.geometry, (nz, ny, nx), (fz, fy, fx))


def _block_means(block: Array, sides: tuple[int, int, int, int]) -> tuple[FloatVolume, Mask]:
    """Clipped means and measured flags, each (ny, nx), of one slab (fz, ny*fy, nx*fx)."""
    ny, fy, nx, fx = sides
    if block.dtype.kind == "f":
        block = np.nan_to_num(block, nan=-np.inf, posinf=-np.inf, neginf=-np.inf)
    unmeasured = block < _PADDING_HU
    values = np.clip(block, AIR_HU, UPPER_HU, dtype=np.float32, casting="unsafe")
    means = _mean(_mean(_mean(values, 0).reshape(ny * fy, nx, fx), 2).reshape(ny, fy, nx), 1)
    if not unmeasured.any():
        return means, np.ones((ny, nx), np.bool_)
    shares = unmeasured.mean(axis=0, dtype=np.float32).reshape(ny, fy, nx, fx).mean(axis=(1, 3))
    return means, np.asarray(shares <= 0.5)


def _mean(values: FloatVolume, axis: int) -> FloatVolume:
    """Mean over a short axis; adding strided slices is several times as fast as ``ndarray.mean``."""
    first, *others = np.moveaxis(values, axis, 0)
    total: FloatVolume = first.copy()
    for part in others:
        total += part
    total /= values.shape[axis]
    return total


def _averaged_geometry(
    source: Geometry, shape_zyx: tuple[int, int, int], factors_zyx: tuple[int, int, int]
) -> Geometry:
    fz, fy, fx = factors_zyx
    sx, sy, sz = source.spacing_xyz
    origin = source.zyx_to_world(((fz - 1) / 2, (fy - 1) / 2, (fx - 1) / 2))
    return Geometry(flip_order(shape_zyx), (sx * fx, sy * fy, sz * fz), origin, source.direction)


def to_image(array: Array, geometry: Geometry) -> sitk.Image:
    """Convert an array to a SimpleITK image.

    Args:
        array: (z, y, x); booleans become 0/1 uint8.
        geometry: its grid.
    """
    image = sitk.GetImageFromArray(array.astype(np.uint8) if array.dtype == np.bool_ else array)
    image.SetSpacing(geometry.spacing_xyz)
    image.SetOrigin(geometry.origin_xyz)
    image.SetDirection(geometry.direction)
    return image


def pyramid(scan: RegistrationImage, spacings_mm: tuple[float, ...]) -> list[Level]:
    """Isotropic copies of a scan along the world axes, over its bounding box.

    Args:
        scan: any orientation and spacing.
        spacings_mm: in descending order; each copy is made from the next finer one.

    Returns:
        The copies, coarsest first.
    """
    image, seen = _averaged_images(scan, spacings_mm[-1])
    images: list[sitk.Image] = []
    for spacing in reversed(spacings_mm):
        image = _smaller(image, spacing)
        images.insert(0, image)
    fitting = [small for small in images if small.GetSpacing()[0] >= _BODY_SPACING_MM]
    body = body_mask(fitting[-1] if fitting else images[0])
    levels = []
    for small in images:
        small_seen = _nearest(seen, small)
        levels.append(Level(small, small_seen, sitk.And(_nearest(body, small), small_seen)))
    return levels


def _averaged_images(scan: RegistrationImage, spacing_mm: float) -> tuple[sitk.Image, sitk.Image]:
    # A separate function, so that its arrays, the largest ones, are freed before the smoothing.
    hu, seen, geometry = block_average(scan, spacing_mm)
    return to_image(hu, geometry), to_image(seen, geometry)


def body_mask(image: sitk.Image) -> sitk.Image:
    """Mask (0/1 uint8) of the body with a margin, without parts separated by air (couch, blankets)."""
    spacing = image.GetSpacing()
    opened = sitk.BinaryMorphologicalOpening(image > _BODY_HU, [max(1, round(5.0 / s)) for s in spacing])
    largest = sitk.RelabelComponent(sitk.ConnectedComponent(opened), sortByObjectSize=True) == 1
    # Slice by slice, because the lungs are cut open at the ends of a scan.
    filled = sitk.JoinSeries([sitk.BinaryFillhole(largest[:, :, z]) for z in range(image.GetSize()[2])])
    filled.CopyInformation(image)
    mask: sitk.Image = sitk.BinaryDilate(filled, [max(1, round(_BODY_MARGIN_MM / s)) for s in spacing])
    return mask


def body_box_mm(scan: RegistrationImage) -> tuple[FloatArray, FloatArray]:
    """Bounding box of the body with its margin, or of the scan if no body is found.

    Returns:
        Lowest and highest world coordinates x, y, z, each (3,), LPS mm.
    """
    level = pyramid(scan, (_BODY_SPACING_MM,))[0]
    voxels = np.argwhere(sitk.GetArrayViewFromImage(level.body))
    if len(voxels) == 0:
        voxels = np.argwhere(np.ones(flip_order(level.body.GetSize()), np.bool_))
    spacing, origin = np.array(level.body.GetSpacing()), np.array(level.body.GetOrigin())
    low, high = voxels.min(axis=0)[::-1] - 0.5, voxels.max(axis=0)[::-1] + 0.5
    return origin + low * spacing, origin + high * spacing


def _nearest(mask: sitk.Image, grid: sitk.Image) -> sitk.Image:
    return sitk.Resample(mask, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)


def _smaller(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """Resample to an isotropic grid along the world axes, after smoothing against aliasing."""
    # 0.45: a Gaussian that passes a few percent at the new grid's highest frequency.
    sigmas = [0.45 * max(spacing_mm**2 - s**2, 0.0) ** 0.5 for s in image.GetSpacing()]
    if max(sigmas) > 0.5 and min(image.GetSize()) >= 4:
        image = sitk.SmoothingRecursiveGaussian(image, [max(sigma, 0.2) for sigma in sigmas])
    grid = _world_grid(image, spacing_mm)
    return sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, AIR_HU, sitk.sitkFloat32)


def _world_grid(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """Empty image along the world axes over the bounding box of the given one."""
    corners_voxel = np.array(list(np.ndindex(2, 2, 2))) * image.GetSize() - 0.5
    corners = [image.TransformContinuousIndexToPhysicalPoint(corner.tolist()) for corner in corners_voxel]
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    count = np.maximum(1, np.round((high - low) / spacing_mm)).astype(int)
    grid = sitk.Image(count.tolist(), sitk.sitkUInt8)
    grid.SetSpacing([spacing_mm] * 3)
    grid.SetOrigin(((low + high) / 2 - (count - 1) / 2 * spacing_mm).tolist())
    return grid
