"""Pairs of scans that are hard to align, made from real CTs with known transforms.

A follow-up is a real CT under a random smooth deformation and a rigid motion; each scan of the pair shows a
part of the body on a grid of its own, with noise, metal, arms or other headers. A trunk is put together from
the chest of one patient and the abdomen of another, stretched to the same width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import SimpleITK as sitk

from model.case.geometry import AxisMap, FloatArray, Geometry, Vector
from model.propagation.register import RegistrationImage
from model.propagation.register.grids import FloatVolume
from model.propagation.register.itk import ItkTransform, to_itk
from model.propagation.register.warp import SmoothedScan

from .real_pairs import (
    Deformation,
    Pair,
    body_of,
    breathing_pair,
    depths_mm,
    lung_pair,
    noisy,
    points_in,
    random_spline,
    read_real,
    resampled,
    through,
)

_BODY_MM = 6.0
_LOWEST_HU = -1024.0
# Pairs are made from low-passed scans of this spacing: registration aligns bodies at no finer one.
_SPACING_MM = 3.0
_ARM_RADIUS_MM, _ARM_BONE_MM = 45.0, 12.0
_METAL_MM, _STREAK_REACH_MM, _STREAK_HU = 10.0, 15.0, 600.0


@dataclass(frozen=True)
class View:
    """What one scan shows of the body, and how.

    Attributes:
        z: lower and upper end as shares of the source's extent.
        x: left and right end, likewise.
        spacing_xyz: voxel size in mm; None is the source's.
        slices: number of slices, instead of the spacing along z.
        noise_hu: standard deviation of its noise.
        is_feet_first: stored with x and z reversed, and headers that say so.
        has_metal: three implants with streaks.
        has_arms: two arms beside the body.
    """

    z: tuple[float, float] = (0.0, 1.0)
    x: tuple[float, float] = (0.0, 1.0)
    spacing_xyz: Vector | None = None
    slices: int | None = None
    noise_hu: float = 15.0
    is_feet_first: bool = False
    has_metal: bool = False
    has_arms: bool = False


@dataclass(frozen=True)
class RobustCase:
    """Recipe of a pair.

    Attributes:
        kind: what makes it hard.
        source: key of `SOURCES`, or of a real pair.
        baseline: the view of the unchanged body.
        followup: the view of the deformed body.
        peak_mm: largest displacement by the deformation.
        turn_deg: rotation about x, y, z.
        shift_mm: of the couch, or of a wrong origin in the header, x, y, z.
        seed: of everything random.
    """

    kind: str
    source: str
    baseline: View = View()
    followup: View = View()
    peak_mm: float = 12.0
    turn_deg: Vector = (0.0, 0.0, 0.0)
    shift_mm: Vector = (0.0, 0.0, 0.0)
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.source}-{self.seed}"


@dataclass(frozen=True, eq=False)
class RobustPair:
    """Both scans and corresponding points (N, 3) in LPS mm, each inside at least one scan.

    ``followup_depth_mm`` and ``baseline_depth_mm`` (N,) are the points' depths in the scans, in mm.
    """

    fixed: RegistrationImage
    moving: RegistrationImage
    fixed_mm: FloatArray
    moving_mm: FloatArray

    @property
    def followup_depth_mm(self) -> FloatArray:
        return depths_mm(self.fixed.geometry, self.fixed_mm)

    @property
    def baseline_depth_mm(self) -> FloatArray:
        return depths_mm(self.moving.geometry, self.moving_mm)


def make_pair(case: RobustCase, points: int) -> RobustPair:
    """Make the pair of a recipe, reproducibly, with ``points`` random places of the body in each scan."""
    if case.source in _REAL_PAIRS:
        pair = _REAL_PAIRS[case.source]()
        return RobustPair(pair.fixed, pair.moving, pair.fixed_mm, pair.moving_mm)
    scan = _source(case.source)
    rng = np.random.default_rng(case.seed)
    body = _coarse_body(scan)
    spline, _ = random_spline(scan.geometry, body, Deformation(peak_mm=case.peak_mm), rng)
    smooth = to_itk(ItkTransform(spline), scan.geometry)  # a field, as splines are slow to evaluate
    rigid = _rigid(case, scan.geometry)
    truth = sitk.CompositeTransform([smooth, rigid])  # the last one acts first
    baseline, followup = (
        _grid(scan.geometry, case.baseline),
        _grid(scan.geometry, case.followup, case.shift_mm),
    )
    moving_mm = points_in(body, baseline, sitk.Transform(), points, rng)
    fixed_mm = points_in(body, followup, truth, points, rng)
    return RobustPair(
        _shown(resampled(followup, scan, truth), case.followup, rng),
        _shown(resampled(baseline, scan, sitk.Transform()), case.baseline, rng),
        np.concatenate(
            [through(rigid.GetInverse(), ItkTransform(smooth).moving_to_fixed(moving_mm)), fixed_mm]
        ),
        np.concatenate([moving_mm, through(truth, fixed_mm)]),
    )


@cache
def _source(name: str) -> RegistrationImage:
    if name == "trunk":
        return _stacked(_source("chest"), _source("pelvis"))
    if name == "other-trunk":
        return _stacked(_source("breathing-chest"), _source("pelvis"))
    scan = read_real(_SOURCES[name])
    signs = AxisMap(flipped=scan.geometry.axis_signs_zyx())
    hu = np.ascontiguousarray(np.clip(signs.array(scan.array), _LOWEST_HU, None))
    averaged = SmoothedScan.of(RegistrationImage(hu, scan.geometry.reoriented(signs)), _SPACING_MM)
    smooth = RegistrationImage(averaged.hu, averaged.geometry, name)
    grid = _grid(averaged.geometry, View(spacing_xyz=(_SPACING_MM,) * 3))
    return RegistrationImage(resampled(grid, smooth, sitk.Transform()).array, grid, name)


def _stacked(upper: RegistrationImage, lower: RegistrationImage) -> RegistrationImage:
    """One trunk of two patients: the bodies centred above each other, equally wide."""
    (upper_low, upper_high), (lower_low, lower_high) = (_body_ends_mm(scan) for scan in (upper, lower))
    stretch = np.append((upper_high - upper_low)[:2] / (lower_high - lower_low)[:2], 1.0)
    stretch = np.clip(stretch, 0.8, 1.25)
    sides = np.multiply(upper.geometry.size_xyz, upper.geometry.spacing_xyz)
    below = round(lower.geometry.size_xyz[2] * lower.geometry.spacing_xyz[2] / _SPACING_MM)
    above = round(sides[2] / _SPACING_MM)
    nx, ny = (round(side / _SPACING_MM) for side in sides[:2])
    x, y, z = upper.geometry.origin_xyz
    spacing = (_SPACING_MM,) * 3
    top = Geometry((nx, ny, above), spacing, (x, y, z))
    bottom = Geometry((nx, ny, below), spacing, (x, y, z - below * _SPACING_MM))
    # The lower patient's last slice lies below the upper one's first.
    meet = np.append((upper_low + upper_high)[:2] / 2, z)
    there = np.append((lower_low + lower_high)[:2] / 2, _last_slice_mm(lower) + _SPACING_MM)
    placed = sitk.AffineTransform(np.diag(1 / stretch).ravel().tolist(), (there - meet / stretch).tolist())
    parts = [resampled(bottom, lower, placed).array, resampled(top, upper, sitk.Transform()).array]
    return RegistrationImage(
        np.concatenate(parts), Geometry((nx, ny, below + above), spacing, bottom.origin_xyz)
    )


def _coarse_body(scan: RegistrationImage) -> sitk.Image:
    step = [max(1, int(_BODY_MM / spacing)) for spacing in scan.geometry.spacing_zyx]
    part = scan.array[:: step[0], :: step[1], :: step[2]]
    nz, ny, nx = part.shape
    x, y, z = (n * spacing for n, spacing in zip(step[::-1], scan.geometry.spacing_xyz, strict=True))
    return body_of(
        RegistrationImage(part, replace(scan.geometry, size_xyz=(nx, ny, nz), spacing_xyz=(x, y, z)))
    )


def _body_ends_mm(scan: RegistrationImage) -> tuple[FloatArray, FloatArray]:
    body = _coarse_body(scan)
    voxels = np.argwhere(sitk.GetArrayFromImage(body))[:, ::-1]
    low, high = (
        np.asarray(body.TransformContinuousIndexToPhysicalPoint([float(v) for v in end]))
        for end in (voxels.min(axis=0), voxels.max(axis=0))
    )
    return low, high


def _last_slice_mm(scan: RegistrationImage) -> float:
    return scan.geometry.zyx_to_world((scan.geometry.shape_zyx[0] - 1, 0, 0))[2]


def _rigid(case: RobustCase, geometry: Geometry) -> sitk.Transform:
    """Follow-up to baseline: the shift is taken back, then the body is turned about its middle."""
    middle = geometry.voxel_to_world(np.subtract(geometry.size_xyz, 1) / 2)
    turn = sitk.Euler3DTransform(middle.tolist(), *np.deg2rad(case.turn_deg).tolist())
    return sitk.CompositeTransform([turn, sitk.TranslationTransform(3, np.negative(case.shift_mm).tolist())])


def _grid(whole: Geometry, view: View, shift_mm: Vector = (0.0, 0.0, 0.0)) -> Geometry:
    """The view's grid in the world of the source, shifted."""
    sides = np.multiply(whole.size_xyz, whole.spacing_xyz)
    low, high = np.array([view.x, (0.0, 1.0), view.z]).T
    spacing = np.array(view.spacing_xyz or whole.spacing_xyz, np.float64)
    if view.slices is not None:
        spacing[2] = (high - low)[2] * sides[2] / view.slices
    nx, ny, nz = (int(n) for n in np.maximum(1, np.floor((high - low) * sides / spacing + 1e-6)))
    first = whole.voxel_to_world(np.full(3, -0.5)) + low * sides + spacing / 2 + shift_mm
    x, y, z = first.tolist()
    return Geometry((nx, ny, nz), tuple(spacing.tolist()), (x, y, z))


def _shown(scan: RegistrationImage, view: View, rng: np.random.Generator) -> RegistrationImage:
    """The scan with what the view adds to it."""
    hu = np.asarray(scan.array, np.float32)
    if view.has_arms:
        hu = _with_arms(scan, hu)
    if view.has_metal:
        hu = _with_metal(scan, hu, rng)
    scan = noisy(RegistrationImage(np.maximum(hu, _LOWEST_HU), scan.geometry, scan.name), view.noise_hu, rng)
    if not view.is_feet_first:
        return scan
    axes = AxisMap(flipped=(True, False, True))
    return RegistrationImage(
        np.ascontiguousarray(axes.array(scan.array)), scan.geometry.reoriented(axes), scan.name
    )


def _with_arms(scan: RegistrationImage, hu: FloatVolume) -> FloatVolume:
    """Cylinders of soft tissue with a bone inside, along z, that touch the body on both sides."""
    low, high = _body_ends_mm(scan)
    y_mm, x_mm = (
        scan.geometry.origin_xyz[a] + np.arange(scan.geometry.size_xyz[a]) * scan.geometry.spacing_xyz[a]
        for a in (1, 0)
    )
    for centre in (low[0] - _ARM_RADIUS_MM + 10, high[0] + _ARM_RADIUS_MM - 10):
        away = np.hypot(y_mm[:, None] - (low[1] + high[1]) / 2, x_mm - centre)
        hu = np.where(away <= _ARM_RADIUS_MM, np.maximum(hu, np.where(away <= _ARM_BONE_MM, 700, 40)), hu)
    return hu


def _with_metal(scan: RegistrationImage, hu: FloatVolume, rng: np.random.Generator) -> FloatVolume:
    """Three balls of metal in the body, and streaks in the slices near them that fade with the distance."""
    body = sitk.GetArrayFromImage(_coarse_body(scan))
    places = np.argwhere(body)[rng.integers(0, np.count_nonzero(body), 3)] / body.shape * hu.shape
    z, y, x = np.ogrid[tuple(slice(n) for n in hu.shape)]
    sz, sy, sx = scan.geometry.spacing_zyx
    for cz, cy, cx in places:
        dz, dy, dx = (z - cz) * sz, (y - cy) * sy, (x - cx) * sx
        flat = np.hypot(dy, dx)
        streaks = (
            np.sin(16 * np.arctan2(dy, dx) + rng.uniform(0, 6))
            * 20
            / (flat + 20)
            * (np.abs(dz) <= _STREAK_REACH_MM)
        )
        hu = np.where(np.hypot(flat, dz) <= _METAL_MM, 3000, hu + _STREAK_HU * streaks)
    return np.asarray(hu, np.float32)


_SOURCES = {
    "chest": "lidc_0314/lidc0314_2mm_ct.nii.gz",
    "breathing-chest": "opentps_4dct/phase00_ct_2mm.nii.gz",
    "liver": "crlm/CRLM-CT-1006_ct_half.nii.gz",
    "pelvis": "totalsegmentator/example_ct.nii.gz",
    "thigh": "sts_ibsi/STS_022/CT_image.nii.gz",
}
_REAL_PAIRS: dict[str, Callable[[], Pair]] = {
    "lung": lung_pair,
    "lung-swapped": lambda: lung_pair().swapped(),
    "breathing": breathing_pair,
}
