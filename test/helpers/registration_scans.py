"""Scans for tests of propagation: real ones, moved ones with their true transform, phantoms."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from model.case.case import Scan, Slot
from model.case.geometry import AxisMap, FloatArray, Geometry, Vector, flip_order
from model.propagation.register import Registration, RegistrationImage
from model.propagation.register.affine import LinearBackend
from model.propagation.register.grids import to_image
from model.propagation.register.linear import LinearTransform
from test.helpers.paths import real_file


class RecordedAffine(LinearBackend):
    """The affine step of other back ends; keeps its results."""

    results: ClassVar[list[Registration]] = []

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        self.results.append(super().register(fixed, moving))
        return self.results[-1]


def empty_scan(time_point: str, geometry: Geometry) -> Scan:
    """A primary scan of zeros."""
    ct = np.zeros(geometry.shape_zyx, np.int16)
    return Scan(time_point, Slot.PRIMARY, Path(f"{time_point}.mha"), geometry, AxisMap(), ct)


def read(name: str) -> RegistrationImage:
    image = sitk.ReadImage(str(real_file(name)))
    geometry = Geometry(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return RegistrationImage(sitk.GetArrayFromImage(image), geometry)


def centroid_mm(name: str) -> FloatArray:
    """The centre of gravity of a mask, (1, 3), LPS mm."""
    mask = read(name)
    return mask.geometry.voxel_to_world(np.argwhere(mask.array > 0).mean(axis=0)[None, ::-1])


def turn(degrees: float, axis_xyz: Vector = (0.2, 0.3, 0.9)) -> FloatArray:
    """A rotation matrix (3, 3)."""
    versor = sitk.VersorTransform(axis_xyz, float(np.deg2rad(degrees)))
    return np.asarray(versor.GetMatrix()).reshape(3, 3)


def middle_mm(geometry: Geometry) -> FloatArray:
    return geometry.voxel_to_world((np.asarray(geometry.size_xyz) - 1) / 2)


def around(geometry: Geometry, matrix: FloatArray, shift_mm: npt.ArrayLike = (0, 0, 0)) -> LinearTransform:
    """A transform that rotates or stretches around the centre of a scan, then translates."""
    centre = middle_mm(geometry)
    return LinearTransform(matrix, centre - matrix @ centre + np.asarray(shift_mm, np.float64))


def grid_like(source: Geometry, truth: LinearTransform, spacing_xyz: Vector) -> Geometry:
    """A grid of another spacing with corresponding centre."""
    count = np.asarray(source.size_xyz) * source.spacing_xyz / np.asarray(spacing_xyz)
    size = tuple(int(n) for n in count)
    centre = truth.moving_to_fixed(middle_mm(source))
    origin = centre - (np.asarray(size) - 1) / 2 * spacing_xyz
    x, y, z = (float(value) for value in origin)
    return Geometry((size[0], size[1], size[2]), spacing_xyz, (x, y, z))


def followup_of(
    baseline: RegistrationImage, grid: Geometry, truth: LinearTransform, noise_hu: float = 0.0
) -> RegistrationImage:
    """Scan of a patient that has moved, on a grid: followup(p) = baseline(truth(p))."""
    itk = sitk.AffineTransform(truth.matrix.ravel().tolist(), truth.offset_mm.tolist())
    source = to_image(baseline.array.astype(np.float32), baseline.geometry)
    target = to_image(np.zeros(grid.shape_zyx, np.uint8), grid)
    moved = sitk.GetArrayFromImage(sitk.Resample(source, target, itk, sitk.sitkLinear, -1000.0))
    noise = np.random.default_rng(7).normal(0.0, noise_hu, moved.shape) if noise_hu else 0.0
    return RegistrationImage(np.round(moved + noise).astype(np.int16), grid)


def part_of(scan: RegistrationImage, start_z: float, stop_z: float) -> RegistrationImage:
    """A share of the slices."""
    count = scan.geometry.shape_zyx[0]
    first, last = int(start_z * count), int(stop_z * count)
    g = scan.geometry
    geometry = Geometry(
        (g.size_xyz[0], g.size_xyz[1], last - first),
        g.spacing_xyz,
        g.zyx_to_world((first, 0.0, 0.0)),
        g.direction,
    )
    return RegistrationImage(scan.array[first:last], geometry)


def elsewhere(
    scan: RegistrationImage, truth: LinearTransform, shift_mm: npt.ArrayLike
) -> tuple[RegistrationImage, LinearTransform]:
    """The same scan with a shifted origin, and the transform that belongs to it."""
    shift = np.asarray(shift_mm, np.float64)
    g = scan.geometry
    x, y, z = (float(value) for value in np.asarray(g.origin_xyz) + shift)
    moved = RegistrationImage(scan.array, Geometry(g.size_xyz, g.spacing_xyz, (x, y, z), g.direction))
    return moved, LinearTransform(truth.matrix, truth.offset_mm - truth.matrix @ shift)


def phantom(size_xyz: tuple[int, int, int] = (60, 50, 40), spacing_mm: float = 5.0) -> RegistrationImage:
    """A trunk of soft tissue with two unequal lungs, a spine and a liver's edge; HU, int16."""
    shape = flip_order(size_xyz)
    z, y, x = (np.linspace(-1, 1, n).reshape(s) for n, s in zip(shape, _AXES, strict=True))
    hu = np.full(shape, -1000.0, np.float32)
    hu[np.broadcast_to((x / 0.85) ** 2 + (y / 0.7) ** 2 < 1, shape)] = 40
    for side, top in ((-0.4, 0.9), (0.4, 0.7)):
        hu[((x - side) / 0.28) ** 2 + ((y + 0.05) / 0.45) ** 2 + ((z - 0.3) / top) ** 2 < 1] = -850
    hu[np.broadcast_to((x / 0.1) ** 2 + ((y - 0.45) / 0.12) ** 2 < 1, shape)] = 250
    hu[(x + 0.3) ** 2 + y**2 + (z + 0.8) ** 2 < 0.1] = 120
    geometry = Geometry(size_xyz, (spacing_mm,) * 3, (-150.0, -120.0, -400.0))
    return RegistrationImage(hu.astype(np.int16), geometry)


_AXES = ((-1, 1, 1), (1, -1, 1), (1, 1, -1))
