"""Pairs of scans of one patient with known corresponding points, for test/proof and the benchmark.

Real pairs come from the data outside of the repository (test/README.md): two dates of a lung with
landmarks, two phases of breathing with a tumour. Others are a real thorax and the same under a known smooth
deformation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from model.case.geometry import Box, FloatArray, Geometry, Vector
from model.case.images import read_image
from model.propagation.points import Direction, propagate_points, refine_near
from model.propagation.register import Registration, RegistrationImage, backend
from model.propagation.register.deformable import DeformableBackend
from model.propagation.register.grids import AIR_HU, to_image
from test.helpers.paths import real_file

THORAX = "lidc_0314/lidc0314_2mm_ct.nii.gz"

COUCH_MM = 45.0
"""Offset along z of the couch of the deformed follow-up from the baseline's."""

_BODY_HU = -300.0
_LESION_HU = 60
_BODY_SPACING_MM = 4.0
# Half of what the default back end takes, in half of the time; the errors are a little larger.
_COARSE_VOXELS = 1_250_000
# The deformation extends this far beyond the scan, as the patient does.
_MARGIN_MM = 20.0


@dataclass(frozen=True, eq=False)
class Pair:
    """A follow-up (fixed), a baseline (moving), and corresponding points in both: (N, 3), LPS mm.

    The first ``lesions`` points (None: all) stand for a patient's lesions, near which the registration may be
    refined.
    """

    fixed: RegistrationImage
    moving: RegistrationImage
    fixed_mm: FloatArray
    moving_mm: FloatArray
    lesions: int | None = None

    def swapped(self) -> Pair:
        """The pair with the later scan as the baseline."""
        return Pair(self.moving, self.fixed, self.moving_mm, self.fixed_mm, self.lesions)

    def start_mm(self) -> float:
        """Mean distance of the points by the headers alone, mm."""
        return float(np.linalg.norm(self.fixed_mm - self.moving_mm, axis=1).mean())


@dataclass(frozen=True, eq=False)
class Registered:
    """A pair whose points lie in both scans, and its registration."""

    pair: Pair
    registration: Registration

    def refined(self, direction: Direction = Direction.TO_FOLLOWUP) -> Registration:
        """The registration refined near all lesions of the scan to propagate from."""
        points, source, target, _ = self._mapping(direction)
        return refine_near(points, source, target, self.registration, direction)

    def errors_mm(self, direction: Direction) -> FloatArray:
        """Errors of the lesions with refinement, (N,) mm; propagated as users do."""
        points, source, target, true_mm = self._mapping(direction)
        near = self.refined(direction)
        propagated = propagate_points(points, source, target, near.transform, direction)
        return _lengths(target.voxel_to_world(propagated[:, ::-1]) - true_mm)

    def errors_everywhere_mm(self, direction: Direction) -> FloatArray:
        """Errors of all points without refinement, (N,) mm."""
        fixed_mm, moving_mm, transform = self.pair.fixed_mm, self.pair.moving_mm, self.registration.transform
        if direction is Direction.TO_FOLLOWUP:
            return _lengths(transform.moving_to_fixed(moving_mm) - fixed_mm)
        return _lengths(transform.fixed_to_moving(fixed_mm) - moving_mm)

    def _mapping(self, direction: Direction) -> tuple[FloatArray, Geometry, Geometry, FloatArray]:
        """Voxels of the lesions on the source, its grid, the target's grid, and the true points there, mm."""
        pair = self.pair
        start_mm, true_mm = pair.fixed_mm[: pair.lesions], pair.moving_mm[: pair.lesions]
        source, target = pair.fixed.geometry, pair.moving.geometry
        if direction is Direction.TO_FOLLOWUP:
            source, target, start_mm, true_mm = target, source, true_mm, start_mm
        return voxels_zyx(source, start_mm), source, target, true_mm


def registered_by(name: str, pair: Pair) -> Registered:
    """A pair registered by a back end."""
    return Registered(pair, backend(name).register(pair.fixed, pair.moving))


def registered_coarsely(pair: Pair) -> Registered:
    """A pair registered by the default back end on half as many voxels as it takes by default."""
    found = DeformableBackend(voxels=_COARSE_VOXELS).register(pair.fixed, pair.moving)
    return Registered(pair, found)


def depths_mm(geometry: Geometry, points_mm: FloatArray) -> FloatArray:
    """Depths of world points (N, 3) in a scan, mm; negative outside."""
    return np.asarray([geometry.depth_mm(point) for point in geometry.world_to_voxel(points_mm)[:, ::-1]])


def voxels_zyx(geometry: Geometry, points_mm: FloatArray) -> FloatArray:
    """Voxel indices (N, 3), z, y, x, of world points (N, 3)."""
    return np.ascontiguousarray(geometry.world_to_voxel(points_mm)[:, ::-1])


def read_real(name: str) -> RegistrationImage:
    """A scan of the data outside of the repository, in axial order."""
    image = read_image(real_file(name))
    axes = image.geometry.axial_map()
    hu = np.array(axes.array(image.array))  # the memory of the image is freed with it
    return RegistrationImage(hu, image.geometry.reoriented(axes), Path(name).name)


def lung_pair() -> Pair:
    """Two dates of one lung (SuperElastix/elastix), with the landmarks inside both scans."""
    folder = "elastix_lung"
    fixed, moving = (
        read_real(f"{folder}/derived_followup_unwarped.mha"),
        read_real(f"{folder}/3DCT_lung_baseline_small.mha"),
    )
    fixed_mm = _landmarks(f"{folder}/3DCT_lung_groundtruth_point.txt")
    moving_mm = _landmarks(f"{folder}/3DCT_lung_baseline_landmarks.txt")
    inside = np.minimum(depths_mm(fixed.geometry, fixed_mm), depths_mm(moving.geometry, moving_mm)) >= 0
    return Pair(fixed, moving, fixed_mm[inside], moving_mm[inside])


def _landmarks(name: str) -> FloatArray:
    """Points in the format of elastix: "point", their number, then x y z in LPS mm."""
    return np.loadtxt(real_file(name), skiprows=2).reshape(-1, 3)


def breathing_pair() -> Pair:
    """Breathing phases 0 % (baseline) and 60 % of one patient, and the tumour's centre of gravity in both."""
    folder = "opentps_4dct"
    return Pair(
        read_real(f"{folder}/phase60_ct_originfixed.nii.gz"),
        read_real(f"{folder}/phase00_ct_2mm.nii.gz"),
        _centroid_mm(f"{folder}/phase60_lesion_semiauto_originfixed.nii.gz"),
        _centroid_mm(f"{folder}/phase00_2mm_lesion_semiauto.nii.gz"),
    )


def _centroid_mm(name: str) -> FloatArray:
    mask = read_real(name)
    return mask.geometry.voxel_to_world(np.argwhere(mask.array > 0).mean(axis=0)[None, ::-1])


@dataclass(frozen=True)
class Deformation:
    """Random B-splines, ``knots_mm`` apart or more, that move the body by up to ``peak_mm``.

    ``baseline_z`` and ``followup_z`` are the shares of the slices that each scan keeps. At the first
    ``lesions`` of the ``points`` the baseline gets balls of soft tissue of radius ``lesion_mm``, if not None.
    """

    seed: int = 0
    peak_mm: float = 12.0
    knots_mm: float = 60.0
    noise_hu: float = 15.0
    baseline_z: tuple[float, float] = (0.0, 1.0)
    followup_z: tuple[float, float] = (0.0, 1.0)
    points: int = 2000
    lesions: int = 12
    lesion_mm: float | None = None


LARGE = Deformation(seed=1, peak_mm=15.0)

HALF = Deformation(seed=2, baseline_z=(0.0, 0.75), followup_z=(0.25, 1.0))
"""The baseline ends at three quarters of the thorax, the follow-up begins at one: half is common."""


@dataclass(frozen=True, eq=False)
class Deformed:
    """A pair with a known deformation.

    ``pair`` has all points, also those inside only one of the scans; the lesions are inside both.
    ``is_common`` (N,) marks points inside both. ``knots_mm`` x, y, z are the distances of the control points.
    """

    pair: Pair
    is_common: np.ndarray
    knots_mm: Vector

    @property
    def common(self) -> Pair:
        """The pair with only the points inside both scans."""
        pair = self.pair
        return replace(pair, fixed_mm=pair.fixed_mm[self.is_common], moving_mm=pair.moving_mm[self.is_common])

    def moved_mm(self) -> FloatArray:
        """Displacements of the common points by the deformation, without the couch, mm."""
        return _lengths(self.common.fixed_mm - (0.0, 0.0, COUCH_MM) - self.common.moving_mm)


def deformed(scan: RegistrationImage, options: Deformation, grid: Geometry | None = None) -> Deformed:
    """A scan as baseline, and as follow-up with another grid and couch position and a random deformation.

    ``grid`` is the follow-up's before its slices are cut. Outside of the scan the follow-up has air. Both get
    independent noise. Reproducible for the same options.
    """
    rng = np.random.default_rng(options.seed)
    body = body_of(scan)
    spline, knots_mm = random_spline(scan.geometry, body, options, rng)
    truth = sitk.CompositeTransform(3)
    truth.AddTransform(spline)
    truth.AddTransform(sitk.TranslationTransform(3, (0.0, 0.0, -COUCH_MM)))  # the last added acts first
    grid = grid or _other_grid(scan.geometry)
    ends = _part_of(grid, options.followup_z), _part_of(scan.geometry, options.baseline_z)
    fixed_mm = points_in(body, grid, truth, options.points, rng)
    moving_mm = through(truth, fixed_mm)
    is_common = np.minimum(depths_mm(ends[0], fixed_mm), depths_mm(ends[1], moving_mm)) >= 0
    # Common ones first, so that the lesions are among them.
    order = np.argsort(~is_common, kind="stable")
    fixed_mm, moving_mm = fixed_mm[order], moving_mm[order]
    if options.lesion_mm is not None:
        scan = _with_balls(scan, moving_mm[: options.lesions], options.lesion_mm)
    fixed = noisy(resampled(ends[0], scan, truth), options.noise_hu, rng)
    moving = noisy(resampled(ends[1], scan, sitk.Transform()), options.noise_hu, rng)
    return Deformed(Pair(fixed, moving, fixed_mm, moving_mm, options.lesions), is_common[order], knots_mm)


def thorax_pair(options: Deformation | None = None) -> Deformed:
    """The thorax of LIDC-IDRI-0314 (CC BY 3.0) at 2 mm, under a known deformation."""
    return deformed(read_real(THORAX), options or Deformation())


def large_pair() -> Deformed:
    """A trunk of 512 x 512 x 300 voxels at both dates with ten lesions: the thorax and its mirror image."""
    thorax = read_real(THORAX)
    g = thorax.geometry
    x, y, z = g.origin_xyz
    tall = np.concatenate([thorax.array[:0:-1], thorax.array])  # the lowest slice in the middle
    nz, ny, nx = tall.shape
    bottom = z - (thorax.array.shape[0] - 1) * g.spacing_xyz[2]
    trunk = RegistrationImage(tall, Geometry((nx, ny, nz), g.spacing_xyz, (x, y, bottom)), thorax.name)
    size, start = (512, 512, 300), (x - 2.0, y - 2.0, z - 210.0)
    baseline = resampled(Geometry(size, (0.79, 0.79, 1.5), start), trunk, sitk.Transform())
    followup = Geometry(size, (0.8, 0.8, 1.45), (start[0] - 3.0, start[1] - 3.0, start[2] + COUCH_MM + 5.0))
    return deformed(baseline, Deformation(seed=3, lesions=10, lesion_mm=8.0), followup)


def _other_grid(geometry: Geometry) -> Geometry:
    """Grid of the follow-up: other voxels, slightly different extent."""
    spacing = (1.9, 1.9, 2.3)
    count = np.ceil(np.multiply(geometry.size_xyz, geometry.spacing_xyz) / spacing).astype(int)
    x, y, z = np.add(geometry.origin_xyz, (3.0, 3.0, COUCH_MM)).tolist()
    nx, ny, nz = count.tolist()
    return Geometry((nx, ny, nz), spacing, (x, y, z), geometry.direction)


def body_of(scan: RegistrationImage) -> sitk.Image:
    """Mask of the patient including the lungs, without air and couch: 0/1 on a coarse grid."""
    step = [max(1, round(_BODY_SPACING_MM / s)) for s in scan.geometry.spacing_zyx]
    a, b, c = step
    g = scan.geometry
    coarse = np.ascontiguousarray(scan.array[::a, ::b, ::c])
    nz, ny, nx = coarse.shape
    x, y, z = (s * n for s, n in zip(g.spacing_xyz, reversed(step), strict=True))
    image = to_image(coarse, Geometry((nx, ny, nz), (x, y, z), g.origin_xyz, g.direction))
    opened = sitk.BinaryMorphologicalOpening(image > _BODY_HU, [2, 2, 2])
    largest = sitk.RelabelComponent(sitk.ConnectedComponent(opened), sortByObjectSize=True) == 1
    filled: sitk.Image = sitk.JoinSeries([sitk.BinaryFillhole(largest[:, :, z]) for z in range(nz)])
    filled.CopyInformation(image)
    return filled


def random_spline(
    geometry: Geometry, body: sitk.Image, options: Deformation, rng: np.random.Generator
) -> tuple[sitk.Transform, Vector]:
    """u(p) over the scan with a margin, and the distances x, y, z of its control points."""
    margin = [int(np.ceil(_MARGIN_MM / s)) for s in geometry.spacing_zyx]
    stop = [n + m for n, m in zip(geometry.shape_zyx, margin, strict=True)]
    wide = geometry.cropped(Box((-margin[0], -margin[1], -margin[2]), (stop[0], stop[1], stop[2])))
    mesh = [
        max(1, int(n * s // options.knots_mm)) for n, s in zip(wide.size_xyz, wide.spacing_xyz, strict=True)
    ]
    domain = sitk.Image(list(wide.size_xyz), sitk.sitkUInt8)
    domain.SetSpacing(wide.spacing_xyz)
    domain.SetOrigin(wide.origin_xyz)
    domain.SetDirection(wide.direction)
    spline = sitk.BSplineTransformInitializer(domain, mesh, 3)
    weights = rng.uniform(-1.0, 1.0, len(spline.GetParameters()))
    spline.SetParameters(weights.tolist())
    moved = sitk.GetArrayFromImage(_field(spline, body))[sitk.GetArrayViewFromImage(body) > 0]
    spline.SetParameters((weights * options.peak_mm / np.linalg.norm(moved, axis=1).max()).tolist())
    sides = spline.GetTransformDomainPhysicalDimensions()
    x, y, z = (side / n for side, n in zip(sides, spline.GetTransformDomainMeshSize(), strict=True))
    return spline, (x, y, z)


def _field(transform: sitk.Transform, grid: sitk.Image) -> sitk.Image:
    field: sitk.Image = sitk.TransformToDisplacementField(
        transform,
        sitk.sitkVectorFloat64,
        grid.GetSize(),
        grid.GetOrigin(),
        grid.GetSpacing(),
        grid.GetDirection(),
    )
    return field


def _lengths(vectors: FloatArray) -> FloatArray:
    lengths: FloatArray = np.linalg.norm(vectors, axis=1)
    return lengths


def resampled(grid: Geometry, scan: RegistrationImage, truth: sitk.Transform) -> RegistrationImage:
    """result(p) = scan(truth(p)) on a grid, slice by slice to save memory."""
    source = to_image(np.asarray(scan.array, np.float32), scan.geometry)
    hu = np.empty(grid.shape_zyx, np.float32)
    for z in range(grid.shape_zyx[0]):
        target = sitk.Image([*grid.size_xyz[:2], 1], sitk.sitkUInt8)
        target.SetSpacing(grid.spacing_xyz)
        target.SetOrigin(grid.zyx_to_world((z, 0.0, 0.0)))
        target.SetDirection(grid.direction)
        plane = sitk.Resample(source, target, truth, sitk.sitkLinear, AIR_HU, sitk.sitkFloat32)
        hu[z] = sitk.GetArrayViewFromImage(plane)[0]
    return RegistrationImage(hu, grid, scan.name)


def noisy(scan: RegistrationImage, noise_hu: float, rng: np.random.Generator) -> RegistrationImage:
    hu = np.empty(scan.array.shape, np.int16)
    for plane, source in zip(hu, scan.array, strict=True):
        plane[:] = np.round(source + rng.normal(0.0, noise_hu, source.shape))
    return RegistrationImage(hu, scan.geometry, scan.name)


def _part_of(geometry: Geometry, share_z: Sequence[float]) -> Geometry:
    nz, ny, nx = geometry.shape_zyx
    return geometry.cropped(Box((round(share_z[0] * nz), 0, 0), (round(share_z[1] * nz), ny, nx)))


def _with_balls(scan: RegistrationImage, centres_mm: FloatArray, radius_mm: float) -> RegistrationImage:
    hu = scan.array.copy()
    reach = np.ceil(radius_mm / np.asarray(scan.geometry.spacing_zyx)).astype(int) + 1
    for centre in voxels_zyx(scan.geometry, centres_mm):
        start, stop = np.maximum(centre.astype(int) - reach, 0), centre.astype(int) + reach + 1
        part = hu[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        away = np.moveaxis(np.indices(part.shape), 0, -1) + start - centre
        part[np.linalg.norm(away * scan.geometry.spacing_zyx, axis=-1) <= radius_mm] = _LESION_HU
    return RegistrationImage(hu, scan.geometry, scan.name)


def points_in(
    body: sitk.Image, grid: Geometry, truth: sitk.Transform, count: int, rng: np.random.Generator
) -> FloatArray:
    """Random points (count, 3) inside the body, in the follow-up's world."""
    inside = np.empty((0, 3))
    while len(inside) < count:
        candidates = grid.voxel_to_world(rng.uniform(0.0, np.subtract(grid.size_xyz, 1), (4 * count, 3)))
        mapped = through(truth, candidates).tolist()
        index = np.round([body.TransformPhysicalPointToContinuousIndex(p) for p in mapped]).astype(int)
        in_scan = np.all((index >= 0) & (index < body.GetSize()), axis=1)
        x, y, z = index[in_scan].T
        is_body = sitk.GetArrayViewFromImage(body)[z, y, x] > 0
        inside = np.concatenate([inside, candidates[in_scan][is_body]])
    return inside[:count]


def through(truth: sitk.Transform, points_mm: FloatArray) -> FloatArray:
    return np.asarray([truth.TransformPoint(point) for point in points_mm.tolist()])
